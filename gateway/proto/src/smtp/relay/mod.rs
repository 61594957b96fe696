//! The relay after login, line by line.
//!
//! An opaque relay would hand a logged-in client the trust that the cell has in us: it could say XCLIENT and be someone
//! else, or smuggle a second message. So every line of a client is read, and what the cell gets is either written anew
//! (commands) or scanned (the text of a message).
//!
//! ```text
//!               DATA sent             354                    CRLF . CRLF
//!   Commands ─────────────► DataAsked ─────► Data(scanner) ──────────────► DotSent
//!     ▲                        │ refused        │ bad byte                    │
//!     └────────────────────────┘                └─► end: 550, both legs       │ the cell's word
//!     └───────────────────────────────────────────────────────────────────────┘
//! ```
//! The cell's replies move the phase, never the client's words alone. A reply that we make ourselves waits in `due` until
//! those in front of it have come from the cell, so that pipelining clients (RFC 2920) get them in order.
//!
//! EHLO after login: the cell gets RSET, which is what a second EHLO means to a transaction (RFC 5321 §4.1.4), and when it
//! has agreed the client gets our list. The cell's own list never comes through.
//!
//! The driver carries bytes: `on_client` and `on_cell` say how many they took, the rest is offered again when `wants_client`
//! or `wants_cell` is true again; what is in `to_cell` and `to_client` is sent and acknowledged. Each of the two holds at most
//! 128 KiB and a few replies, and nothing when it is idle.

