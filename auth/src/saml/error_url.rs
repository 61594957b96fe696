//! An IdP's errorURL with its placeholders filled: REFEDS "SAML V2.0 Metadata Deployment Profile for errorURL", 1.0.
//!
//! The page behind it is the institution's own; it is told what went wrong, when, where, and a reference, never who.

use crate::WallTime;

/// What went wrong, in the words of the profile (§2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Attributes that name the user are missing or unusable.
    Identification,
    /// The way the user was authenticated is not the one asked for.
    Authentication,
    /// The user may not use the service.
    Authorization,
    /// Anything else.
    Other,
}

impl ErrorCode {
    /// As the profile writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identification => "IDENTIFICATION_FAILURE",
            Self::Authentication => "AUTHENTICATION_FAILURE",
            Self::Authorization => "AUTHORIZATION_FAILURE",
            Self::Other => "OTHER_ERROR",
        }
    }
}

/// What the placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub struct ErrorReport<'a> {
    /// `ERRORURL_CODE`
    pub code: ErrorCode,
    /// `ERRORURL_TS`: seconds since 1970.
    pub at: WallTime,
    /// `ERRORURL_RP`: our entityID.
    pub sp: &'a str,
    /// `ERRORURL_TID`: the reference of the refusal.
    pub reference: &'a str,
    /// `ERRORURL_CTX`: names of attributes, or a class of authentication; from our configuration.
    pub context: &'a str,
}

/// Fills the placeholders of `url`, each percent-encoded. A URL without any (the profile asks for none) stays as it is. What
/// is filled in is not looked at again.
pub fn fill(url: &str, report: &ErrorReport<'_>) -> String {
    let at = report.at.seconds().to_string();
    let values = [
        ("CODE", report.code.as_str()),
        ("TS", &at),
        ("RP", report.sp),
        ("TID", report.reference),
        ("CTX", report.context),
    ];
    let mut filled = String::with_capacity(url.len() + 128);
    let mut parts = url.split(PREFIX);
    filled.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let known = values.iter().find_map(|(name, value)| Some((part.strip_prefix(name)?, value)));
        match known {
            Some((rest, value)) => {
                filled.extend(url::form_urlencoded::byte_serialize(value.as_bytes()).map(|piece| match piece {
                    // In a path a `+` is a plus.
                    "+" => "%20",
                    piece => piece,
                }));
                filled.push_str(rest);
            }
            None => {
                filled.push_str(PREFIX);
                filled.push_str(part);
            }
        }
    }
    filled
}

const PREFIX: &str = "ERRORURL_";

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: ErrorReport<'static> = ErrorReport {
        code: ErrorCode::Identification,
        at: WallTime(1_795_478_400_999),
        sp: "https://mail.example/saml/metadata",
        reference: "7K3M9QXA",
        context: "mail eduPersonPrincipalName",
    };

    #[test]
    fn every_placeholder_is_filled_and_encoded() {
        let url =
            "https://idp.example/error/ERRORURL_CODE?ts=ERRORURL_TS&rp=ERRORURL_RP&tid=ERRORURL_TID&ctx=ERRORURL_CTX";
        assert_eq!(
            fill(url, &REPORT),
            "https://idp.example/error/IDENTIFICATION_FAILURE?ts=1795478400&rp=https%3A%2F%2Fmail.example%2Fsaml%2F\
             metadata&tid=7K3M9QXA&ctx=mail%20eduPersonPrincipalName"
        );
    }

    #[test]
    fn an_address_without_placeholders_stays_as_it_is() {
        for url in ["https://idp.example/help?a=b", "https://idp.example/ERRORURL_/ERRORURL_X?ERRORURL"] {
            assert_eq!(fill(url, &REPORT), url);
        }
    }

    #[test]
    fn what_is_filled_in_cannot_add_a_field_or_another_placeholder() {
        let report = ErrorReport { context: "a&b=c#ERRORURL_CODE\"<é", ..REPORT };
        let filled = fill("https://idp.example/?ctx=ERRORURL_CTX&c=ERRORURL_CODE", &report);
        assert_eq!(filled, "https://idp.example/?ctx=a%26b%3Dc%23ERRORURL_CODE%22%3C%C3%A9&c=IDENTIFICATION_FAILURE");
    }
}
