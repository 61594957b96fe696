//! What a client shows to be let in: a password, the certificate of its handshake, a token.

use guichet_auth::{Attempt, AuthMethod, Decision, DenyReason, Outcome, Proven};
use guichet_config::{Address, Secret};
use guichet_proto::{Credential, LoginRequest, Mechanism, SecretText};
use rustls::CommonState;

use super::{driver::Visit, login::protocol};
use crate::telemetry::event;

/// A decision, and on what.
pub(super) struct Decided {
    pub(super) outcome: Outcome,
    pub(super) method: AuthMethod,
    /// The address proven or typed, when it is one.
    pub(super) address: Option<Address>,
}

/// Decides on what the client showed.
pub(super) async fn decide(visit: &Visit, request: &LoginRequest) -> Decided {
    match &request.credential {
        Credential::Password(password) => {
            let outcome = match request.authzid {
                None => by_password(visit, request, password).await,
                // Nobody acts for another here.
                Some(_) => denied(),
            };
            Decided { outcome, method: AuthMethod::Password, address: request.username.parse().ok() }
        }
        Credential::Certificate => by_proof(visit, request, AuthMethod::Certificate, visit.holder.clone()).await,
        Credential::Token(token) => {
            let verified = visit.snapshot.bearers.verify(token.expose(), visit.app.clock.now());
            let holder = verified.map_err(|refusal| visit.refuse_proof(AuthMethod::Token, refusal.as_str())).ok();
            by_proof(visit, request, AuthMethod::Token, holder).await
        }
    }
}

async fn by_password(visit: &Visit, request: &LoginRequest, password: &SecretText) -> Outcome {
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

async fn by_proof(visit: &Visit, request: &LoginRequest, method: AuthMethod, holder: Option<Address>) -> Decided {
    // EXTERNAL names a user as authzid, a token beside it; both may name none.
    let named = request.authzid.as_deref().unwrap_or(&request.username);
    let outcome = match &holder {
        Some(address) => visit.snapshot.authenticator.decide_proven(&Proven { address, named, method }).await,
        None => denied(),
    };
    Decided { outcome, method, address: holder.or_else(|| named.parse().ok()) }
}

fn denied() -> Outcome {
    Outcome::rule(Decision::Deny(DenyReason::BadCredential))
}

impl Visit {
    /// Looks at the certificate that the client showed in the handshake. Without a good one EXTERNAL is not offered; and
    /// where one is required and the one of a resumed session is good no more, there is no visit (`false`).
    pub(super) fn see_certificate(&mut self, tls: &CommonState) -> bool {
        let external = self.offer.mechanisms.contains(Mechanism::External);
        let ca = self.snapshot.tls.client_ca(&self.peer.listener);
        let mut welcome = true;
        if let (Some(ca), Some(shown)) = (ca, tls.peer_certificates()) {
            match ca.holder(shown, &self.snapshot.config, self.app.clock.now()) {
                Ok(address) => self.holder = Some(address),
                Err(refusal) => {
                    welcome = ca.tolerates(refusal);
                    // Whom it names is nobody's concern where it is only a key to the door.
                    if external || !welcome {
                        self.refuse_proof(AuthMethod::Certificate, refusal.as_str());
                    }
                }
            }
        }
        if self.holder.is_none() {
            self.offer.mechanisms = self.offer.mechanisms.without(Mechanism::External);
        }
        welcome
    }

    fn refuse_proof(&self, method: AuthMethod, reason: &'static str) {
        let (session, client) = (self.name.as_str(), self.peer.client);
        event::ProofRefused { method, protocol: protocol(self), session, client, reason }.emit();
    }
}
