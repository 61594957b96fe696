//! The way of a password where the institution is asked itself (ECP): its IdP first, the directory in a proven outage.
//!
//! ```text
//! an operator says the IdP is down ───────────────────────────────────────────────┐
//! the outage is proven, and the directory's password of this user is in the cache ─▶ that
//! cache of the institution's word → one question at a time → the IdP              │
//!     known: the directory completes the account (address, cell, status)          │
//!     no: no; nobody else is asked                                                ▼
//!     nobody can tell ────────────▶ the directory's password, if the state of the IdP and the policy of the user's
//!                                   category allow the fallback; else "try later"
//! ```
//!
//! Each of the two words has cache entries of its own: what the directory believed in an outage is believed no longer than
//! the outage lasts.

use std::sync::Arc;

use guichet_config::{Address, Category, Secret, Tenant, TenantId};

use super::{AuthMethod, Authenticator, Source, Told, Typed, flight::Reply, identify, lookup};
use crate::{
    UnavailableReason,
    availability::{IdpState, category_falls_back, offers_fallback},
    directory::{Account, Answer, Directory, Identified, Lookup, Verdict},
    password::Cached,
    saml::Subject,
};

/// What an institution says of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// It is right, by a signed word.
    Known {
        /// Whose it is.
        subject: Subject,
        /// Where the directory has none.
        category: Category,
    },
    /// Unknown user or wrong password.
    BadCredential,
    /// The institution knows the user, who may not come in here.
    AccountRefused,
    /// Nobody can tell now.
    Unavailable,
}

/// The IdPs of the tenants, as far as a password asks for them. The wire is the caller's.
pub trait Institutions: Send + Sync + std::fmt::Debug {
    /// Asks the tenant's IdP. Never called with an empty password.
    fn ask<'a>(&'a self, tenant: &'a Arc<Tenant>, user: &'a Address, password: &'a Secret<String>) -> Answer<'a, Word>;

    /// What is known of the tenant's IdP: only a proven outage, or an operator's word, opens the fallback.
    fn state(&self, tenant: &TenantId) -> IdpState;
}

impl Authenticator {
    /// The tenant whose institution decides on this password: mail programs and Basic clients of a tenant with ECP. The
    /// page of the fallback asks for the directory's password.
    pub(super) fn institution_of(&self, tenant: &TenantId, method: AuthMethod) -> Option<&Arc<Tenant>> {
        let asks = |tenant: &&Arc<Tenant>| tenant.idp.as_ref().is_some_and(|idp| idp.ecp.is_some());
        self.config.tenants.get(tenant).filter(asks).filter(|_| method == AuthMethod::Password)
    }

    /// The institution's answer, or the directory's where that may stand in; `None` when too many questions are under way.
    pub(super) async fn by_institution(&self, tenant: &Arc<Tenant>, login: &Typed<'_>) -> Option<Told> {
        if self.institutions.state(&tenant.id) == IdpState::ForcedDown {
            // Whatever its reason is, the operator's word holds for passwords, too.
            let told = Told::nobody(self.institution_key(tenant, login), UnavailableReason::Institution);
            return self.or_fallback(tenant, login, told).await;
        }
        if let Some(told) = self.believed_meanwhile(tenant, login) {
            return Some(told);
        }
        let (key, verifier) = self.institution_key(tenant, login);
        let question = || {
            let (institutions, directory) = (Arc::clone(&self.institutions), Arc::clone(&self.directory));
            let (tenant, user, password) = (Arc::clone(tenant), login.user.clone(), login.password.clone());
            async move {
                let word = institutions.ask(&tenant, &user, &password).await;
                settled(&*directory, &tenant, &user, word).await
            }
        };
        let nobody = Reply::nobody(UnavailableReason::Institution);
        let told = self.ask((key, verifier), login, Source::Institution, nobody, question).await?;
        self.or_fallback(tenant, login, told).await
    }

    /// The directory's answer in place of none of the institution.
    async fn or_fallback(&self, tenant: &Tenant, login: &Typed<'_>, told: Told) -> Option<Told> {
        let nobody = told.reply.verdict == Verdict::Unavailable && told.reply.missing == UnavailableReason::Institution;
        if !nobody || !self.stands_in(tenant, login.user).await {
            return Some(told);
        }
        let instead = self.by_directory(login).await?;
        // The account that the password opened decides; the one looked up before spared it the question.
        let allowed = match &instead.reply.verdict {
            Verdict::Valid(account) => self.falls_back(tenant, account),
            _ => true,
        };
        Some(if allowed { Told { method: Some(AuthMethod::Fallback), ..instead } } else { told })
    }

    /// Whether the directory may judge this user's passwords now. A user whose category may not is not even asked for:
    /// the institution's password would be called wrong.
    async fn stands_in(&self, tenant: &Tenant, user: &Address) -> bool {
        if !offers_fallback(tenant, self.institutions.state(&tenant.id)) {
            return false;
        }
        match self.lookup(user).await {
            Lookup::Found(account) => self.falls_back(tenant, &account),
            Lookup::Unknown | Lookup::Unavailable => false,
        }
    }

    fn falls_back(&self, tenant: &Tenant, account: &Account) -> bool {
        let category = account.category.unwrap_or(tenant.category);
        category_falls_back(tenant, category, self.institutions.state(&tenant.id))
    }

    /// In an outage whoever logged in by the directory a short while ago need not wait for an IdP that does not answer: a
    /// calendar program brings its password with each request.
    fn believed_meanwhile(&self, tenant: &Tenant, login: &Typed<'_>) -> Option<Told> {
        if !offers_fallback(tenant, self.institutions.state(&tenant.id)) {
            return None;
        }
        let (key, verifier) = self.directory_key(login);
        let Cached::Good(account) = self.cache.check(&key, &verifier, login.now) else { return None };
        self.falls_back(tenant, &account).then(|| Told {
            reply: Reply { verdict: Verdict::Valid(account), missing: UnavailableReason::Directory },
            source: Source::Cache,
            verifier,
            method: Some(AuthMethod::Fallback),
        })
    }
}

/// The account behind an institution's word. The password must be that of the user who was typed: by address, or because
/// the directory says that both addresses are one account.
async fn settled(directory: &dyn Directory, tenant: &Tenant, typed: &Address, word: Word) -> Reply {
    let (subject, category) = match word {
        Word::Known { subject, category } => (subject, category),
        Word::BadCredential => return Reply::of(Verdict::BadCredential),
        Word::AccountRefused => return Reply::of(Verdict::AccountRefused),
        Word::Unavailable => return Reply::nobody(UnavailableReason::Institution),
    };
    let address = match subject {
        Subject::Address(address) => address,
        Subject::Identifier(identifier) => match identify(directory, tenant, &identifier).await {
            Identified::One(account) => account.address,
            Identified::Unknown | Identified::Several => return Reply::of(Verdict::AccountRefused),
            Identified::Unavailable => return Reply::of(Verdict::Unavailable),
        },
    };
    let same = *typed == address;
    Reply::of(match lookup(directory, typed).await {
        Lookup::Found(account) if same || account.address == address => {
            if account.active {
                Verdict::Valid(Account { category: account.category.or(Some(category)), ..account })
            } else {
                Verdict::AccountRefused
            }
        }
        Lookup::Unknown if same => {
            Verdict::Valid(Account { address, category: Some(category), cell: None, active: true })
        }
        Lookup::Unavailable => Verdict::Unavailable,
        Lookup::Found(_) | Lookup::Unknown => Verdict::BadCredential,
    })
}

#[cfg(test)]
#[path = "tests/institution.rs"]
mod tests;
