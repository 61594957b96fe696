//! The way of a password: throttle, cache, directory or institution.
//!
//! ```text
//! source refused? -> name and password usable? -> user refused? -> cache -> one question at a time -> who judges it
//! ```
//!
//! The directory judges, or the institution itself where a tenant wants that ([`Institutions`]).

mod flight;
mod institution;
mod proven;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use guichet_config::{Address, Config, Directory as Configured, Limits, Secret, Tenant, TenantId, Users};
use tokio::sync::Semaphore;
use tracing::warn;

pub use self::{
    institution::{Institutions, Word},
    proven::Proven,
};

use self::flight::{Flights, Reply};
use crate::{
    Decision, DenyReason, Identity, Method, Protocol, UnavailableReason,
    directory::{Account, Directory, DirectoryError, Embedded, Identified, Ldap, Lookup, Question, Verdict},
    password::{CacheKey, Cached, PasswordCache, Verifier},
    saml::{Identifier, Login, Subject},
    throttle::LoginThrottle,
};

/// One try to log in with a password.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// As the client typed it.
    pub username: &'a str,
    /// As the client typed it.
    pub password: &'a Secret<String>,
    /// By which protocol.
    pub protocol: Protocol,
    /// What it earns: [`Method::Password`](crate::Method) or [`Method::Fallback`](crate::Method).
    pub method: AuthMethod,
    /// From where.
    pub source: IpAddr,
}

/// Which method a good credential earns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// Plain password login.
    Password,
    /// Login by fallback.
    Fallback,
    /// Login by a client certificate.
    Certificate,
    /// Login by a bearer token.
    Token,
}

impl AuthMethod {
    /// What an identity will say of it.
    pub fn method(self) -> Method {
        match self {
            Self::Password => Method::Password,
            Self::Fallback => Method::Fallback,
            Self::Certificate => Method::Certificate,
            Self::Token => Method::Token,
        }
    }
}

/// Why the directory has nobody for what an IdP calls a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// No account of the tenant has it.
    #[error("the directory has no account of this tenant with the identifier")]
    Unknown,
    /// Several accounts of the tenant have it.
    #[error("the directory has several accounts of this tenant with the identifier")]
    Several,
}

impl Unidentified {
    /// For metrics.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Unknown => "identifier_unknown",
            Self::Several => "identifier_ambiguous",
        }
    }
}

/// A decision and where it came from.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer.
    pub decision: Decision,
    /// Who gave it.
    pub source: Source,
}

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The throttle, or a rule that needs no directory (no address, empty password, bad token, full queue).
    Rule,
    /// The password cache.
    Cache,
    /// The directory.
    Directory,
    /// The institution.
    Institution,
}

impl Source {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Cache => "cache",
            Self::Directory => "directory",
            Self::Institution => "institution",
        }
    }
}

/// Answers password logins. Cheap to share; made anew at each reload, with the cache and throttle of the one before
/// where they still fit.
#[derive(Debug)]
pub struct Authenticator {
    config: Arc<Config>,
    directory: Arc<dyn Directory>,
    institutions: Arc<dyn Institutions>,
    cache: Arc<PasswordCache>,
    throttle: Arc<LoginThrottle>,
    flights: Arc<Flights>,
    looks: Semaphore,
}

/// One usable password of a user.
struct Typed<'a> {
    tenant: Option<&'a TenantId>,
    user: &'a Address,
    password: &'a Secret<String>,
    protocol: Protocol,
    now: Instant,
}

/// An answer on a password, and who gave it.
struct Told {
    reply: Reply,
    source: Source,
    /// For the throttle.
    verifier: Verifier,
    /// What a good password earns, when it is not what the attempt hoped for.
    method: Option<AuthMethod>,
}

impl Told {
    /// No answer, because this one is not asked.
    fn nobody((_, verifier): (CacheKey, Verifier), missing: UnavailableReason) -> Self {
        Self { reply: Reply::nobody(missing), source: Source::Rule, verifier, method: None }
    }
}

