//! The client's side of the relay.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::smtp::{
    DataScanner, Found,
    command::{self, Command, LINE_BYTES_MAX, Verb},
    reply,
};

use super::{
    Asked, DUE_MAX, Due, ERRORS_MAX, Line, Phase, Question, RelayEnd, Sent, SubmissionRelay, Verdict, envelope,
    outbox::Outbox,
};

/// Longest text of a [`Verdict::Later`], bytes.
const TEXT_BYTES_MAX: usize = 400;

impl SubmissionRelay {
    /// Bytes came from the client: how many are taken. The rest is offered again.
    pub fn on_client(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.wants_client() {
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else { break };
            taken += match &mut self.phase {
                Phase::Commands => self.on_command_bytes(rest),
                Phase::Data(_) => self.on_text(rest),
                Phase::DataAsked { .. } | Phase::DotSent { .. } => break,
            };
            self.settle();
        }
        if let Phase::DataAsked { ahead } = &mut self.phase {
            *ahead |= taken < bytes.len();
        }
        taken
    }

    /// Whether `on_client` would take anything now.
    pub fn wants_client(&self) -> bool {
        let due_max = if self.profile.cell.pipelining { DUE_MAX } else { 1 };
        self.end.is_none()
            && !self.closing
            && !self.client_closed
            && !self.line.whole
            && self.asked.is_none()
            && self.due.len() < due_max
            && self.to_cell.room() > 0
            && self.to_client.room() > 0
            && matches!(self.phase, Phase::Commands | Phase::Data(_))
    }

    /// The client sends nothing more, and all it sent was taken. Replies it may still read are waited for; half a message
    /// is over at once.
    pub fn on_client_closed(&mut self) {
        self.client_closed = true;
        self.settle();
    }

    /// The verdict on what was asked.
    pub fn on_verdict(&mut self, verdict: Verdict) {
        let Some(Asked { sent, envelope }) = self.asked.take() else { return };
        self.question = None;
        match verdict {
            Verdict::Go => {
                if sent == Sent::Mail {
                    self.sender = Some(envelope.address);
                    self.recipients_sent = 0;
                } else {
                    self.recipients_sent = self.recipients_sent.saturating_add(1);
                }
                self.forward(sent, &envelope.command);
            }
            Verdict::Later(text) => {
                let code = if sent == Sent::Mail { "450 4.7.1" } else { "452 4.5.3" };
                let fit = |c: &char| c.is_ascii_graphic() || *c == ' ';
                let text: String = text.chars().filter(fit).take(TEXT_BYTES_MAX).collect();
                self.own(format!("{code} {text}"));
            }
        }
        self.settle();
    }

    /// The text of a message: one slice to the cell, unless line ends are made.
    fn on_text(&mut self, bytes: &[u8]) -> usize {
        let Phase::Data(scanner) = &mut self.phase else { return 0 };
        let piece = bytes.get(..self.to_cell.room()).unwrap_or(bytes);
        let to_cell: &mut Outbox = &mut self.to_cell;
        let scanned = scanner.scan(piece, |slice| to_cell.push(slice));
        let position = scanner.position();
        match scanned.found {
            Found::More if position > self.data_bytes_max() => {
                self.finish("552 5.3.4 Message too big", RelayEnd::TooMuchData);
            }
            Found::More => {}
            Found::End => {
                // Nothing behind the end goes to the cell before it has said what it took for the end.
                self.phase = Phase::DotSent { bytes: position.saturating_sub(3) };
                self.due.push_back(Due::Cell(Sent::Dot));
            }
            Found::Bad { at, kind } => {
                self.finish("550 5.5.2 A line of a message ends with CR LF", RelayEnd::BadData { at, kind });
            }
        }
        scanned.taken
    }

    /// A cell swallows a message over its SIZE to the end (RFC 1870 §6.3); nobody has to send it twice over.
    fn data_bytes_max(&self) -> u64 {
        match self.profile.offered.size {
            None | Some(0) => u64::MAX,
            Some(size) => size.saturating_mul(2).saturating_add(1024 * 1024),
        }
    }

    /// Takes bytes up to the end of a line.
    fn on_command_bytes(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let piece = bytes.get(..end.map_or(bytes.len(), |end| end + 1)).unwrap_or(bytes);
        let line = &mut self.line;
        if line.overlong || line.bytes.len() + piece.len() > LINE_BYTES_MAX {
            *line = Line { overlong: end.is_none(), ..Line::default() };
            if end.is_some() {
                self.refuse(reply::LINE_TOO_LONG);
            }
            return piece.len();
        }
        if line.bytes.capacity() == 0 {
            // At once as big as it can become: a buffer that grows leaves its old bytes behind.
            let capacity = if end.is_some() { piece.len() } else { LINE_BYTES_MAX };
            line.bytes = Zeroizing::new(Vec::with_capacity(capacity));
        }
        line.bytes.extend_from_slice(piece);
        if end.is_some() {
            line.whole = true;
            self.act();
        }
        piece.len()
    }

