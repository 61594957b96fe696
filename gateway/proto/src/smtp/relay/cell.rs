//! The cell's side of the relay.

use crate::smtp::cell_reply::CellReply;

use super::{Due, Message, Phase, RelayEnd, Sent, SubmissionRelay, Transaction};

/// Longest text of a cell's reply that is told, bytes.
const SAID_BYTES_MAX: usize = 200;
const GONE: &str = "421 4.3.0 The mail server is not available now, try again later";

impl SubmissionRelay {
    /// Bytes came from the cell: how many are taken. The rest is offered again.
    pub fn on_cell(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.wants_cell() {
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else { break };
            match self.reader.read(rest) {
                Ok((read, reply)) => {
                    taken += read;
                    if let Some(reply) = reply {
                        self.on_reply(reply);
                    }
                }
                Err(what) => self.finish(GONE, RelayEnd::CellProtocol(what)),
            }
        }
        taken
    }

    /// Whether `on_cell` would take anything now.
    pub fn wants_cell(&self) -> bool {
        self.end.is_none() && self.finished.is_none() && self.to_client.room() > 0
    }

    /// The cell sends nothing more, and all it sent was taken.
    pub fn on_cell_closed(&mut self) {
        match self.due.front() {
            Some(Due::Cell(Sent::Quit)) => self.finish("221 2.0.0 Bye", RelayEnd::Quit),
            _ => self.finish(GONE, RelayEnd::CellClosed),
        }
    }

    fn on_reply(&mut self, reply: CellReply) {
        let code = reply.code;
        if code == 421 {
            // May come at any time, and the cell closes behind it (RFC 5321 §3.8).
            self.to_client.push(&reply.bytes);
            return self.close(RelayEnd::CellClosed);
        }
        let Some(Due::Cell(sent)) = self.due.pop_front() else {
            return self.finish(GONE, RelayEnd::CellProtocol("a reply to nothing"));
        };
        // A go-ahead is for DATA, and DATA gets nothing else that is good.
        let yes = if sent == Sent::Data { code == 354 } else { code < 300 };
        if !yes && code < 400 {
            return self.finish(GONE, RelayEnd::CellProtocol("a reply that does not fit"));
        }
        let good = code < 300;
        match sent {
            Sent::Ehlo if good => {
                let list = self.profile.offered.reply(&self.profile.hostname, &[]);
                self.to_client.push(list.as_bytes());
            }
            Sent::Helo if good => {
                let hostname = format!("250 {}", self.profile.hostname);
                self.say(&hostname);
            }
            _ => self.to_client.push(&reply.bytes),
        }
        match sent {
            Sent::Mail => {
                let sender = self.sender.take();
                if let Some(sender) = sender.filter(|_| good) {
                    self.transaction = Some(Transaction { sender, recipients: 0 });
                }
            }
            Sent::Rcpt => {
                if let Some(transaction) = self.transaction.as_mut().filter(|_| good) {
                    transaction.recipients = transaction.recipients.saturating_add(1);
                }
            }
            Sent::Data if code == 354 => self.begin_data(),
            Sent::Data => {
                let ahead = matches!(self.phase, Phase::DataAsked { ahead: true });
                self.phase = Phase::Commands;
                if ahead {
                    // The client may have sent the text of a message; read as commands it would be somebody else's word.
                    return self.finish("421 4.7.0 Text came before it was asked for", RelayEnd::FramingLost);
                }
            }
            Sent::Dot => self.on_word(&reply),
            Sent::Rset | Sent::Ehlo | Sent::Helo if good => self.transaction = None,
            Sent::Quit => return self.close(RelayEnd::Quit),
            Sent::Rset | Sent::Ehlo | Sent::Helo | Sent::Noop => {}
        }
        self.act();
        self.settle();
    }

    /// The cell's word on a message.
    fn on_word(&mut self, reply: &CellReply) {
        let Phase::DotSent { bytes } = self.phase else { return };
        self.phase = Phase::Commands;
        let Transaction { sender, recipients } =
            self.transaction.take().unwrap_or(Transaction { sender: String::new(), recipients: 0 });
        let last = reply.texts().last().unwrap_or_default();
        let shown = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        let said = last.iter().filter(|byte| shown(byte)).take(SAID_BYTES_MAX).map(|byte| char::from(*byte)).collect();
        let message = Message { sender, recipients, bytes, code: reply.code, said };
        if message.accepted() {
            self.totals.messages = self.totals.messages.saturating_add(1);
            self.totals.recipients = self.totals.recipients.saturating_add(recipients);
            self.totals.bytes = self.totals.bytes.saturating_add(bytes);
        }
        self.finished = Some(message);
    }
}