impl Authenticator {
    /// Builds the chain the configuration asks for; opens no connection yet. The cache of `before` is kept while its
    /// settings and the directory's are the same, the throttle while its settings are.
    ///
    /// # Errors
    /// A TLS root file that cannot be used.
    pub fn new(
        config: Arc<Config>,
        institutions: Arc<dyn Institutions>,
        before: Option<&Self>,
    ) -> Result<Self, DirectoryError> {
        let directory: Arc<dyn Directory> = match &config.directory {
            Configured::Embedded(users) => Arc::new(Embedded::new(users.clone())),
            Configured::Ldap(ldap) => Arc::new(Ldap::new(ldap)?),
        };
        Ok(Self::with(config, directory, institutions, before))
    }

    fn with(
        config: Arc<Config>,
        directory: Arc<dyn Directory>,
        institutions: Arc<dyn Institutions>,
        before: Option<&Self>,
    ) -> Self {
        let limits = &config.limits;
        let cache = before
            .filter(|before| same_cache(&before.config.limits, limits))
            .filter(|before| same_directory(&before.config.directory, &config.directory))
            .map_or_else(
                || Arc::new(PasswordCache::new(limits.password_cache_entries, limits.password_cache_ttl)),
                |before| Arc::clone(&before.cache),
            );
        let throttle = before
            .filter(|before| same_throttle(&before.config.limits, limits))
            .map_or_else(|| Arc::new(LoginThrottle::new(limits)), |before| Arc::clone(&before.throttle));
        let looks = Semaphore::new(LOOKS_MAX);
        Self { config, directory, institutions, cache, throttle, flights: Arc::default(), looks }
    }

    /// Decides one attempt.
    pub async fn decide(&self, attempt: &Attempt<'_>) -> Outcome {
        let now = Instant::now();
        let limited = !self.config.limits.exempt.iter().any(|network| network.contains(&attempt.source.to_canonical()));
        if limited && self.throttle.refuses_source(attempt.source, now) {
            return Outcome::rule(Decision::Unavailable(UnavailableReason::Throttled));
        }
        let password = attempt.password.expose();
        let usable = !password.is_empty() && password.len() <= PASSWORD_BYTES_MAX && !password.contains('\0');
        let (true, Ok(user)) = (usable, attempt.username.parse::<Address>()) else {
            return Outcome::rule(Decision::Deny(DenyReason::BadCredential));
        };
        if limited && self.throttle.refuses_user(&user, attempt.source, now) {
            return Outcome::rule(Decision::Unavailable(UnavailableReason::Throttled));
        }

        // An address of no tenant goes the same way, so that it takes the same time, and is refused at its end.
        let tenant = self.config.tenant_of(&user);
        let login = Typed { tenant, user: &user, password: attempt.password, protocol: attempt.protocol, now };
        let told = match tenant.and_then(|tenant| self.institution_of(tenant, attempt.method)) {
            Some(tenant) => self.by_institution(tenant, &login).await,
            None => self.by_directory(&login).await,
        };
        let Some(Told { reply, source, verifier, method }) = told else {
            return Outcome::rule(Decision::Unavailable(UnavailableReason::Overloaded));
        };
        let decision = match tenant {
            Some(tenant) => self.decision(tenant, reply, method.unwrap_or(attempt.method)),
            None if reply.verdict == Verdict::Unavailable => Decision::Unavailable(reply.missing),
            None => Decision::Deny(DenyReason::BadCredential),
        };
        if limited && matches!(source, Source::Directory | Source::Institution) {
            self.count(&decision, &user, attempt.source, &verifier);
        }
        Outcome { decision, source }
    }

    /// The directory's answer; `None` when too many questions are under way.
    async fn by_directory(&self, login: &Typed<'_>) -> Option<Told> {
        let question = || {
            let (directory, user, password) = (Arc::clone(&self.directory), login.user.clone(), login.password.clone());
            async move { Reply::of(directory.verify(&user, &password).await) }
        };
        let nobody = Reply::nobody(UnavailableReason::Directory);
        self.ask(self.directory_key(login), login, Source::Directory, nobody, question).await
    }

