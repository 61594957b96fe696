//! From a login request to an answer: decide, place, and log in at the cell.

use std::time::Duration;

use guichet_auth::{Decision, DenyReason, Identity, Protocol, UnavailableReason};
use guichet_config::{Address, CellId, MailProtocol};
use guichet_proto::{Answer, Credential, LoginRequest};
use tokio::time::Instant;

use super::{
    cell::{self, OpenCell},
    driver::Visit,
    live::{Crowded, Place},
    proof::{self, Decided},
};
use crate::{
    placement::{Placed, Unsettled},
    telemetry::{METRICS, event},
};

/// An allowed user whose cell is open and logged in.
pub(super) struct Opened {
    identity: Identity,
    pub(super) place: Place,
    pub(super) cell: OpenCell,
    /// From the login command to the cell's welcome.
    pub(super) took: Duration,
}

impl Opened {
    /// What the dialogue must know of it.
    pub(super) fn answer(&self) -> Answer {
        Answer::Opened { capability: self.cell.capability.clone() }
    }

    /// Whether the user still belongs to the cell that was opened. Asked last before a session begins, so that a login
    /// that raced with a move never ends at the old cell.
    pub(super) fn still_placed(&self, visit: &Visit) -> bool {
        let placed = visit.app.place(&self.identity, &visit.snapshot.config);
        matches!(placed, Placed::Cell(id) if id == self.cell.id)
    }
}

/// Decides one login. `helo`: the name the client gave itself. An `Err` is an answer for the client, never `Opened`.
pub(super) async fn login(
    visit: &Visit,
    request: LoginRequest,
    helo: Option<&str>,
    deadline: Instant,
) -> Result<Box<Opened>, Answer> {
    let began = Instant::now();
    let password = match &request.credential {
        Credential::Password(password) => Some(password),
        Credential::Token(_) | Credential::Certificate => None,
    };
    let Decided { outcome, method, address } = proof::decide(visit, &request).await;
    event::LoginDecided {
        method,
        protocol: protocol(visit),
        session: &visit.name,
        client: visit.peer.client,
        address: address.as_ref(),
        outcome: &outcome,
        took: began.elapsed(),
    }
    .emit();
    let mut identity = match outcome.decision {
        Decision::Allow(identity) => identity,
        Decision::Deny(DenyReason::BadCredential) => return Err(Answer::Denied),
        Decision::Deny(DenyReason::AccountRefused) => return Err(Answer::Refused),
        Decision::Unavailable(UnavailableReason::Throttled) => {
            METRICS.limit_rejections.with_label_values(&["login"]).inc();
            return Err(Answer::Limited);
        }
        Decision::Unavailable(_) => return Err(Answer::Unavailable),
    };
    let (relays, limits) = (&visit.app.relays, &visit.snapshot.config.limits);
    if let Some(crowded) = relays.crowded(&identity.address, visit.peer.client, limits) {
        return Err(turned_away(visit, &identity, crowded));
    }
    let mut looked_again = false;
    for _ in 0..ROUNDS_MAX {
        let id = settled(visit, &identity, deadline).await?;
        let cell = match cell::open(visit, &identity, &id, password, helo).await {
            Ok(cell) => cell,
            Err(failure) => {
                let cell::Failure { reason, detail } = &failure;
                event::CellLoginFailed { session: &visit.name, identity: &identity, cell: &id, reason, detail }.emit();
                if *reason == cell::PASSWORD_NEEDED {
                    return Err(Answer::PasswordNeeded);
                }
                if std::mem::replace(&mut looked_again, true) || !failure.by_cell() {
                    // The directory said yes: whatever the cell says, the password is not wrong.
                    return Err(Answer::Unavailable);
                }
                identity = look_again(visit, identity, address.as_ref(), &id).await?;
                continue;
            }
        };
        let place = match relays.enter(visit.about(&identity, &cell), limits) {
            Ok(place) => place,
            // Another one was faster.
            Err(crowded) => return Err(turned_away(visit, &identity, crowded)),
        };
        // Behind the entry: a move that this look does not see finds the relay instead.
        let opened = Opened { identity, place, cell, took: began.elapsed() };
        if opened.still_placed(visit) {
            return Ok(Box::new(opened));
        }
        // What the old cell opened is dropped, the new one is asked.
        identity = opened.identity;
    }
    event::LoginHeld { session: &visit.name, identity: &identity, result: "moved", waited: began.elapsed() }.emit();
    Err(Answer::Held)
}

/// The cell where the user belongs, once the user is not held.
async fn settled(visit: &Visit, identity: &Identity, deadline: Instant) -> Result<CellId, Answer> {
    // What is left must be enough for the cell.
    let until = deadline.checked_sub(CELL_MARGIN).unwrap_or(deadline);
    let config = &visit.snapshot.config;
    visit.app.settled(&visit.name, identity, config, until).await.map_err(|unsettled| match unsettled {
        Unsettled::Held => Answer::Held,
        Unsettled::Nowhere => {
            event::NoCell { session: &visit.name, identity }.emit();
            Answer::Unavailable
        }
    })
}

/// The cell `from` turned the user away: asks the directory of now, past every cache, whether the user belongs elsewhere.
/// What comes back is worth another try; an `Err` is the answer for the client.
async fn look_again(
    visit: &Visit,
    identity: Identity,
    typed: Option<&Address>,
    from: &CellId,
) -> Result<Identity, Answer> {
    // Not the visit's own: a reload may have come meanwhile.
    let snapshot = visit.app.snapshot.load_full();
    let (result, answer) = match snapshot.authenticator.look_again(&identity, typed).await {
        Decision::Allow(now) => match visit.app.place(&now, &snapshot.config) {
            Placed::Cell(id) if id == *from => ("same", Err(Answer::Unavailable)),
            Placed::Cell(_) => ("moved", Ok(now)),
            Placed::Held(_) => ("held", Ok(now)),
            Placed::Nowhere => ("nowhere", Err(Answer::Unavailable)),
        },
        // The directory's own word of now, not the cell's.
        Decision::Deny(_) => ("denied", Err(Answer::Refused)),
        Decision::Unavailable(_) => ("unavailable", Err(Answer::Unavailable)),
    };
    event::LookedAgain { session: &visit.name, identity: &identity, cell: from, result }.emit();
    answer
}

fn turned_away(visit: &Visit, identity: &Identity, crowded: Crowded) -> Answer {
    event::SessionLimited { session: &visit.name, client: visit.peer.client, identity, scope: crowded.as_str() }.emit();
    Answer::Crowded
}

pub(super) fn protocol(visit: &Visit) -> Protocol {
    match visit.offer.protocol {
        MailProtocol::Imap => Protocol::Imap,
        MailProtocol::Pop3 => Protocol::Pop3,
        MailProtocol::Submission => Protocol::Submission,
        MailProtocol::Sieve => Protocol::Sieve,
    }
}

/// A user who moves more often than that while one login is under way is told to try later.
const ROUNDS_MAX: usize = 3;

/// Kept of the login deadline for the cell's answer, when a login waits for the end of a move.
const CELL_MARGIN: Duration = Duration::from_secs(5);
