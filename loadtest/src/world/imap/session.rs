//! What the cell answers: one session, a command in, replies out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{
    command::{Word, in_set, words},
    message::{DATE_HEADER, DATE_INTERNAL, Message, inbox},
};
use crate::world::{Cell, CellLogin, people};

/// What the connection does after a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Read the next command.
    Next,
    /// Read one line that belongs to this command.
    Line,
    /// Close.
    Bye,
}

enum Awaits {
    Nothing,
    Sasl { tag: String },
    Done { tag: String },
}

/// One connection's state.
pub(super) struct Session<'a> {
    cell: &'a Cell,
    user: Option<String>,
    messages: Option<Vec<Message>>,
    awaits: Awaits,
    reply: Vec<Bytes>,
}

impl<'a> Session<'a> {
    pub(super) fn new(cell: &'a Cell) -> Self {
        Self { cell, user: None, messages: None, awaits: Awaits::Nothing, reply: Vec::new() }
    }

    pub(super) fn greeting(&self) -> String {
        format!("* OK [CAPABILITY {CAPABILITY_BEFORE}] cell {} ready\r\n", self.cell.name)
    }

    pub(super) fn take_reply(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.reply)
    }

    fn say(&mut self, line: impl Into<String>) {
        let mut line: String = line.into();
        line.push_str("\r\n");
        self.reply.push(Bytes::from(line));
    }

    pub(super) fn on_command(&mut self, command: &[u8]) -> After {
        let words = words(command).unwrap_or_default();
        let [Word::Atom(tag), verb, arguments @ ..] = words.as_slice() else {
            self.say("* BAD not a command");
            return After::Next;
        };
        let verb = verb.upper().unwrap_or_default();
        match (verb.as_str(), arguments) {
            ("CAPABILITY", _) => {
                let list = if self.user.is_some() { CAPABILITY_AFTER } else { CAPABILITY_BEFORE };
                self.say(format!("* CAPABILITY {list}"));
                self.ok(tag, "CAPABILITY done")
            }
            ("NOOP" | "CHECK", _) => self.ok(tag, "done"),
            ("ID", _) => {
                self.say(format!("* ID (\"name\" \"guichet simulated cell\" \"cell\" \"{}\")", self.cell.name));
                self.ok(tag, "ID done")
            }
            ("LOGOUT", _) => {
                self.say("* BYE until next time");
                self.ok(tag, "LOGOUT done");
                After::Bye
            }
            ("LOGIN", [user, password]) if self.user.is_none() => {
                let (user, password) = (text(user), text(password));
                let allowed = matches!(self.cell.login, CellLogin::Password) && self.knows(&user, &password);
                self.logged_in(tag, allowed.then_some(user))
            }
            ("AUTHENTICATE", [mechanism, rest @ ..]) if self.user.is_none() => {
                if mechanism.upper().as_deref() != Some("PLAIN") {
                    return self.no(tag, "[CANNOT] only PLAIN");
                }
                match rest.first() {
                    Some(initial) => self.on_sasl(tag, &text(initial)),
                    None => {
                        self.awaits = Awaits::Sasl { tag: tag.clone() };
                        self.say("+ ");
                        After::Line
                    }
                }
            }
            ("LOGIN" | "AUTHENTICATE", _) => self.bad(tag, "already logged in, or arguments missing"),
            _ if self.user.is_none() => self.bad(tag, "log in first"),
            _ => self.on_logged_in(tag, &verb, arguments),
        }
    }

    /// A line that belongs to the command under way: SASL data, or the end of IDLE.
    pub(super) fn on_line(&mut self, line: &[u8]) -> After {
        match std::mem::replace(&mut self.awaits, Awaits::Nothing) {
            Awaits::Sasl { tag } if line == b"*" => self.bad(&tag, "cancelled"),
            Awaits::Sasl { tag } => self.on_sasl(&tag, &String::from_utf8_lossy(line)),
            Awaits::Done { tag } if line.eq_ignore_ascii_case(b"DONE") => self.ok(&tag, "IDLE done"),
            Awaits::Done { tag } => self.bad(&tag, "DONE expected"),
            Awaits::Nothing => After::Next,
        }
    }

    /// RFC 4616: authzid NUL authcid NUL passwd.
    fn on_sasl(&mut self, tag: &str, data: &str) -> After {
        let decoded = STANDARD.decode(data.trim()).unwrap_or_default();
        let parts: Vec<String> =
            decoded.split(|&byte| byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let [authzid, authcid, password] = parts.as_slice() else { return self.bad(tag, "PLAIN has three parts") };
        let user = match &self.cell.login {
            CellLogin::Password => {
                let same = authzid.is_empty() || authzid.eq_ignore_ascii_case(authcid);
                (same && self.knows(authcid, password)).then(|| authcid.clone())
            }
            CellLogin::Master { username, password: master } => {
                let known = people::find(&self.cell.institutions, authzid).is_some();
                (known && authcid == username && password == master).then(|| authzid.clone())
            }
        };
        self.logged_in(tag, user)
    }

    fn knows(&self, user: &str, password: &str) -> bool {
        people::find(&self.cell.institutions, user).is_some_and(|(_, person)| person.password == password)
    }

    fn logged_in(&mut self, tag: &str, user: Option<String>) -> After {
        match user {
            Some(user) => {
                self.say(format!("{tag} OK [CAPABILITY {CAPABILITY_AFTER}] logged in as {user}"));
                self.user = Some(user);
                After::Next
            }
            None => self.no(tag, "[AUTHENTICATIONFAILED] wrong user or password"),
        }
    }

    fn on_logged_in(&mut self, tag: &str, verb: &str, arguments: &[Word]) -> After {
        match verb {
            "NAMESPACE" => {
                self.say("* NAMESPACE ((\"\" \"/\")) NIL NIL");
                self.ok(tag, "done")
            }
            "LIST" | "LSUB" => {
                let pattern = arguments.last().map(text).unwrap_or_default();
                if pattern.is_empty() {
                    self.say(format!("* {verb} (\\Noselect) \"/\" \"\""));
                } else if pattern.contains(['*', '%']) || pattern.eq_ignore_ascii_case("INBOX") {
                    self.say(format!("* {verb} (\\HasNoChildren) \"/\" \"INBOX\""));
                }
                self.ok(tag, "done")
            }
            "STATUS" => {
                if !names_inbox(arguments.first()) {
                    return self.no(tag, "[NONEXISTENT] there is only INBOX");
                }
                let count = inbox(self.user.as_deref().unwrap_or_default(), &self.cell.name).len();
                self.say(format!(
                    "* STATUS INBOX (MESSAGES {count} RECENT 0 UIDNEXT {} UIDVALIDITY {UIDVALIDITY} UNSEEN {count})",
                    count + 1
                ));
                self.ok(tag, "done")
            }
            "SELECT" | "EXAMINE" => self.on_select(tag, verb, arguments),
            "IDLE" => {
                self.awaits = Awaits::Done { tag: tag.to_owned() };
                self.say("+ idling");
                After::Line
            }
            "CLOSE" | "UNSELECT" => {
                self.messages = None;
                self.ok(tag, "done")
            }
            "FETCH" => self.on_fetch(tag, arguments, false),
            "SEARCH" => self.on_search(tag),
            "UID" => match arguments.split_first() {
                Some((verb, rest)) if verb.upper().as_deref() == Some("FETCH") => self.on_fetch(tag, rest, true),
                Some((verb, _)) if verb.upper().as_deref() == Some("SEARCH") => self.on_search(tag),
                _ => self.no(tag, "[CANNOT] the mailbox is read-only"),
            },
            "STORE" | "EXPUNGE" | "APPEND" | "COPY" | "MOVE" | "CREATE" | "DELETE" | "RENAME" => {
                self.no(tag, "[CANNOT] the mailbox is read-only")
            }
            "SUBSCRIBE" | "UNSUBSCRIBE" => self.ok(tag, "done"),
            _ => self.bad(tag, "unknown command"),
        }
    }

    fn on_select(&mut self, tag: &str, verb: &str, arguments: &[Word]) -> After {
        if !names_inbox(arguments.first()) {
            return self.no(tag, "[NONEXISTENT] there is only INBOX");
        }
        let messages = inbox(self.user.as_deref().unwrap_or_default(), &self.cell.name);
        self.say("* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)");
        self.say(format!("* {} EXISTS", messages.len()));
        self.say("* 0 RECENT");
        self.say("* OK [UNSEEN 1] first unseen");
        self.say("* OK [PERMANENTFLAGS ()] read-only");
        self.say(format!("* OK [UIDVALIDITY {UIDVALIDITY}] stable"));
        self.say(format!("* OK [UIDNEXT {}] next", messages.len() + 1));
        self.messages = Some(messages);
        self.ok(tag, &format!("[READ-ONLY] {verb} done"))
    }

    fn on_search(&mut self, tag: &str) -> After {
        let Some(messages) = &self.messages else { return self.bad(tag, "select a mailbox first") };
        let all: String = (1..=messages.len()).map(|number| format!(" {number}")).collect();
        self.say(format!("* SEARCH{all}"));
        self.ok(tag, "done")
    }

    fn on_fetch(&mut self, tag: &str, arguments: &[Word], by_uid: bool) -> After {
        let Some(messages) = self.messages.clone() else { return self.bad(tag, "select a mailbox first") };
        let [Word::Atom(set), items @ ..] = arguments else { return self.bad(tag, "which messages?") };
        let mut items: Vec<String> = items.iter().filter_map(|word| word.bytes().map(|_| text(word))).collect();
        let macros = match items.first().map(|item| item.to_ascii_uppercase()).as_deref() {
            Some("ALL") => Some("FLAGS INTERNALDATE RFC822.SIZE ENVELOPE"),
            Some("FAST") => Some("FLAGS INTERNALDATE RFC822.SIZE"),
            Some("FULL") => Some("FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY"),
            _ => None,
        };
        if let Some(macros) = macros {
            items = macros.split(' ').map(str::to_owned).collect();
        }
        if by_uid && !items.iter().any(|item| item.eq_ignore_ascii_case("UID")) {
            items.insert(0, "UID".to_owned());
        }
        let count = messages.len();
        for (number, message) in (1..).zip(&messages).filter(|(number, _)| in_set(set, *number, count)) {
            self.reply.push(Bytes::from(format!("* {number} FETCH (")));
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    self.reply.push(Bytes::from_static(b" "));
                }
                fetch_item(item, number, message, &mut self.reply);
            }
            self.reply.push(Bytes::from_static(b")\r\n"));
        }
        self.ok(tag, "FETCH done")
    }

    fn ok(&mut self, tag: &str, text: &str) -> After {
        self.say(format!("{tag} OK {text}"));
        After::Next
    }

    fn no(&mut self, tag: &str, text: &str) -> After {
        self.say(format!("{tag} NO {text}"));
        After::Next
    }

    fn bad(&mut self, tag: &str, text: &str) -> After {
        self.say(format!("{tag} BAD {text}"));
        After::Next
    }
}

