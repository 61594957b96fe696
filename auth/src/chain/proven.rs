//! The way of a proof: whoever shows a certificate or a token is who it says. Only the account is asked for.
//!
//! Nothing is cached, so that an account is closed at once, and nothing is throttled: there is nothing to guess.

use guichet_config::Address;

use super::{AuthMethod, Authenticator, Outcome, Source, flight::Reply};
use crate::{
    Decision, DenyReason,
    directory::{Lookup, Verdict},
};

/// A login that proves an address without a password.
#[derive(Debug)]
pub struct Proven<'a> {
    /// The address.
    pub address: &'a Address,
    /// As whom the client wants to log in: empty, or a name of the same user.
    pub named: &'a str,
    /// What proved it.
    pub method: AuthMethod,
}

impl Authenticator {
    /// Decides a login whose address is proven already.
    pub async fn decide_proven(&self, proven: &Proven<'_>) -> Outcome {
        let denied = Outcome::rule(Decision::Deny(DenyReason::BadCredential));
        let Some(tenant) = self.config.tenant_of(proven.address) else { return denied };
        let named = match proven.named {
            "" => None,
            name => match name.parse::<Address>() {
                Ok(named) => Some(named),
                Err(_) => return denied,
            },
        };
        let verdict = match self.lookup(proven.address).await {
            // Nobody acts for another. The proof may hold an alias and the client the canonical address.
            Lookup::Found(account) if named.is_some_and(|it| it != *proven.address && it != account.address) => {
                Verdict::BadCredential
            }
            Lookup::Found(account) => Verdict::Valid(account),
            Lookup::Unknown => Verdict::BadCredential,
            Lookup::Unavailable => Verdict::Unavailable,
        };
        Outcome { decision: self.decision(tenant, Reply::of(verdict), proven.method), source: Source::Directory }
    }
}