    /// Acts on the line, if it need not wait.
    pub(super) fn act(&mut self) {
        if !self.line.whole || self.end.is_some() {
            return;
        }
        let line = std::mem::take(&mut self.line);
        let text = line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let Ok(command) = command::read(text) else { return self.refuse(reply::ILLEGAL_LINE) };
        if command.verb == Verb::Mail && self.sender.is_some() {
            // The cell's word on the last MAIL comes first: it decides which one counts.
            self.line = line;
            return;
        }
        self.on_command(&command);
    }

    fn on_command(&mut self, command: &Command<'_>) {
        let bare = command.arguments.is_empty();
        match command.verb {
            Verb::Data | Verb::Rset | Verb::Quit if !bare => self.refuse(reply::NO_ARGUMENTS),
            Verb::Ehlo | Verb::Helo if bare => self.refuse(reply::NAME_WANTED),
            Verb::Ehlo => self.forward(Sent::Ehlo, b"RSET\r\n"),
            Verb::Helo => self.forward(Sent::Helo, b"RSET\r\n"),
            Verb::Mail => self.ask(Sent::Mail, command),
            // Behind a MAIL that was refused here: a verdict would count recipients of nothing.
            Verb::Rcpt if !self.has_mail() => self.own("503 5.5.1 MAIL first"),
            Verb::Rcpt => self.ask(Sent::Rcpt, command),
            Verb::Data => {
                self.forward(Sent::Data, b"DATA\r\n");
                self.phase = Phase::DataAsked { ahead: false };
            }
            Verb::Rset => self.forward(Sent::Rset, b"RSET\r\n"),
            // Without what may stand behind it: the cell need not see it.
            Verb::Noop => self.forward(Sent::Noop, b"NOOP\r\n"),
            Verb::Quit => {
                self.forward(Sent::Quit, b"QUIT\r\n");
                self.closing = true;
            }
            Verb::Help => self.own(reply::HELP),
            Verb::Vrfy => self.own(reply::VRFY),
            Verb::OfProxies => self.refuse(reply::NO_PROXY),
            // RFC 4954 §4: once is enough.
            Verb::Auth => self.refuse("503 5.5.1 Already logged in"),
            Verb::StartTls => self.refuse(reply::TLS_IS_UP),
            Verb::Never => self.refuse(reply::NOT_HERE),
            // A chunk follows that no line ends (RFC 3030), and what is in it must not be taken for commands.
            Verb::Bdat => self.last(reply::NOT_HERE, RelayEnd::FramingLost),
            Verb::Unknown => self.refuse(reply::UNKNOWN_COMMAND),
        }
    }

    /// Whether a MAIL stands that no RSET behind it takes back, answered yet or not.
    fn has_mail(&self) -> bool {
        let pending = self.due.iter().rev().find_map(|due| match due {
            Due::Cell(Sent::Mail) => Some(true),
            Due::Cell(Sent::Rset | Sent::Ehlo | Sent::Helo) => Some(false),
            _ => None,
        });
        pending.unwrap_or(self.transaction.is_some())
    }

    fn ask(&mut self, sent: Sent, command: &Command<'_>) {
        let envelope = match envelope::read(command, &self.profile.offered) {
            Ok(envelope) => envelope,
            Err(complaint) => return self.refuse(complaint),
        };
        let address = envelope.address.clone();
        self.question = Some(match sent {
            Sent::Mail => Question::Mail { sender: address, size: envelope.size },
            _ => Question::Recipient { recipient: address, before: self.recipients_sent },
        });
        self.asked = Some(Asked { sent, envelope });
    }

    fn forward(&mut self, sent: Sent, command: &[u8]) {
        self.to_cell.push(command);
        self.due.push_back(Due::Cell(sent));
    }

    fn own(&mut self, text: impl Into<Cow<'static, str>>) {
        self.due.push_back(Due::Own(text.into()));
    }

    /// A bad command.
    fn refuse(&mut self, text: &'static str) {
        self.own(text);
        self.errors = self.errors.saturating_add(1);
        if self.errors >= ERRORS_MAX {
            self.last(reply::TOO_MANY_ERRORS, RelayEnd::TooManyErrors);
        }
    }

    fn last(&mut self, text: &'static str, end: RelayEnd) {
        self.due.push_back(Due::Last(text, end));
        self.closing = true;
    }

    /// The cell goes on: the text of the message comes next.
    pub(super) fn begin_data(&mut self) {
        self.phase = Phase::Data(DataScanner::new(self.profile.line_ends));
    }
}