fn text(word: &Word) -> String {
    word.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

fn names_inbox(word: Option<&Word>) -> bool {
    word.and_then(Word::upper).as_deref() == Some("INBOX")
}

fn fetch_item(item: &str, number: usize, message: &Message, reply: &mut Vec<Bytes>) {
    let upper = item.to_ascii_uppercase();
    let size = message.bytes.len();
    let said = match upper.as_str() {
        "UID" => format!("UID {number}"),
        "FLAGS" => "FLAGS ()".to_owned(),
        "INTERNALDATE" => format!("INTERNALDATE \"{DATE_INTERNAL}\""),
        "RFC822.SIZE" => format!("RFC822.SIZE {size}"),
        "ENVELOPE" => {
            let (mailbox, host) = message.to.split_once('@').unwrap_or((message.to.as_str(), ""));
            let from = "((\"Registrar\" NIL \"registrar\" \"example\"))";
            format!(
                "ENVELOPE (\"{DATE_HEADER}\" \"{}\" {from} {from} {from} ((NIL NIL \"{mailbox}\" \"{host}\")) NIL NIL NIL \"<{number}@example>\")",
                message.subject
            )
        }
        "BODY" | "BODYSTRUCTURE" => {
            let (bytes, lines) = (size - message.body, message.lines());
            format!("{upper} (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" {bytes} {lines})")
        }
        "RFC822" => return literal("RFC822", message.bytes.clone(), None, reply),
        "RFC822.HEADER" => return literal("RFC822.HEADER", message.bytes.slice(..message.body), None, reply),
        "RFC822.TEXT" => return literal("RFC822.TEXT", message.bytes.slice(message.body..), None, reply),
        _ if upper.starts_with("BODY[") || upper.starts_with("BODY.PEEK[") => return fetch_body(item, message, reply),
        _ => return,
    };
    reply.push(Bytes::from(said));
}

fn fetch_body(item: &str, message: &Message, reply: &mut Vec<Bytes>) {
    let (Some(open), Some(close)) = (item.find('['), item.rfind(']')) else { return };
    let section = item.get(open + 1..close).unwrap_or_default();
    let upper = section.to_ascii_uppercase();
    let bytes = if upper.is_empty() {
        message.bytes.clone()
    } else if upper == "TEXT" || upper == "1" {
        message.bytes.slice(message.body..)
    } else if let Some(names) = upper.strip_prefix("HEADER.FIELDS (") {
        header_fields(message, names.trim_end_matches(')'))
    } else {
        message.bytes.slice(..message.body)
    };
    let partial = item.get(close + 1..).and_then(|tail| tail.strip_prefix('<')).and_then(|tail| tail.strip_suffix('>'));
    let partial = partial
        .and_then(|range| range.split_once('.'))
        .and_then(|(from, length)| Some((from.parse().ok()?, length.parse().ok()?)));
    literal(&format!("BODY[{section}]"), bytes, partial, reply);
}

fn header_fields(message: &Message, names: &str) -> Bytes {
    let header = String::from_utf8_lossy(message.bytes.get(..message.body).unwrap_or_default()).into_owned();
    let wanted: Vec<&str> = names.split(' ').collect();
    let mut kept: String = header
        .split_inclusive("\r\n")
        .filter(|line| {
            line.split_once(':').is_some_and(|(name, _)| wanted.contains(&name.to_ascii_uppercase().as_str()))
        })
        .collect();
    kept.push_str("\r\n");
    Bytes::from(kept)
}

fn literal(name: &str, bytes: Bytes, partial: Option<(usize, usize)>, reply: &mut Vec<Bytes>) {
    let (name, bytes) = match partial {
        Some((from, length)) => {
            let start = from.min(bytes.len());
            let end = start.saturating_add(length).min(bytes.len());
            (format!("{name}<{from}>"), bytes.slice(start..end))
        }
        None => (name.to_owned(), bytes),
    };
    reply.push(Bytes::from(format!("{name} {{{}}}\r\n", bytes.len())));
    reply.push(bytes);
}

const CAPABILITY_BEFORE: &str = "IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN";
const CAPABILITY_AFTER: &str = "IMAP4rev1 LITERAL+ ID IDLE NAMESPACE UNSELECT";
const UIDVALIDITY: u32 = 1;