use std::{borrow::Cow, collections::VecDeque, fmt, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{DataScanner, Extensions, LineEnds, cell_reply::ReplyReader};

mod cell;
mod client;
mod envelope;
mod event;
mod outbox;

use envelope::Envelope;
pub use event::{Message, Question, RelayEnd, RelayEvent, Totals, Verdict};
use outbox::Outbox;

/// Longest time for a command or its reply, and between two pieces of a message (RFC 5321 §4.5.3.2).
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// Longest time for the cell's word on a message (RFC 5321 §4.5.3.2.6).
pub const DOT_DEADLINE: Duration = Duration::from_secs(10 * 60);

const STOPPED: &str = "421 4.3.2 Please connect again";

/// Replies that may be awaited; when so many are, nothing more is read from the client.
const DUE_MAX: usize = 128;
/// Bad commands before we give up.
const ERRORS_MAX: u8 = 10;

/// What the relay must know.
#[derive(Clone, Debug)]
pub struct RelayProfile {
    /// For our EHLO reply.
    pub hostname: Arc<str>,
    /// What the client was shown: the common list of all cells.
    pub offered: Extensions,
    /// What this cell lists. Without PIPELINING it gets one command at a time.
    pub cell: Extensions,
    /// What becomes of bare line ends in a message.
    pub line_ends: LineEnds,
}

/// A submission session after login.
pub struct SubmissionRelay {
    profile: RelayProfile,
    phase: Phase,
    line: Line,
    due: VecDeque<Due>,
    reader: ReplyReader,
    /// Sender of the MAIL that the cell has not answered yet. One at a time.
    sender: Option<String>,
    transaction: Option<Transaction>,
    /// RCPTs sent since the last MAIL.
    recipients_sent: u32,
    asked: Option<Asked>,
    /// Not polled yet.
    question: Option<Question>,
    finished: Option<Message>,
    totals: Totals,
    errors: u8,
    /// The last command is taken: nothing more is read from the client.
    closing: bool,
    client_closed: bool,
    stopping: bool,
    to_cell: Outbox,
    to_client: Outbox,
    end: Option<RelayEnd>,
}

/// What the next byte of the client is.
#[derive(Debug)]
enum Phase {
    Commands,
    /// DATA is sent; `ahead`: bytes came behind it.
    DataAsked {
        ahead: bool,
    },
    Data(DataScanner),
    /// The end of a message of that many bytes is sent.
    DotSent {
        bytes: u64,
    },
}

/// The client's line so far. May be an AUTH that comes too late, with a password in it.
#[derive(Default)]
struct Line {
    bytes: Zeroizing<Vec<u8>>,
    /// It waits to be acted on.
    whole: bool,
    /// Over its bound: swallowed to its end.
    overlong: bool,
}

/// A reply the client waits for.
#[derive(Debug)]
enum Due {
    /// Of the cell.
    Cell(Sent),
    /// Ours.
    Own(Cow<'static, str>),
    /// Ours, and the end.
    Last(&'static str, RelayEnd),
}

/// What the cell was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Mail,
    Rcpt,
    Data,
    Dot,
    Rset,
    /// RSET too; the client gets our EHLO reply.
    Ehlo,
    Helo,
    Noop,
    Quit,
}

/// A message the cell has taken the sender of.
#[derive(Debug)]
struct Transaction {
    sender: String,
    recipients: u32,
}

/// A MAIL or RCPT that waits for its verdict.
#[derive(Debug)]
struct Asked {
    sent: Sent,
    envelope: Envelope,
}

impl fmt::Debug for SubmissionRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmissionRelay")
            .field("phase", &self.phase)
            .field("due", &self.due.len())
            .field("to_cell", &self.to_cell)
            .field("to_client", &self.to_client)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl SubmissionRelay {
    /// Behind the login. What the client pipelined behind its AUTH goes to `on_client`.
    pub fn new(profile: RelayProfile) -> Self {
        Self {
            profile,
            phase: Phase::Commands,
            line: Line::default(),
            due: VecDeque::new(),
            reader: ReplyReader::default(),
            sender: None,
            transaction: None,
            recipients_sent: 0,
            asked: None,
            question: None,
            finished: None,
            totals: Totals::default(),
            errors: 0,
            closing: false,
            client_closed: false,
            stopping: false,
            to_cell: Outbox::default(),
            to_client: Outbox::default(),
            end: None,
        }
    }

    /// What the driver must hear of.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        let message = self.finished.take().map(RelayEvent::Message);
        message.or_else(|| self.question.take().map(RelayEvent::Ask))
    }

    /// Waits to be sent to the cell.
    pub fn to_cell(&self) -> &[u8] {
        self.to_cell.as_slice()
    }

    /// So many of these bytes are sent.
    pub fn sent_to_cell(&mut self, n: usize) {
        self.to_cell.sent(n);
    }

    /// Waits to be sent to the client.
    pub fn to_client(&self) -> &[u8] {
        self.to_client.as_slice()
    }

    /// So many of these bytes are sent.
    pub fn sent_to_client(&mut self, n: usize) {
        self.to_client.sent(n);
        self.settle();
    }

    /// How long to wait for the next byte that moves, whichever way.
    pub fn deadline(&self) -> Duration {
        if matches!(self.phase, Phase::DotSent { .. }) { DOT_DEADLINE } else { COMMAND_DEADLINE }
    }

    /// The deadline passed.
    pub fn on_deadline(&mut self) {
        self.finish("421 4.4.2 Nothing has happened for too long", RelayEnd::Deadline);
    }

    /// The session must end soon: it does between two messages, never within one.
    pub fn on_stop(&mut self) {
        self.stopping = true;
        self.settle();
    }

    /// The session must end now, although it has found no place for it since [`on_stop`](Self::on_stop).
    ///
    /// The client hears of it where a reply may be said; half a message is dropped without a word. A message that is with
    /// the cell whole gets its word first: without it the client would send the message twice.
    pub fn on_cut(&mut self) {
        self.on_stop();
        match self.phase {
            Phase::Commands | Phase::DataAsked { .. } => self.finish(STOPPED, RelayEnd::Cut),
            Phase::Data(_) => self.close(RelayEnd::Cut),
            Phase::DotSent { .. } => {}
        }
    }

    /// Why it is over. What is in `to_client` is still sent, then both legs are closed; a cell that is in the middle of a
    /// message must see no orderly end of it, only the end of the connection.
    pub fn end(&self) -> Option<RelayEnd> {
        self.end
    }

    /// What was accepted so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Sends own replies whose turn has come, and ends when it is time.
    fn settle(&mut self) {
        while self.end.is_none() && self.to_client.room() > 0 {
            match self.due.pop_front() {
                Some(Due::Own(text)) => self.say(&text),
                Some(Due::Last(text, end)) => self.finish(text, end),
                Some(cell) => {
                    self.due.push_front(cell);
                    break;
                }
                None => break,
            }
        }
        let idle = self.due.is_empty() && self.asked.is_none() && !self.line.whole;
        let commands = matches!(self.phase, Phase::Commands);
        if self.end.is_none() && self.client_closed && (idle || !self.answers_come()) {
            self.close(RelayEnd::ClientClosed);
        }
        if self.end.is_none() && self.stopping && idle && commands && self.transaction.is_none() {
            self.finish(STOPPED, RelayEnd::Stopped);
        }
    }

    /// Whether a client that sends nothing more still gets somewhere.
    fn answers_come(&self) -> bool {
        matches!(self.phase, Phase::Commands | Phase::DotSent { .. })
    }

    fn say(&mut self, text: &str) {
        self.to_client.push(text.as_bytes());
        self.to_client.push(b"\r\n");
    }

    /// Tells the client, and that was it.
    fn finish(&mut self, text: &str, end: RelayEnd) {
        if self.end.is_none() {
            self.say(text);
            self.close(end);
        }
    }

    fn close(&mut self, end: RelayEnd) {
        if self.end.is_none() {
            self.end = Some(end);
            // What the cell did not get it shall not get: half a message is none.
            self.to_cell.clear();
            self.due.clear();
            self.line = Line::default();
            self.asked = None;
            self.question = None;
        }
    }
}
