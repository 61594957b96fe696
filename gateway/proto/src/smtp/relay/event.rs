//! What the relay tells its driver, and asks it.

use crate::smtp::BadByte;

/// A happening, told in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayEvent {
    /// May this go to the cell? Nothing more is read from the client before `on_verdict`.
    Ask(Question),
    /// The cell gave its word on a message.
    Message(Message),
}

/// What is asked before it goes to the cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A message begins.
    Mail {
        /// Its sender without brackets; empty for a bounce.
        sender: String,
        /// What the client says it is long, bytes.
        size: Option<u64>,
    },
    /// One more recipient.
    Recipient {
        /// Without brackets.
        recipient: String,
        /// Recipients of this message that went to the cell before.
        before: u32,
    },
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the cell.
    Go,
    /// Not now. The text is for a person: `Your institution's limit of 500 recipients an hour is reached`. The client is told
    /// `450 4.7.1` for a message and `452 4.5.3` for a recipient, which makes it send the others.
    Later(String),
}

/// One message, when the cell has replied to its end. Holds nothing of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Without brackets; empty for a bounce. At most 320 bytes.
    pub sender: String,
    /// Recipients the cell took.
    pub recipients: u32,
    /// Bytes the client sent, without the dot at the end.
    pub bytes: u64,
    /// The cell's reply code: 250, or 4xx and 5xx.
    pub code: u16,
    /// The last line of its reply, with the queue id where it tells one. At most 200 bytes of ASCII.
    pub said: String,
}

impl Message {
    /// Whether the cell answers for it now.
    pub fn accepted(&self) -> bool {
        self.code < 300
    }
}

/// What a session brought, so far. Counts what the cell accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages.
    pub messages: u32,
    /// Their recipients.
    pub recipients: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayEnd {
    /// QUIT.
    Quit,
    /// The client went away.
    ClientClosed,
    /// The cell went away or said 421.
    CellClosed,
    /// The driver wanted it, between two messages.
    Stopped,
    /// The driver wanted it, wherever the session was.
    Cut,
    /// Nothing moved in time.
    Deadline,
    /// Too many bad commands.
    TooManyErrors,
    /// A byte that may not be in a message, `at` counted from its start.
    BadData {
        /// Offset, bytes.
        at: u64,
        /// Which.
        kind: BadByte,
    },
    /// A message far over the size that was offered.
    TooMuchData,
    /// Text behind a DATA that the cell refused, or BDAT: nobody can say which bytes are commands.
    FramingLost,
    /// The cell did not speak SMTP.
    CellProtocol(&'static str),
}

impl RelayEnd {
    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::ClientClosed => "client_closed",
            Self::CellClosed => "cell_closed",
            Self::Stopped => "stopped",
            Self::Cut => "cut",
            Self::Deadline => "deadline",
            Self::TooManyErrors => "too_many_errors",
            Self::BadData { kind, .. } => kind.as_str(),
            Self::TooMuchData => "too_much_data",
            Self::FramingLost => "framing_lost",
            Self::CellProtocol(_) => "cell_protocol",
        }
    }
}
