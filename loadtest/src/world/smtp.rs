//! A cell's submission side (RFC 6409): takes mail of logged-in people for people of the world, and puts it into their mailboxes.

use std::{io, sync::Arc};

use jiff::Timestamp;
use tokio::net::TcpListener;

use super::{
    Cell,
    login::Entry,
    message::Message,
    people,
    wire::{self, COMMAND_LINE_MAX, Wire},
};

/// Accepts until the task ends; its connections end with it.
pub async fn serve(listener: TcpListener, cell: Arc<Cell>) {
    wire::serve(listener, cell, converse).await;
}

/// What is known of a client.
#[derive(Default)]
struct Session {
    helo: String,
    /// Told by XCLIENT.
    client: Option<String>,
    user: Option<String>,
    sender: Option<String>,
    recipients: Vec<String>,
}

/// The message is.
struct TooLarge;

async fn converse(mut wire: Wire, cell: Arc<Cell>) -> io::Result<()> {
    let greeting = format!("220 cell {} ready\r\n", cell.name);
    wire.say(&greeting).await?;
    let mut session = Session::default();
    while let Some(line) = wire.line(COMMAND_LINE_MAX).await? {
        let line = String::from_utf8_lossy(&line).into_owned();
        let (verb, argument) = line.split_once(' ').unwrap_or((line.as_str(), ""));
        let answer = match verb.to_ascii_uppercase().as_str() {
            "QUIT" => {
                wire.say("221 2.0.0 until next time\r\n").await?;
                break;
            }
            "AUTH" if session.user.is_none() => match authenticate(&mut wire, &cell, argument).await? {
                Some(Entry::User(user)) => {
                    session.user = Some(user);
                    "235 2.7.0 logged in\r\n".to_owned()
                }
                Some(Entry::Refused) => "535 5.7.8 wrong user or password\r\n".to_owned(),
                Some(Entry::Malformed) => "501 5.5.2 PLAIN has three parts\r\n".to_owned(),
                None => break,
            },
            "XCLIENT" if session.user.is_none() => {
                session = Session { client: attribute(argument, "ADDR"), ..Session::default() };
                greeting.clone()
            }
            "DATA" if session.sender.is_some() && !session.recipients.is_empty() => {
                wire.say("354 go on\r\n").await?;
                let Some(data) = read_data(&mut wire).await? else { break };
                session.deliver(&cell, data)
            }
            verb => session.answer(&cell, verb, argument),
        };
        wire.say(&answer).await?;
    }
    wire.close().await
}

/// AUTH PLAIN (RFC 4954); `None` when the client has gone.
async fn authenticate(wire: &mut Wire, cell: &Cell, argument: &str) -> io::Result<Option<Entry>> {
    let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
    if !mechanism.eq_ignore_ascii_case("PLAIN") {
        return Ok(Some(Entry::Malformed));
    }
    if !initial.is_empty() {
        return Ok(Some(cell.enter_by_plain(initial)));
    }
    wire.say("334 \r\n").await?;
    let Some(data) = wire.line(AUTH_LINE_MAX).await? else { return Ok(None) };
    Ok(Some(cell.enter_by_plain(&String::from_utf8_lossy(&data))))
}

/// A message to its dot, with the dots that were put before lines taken away. `None` when the client has gone.
async fn read_data(wire: &mut Wire) -> io::Result<Option<Result<Vec<u8>, TooLarge>>> {
    let mut data = Vec::new();
    let mut too_large = false;
    loop {
        let Some(line) = wire.line(DATA_LINE_MAX).await? else { return Ok(None) };
        if line == b"." {
            return Ok(Some(if too_large { Err(TooLarge) } else { Ok(data) }));
        }
        let line = line.strip_prefix(b".").unwrap_or(&line);
        too_large |= data.len() + line.len() + 2 > SIZE_MAX;
        if !too_large {
            data.extend_from_slice(line);
            data.extend_from_slice(b"\r\n");
        }
    }
}

