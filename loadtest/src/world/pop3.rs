//! A cell's POP3 side (RFC 1939): the same mailbox as IMAP shows. Delivered messages can be deleted, the first four stay.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::net::TcpListener;

use super::{
    Cell, CellLogin,
    login::Entry,
    message::{Message, UID_DELIVERED},
    wire::{self, COMMAND_LINE_MAX, Wire},
};

/// Accepts until the task ends; its connections end with it.
pub async fn serve(listener: TcpListener, cell: Arc<Cell>) {
    wire::serve(listener, cell, converse).await;
}

/// What a client sees of its mailbox: it does not change under it (RFC 1939 §5).
struct Maildrop {
    user: String,
    messages: Vec<Message>,
    deleted: Vec<u32>,
}

async fn converse(mut wire: Wire, cell: Arc<Cell>) -> io::Result<()> {
    wire.say(&format!("+OK cell {} ready\r\n", cell.name)).await?;
    let Some(mut maildrop) = log_in(&mut wire, &cell).await? else { return wire.close().await };
    while let Some(line) = wire.line(COMMAND_LINE_MAX).await? {
        let line = String::from_utf8_lossy(&line).into_owned();
        let (verb, argument) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        match verb.to_ascii_uppercase().as_str() {
            "QUIT" => {
                cell.mail.remove(&maildrop.user, &maildrop.deleted);
                wire.say("+OK until next time\r\n").await?;
                break;
            }
            "RETR" => match maildrop.message(argument) {
                Some(message) => send(&mut wire, &message.bytes).await?,
                None => wire.say(NO_SUCH).await?,
            },
            "TOP" => match argument.split_once(' ') {
                Some((number, lines)) => match (maildrop.message(number), lines.trim().parse()) {
                    (Some(message), Ok(lines)) => send(&mut wire, &top(message, lines)).await?,
                    _ => wire.say(NO_SUCH).await?,
                },
                None => wire.say("-ERR a message and a number of lines\r\n").await?,
            },
            "CAPA" => wire.say(&capabilities(&cell)).await?,
            verb => {
                let answer = maildrop.answer(verb, argument);
                wire.say(&answer).await?;
            }
        }
    }
    wire.close().await
}

/// The dialogue before login; `None` when the client leaves.
async fn log_in(wire: &mut Wire, cell: &Cell) -> io::Result<Option<Maildrop>> {
    let mut named = None;
    while let Some(line) = wire.line(COMMAND_LINE_MAX).await? {
        let line = String::from_utf8_lossy(&line).into_owned();
        let (verb, argument) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        let entry = match verb.to_ascii_uppercase().as_str() {
            "CAPA" => {
                wire.say(&capabilities(cell)).await?;
                continue;
            }
            "USER" => {
                named = Some(argument.to_owned());
                wire.say("+OK and the password?\r\n").await?;
                continue;
            }
            "PASS" => match named.take() {
                Some(user) => cell.enter_by_password(&user, argument),
                None => Entry::Malformed,
            },
            "AUTH" => {
                let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
                if !mechanism.eq_ignore_ascii_case("PLAIN") {
                    wire.say("-ERR only PLAIN\r\n").await?;
                    continue;
                }
                if initial.is_empty() {
                    wire.say("+ \r\n").await?;
                    let Some(data) = wire.line(COMMAND_LINE_MAX).await? else { return Ok(None) };
                    cell.enter_by_plain(&String::from_utf8_lossy(&data))
                } else {
                    cell.enter_by_plain(initial)
                }
            }
            "QUIT" => {
                wire.say("+OK until next time\r\n").await?;
                return Ok(None);
            }
            _ => {
                wire.say("-ERR log in first\r\n").await?;
                continue;
            }
        };
        match entry {
            Entry::User(user) => {
                let (messages, _) = cell.mail.inbox(&user, &cell.name);
                wire.say(&format!("+OK logged in as {user}\r\n")).await?;
                return Ok(Some(Maildrop { user, messages, deleted: Vec::new() }));
            }
            Entry::Refused => wire.say("-ERR [AUTH] wrong user or password\r\n").await?,
            Entry::Malformed => wire.say("-ERR that is no login\r\n").await?,
        }
    }
    Ok(None)
}

impl Maildrop {
    fn message(&self, number: &str) -> Option<&Message> {
        let number: usize = number.trim().parse().ok()?;
        let message = self.messages.get(number.checked_sub(1)?)?;
        (!self.deleted.contains(&message.uid)).then_some(message)
    }

    /// Those not deleted, numbered.
    fn present(&self) -> impl Iterator<Item = (usize, &Message)> {
        (1..).zip(&self.messages).filter(|(_, message)| !self.deleted.contains(&message.uid))
    }

    fn answer(&mut self, verb: &str, argument: &str) -> String {
        match verb {
            "STAT" => {
                let bytes: usize = self.present().map(|(_, message)| message.bytes.len()).sum();
                format!("+OK {} {bytes}\r\n", self.present().count())
            }
            "LIST" => self.list(argument, |message| message.bytes.len().to_string()),
            "UIDL" => self.list(argument, |message| format!("m{}", message.uid)),
            "DELE" => match self.message(argument).map(|message| message.uid) {
                Some(uid) if uid >= UID_DELIVERED => {
                    self.deleted.push(uid);
                    "+OK gone after QUIT\r\n".to_owned()
                }
                Some(_) => "-ERR [SYS/PERM] this message stays\r\n".to_owned(),
                None => NO_SUCH.to_owned(),
            },
            "RSET" => {
                self.deleted.clear();
                "+OK\r\n".to_owned()
            }
            "NOOP" => "+OK\r\n".to_owned(),
            _ => "-ERR unknown command\r\n".to_owned(),
        }
    }

    fn list(&self, argument: &str, show: impl Fn(&Message) -> String) -> String {
        if argument.is_empty() {
            let lines = self.present().map(|(number, message)| format!("{number} {}\r\n", show(message)));
            return format!("+OK\r\n{}.\r\n", lines.collect::<String>());
        }
        match self.message(argument) {
            Some(message) => format!("+OK {} {}\r\n", argument.trim(), show(message)),
            None => NO_SUCH.to_owned(),
        }
    }
}

fn capabilities(cell: &Cell) -> String {
    // The master has no command of his own: only SASL knows for whom he comes.
    let user = if matches!(cell.login, CellLogin::Password) { "USER\r\n" } else { "" };
    format!("+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\nSASL PLAIN\r\n{user}.\r\n")
}

/// Header and the first lines of the body.
fn top(message: &Message, lines: usize) -> Bytes {
    let body = message.bytes.get(message.body..).unwrap_or_default();
    let ends = body.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let length = if lines == 0 { 0 } else { ends.take(lines).last().unwrap_or_default() };
    message.bytes.slice(..message.body + length)
}

/// A multi-line answer: a dot before lines that begin with one (RFC 1939 §3). Every stored message ends in a line end.
async fn send(wire: &mut Wire, bytes: &[u8]) -> io::Result<()> {
    wire.write(format!("+OK {} octets\r\n", bytes.len()).as_bytes()).await?;
    let mut rest = bytes;
    if rest.first() == Some(&b'.') {
        wire.write(b".").await?;
    }
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\n.") {
        let (line, more) = rest.split_at(at + 1);
        wire.write(line).await?;
        wire.write(b".").await?;
        rest = more;
    }
    wire.write(rest).await?;
    wire.say(".\r\n").await
}

const NO_SUCH: &str = "-ERR no such message\r\n";
