//! Messages: three short ones that name their reader, a large one for bulk reading, and those that were delivered.

use std::sync::OnceLock;

use bytes::Bytes;
use jiff::Timestamp;

/// Size of the large message: 20 MiB.
pub const LARGE_BYTES: usize = 20 * 1024 * 1024;

/// A message as stored. The texts beside its bytes are ASCII without quotes, fit for an ENVELOPE.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// In IMAP, and its name in POP3.
    pub(super) uid: u32,
    /// The whole, header and body.
    pub(super) bytes: Bytes,
    /// Where the body begins.
    pub(super) body: usize,
    /// Subject.
    pub(super) subject: String,
    /// Address of the sender.
    pub(super) from: String,
    /// Address of the recipient.
    pub(super) to: String,
    /// As in a header.
    pub(super) date: String,
    /// As INTERNALDATE.
    pub(super) arrived: String,
}

/// The four messages of every mailbox; those that are delivered come behind them.
pub(super) fn welcome(user: &str, cell: &str) -> [Message; 4] {
    [
        short(1, user, "Welcome", &format!("Hello {user}.\r\nThis mailbox lives in cell {cell}.")),
        short(2, user, "Timetable", "Monday 08:00, as every week."),
        short(3, user, "Cafeteria", "Soup of the day: leek and potato."),
        large(),
    ]
}

/// The first number of delivered messages.
pub(super) const UID_DELIVERED: u32 = 5;

impl Message {
    /// A message that arrived `now`. Its number is the mailbox's to give.
    pub(super) fn delivered(to: &str, bytes: Vec<u8>, now: Timestamp) -> Self {
        let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let header = String::from_utf8_lossy(bytes.get(..body).unwrap_or_default()).into_owned();
        let field = |name: &str| {
            let line = header.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then_some(value)
            });
            plain(line.unwrap_or_default())
        };
        let from = field("From");
        let from = from.rsplit_once('<').and_then(|(_, rest)| rest.split('>').next()).unwrap_or(&from).to_owned();
        let arrived = now.strftime("%d-%b-%Y %H:%M:%S +0000").to_string();
        let date = Some(field("Date")).filter(|date| !date.is_empty());
        Self {
            uid: 0,
            body,
            subject: field("Subject"),
            from,
            to: plain(to),
            date: date.unwrap_or_else(|| now.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()),
            arrived,
            bytes: Bytes::from(bytes),
        }
    }

    /// Number of lines of the body, as BODYSTRUCTURE wants it.
    pub(super) fn lines(&self) -> usize {
        self.bytes.get(self.body..).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count()
    }
}

fn plain(text: &str) -> String {
    let good = |c: &char| (c.is_ascii_graphic() || *c == ' ') && !"\"\\".contains(*c);
    text.trim().chars().filter(good).take(200).collect()
}

fn short(uid: u32, to: &str, subject: &str, text: &str) -> Message {
    let header = header(to, subject);
    let bytes = Bytes::from(format!("{header}{text}\r\n"));
    stored(uid, to, subject, bytes, header.len())
}

fn large() -> Message {
    static LARGE: OnceLock<Message> = OnceLock::new();
    LARGE
        .get_or_init(|| {
            let (to, subject) = ("everyone@example", "Large attachment");
            let header = header(to, subject);
            let mut bytes = Vec::with_capacity(LARGE_BYTES);
            bytes.extend_from_slice(header.as_bytes());
            let line = [b"0123456789".repeat(7).as_slice(), b"\r\n"].concat();
            while bytes.len() + line.len() <= LARGE_BYTES {
                bytes.extend_from_slice(&line);
            }
            // The rest of the size, still ending in a line end where there is room for one.
            let rest = LARGE_BYTES - bytes.len();
            bytes.extend(std::iter::repeat_n(b'-', rest.saturating_sub(2)));
            bytes.extend_from_slice(b"\r\n".get(..rest.min(2)).unwrap_or_default());
            stored(4, to, subject, Bytes::from(bytes), header.len())
        })
        .clone()
}

fn stored(uid: u32, to: &str, subject: &str, bytes: Bytes, body: usize) -> Message {
    Message {
        uid,
        bytes,
        body,
        subject: subject.to_owned(),
        from: "registrar@example".to_owned(),
        to: to.to_owned(),
        date: DATE_HEADER.to_owned(),
        arrived: DATE_INTERNAL.to_owned(),
    }
}

fn header(to: &str, subject: &str) -> String {
    format!(
        "From: Registrar <registrar@example>\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {DATE_HEADER}\r\n\
         Message-ID: <{}@example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n",
        subject.replace(' ', "-").to_ascii_lowercase()
    )
}

const DATE_HEADER: &str = "Mon, 02 Nov 2026 08:00:00 +0000";
const DATE_INTERNAL: &str = "02-Nov-2026 08:00:00 +0000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivered_message_is_read_for_its_envelope_and_nothing_of_it_can_end_a_quoted_string() {
        let text = b"From: Ada \"x\" <ada@univ-a.example>\r\nsubject: a \"b\" \\c\r\n\r\nBonjour\r\n".to_vec();
        let message = Message::delivered("bob@univ-b.example", text, Timestamp::UNIX_EPOCH);
        assert_eq!((message.from.as_str(), message.subject.as_str()), ("ada@univ-a.example", "a b c"));
        assert_eq!(message.arrived, "01-Jan-1970 00:00:00 +0000");
        assert_eq!((message.bytes.get(message.body..), message.lines()), (Some(&b"Bonjour\r\n"[..]), 1));
        let bare = Message::delivered("bob@univ-b.example", b"no header\r\n".to_vec(), Timestamp::UNIX_EPOCH);
        assert_eq!(bare.body, bare.bytes.len());
    }
}