impl Session {
    fn answer(&mut self, cell: &Cell, verb: &str, argument: &str) -> String {
        match (verb, &self.user) {
            ("EHLO", user) => {
                let before_login =
                    if user.is_none() { "250-XCLIENT ADDR PORT PROTO HELO\r\n250-AUTH PLAIN\r\n" } else { "" };
                self.helo = argument.chars().filter(char::is_ascii_graphic).take(255).collect();
                self.reset();
                format!(
                    "250-cell {}\r\n250-PIPELINING\r\n250-SIZE {SIZE_MAX}\r\n250-8BITMIME\r\n{before_login}250 ENHANCEDSTATUSCODES\r\n",
                    cell.name
                )
            }
            ("HELO", _) => format!("250 cell {}\r\n", cell.name),
            ("NOOP", _) => "250 2.0.0 done\r\n".to_owned(),
            ("RSET", _) => {
                self.reset();
                "250 2.0.0 done\r\n".to_owned()
            }
            ("MAIL" | "RCPT" | "DATA", None) => "530 5.7.0 log in first\r\n".to_owned(),
            ("MAIL", Some(user)) => match path(argument, "FROM:") {
                Some(sender) if sender.eq_ignore_ascii_case(user) => {
                    self.recipients.clear();
                    self.sender = Some(sender);
                    "250 2.1.0 good\r\n".to_owned()
                }
                Some(_) => format!("553 5.7.1 you are {user}\r\n"),
                None => "501 5.5.4 MAIL FROM:<address>\r\n".to_owned(),
            },
            ("RCPT", Some(_)) if self.sender.is_none() => "503 5.5.1 MAIL first\r\n".to_owned(),
            ("RCPT", Some(_)) if self.recipients.len() >= RECIPIENTS_MAX => "452 4.5.3 too many\r\n".to_owned(),
            ("RCPT", Some(_)) => match path(argument, "TO:") {
                Some(recipient) if people::find(&cell.institutions, &recipient).is_some() => {
                    self.recipients.push(recipient);
                    "250 2.1.5 good\r\n".to_owned()
                }
                Some(_) => "550 5.1.1 nobody of that name lives in this world\r\n".to_owned(),
                None => "501 5.5.4 RCPT TO:<address>\r\n".to_owned(),
            },
            ("DATA", Some(_)) => "503 5.5.1 MAIL and RCPT first\r\n".to_owned(),
            _ => "500 5.5.1 unknown command\r\n".to_owned(),
        }
    }

    fn deliver(&mut self, cell: &Cell, data: Result<Vec<u8>, TooLarge>) -> String {
        let (sender, recipients) = (self.sender.take().unwrap_or_default(), std::mem::take(&mut self.recipients));
        let Ok(data) = data else { return format!("552 5.3.4 more than {SIZE_MAX} bytes\r\n") };
        let now = Timestamp::now();
        for recipient in &recipients {
            let trace = format!(
                "Return-Path: <{sender}>\r\nReceived: from {} ([{}])\r\n\tby cell {} with ESMTPA; {}\r\n",
                self.helo,
                self.client.as_deref().unwrap_or("unknown"),
                cell.name,
                now.strftime("%a, %d %b %Y %H:%M:%S +0000"),
            );
            let bytes = [trace.as_bytes(), &data].concat();
            cell.mail.deliver(recipient, Message::delivered(recipient, bytes, now));
        }
        format!("250 2.0.0 delivered to {}\r\n", recipients.len())
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
    }
}

/// `NAME=value` among the words of XCLIENT. What it holds is shown in a header: printable it must be.
fn attribute(words: &str, name: &str) -> Option<String> {
    let value = words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.chars().filter(|c| c.is_ascii_alphanumeric() || ".:".contains(*c)).take(64).collect())
}

/// The address in `FROM:<address> SIZE=…`.
fn path(argument: &str, keyword: &str) -> Option<String> {
    let start = argument.get(..keyword.len())?;
    let rest = argument.get(keyword.len()..)?.trim_start().strip_prefix('<')?;
    let (address, _) = rest.split_once('>')?;
    start.eq_ignore_ascii_case(keyword).then(|| address.to_owned())
}

const SIZE_MAX: usize = 10 * 1024 * 1024;
const DATA_LINE_MAX: usize = 64 * 1024;
const AUTH_LINE_MAX: usize = 12 * 1024;
const RECIPIENTS_MAX: usize = 100;
