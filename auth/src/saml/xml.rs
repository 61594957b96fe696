//! The XML of SAML: its namespaces and times, beside what the project reads any stranger's XML with.

pub(super) use crate::xml::*;

/// `urn:oasis:names:tc:SAML:2.0:protocol`
pub(super) const SAMLP: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
/// `urn:oasis:names:tc:SAML:2.0:assertion`
pub(super) const SAML: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
/// `urn:oasis:names:tc:SAML:2.0:metadata`
pub(super) const MD: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
/// XML Signature.
pub(super) const DS: &str = "http://www.w3.org/2000/09/xmldsig#";
/// XML Encryption 1.0.
pub(super) const XENC: &str = "http://www.w3.org/2001/04/xmlenc#";
/// XML Encryption 1.1.
pub(super) const XENC11: &str = "http://www.w3.org/2009/xmlenc11#";

/// `xs:dateTime` as milliseconds since the epoch; `None` when it is none, or before 1970.
pub(super) fn time(text: &str) -> Option<crate::WallTime> {
    let instant: jiff::Timestamp = text.trim().parse().ok()?;
    u64::try_from(instant.as_millisecond()).ok().map(crate::WallTime)
}

/// The same instant written as `xs:dateTime` in UTC.
pub(super) fn write_time(time: crate::WallTime) -> String {
    let seconds = i64::try_from(time.seconds()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read_and_written() {
        assert_eq!(time("2026-11-24T00:00:00.5Z").map(|time| time.0), Some(1_795_478_400_500));
        assert_eq!(time("2026-11-24T00:00:00"), None);
        assert_eq!(write_time(crate::WallTime(1_795_478_400_999)), "2026-11-24T00:00:00Z");
    }
}
