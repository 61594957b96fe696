//! What the cell answers: one session, a command in, replies out.

use bytes::Bytes;
use tokio::sync::watch;

use super::fetch::fetch_item;
use crate::world::{
    Cell,
    login::Entry,
    message::Message,
    words::{Word, in_set, words},
};

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

/// The mailbox as the client knows it.
struct Selected {
    messages: Vec<Message>,
    news: watch::Receiver<u32>,
}

/// One connection's state.
pub(super) struct Session<'a> {
    cell: &'a Cell,
    user: Option<String>,
    selected: Option<Selected>,
    awaits: Awaits,
    reply: Vec<Bytes>,
}

impl<'a> Session<'a> {
    pub(super) fn new(cell: &'a Cell) -> Self {
        Self { cell, user: None, selected: None, awaits: Awaits::Nothing, reply: Vec::new() }
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
            ("NOOP" | "CHECK", _) => {
                self.on_news();
                self.ok(tag, "done")
            }
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
                self.entered(tag, self.cell.enter_by_password(&text(user), &text(password)))
            }
            ("AUTHENTICATE", [mechanism, rest @ ..]) if self.user.is_none() => {
                if mechanism.upper().as_deref() != Some("PLAIN") {
                    return self.no(tag, "[CANNOT] only PLAIN");
                }
                match rest.first() {
                    Some(initial) => self.entered(tag, self.cell.enter_by_plain(&text(initial))),
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
            Awaits::Sasl { tag } => self.entered(&tag, self.cell.enter_by_plain(&String::from_utf8_lossy(line))),
            Awaits::Done { tag } if line.eq_ignore_ascii_case(b"DONE") => self.ok(&tag, "IDLE done"),
            Awaits::Done { tag } => self.bad(&tag, "DONE expected"),
            Awaits::Nothing => After::Next,
        }
    }

    fn entered(&mut self, tag: &str, entry: Entry) -> After {
        match entry {
            Entry::User(user) => {
                self.say(format!("{tag} OK [CAPABILITY {CAPABILITY_AFTER}] logged in as {user}"));
                self.user = Some(user);
                After::Next
            }
            Entry::Refused => self.no(tag, "[AUTHENTICATIONFAILED] wrong user or password"),
            Entry::Malformed => self.bad(tag, "PLAIN has three parts"),
        }
    }

    /// Returns when IDLE has something to tell.
    pub(super) async fn news(&mut self) {
        if let (Awaits::Done { .. }, Some(selected)) = (&self.awaits, &mut self.selected)
            && selected.news.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Tells what became of the mailbox: what is gone, then how many there are.
    pub(super) fn on_news(&mut self) {
        let (Some(selected), Some(user)) = (&mut self.selected, &self.user) else { return };
        selected.news.mark_unchanged();
        let (messages, _) = self.cell.mail.inbox(user, &self.cell.name);
        let mut told = Vec::new();
        for (at, known) in selected.messages.iter().enumerate().rev() {
            if !messages.iter().any(|message| message.uid == known.uid) {
                told.push(format!("* {} EXPUNGE", at + 1));
            }
        }
        let remaining = selected.messages.len() - told.len();
        if remaining != messages.len() {
            told.push(format!("* {} EXISTS", messages.len()));
        }
        selected.messages = messages;
        told.into_iter().for_each(|line| self.say(line));
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
                let (messages, uid_next) = self.inbox();
                let (count, validity) = (messages.len(), self.cell.mail.validity());
                self.say(format!(
                    "* STATUS INBOX (MESSAGES {count} RECENT 0 UIDNEXT {uid_next} UIDVALIDITY {validity} UNSEEN {count})"
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
                self.selected = None;
                self.ok(tag, "done")
            }
            "FETCH" => self.on_fetch(tag, arguments, false),
            "SEARCH" => self.on_search(tag, false),
            "UID" => match arguments.split_first() {
                Some((verb, rest)) if verb.upper().as_deref() == Some("FETCH") => self.on_fetch(tag, rest, true),
                Some((verb, _)) if verb.upper().as_deref() == Some("SEARCH") => self.on_search(tag, true),
                _ => self.no(tag, "[CANNOT] the mailbox is read-only"),
            },
            "STORE" | "EXPUNGE" | "APPEND" | "COPY" | "MOVE" | "CREATE" | "DELETE" | "RENAME" => {
                self.no(tag, "[CANNOT] the mailbox is read-only")
            }
            "SUBSCRIBE" | "UNSUBSCRIBE" => self.ok(tag, "done"),
            _ => self.bad(tag, "unknown command"),
        }
    }

    fn inbox(&self) -> (Vec<Message>, u32) {
        self.cell.mail.inbox(self.user.as_deref().unwrap_or_default(), &self.cell.name)
    }

    fn on_select(&mut self, tag: &str, verb: &str, arguments: &[Word]) -> After {
        if !names_inbox(arguments.first()) {
            return self.no(tag, "[NONEXISTENT] there is only INBOX");
        }
        let news = self.cell.mail.news(self.user.as_deref().unwrap_or_default());
        let (messages, uid_next) = self.inbox();
        self.say("* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)");
        self.say(format!("* {} EXISTS", messages.len()));
        self.say("* 0 RECENT");
        self.say("* OK [UNSEEN 1] first unseen");
        self.say("* OK [PERMANENTFLAGS ()] read-only");
        self.say(format!("* OK [UIDVALIDITY {}] stable while the world runs", self.cell.mail.validity()));
        self.say(format!("* OK [UIDNEXT {uid_next}] next"));
        self.selected = Some(Selected { messages, news });
        self.ok(tag, &format!("[READ-ONLY] {verb} done"))
    }

    fn on_search(&mut self, tag: &str, by_uid: bool) -> After {
        let Some(selected) = &self.selected else { return self.bad(tag, "select a mailbox first") };
        let numbered = (1_u32..).zip(&selected.messages);
        let all: String =
            numbered.map(|(number, message)| format!(" {}", if by_uid { message.uid } else { number })).collect();
        self.say(format!("* SEARCH{all}"));
        self.ok(tag, "done")
    }

    fn on_fetch(&mut self, tag: &str, arguments: &[Word], by_uid: bool) -> After {
        let [Word::Atom(set), items @ ..] = arguments else { return self.bad(tag, "which messages?") };
        let Some(Selected { messages, .. }) = &self.selected else { return self.bad(tag, "select a mailbox first") };
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
        let last = if by_uid { messages.last().map_or(0, |message| message.uid as usize) } else { messages.len() };
        for (number, message) in (1..).zip(messages) {
            let name = if by_uid { message.uid as usize } else { number };
            if !in_set(set, name, last) {
                continue;
            }
            self.reply.push(Bytes::from(format!("* {number} FETCH (")));
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    self.reply.push(Bytes::from_static(b" "));
                }
                fetch_item(item, message, &mut self.reply);
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

const CAPABILITY_BEFORE: &str = "IMAP4rev1 LITERAL+ SASL-IR ID AUTH=PLAIN";
const CAPABILITY_AFTER: &str = "IMAP4rev1 LITERAL+ ID IDLE NAMESPACE UNSELECT";
