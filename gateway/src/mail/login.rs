//! From a login request to an answer: decide, place, and log in at the cell.

use std::time::Duration;

use guichet_auth::{Attempt, AuthMethod, Decision, DenyReason, Identity, Outcome, Protocol, Source, UnavailableReason};
use guichet_config::{Address, MailProtocol, Secret};
use guichet_proto::{Answer, Credential, LoginRequest, SecretText};
use tokio::time::Instant;

use super::{
    cell::{self, OpenCell},
    driver::Visit,
    live::{Crowded, Place},
};
use crate::telemetry::{METRICS, event};

/// An allowed user whose cell is open and logged in.
pub(super) struct Opened {
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
}

/// Decides one login. `helo`: the name the client gave itself. An `Err` is an answer for the client, never `Opened`.
pub(super) async fn login(visit: &Visit, request: LoginRequest, helo: Option<&str>) -> Result<Box<Opened>, Answer> {
    let began = Instant::now();
    let password = match &request.credential {
        Credential::Password(password) => Some(password),
        // No listener offers a mechanism that carries one of these.
        Credential::Token(_) | Credential::Certificate => None,
    };
    let outcome = decide(visit, &request, password).await;
    let address: Option<Address> = request.username.parse().ok();
    event::LoginDecided {
        protocol: protocol(visit),
        session: &visit.name,
        client: visit.peer.client,
        address: address.as_ref(),
        outcome: &outcome,
        took: began.elapsed(),
    }
    .emit();
    let identity = match outcome.decision {
        Decision::Allow(identity) => identity,
        Decision::Deny(DenyReason::BadCredential) => return Err(Answer::Denied),
        Decision::Deny(DenyReason::AccountRefused) => return Err(Answer::Refused),
        Decision::Unavailable(UnavailableReason::Throttled) => {
            METRICS.limit_rejections.with_label_values(&["login"]).inc();
            return Err(Answer::Limited);
        }
        Decision::Unavailable(_) => return Err(Answer::Unavailable),
    };
    let Some(id) = visit.app.place(&identity, &visit.snapshot.config) else {
        event::NoCell { session: &visit.name, identity: &identity }.emit();
        return Err(Answer::Unavailable);
    };
    let Some(password) = password else { return Err(Answer::Denied) };
    let (relays, limits) = (&visit.app.relays, &visit.snapshot.config.limits);
    if let Some(crowded) = relays.crowded(&identity.address, visit.peer.client, limits) {
        return Err(turned_away(visit, &identity, crowded));
    }
    match cell::open(visit, &identity, &id, password, helo).await {
        Ok(cell) => match relays.enter(visit.about(&identity, &cell), limits) {
            Ok(place) => Ok(Box::new(Opened { place, cell, took: began.elapsed() })),
            // Another one was faster.
            Err(crowded) => Err(turned_away(visit, &identity, crowded)),
        },
        Err(failure) => {
            let cell::Failure { reason, detail } = &failure;
            event::CellLoginFailed { session: &visit.name, identity: &identity, cell: &id, reason, detail }.emit();
            // The directory said yes: whatever the cell says, the password is not wrong.
            Err(Answer::Unavailable)
        }
    }
}

fn turned_away(visit: &Visit, identity: &Identity, crowded: Crowded) -> Answer {
    event::SessionLimited { session: &visit.name, client: visit.peer.client, identity, scope: crowded.as_str() }.emit();
    Answer::Crowded
}

async fn decide(visit: &Visit, request: &LoginRequest, password: Option<&SecretText>) -> Outcome {
    let (None, Some(password)) = (&request.authzid, password) else {
        // Nobody acts for another here.
        return Outcome { decision: Decision::Deny(DenyReason::BadCredential), source: Source::Rule };
    };
    let password = Secret::new(password.expose().to_owned());
    let attempt = Attempt {
        username: &request.username,
        password: &password,
        protocol: protocol(visit),
        method: AuthMethod::Password,
        source: visit.peer.client.ip(),
    };
    visit.snapshot.authenticator.decide(&attempt).await
}

fn protocol(visit: &Visit) -> Protocol {
    match visit.offer.protocol {
        MailProtocol::Imap => Protocol::Imap,
        MailProtocol::Pop3 => Protocol::Pop3,
        MailProtocol::Submission => Protocol::Submission,
        MailProtocol::Sieve => Protocol::Sieve,
    }
}