    /// What the cache knows, else the answer to the question. `nobody` stands for one that does not come.
    async fn ask<F>(
        &self,
        names: (CacheKey, Verifier),
        login: &Typed<'_>,
        source: Source,
        nobody: Reply,
        question: impl FnOnce() -> F,
    ) -> Option<Told>
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let (reply, source) = match self.cache.check(&names.0, &names.1, login.now) {
            Cached::Good(account) => (Reply::of(Verdict::Valid(account)), Source::Cache),
            Cached::Bad => (Reply::of(Verdict::BadCredential), Source::Cache),
            Cached::Unknown => (self.flights.ask(names, &self.cache, nobody, question).await?, source),
        };
        Some(Told { reply, source, verifier: names.1, method: None })
    }

    fn directory_key(&self, login: &Typed<'_>) -> (CacheKey, Verifier) {
        let key = self.cache.key(login.tenant, login.user, login.protocol);
        (key, self.cache.verifier(&key, login.password))
    }

    /// Another IdP of the tenant is asked anew.
    fn institution_key(&self, tenant: &Tenant, login: &Typed<'_>) -> (CacheKey, Verifier) {
        let key = self.cache.institution_key(tenant, login.user, login.protocol);
        (key, self.cache.verifier(&key, login.password))
    }

    /// What the directory knows of an address proven otherwise (SAML): its account, no account, or nobody can tell.
    pub async fn lookup(&self, address: &Address) -> Lookup {
        lookup(&*self.directory, address).await
    }

    /// Completes a login proven by SAML with the directory's facts: where the IdP names an address, as
    /// [`Authenticator::complete`]; where it names an identifier, the directory tells whose it is, or nobody enters.
    ///
    /// # Errors
    /// Why nobody is known by the identifier.
    pub async fn complete_login(&self, login: &Login) -> Result<Decision, Unidentified> {
        let identifier = match login.subject() {
            Subject::Address(address) => return Ok(self.complete(login.identity(address.clone())).await),
            Subject::Identifier(identifier) => identifier,
        };
        let away = Ok(Decision::Unavailable(UnavailableReason::Directory));
        let Some(tenant) = self.config.tenants.get(login.tenant()) else { return away };
        match identify(&*self.directory, tenant, identifier).await {
            Identified::One(account) => {
                let identity = login.identity(account.address.clone());
                Ok(self.completed(identity, account))
            }
            Identified::Unknown => Err(Unidentified::Unknown),
            Identified::Several => Err(Unidentified::Several),
            Identified::Unavailable => away,
        }
    }

    /// Completes an identity proven by SAML with the directory's facts (address, category, cell, status).
    pub async fn complete(&self, identity: Identity) -> Decision {
        match self.lookup(&identity.address).await {
            Lookup::Unknown => Decision::Allow(identity),
            Lookup::Unavailable => Decision::Unavailable(UnavailableReason::Directory),
            Lookup::Found(account) => self.completed(identity, account),
        }
    }

    fn completed(&self, identity: Identity, account: Account) -> Decision {
        if !self.belongs(&account, &identity.tenant) {
            return Decision::Unavailable(UnavailableReason::Directory);
        }
        if !account.active {
            return Decision::Deny(DenyReason::AccountRefused);
        }
        Decision::Allow(Identity {
            address: account.address,
            category: account.category.unwrap_or(identity.category),
            cell: account.cell,
            ..identity
        })
    }

    /// What the directory says now, past every cache, of a user whose cell sends us away. When it says something else than
    /// `identity` does, what the cache believes of the user under that address and the one `typed` is dropped: the next
    /// login must not go the old way again.
    pub async fn look_again(&self, identity: &Identity, typed: Option<&Address>) -> Decision {
        let Ok(Ok(_seat)) = tokio::time::timeout(LOOK_WAIT, self.looks.acquire()).await else {
            return Decision::Unavailable(UnavailableReason::Overloaded);
        };
        let decision = self.complete(identity.clone()).await;
        let stale = match &decision {
            Decision::Allow(now) => now.cell != identity.cell || now.address != identity.address,
            Decision::Deny(_) => true,
            Decision::Unavailable(_) => false,
        };
        if stale {
            for user in typed.into_iter().chain([&identity.address]) {
                let tenant = self.config.tenant_of(user);
                let institution = tenant.and_then(|tenant| self.config.tenants.get(tenant));
                for protocol in Protocol::ALL {
                    self.cache.forget(&self.cache.key(tenant, user, protocol));
                    if let Some(tenant) = institution {
                        self.cache.forget(&self.cache.institution_key(tenant, user, protocol));
                    }
                }
            }
        }
        decision
    }

    fn decision(&self, tenant: &TenantId, reply: Reply, method: AuthMethod) -> Decision {
        let account = match reply.verdict {
            Verdict::Valid(account) if account.active => account,
            Verdict::Valid(_) | Verdict::AccountRefused => return Decision::Deny(DenyReason::AccountRefused),
            Verdict::BadCredential => return Decision::Deny(DenyReason::BadCredential),
            Verdict::Unavailable => return Decision::Unavailable(reply.missing),
        };
        let Some(settings) = self.config.tenants.get(tenant) else {
            return Decision::Deny(DenyReason::BadCredential);
        };
        if !self.belongs(&account, tenant) {
            return Decision::Unavailable(UnavailableReason::Directory);
        }
        Decision::Allow(Identity {
            address: account.address,
            tenant: tenant.clone(),
            category: account.category.unwrap_or(settings.category),
            cell: account.cell,
            method: method.method(),
        })
    }

    /// Whether the canonical address stays with the tenant the user came for: a directory that leads to another
    /// tenant's mailbox is not to be believed.
    fn belongs(&self, account: &Account, tenant: &TenantId) -> bool {
        let belongs = self.config.tenant_of(&account.address) == Some(tenant);
        if !belongs {
            warn!(%tenant, user = %account.address, "The directory's canonical address belongs to no domain of the tenant.");
        }
        belongs
    }

    fn count(&self, decision: &Decision, user: &Address, source: IpAddr, password: &Verifier) {
        match decision {
            Decision::Allow(_) => self.throttle.on_success(user, source),
            Decision::Deny(DenyReason::BadCredential) => {
                self.throttle.on_failure(user, source, password, Instant::now());
            }
            Decision::Deny(DenyReason::AccountRefused) | Decision::Unavailable(_) => {}
        }
    }
}

