//! The mailbox: three short messages that name their reader, and a large one for bulk reading.

use std::sync::OnceLock;

use bytes::Bytes;

/// Size of the last message: 20 MiB.
pub const LARGE_BYTES: usize = 20 * 1024 * 1024;

/// A message as stored.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The whole, header and body.
    pub(super) bytes: Bytes,
    /// Where the body begins.
    pub(super) body: usize,
    /// Subject, ASCII without quotes.
    pub(super) subject: String,
    /// To.
    pub(super) to: String,
}

impl Message {
    fn new(to: &str, subject: &str, text: &str) -> Self {
        let header = header(to, subject);
        Self {
            bytes: Bytes::from(format!("{header}{text}\r\n")),
            body: header.len(),
            subject: subject.to_owned(),
            to: to.to_owned(),
        }
    }

    /// Number of lines of the body, as BODYSTRUCTURE wants it.
    pub(super) fn lines(&self) -> usize {
        self.bytes.get(self.body..).unwrap_or_default().iter().filter(|&&byte| byte == b'\n').count()
    }
}

/// The INBOX of `user` in `cell`.
pub(super) fn inbox(user: &str, cell: &str) -> Vec<Message> {
    vec![
        Message::new(user, "Welcome", &format!("Hello {user}.\r\nThis mailbox lives in cell {cell}.")),
        Message::new(user, "Timetable", "Monday 08:00, as every week."),
        Message::new(user, "Cafeteria", "Soup of the day: leek and potato."),
        large(),
    ]
}

fn large() -> Message {
    static LARGE: OnceLock<Message> = OnceLock::new();
    LARGE
        .get_or_init(|| {
            let header = header("everyone@example", "Large attachment");
            let mut bytes = Vec::with_capacity(LARGE_BYTES);
            bytes.extend_from_slice(header.as_bytes());
            let line = [b"0123456789".repeat(7).as_slice(), b"\r\n"].concat();
            while bytes.len() + line.len() <= LARGE_BYTES {
                bytes.extend_from_slice(&line);
            }
            // The rest of the size, still ending in a line end where there is room for one.
            let rest = LARGE_BYTES - bytes.len();
            bytes.extend(std::iter::repeat_n(b'.', rest.saturating_sub(2)));
            bytes.extend_from_slice(b"\r\n".get(..rest.min(2)).unwrap_or_default());
            Message {
                body: header.len(),
                subject: "Large attachment".to_owned(),
                to: "everyone@example".to_owned(),
                bytes: Bytes::from(bytes),
            }
        })
        .clone()
}

fn header(to: &str, subject: &str) -> String {
    format!(
        "From: Registrar <registrar@example>\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {DATE_HEADER}\r\n\
         Message-ID: <{}@example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n",
        subject.replace(' ', "-").to_ascii_lowercase()
    )
}

/// As in a header.
pub(super) const DATE_HEADER: &str = "Mon, 02 Nov 2026 08:00:00 +0000";
/// As INTERNALDATE.
pub(super) const DATE_INTERNAL: &str = "02-Nov-2026 08:00:00 +0000";
