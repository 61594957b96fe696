//! What an EHLO reply lists (RFC 5321 §4.1.1.1): learnt from the cells, shown to the clients.
//!
//! A client is shown its list before it is known which cell it will talk to, and RFC 4954 does not make it ask again after
//! the login. So the list is what all cells have that a login may lead to.

/// The extensions that concern what passes through us. Everything else a cell lists is not for our clients: AUTH and
/// STARTTLS are our own, CHUNKING and BINARYMIME would put bytes behind a command that no line ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// SIZE (RFC 1870): longest message, bytes; 0: no fixed bound. `None`: not listed.
    pub size: Option<u64>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status_codes: bool,
}

impl Extensions {
    /// What a cell lists: one extension per line, as [`crate::cell::CellStep::Ready`] gives them.
    pub fn read(lines: &str) -> Self {
        let mut read = Self::default();
        for line in lines.lines() {
            let (keyword, parameter) = line.split_once(' ').unwrap_or((line, ""));
            match keyword.to_ascii_uppercase().as_str() {
                // What cannot be read as a number is no bound that we could tell.
                "SIZE" => read.size = Some(parameter.trim().parse().unwrap_or(0)),
                "PIPELINING" => read.pipelining = true,
                "8BITMIME" => read.eight_bit_mime = true,
                "SMTPUTF8" => read.smtputf8 = true,
                "DSN" => read.dsn = true,
                "ENHANCEDSTATUSCODES" => read.enhanced_status_codes = true,
                _ => {}
            }
        }
        read
    }

    /// What all of them have; of none of them, nothing.
    pub fn common(cells: impl IntoIterator<Item = Self>) -> Self {
        cells.into_iter().reduce(Self::and).unwrap_or_default()
    }

    fn and(self, other: Self) -> Self {
        let size = match (self.size, other.size) {
            (Some(0), Some(bound)) | (Some(bound), Some(0)) => Some(bound),
            (Some(one), Some(two)) => Some(one.min(two)),
            _ => None,
        };
        Self {
            size,
            pipelining: self.pipelining && other.pipelining,
            eight_bit_mime: self.eight_bit_mime && other.eight_bit_mime,
            smtputf8: self.smtputf8 && other.smtputf8,
            dsn: self.dsn && other.dsn,
            enhanced_status_codes: self.enhanced_status_codes && other.enhanced_status_codes,
        }
    }

    /// The EHLO reply, with the lines of `more` (AUTH, STARTTLS) behind ours. PIPELINING is always shown: to a cell that
    /// has it not, commands go one at a time.
    pub(crate) fn reply(&self, hostname: &str, more: &[String]) -> String {
        let mut lines = vec![hostname.to_owned(), "PIPELINING".to_owned()];
        match self.size {
            // RFC 1870 §4: a bound of 0 is no bound, and so is none at all.
            Some(0) => lines.push("SIZE".to_owned()),
            Some(bound) => lines.push(format!("SIZE {bound}")),
            None => {}
        }
        let listed = [
            (self.eight_bit_mime, "8BITMIME"),
            (self.smtputf8, "SMTPUTF8"),
            (self.dsn, "DSN"),
            (self.enhanced_status_codes, "ENHANCEDSTATUSCODES"),
        ];
        lines.extend(listed.iter().filter(|(has, _)| *has).map(|(_, keyword)| (*keyword).to_owned()));
        lines.extend_from_slice(more);
        let last = lines.len() - 1;
        let line = |(index, line): (usize, &String)| format!("250{}{line}\r\n", if index == last { ' ' } else { '-' });
        lines.iter().enumerate().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTFIX: &str = "PIPELINING\nSIZE 10240000\nVRFY\nETRN\nSTARTTLS\nAUTH PLAIN LOGIN\nENHANCEDSTATUSCODES\n8BITMIME\nDSN\nSMTPUTF8\nCHUNKING";

    #[test]
    fn the_common_list_is_what_every_cell_has() {
        let postfix = Extensions::read(POSTFIX);
        let other = Extensions::read("pipelining\nsize 5000000\n8bitmime");
        let common = Extensions::common([postfix, other]);
        assert_eq!(
            common,
            Extensions { size: Some(5_000_000), pipelining: true, eight_bit_mime: true, ..Extensions::default() }
        );
        assert_eq!(Extensions::common([postfix]), postfix);
        assert_eq!(Extensions::common([]), Extensions::default());
        assert_eq!(Extensions::common([postfix, Extensions::read("")]), Extensions::default());
    }

    #[test]
    fn a_size_without_bound_is_the_largest() {
        for (one, two, common) in [
            ("SIZE", "SIZE 7", Some(7)),
            ("SIZE 7", "SIZE 0", Some(7)),
            ("SIZE", "SIZE", Some(0)),
            ("SIZE 9", "SIZE 7", Some(7)),
            ("SIZE 9", "DSN", None),
        ] {
            assert_eq!(Extensions::common([Extensions::read(one), Extensions::read(two)]).size, common, "{one} {two}");
        }
    }

    #[test]
    fn a_client_never_sees_what_only_the_cell_may_use() {
        let reply = Extensions::read(POSTFIX).reply("mail.example.fr", &["AUTH PLAIN".to_owned()]);
        assert_eq!(
            reply,
            "250-mail.example.fr\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n\
             250-ENHANCEDSTATUSCODES\r\n250 AUTH PLAIN\r\n"
        );
        assert_eq!(Extensions::default().reply("h", &[]), "250-h\r\n250 PIPELINING\r\n");
    }
}
