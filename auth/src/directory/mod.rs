//! The internal directory: LDAP, or a file of users read with the configuration.

mod embedded;
mod ldap;

use std::{future::Future, pin::Pin};

use guichet_config::{Address, Category, CellId, Domain, Secret, TenantId};

pub use self::{embedded::Embedded, ldap::Ldap};

/// What the directory knows of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Canonical address.
    pub address: Address,
    /// Category, when it tells one.
    pub category: Option<Category>,
    /// Cell, when it names one.
    pub cell: Option<CellId>,
    /// May log in.
    pub active: bool,
}

/// Answer to a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// One account.
    Found(Account),
    /// None.
    Unknown,
    /// Nobody can tell now.
    Unavailable,
}

/// Whose an IdP's name for a user is.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The tenant whose IdP says it.
    pub tenant: &'a TenantId,
    /// Its domains: an account has an address in one of them.
    pub domains: &'a [Domain],
    /// Where an LDAP directory has it.
    pub attribute: Option<&'a str>,
    /// Printable ASCII without spaces, in lower case.
    pub value: &'a str,
}

/// Answer to such a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identified {
    /// One account with an address in the tenant's domains.
    One(Account),
    /// None.
    Unknown,
    /// Several: nobody may guess.
    Several,
    /// Nobody can tell now.
    Unavailable,
}

/// Answer to a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right and the account may log in.
    Valid(Account),
    /// Unknown user or wrong password.
    BadCredential,
    /// Locked, expired, not active.
    AccountRefused,
    /// Nobody can tell now.
    Unavailable,
}

/// A boxed future of an answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A directory: checks passwords and knows accounts.
pub trait Directory: Send + Sync + std::fmt::Debug {
    /// Checks a password. Never called with an empty one (RFC 4513 §5.1.2).
    fn verify<'a>(&'a self, address: &'a Address, password: &'a Secret<String>) -> Answer<'a, Verdict>;

    /// Finds an account.
    fn lookup<'a>(&'a self, address: &'a Address) -> Answer<'a, Lookup>;

    /// Finds the account of what an IdP calls a user.
    fn identify<'a>(&'a self, question: Question<'a>) -> Answer<'a, Identified>;
}

/// Why a directory cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The root certificates cannot be used.
    #[error("directory.ldap.tls_ca: {0}")]
    Roots(String),
}
