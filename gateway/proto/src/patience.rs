//! How long we listen to a client that does not log in. The same for every protocol: the time from the greeting to the
//! login is bounded whatever trickles in, and so are commands, bad commands and failed logins.

use std::time::{Duration, Instant};

use crate::CloseReason;

/// Commands taken before login: no client needs a quarter of it, and it bounds what one input can make us say.
const COMMANDS_MAX: u8 = 64;
/// Bad commands before we give up.
const ERRORS_MAX: u8 = 5;
/// Logins that came to nothing before we give up.
const FAILURES_MAX: u8 = 3;

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Patience {
    deadline: Instant,
    commands: u8,
    errors: u8,
    failures: u8,
}

/// It is over: what to say, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) text: &'static str,
    pub(crate) reason: CloseReason,
}

impl Patience {
    pub(crate) fn new(now: Instant, login_deadline: Duration) -> Self {
        let deadline = now.checked_add(login_deadline).unwrap_or(now);
        Self { deadline, commands: 0, errors: 0, failures: 0 }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether no command was taken yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.commands == 0
    }

    /// A command was taken.
    pub(crate) fn on_command(&mut self) -> Result<(), Exhausted> {
        self.commands = self.commands.saturating_add(1);
        let text = "Too many commands without a login";
        within(self.commands, COMMANDS_MAX, text, CloseReason::TooManyErrors)
    }

    /// A bad command was taken.
    pub(crate) fn on_error(&mut self) -> Result<(), Exhausted> {
        self.errors = self.errors.saturating_add(1);
        within(self.errors, ERRORS_MAX, "Too many bad commands", CloseReason::TooManyErrors)?;
        self.on_command()
    }

    /// A login came to nothing.
    pub(crate) fn on_failure(&mut self) -> Result<(), Exhausted> {
        self.failures = self.failures.saturating_add(1);
        within(self.failures, FAILURES_MAX, "Too many failed logins", CloseReason::TooManyFailures)?;
        self.on_command()
    }
}

fn within(count: u8, max: u8, text: &'static str, reason: CloseReason) -> Result<(), Exhausted> {
    if count < max { Ok(()) } else { Err(Exhausted { text, reason }) }
}

/// Said when the deadline passes.
pub(crate) const DEADLINE: &str = "No login in time";
