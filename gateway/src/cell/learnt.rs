//! What a cell tells of itself before login, as far as its users' programs may want to know it early.

use guichet_config::MailProtocol;
use guichet_proto::smtp::Extensions;

/// Names, and names with a value. Bounded by what one check reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// IMAP: capabilities. POP3: lines of CAPA. ManageSieve: Sieve extensions.
    pub names: Vec<String>,
    /// ManageSieve: other capabilities with their values.
    pub values: Vec<(String, String)>,
    /// Submission: what its EHLO lists.
    pub extensions: Extensions,
}

impl Learnt {
    /// What both told.
    #[must_use]
    pub fn shared_with(mut self, other: &Self) -> Self {
        self.names.retain(|name| other.names.contains(name));
        self.values.retain(|value| other.values.contains(value));
        self.extensions = Extensions::common([self.extensions, other.extensions]);
        self
    }

    /// From the first words of a cell, line by line.
    pub(super) fn of(protocol: MailProtocol, lines: &[String]) -> Self {
        let mut learnt = Self::default();
        match protocol {
            MailProtocol::Imap => {
                let line = lines.first().map(|line| line.to_ascii_uppercase()).unwrap_or_default();
                let list = line
                    .split_once("[CAPABILITY ")
                    .and_then(|(_, rest)| rest.split_once(']'))
                    .map_or("", |(list, _)| list);
                let has = |one: &&str| list.split(' ').any(|word| word.eq_ignore_ascii_case(one));
                learnt.names = IMAP.into_iter().filter(has).map(str::to_owned).collect();
            }
            MailProtocol::Pop3 => {
                let has = |one: &&str| lines.iter().skip(1).any(|line| line.eq_ignore_ascii_case(one));
                learnt.names = POP3.into_iter().filter(has).map(str::to_owned).collect();
            }
            MailProtocol::Sieve => {
                for line in lines {
                    let mut words = line.split('"').skip(1).step_by(2);
                    let (Some(name), value) = (words.next(), words.next().unwrap_or_default()) else { continue };
                    let name = name.to_ascii_uppercase();
                    if name == "SIEVE" {
                        learnt.names = value.split_ascii_whitespace().map(str::to_owned).collect();
                    } else if SIEVE.contains(&name.as_str()) {
                        learnt.values.push((name, value.to_owned()));
                    }
                }
            }
            MailProtocol::Submission => {
                // Behind the greeting and the line that names the host (RFC 5321 §4.1.1.1).
                let listed = lines.iter().filter(|line| line.starts_with("250")).skip(1);
                let listed: Vec<&str> = listed.filter_map(|line| line.get(4..)).collect();
                learnt.extensions = Extensions::read(&listed.join("\n"));
            }
        }
        learnt
    }
}

/// What the relay passes on and a client may want to know early.
const IMAP: [&str; 3] = ["IMAP4rev2", "IDLE", "ENABLE"];
const POP3: [&str; 2] = ["TOP", "UIDL"];
const SIEVE: [&str; 4] = ["MAXREDIRECTS", "NOTIFY", "LANGUAGE", "UNAUTHENTICATE"];

#[cfg(test)]
mod tests {
    use super::*;

    fn learnt(protocol: MailProtocol, text: &str) -> Learnt {
        Learnt::of(protocol, &text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_words_of_each_protocol_are_read() {
        let imap = learnt(MailProtocol::Imap, "* OK [CAPABILITY IMAP4rev1 idle ENABLE AUTH=PLAIN] ready");
        assert_eq!(imap.names, ["IDLE", "ENABLE"]);
        let pop3 = learnt(MailProtocol::Pop3, "+OK ready\n+OK\nCAPA\nTOP\nUIDL\nSASL PLAIN\n.");
        assert_eq!(pop3.names, ["TOP", "UIDL"]);
        let text = "\"IMPLEMENTATION\" \"x\"\n\"SIEVE\" \"fileinto reject\"\n\"NOTIFY\" \"mailto\"\n\"STARTTLS\"\nOK \"ready\"";
        let sieve = learnt(MailProtocol::Sieve, text);
        assert_eq!(sieve.names, ["fileinto", "reject"]);
        assert_eq!(sieve.values, [("NOTIFY".to_owned(), "mailto".to_owned())]);
        let text = "220 cell ESMTP\n250-cell\n250-SIZE 1000\n250-DSN\n250 8BITMIME";
        let submission = learnt(MailProtocol::Submission, text);
        let extensions = Extensions { size: Some(1000), dsn: true, eight_bit_mime: true, ..Extensions::default() };
        assert_eq!(submission, Learnt { extensions, ..Learnt::default() });
    }

    #[test]
    fn only_what_all_have_is_told() {
        let one = Learnt {
            names: vec!["IDLE".into(), "ENABLE".into()],
            values: vec![("A".into(), "1".into())],
            ..Learnt::default()
        };
        let two = Learnt { names: vec!["ENABLE".into()], values: vec![("A".into(), "2".into())], ..Learnt::default() };
        assert_eq!(one.shared_with(&two), Learnt { names: vec!["ENABLE".into()], ..Learnt::default() });
    }
}