impl Outcome {
    /// Decided without asking anybody.
    pub fn rule(decision: Decision) -> Self {
        Self { decision, source: Source::Rule }
    }
}

/// Whose an IdP's name for a user is, bounded in time.
async fn identify(directory: &dyn Directory, tenant: &Tenant, identifier: &Identifier) -> Identified {
    let question = Question {
        tenant: &tenant.id,
        domains: &tenant.domains,
        attribute: identifier.directory_attribute(),
        value: identifier.value(),
    };
    tokio::time::timeout(LOOKUP_TIMEOUT, directory.identify(question)).await.unwrap_or(Identified::Unavailable)
}

/// A search of the directory, bounded in time.
async fn lookup(directory: &dyn Directory, address: &Address) -> Lookup {
    tokio::time::timeout(LOOKUP_TIMEOUT, directory.lookup(address)).await.unwrap_or(Lookup::Unavailable)
}

fn same_cache(one: &Limits, other: &Limits) -> bool {
    (one.password_cache_entries, one.password_cache_ttl) == (other.password_cache_entries, other.password_cache_ttl)
}

fn same_throttle(one: &Limits, other: &Limits) -> bool {
    let settings =
        |limits: &Limits| (limits.login_failures_per_source, limits.login_failures_per_user, limits.login_window);
    settings(one) == settings(other)
}

/// Whether what one directory said still holds for the other.
fn same_directory(one: &Configured, other: &Configured) -> bool {
    match (one, other) {
        (Configured::Embedded(one), Configured::Embedded(other)) => same_users(one, other),
        // Stars stand for the service account's password in both: who searches does not change what is found.
        (Configured::Ldap(one), Configured::Ldap(other)) => format!("{one:?}") == format!("{other:?}"),
        _ => false,
    }
}

fn same_users(one: &Users, other: &Users) -> bool {
    one.by_address.len() == other.by_address.len()
        && one.by_address.iter().all(|(address, user)| {
            other.by_address.get(address).is_some_and(|same| {
                same.address == user.address
                    && same.password.expose() == user.password.expose()
                    && (same.category, same.active, &same.cell) == (user.category, user.active, &user.cell)
            })
        })
}

/// Longer passwords are not looked at.
const PASSWORD_BYTES_MAX: usize = 1024;

/// Second looks at once: half of the connections to one server, by default. A cell that turns everybody away must not bring
/// down the directory, too.
const LOOKS_MAX: usize = 8;
/// How long one waits for its turn.
const LOOK_WAIT: Duration = Duration::from_millis(500);

/// A search of the directory, all servers tried.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
pub(crate) mod tests;
