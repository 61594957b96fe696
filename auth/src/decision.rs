//! The four answers of an authentication, never mixed.

use guichet_config::{Address, Category, CellId, TenantId};

/// Who the user is. Only a verified answer (directory, SAML, session) makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Canonical address.
    pub address: Address,
    /// Institution.
    pub tenant: TenantId,
    /// Staff or student.
    pub category: Category,
    /// Cell named by the directory, when it names one.
    pub cell: Option<CellId>,
    /// How it is known.
    pub method: Method,
}

/// How an identity is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// The directory's password, or the institution's where its IdP is asked about it, for a mail program or a Basic client;
    /// the directory's on the page of a tenant without IdP.
    Password,
    /// A signed Response of the institution's IdP.
    Saml,
    /// The directory's password in place of the institution's login, because the IdP is down.
    Fallback,
    /// A client certificate, for a mail program.
    Certificate,
    /// A bearer token, for a mail program.
    Token,
}

impl Method {
    /// For metrics and cookies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Saml => "saml",
            Self::Fallback => "fallback",
            Self::Certificate => "certificate",
            Self::Token => "token",
        }
    }
}

/// The protocol a credential came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Browser form, Basic credentials.
    Web,
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// Submission of mail.
    Submission,
    /// ManageSieve.
    Sieve,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Web, Self::Imap, Self::Pop3, Self::Submission, Self::Sieve];

    /// For metrics and cache keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Submission => "submission",
            Self::Sieve => "sieve",
        }
    }
}

/// The answer of an authentication. `Deny` is final; only `Unavailable` may move on to a fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Known.
    Allow(Identity),
    /// Refused, for good.
    Deny(DenyReason),
    /// Nobody can tell now. Never cached, never shown as "wrong password".
    Unavailable(UnavailableReason),
}

/// Why a user is refused. Outside, all of these look alike except where the protocol must say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// Unknown user, wrong password, domain of no tenant.
    BadCredential,
    /// The password may be right; the account is locked, expired or not active.
    AccountRefused,
}

impl DenyReason {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadCredential => "bad_credential",
            Self::AccountRefused => "account_refused",
        }
    }
}

/// Why nobody can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnavailableReason {
    /// The directory does not answer, or not sensibly.
    Directory,
    /// The institution does not answer, or not acceptably.
    Institution,
    /// Too many wrong logins from this source or for this user; answered without asking.
    Throttled,
    /// A queue is full.
    Overloaded,
}

impl UnavailableReason {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Institution => "institution",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
        }
    }
}
