//! A cell's ManageSieve side (RFC 5804): scripts are kept and handed back, never run.

use std::{io, sync::Arc};

use tokio::net::TcpListener;

use super::{
    Cell,
    login::Entry,
    mailbox::Scripts,
    wire::{self, Literals, Wire},
    words::{Word, words},
};

/// Accepts until the task ends; its connections end with it.
pub async fn serve(listener: TcpListener, cell: Arc<Cell>) {
    wire::serve(listener, cell, converse).await;
}

async fn converse(mut wire: Wire, cell: Arc<Cell>) -> io::Result<()> {
    wire.say(&format!("{}OK \"cell {} ready\"\r\n", capabilities(&cell), cell.name)).await?;
    let mut user = None;
    while let Some(command) = wire.command(LITERALS).await? {
        let words = words(&command).unwrap_or_default();
        let [verb, arguments @ ..] = words.as_slice() else {
            wire.say("NO \"not a command\"\r\n").await?;
            continue;
        };
        let arguments: Vec<&[u8]> = arguments.iter().filter_map(Word::bytes).collect();
        let verb = verb.upper().unwrap_or_default();
        let answer = match (verb.as_str(), arguments.as_slice(), &user) {
            ("CAPABILITY", ..) => format!("{}OK\r\n", capabilities(&cell)),
            ("NOOP", [], _) => "OK\r\n".to_owned(),
            ("NOOP", [tag, ..], _) => format!("OK (TAG {}) \"done\"\r\n", quoted(tag)),
            ("LOGOUT", ..) => {
                wire.say("OK \"until next time\"\r\n").await?;
                break;
            }
            ("AUTHENTICATE", [mechanism, rest @ ..], None) => {
                if !mechanism.eq_ignore_ascii_case(b"PLAIN") {
                    "NO \"only PLAIN\"\r\n".to_owned()
                } else {
                    let data = match rest.first() {
                        Some(initial) => initial.to_vec(),
                        None => {
                            wire.say("\"\"\r\n").await?;
                            let Some(line) = wire.command(LITERALS).await? else { break };
                            self::words(&line)
                                .and_then(|words| Some(words.first()?.bytes()?.to_vec()))
                                .unwrap_or_default()
                        }
                    };
                    match cell.enter_by_plain(&String::from_utf8_lossy(&data)) {
                        Entry::User(name) => {
                            user = Some(name);
                            "OK \"logged in\"\r\n".to_owned()
                        }
                        Entry::Refused => "NO \"wrong user or password\"\r\n".to_owned(),
                        Entry::Malformed => "NO \"PLAIN has three parts\"\r\n".to_owned(),
                    }
                }
            }
            (_, _, None) => "NO \"log in first\"\r\n".to_owned(),
            (verb, arguments, Some(user)) => cell.mail.scripts(user, |scripts| on_script(scripts, verb, arguments)),
        };
        wire.say(&answer).await?;
    }
    wire.close().await
}

fn on_script(scripts: &mut Scripts, verb: &str, arguments: &[&[u8]]) -> String {
    let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    match (verb, arguments) {
        ("LISTSCRIPTS", []) => {
            let active = scripts.active.as_ref();
            let lines = scripts.all.keys().map(|one| {
                let mark = if active == Some(one) { " ACTIVE" } else { "" };
                format!("{}{mark}\r\n", quoted(one.as_bytes()))
            });
            format!("{}OK\r\n", lines.collect::<String>())
        }
        ("HAVESPACE", [_, _]) => OK.to_owned(),
        ("CHECKSCRIPT", [script]) | ("PUTSCRIPT", [_, script]) if script.contains(&0) => {
            "NO \"line 1: NUL is no Sieve\"\r\n".to_owned()
        }
        ("CHECKSCRIPT", [_]) => OK.to_owned(),
        ("PUTSCRIPT", [one, script]) => {
            let one = name(one);
            if one.is_empty() || one.len() > NAME_BYTES_MAX || one.contains(char::is_control) {
                return "NO \"that is no name\"\r\n".to_owned();
            }
            if scripts.all.len() >= SCRIPTS_MAX && !scripts.all.contains_key(&one) {
                return "NO (QUOTA/MAXSCRIPTS) \"no room for another script\"\r\n".to_owned();
            }
            scripts.all.insert(one, script.to_vec());
            OK.to_owned()
        }
        ("GETSCRIPT", [one]) => match scripts.all.get(&name(one)) {
            Some(script) => format!("{{{}}}\r\n{}\r\nOK\r\n", script.len(), String::from_utf8_lossy(script)),
            None => NONE_SUCH.to_owned(),
        },
        ("SETACTIVE", [b""]) => {
            scripts.active = None;
            OK.to_owned()
        }
        ("SETACTIVE", [one]) if scripts.all.contains_key(&name(one)) => {
            scripts.active = Some(name(one));
            OK.to_owned()
        }
        ("DELETESCRIPT", [one]) if scripts.active == Some(name(one)) => {
            "NO (ACTIVE) \"the script is active\"\r\n".to_owned()
        }
        ("DELETESCRIPT", [one]) if scripts.all.remove(&name(one)).is_some() => OK.to_owned(),
        ("SETACTIVE" | "DELETESCRIPT", [_]) => NONE_SUCH.to_owned(),
        _ => "NO \"unknown command\"\r\n".to_owned(),
    }
}

fn capabilities(cell: &Cell) -> String {
    format!(
        "\"IMPLEMENTATION\" \"guichet simulated cell {}\"\r\n\"SIEVE\" \"fileinto envelope vacation\"\r\n\
         \"SASL\" \"PLAIN\"\r\n\"VERSION\" \"1.0\"\r\n",
        cell.name
    )
}

fn quoted(text: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(text).replace('\\', "\\\\").replace('"', "\\\""))
}

const OK: &str = "OK\r\n";
const NONE_SUCH: &str = "NO (NONEXISTENT) \"no such script\"\r\n";
/// ManageSieve clients never wait to be asked on (RFC 5804 §4), whatever they write.
const LITERALS: Literals =
    Literals { bytes_max: 64 * 1024, go_on: "", too_long: "NO (QUOTA/MAXSIZE) \"too long\"\r\nBYE \"too long\"\r\n" };
const SCRIPTS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 200;
