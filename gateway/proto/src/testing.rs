//! Peers that read scripts: a client at a dialogue, a cell at our login.

use std::time::{Duration, Instant};

use crate::{
    Answer, CloseReason, Credential, Dialogue, InputBuf, LoginRequest, Mechanism, Step,
    cell::{CellFailure, CellStep, EnterCell},
};

/// The login deadline that every profile of a test must have.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A client at a dialogue: what it was told, and how it ended.
pub(crate) struct Client<D> {
    pub(crate) now: Instant,
    pub(crate) input: InputBuf,
    pub(crate) dialogue: Option<D>,
    pub(crate) login: Option<LoginRequest>,
    pub(crate) in_clear: Vec<String>,
    pub(crate) end: Option<End>,
    said: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Upgrade,
    HandOff,
    Close(CloseReason),
}

impl<D: Dialogue> Client<D> {
    pub(crate) fn begin(step: impl FnOnce(Instant) -> Step<D>) -> Self {
        let now = Instant::now();
        let mut client = Self {
            now,
            input: InputBuf::new(),
            dialogue: None,
            said: Vec::new(),
            login: None,
            in_clear: Vec::new(),
            end: None,
        };
        client.take(step(now));
        client
    }

    pub(crate) fn take(&mut self, step: Step<D>) {
        let (reply, end) = match step {
            Step::Wait { mut next, reply, deadline } => {
                assert_eq!(deadline, self.now + DEADLINE, "the deadline is absolute");
                if let Some(name) = next.password_in_clear() {
                    self.in_clear.push(name);
                    self.said.extend_from_slice(&reply);
                    let step = next.on_bytes(&mut self.input, self.now);
                    return self.take(step);
                }
                self.dialogue = Some(next);
                (reply, None)
            }
            Step::Ask { next, reply, login, .. } => {
                self.dialogue = Some(next);
                self.login = Some(login);
                (reply, None)
            }
            Step::Upgrade { reply } => (reply, Some(End::Upgrade)),
            Step::HandOff { reply } => (reply, Some(End::HandOff)),
            Step::Close { reply, reason } => (reply, Some(End::Close(reason))),
        };
        self.said.extend_from_slice(&reply);
        self.end = end;
    }

    /// Sends, and takes what is said in return.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.input.extend(bytes.as_ref());
        let dialogue = self.dialogue.take().expect("the dialogue goes on");
        let step = dialogue.on_bytes(&mut self.input, self.now);
        self.take(step);
        self.heard()
    }

    pub(crate) fn answer(&mut self, answer: Answer) -> String {
        let dialogue = self.dialogue.take().expect("the dialogue goes on");
        let step = dialogue.on_answer(answer, self.now);
        self.login = None;
        self.take(step);
        self.heard()
    }

    pub(crate) fn heard(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.said)).expect("replies are text")
    }

    /// The login asked for: mechanism, user, secret, authzid.
    pub(crate) fn asked(&self) -> (Mechanism, &str, &str, Option<&str>) {
        let login = self.login.as_ref().expect("a login is asked for");
        let secret = match &login.credential {
            Credential::Password(secret) | Credential::Token(secret) => secret.expose(),
            Credential::Certificate => "<certificate>",
        };
        (login.mechanism, &login.username, secret, login.authzid.as_deref())
    }
}

/// Plays a script: `C:` is sent with CRLF, `S:` is what must come back, `A:` answers a login.
pub(crate) fn play<D: Dialogue>(mut client: Client<D>, script: &str) -> Client<D> {
    let mut expected = client.heard();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (who, text) = line.split_at(2);
        let text = text.strip_prefix(' ').unwrap_or_default();
        match who {
            "S:" => {
                // An empty go-ahead ends with a space, which a script cannot show.
                let said = if text == "+" { "+ \r\n".to_owned() } else { format!("{text}\r\n") };
                assert!(expected.starts_with(&said), "expected {said:?}, heard {expected:?}");
                expected.drain(..said.len());
                continue;
            }
            _ => assert_eq!(expected, "", "said more than the script has, before {line:?}"),
        }
        expected = match who {
            "C:" => client.send(format!("{text}\r\n")),
            _ => client.answer(match text {
                "denied" => Answer::Denied,
                "refused" => Answer::Refused,
                "unavailable" => Answer::Unavailable,
                "limited" => Answer::Limited,
                "held" => Answer::Held,
                "crowded" => Answer::Crowded,
                "password_needed" => Answer::PasswordNeeded,
                opened => Answer::Opened { capability: opened.strip_prefix("opened ").map(str::to_owned) },
            }),
        };
    }
    assert_eq!(expected, "", "said more than the script has");
    client
}

/// How our login at a cell ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CellEnd {
    Upgrade,
    Ready(Option<String>),
    Failed(CellFailure),
}

/// A cell that reads a script: `S:` is what it says, `C:` what it must be told, `T:` that TLS comes up. Returns how the
/// last step ended, and what waits in the input.
pub(crate) fn play_cell<S: EnterCell>(login: S, script: &str) -> (Option<CellEnd>, Vec<u8>) {
    let mut login = Some(login);
    let mut input = InputBuf::new();
    let (mut told, mut end) = (String::new(), None);
    for line in script.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
        let (who, text) = line.split_at(2);
        let text = text.strip_prefix(' ').unwrap_or_default();
        let step = match who {
            "C:" => {
                let expected = format!("{text}\r\n");
                assert!(told.starts_with(&expected), "expected {expected:?}, told {told:?}");
                told.drain(..expected.len());
                continue;
            }
            "T:" => login.take().expect("goes on").after_starttls(),
            _ => {
                assert_eq!(told, "", "told more than the script has, before {line:?}");
                input.extend(format!("{text}\r\n").as_bytes());
                login.take().expect("goes on").on_bytes(&mut input)
            }
        };
        end = match step {
            CellStep::Send { next, bytes } => {
                login = Some(next);
                told.push_str(std::str::from_utf8(&bytes).expect("we speak text"));
                None
            }
            CellStep::Upgrade { next } => {
                login = Some(next);
                Some(CellEnd::Upgrade)
            }
            CellStep::Ready { capability } => Some(CellEnd::Ready(capability)),
            CellStep::Failed(failure) => Some(CellEnd::Failed(failure)),
        };
    }
    assert_eq!(told, "", "told more than the script has");
    (end, input.as_slice().to_vec())
}
