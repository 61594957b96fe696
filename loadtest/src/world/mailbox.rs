//! Everyone's mailbox: what was delivered since the world started, kept in memory, and the Sieve scripts.
//!
//! Bounded: a mailbox that is full forgets its oldest delivered message.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::message::{Message, UID_DELIVERED, welcome};

/// All mailboxes of a world: every cell serves the ones of the users that are placed there.
#[derive(Debug)]
pub struct Mailboxes {
    validity: u32,
    inner: Mutex<HashMap<String, Mailbox>>,
}

#[derive(Debug)]
struct Mailbox {
    delivered: VecDeque<Message>,
    bytes: usize,
    uid_next: watch::Sender<u32>,
    scripts: Scripts,
}

/// Sieve scripts of one user.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    /// By name.
    pub(super) all: BTreeMap<String, Vec<u8>>,
    /// The one that is used.
    pub(super) active: Option<String>,
}

impl Default for Mailbox {
    fn default() -> Self {
        let (uid_next, _) = watch::channel(UID_DELIVERED);
        Self { delivered: VecDeque::new(), bytes: 0, uid_next, scripts: Scripts::default() }
    }
}

impl Default for Mailboxes {
    /// Nothing is delivered yet. Numbers of an earlier world mean nothing any more, and UIDVALIDITY says so.
    fn default() -> Self {
        let seconds = Timestamp::now().as_second();
        Self { validity: u32::try_from(seconds).unwrap_or(1), inner: Mutex::default() }
    }
}

impl Mailboxes {
    /// UIDVALIDITY.
    pub(super) fn validity(&self) -> u32 {
        self.validity
    }

    /// The INBOX of `user`, served by `cell`, and the number that the next message gets.
    pub(super) fn inbox(&self, user: &str, cell: &str) -> (Vec<Message>, u32) {
        let mut messages = Vec::from(welcome(user, cell));
        let uid_next = self.with(user, |mailbox| {
            messages.extend(mailbox.delivered.iter().cloned());
            *mailbox.uid_next.borrow()
        });
        (messages, uid_next)
    }

    /// Hears of each delivery to `user` from now on.
    pub(super) fn news(&self, user: &str) -> watch::Receiver<u32> {
        self.with(user, |mailbox| mailbox.uid_next.subscribe())
    }

    /// Puts a message into the mailbox of `user`, who exists.
    pub(super) fn deliver(&self, user: &str, mut message: Message) {
        self.with(user, |mailbox| {
            message.uid = *mailbox.uid_next.borrow();
            mailbox.bytes += message.bytes.len();
            mailbox.delivered.push_back(message);
            while mailbox.delivered.len() > DELIVERED_MAX || mailbox.bytes > BYTES_MAX {
                let Some(oldest) = mailbox.delivered.pop_front() else { break };
                mailbox.bytes -= oldest.bytes.len();
            }
            mailbox.uid_next.send_modify(|next| *next = next.wrapping_add(1));
        });
    }

    /// Takes delivered messages out.
    pub(super) fn remove(&self, user: &str, uids: &[u32]) {
        self.with(user, |mailbox| {
            mailbox.delivered.retain(|message| !uids.contains(&message.uid));
            mailbox.bytes = mailbox.delivered.iter().map(|message| message.bytes.len()).sum();
        });
    }

    /// Looks at the scripts of `user`, or changes them.
    pub(super) fn scripts<T>(&self, user: &str, look: impl FnOnce(&mut Scripts) -> T) -> T {
        self.with(user, |mailbox| look(&mut mailbox.scripts))
    }

    /// Callers let in only people of the world, so there is one entry for each of them at most.
    fn with<T>(&self, user: &str, look: impl FnOnce(&mut Mailbox) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        look(inner.entry(user.to_ascii_lowercase()).or_default())
    }
}

const DELIVERED_MAX: usize = 64;
const BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message::delivered("ada@univ-a.example", b"Subject: x\r\n\r\nx\r\n".to_vec(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_full_mailbox_forgets_its_oldest_message_and_never_gives_a_number_twice() {
        let mailboxes = Mailboxes::default();
        for _ in 0..DELIVERED_MAX + 3 {
            mailboxes.deliver("Ada@univ-a.example", message());
        }
        let (messages, uid_next) = mailboxes.inbox("ada@univ-a.example", "alpha");
        assert_eq!(messages.len(), 4 + DELIVERED_MAX);
        assert_eq!(messages.get(4).map(|message| message.uid), Some(UID_DELIVERED + 3));
        mailboxes.remove("ada@univ-a.example", &[uid_next - 1]);
        mailboxes.deliver("ada@univ-a.example", message());
        let (messages, _) = mailboxes.inbox("ada@univ-a.example", "alpha");
        assert_eq!(messages.last().map(|message| message.uid), Some(uid_next));
    }
}
