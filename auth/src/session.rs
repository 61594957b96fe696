//! Sealed cookies: a browser's session and the login it waits for; and links for test logins. No store on the hot path.
//!
//! `kid . salt . ciphertext`, base64url; key and nonce of each cookie from HKDF-SHA256 over the ring key and the salt,
//! AES-256-GCM, the cookie's kind, key and host as associated data. A fresh key for each cookie leaves no nonce to
//! reuse, however many a ring key seals. The plaintext is a JSON array; its format version is part of the HKDF
//! context. Sessions of the version before are still opened, so that an upgrade logs nobody out; one of a later version is
//! simply foreign. What comes last in the array is a table, where an unknown name is passed over.

mod discovery;
mod logout;

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, rand,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use guichet_config::{Address, Category, CellId, Secret, TenantId};
use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    discovery::PendingDiscovery,
    logout::{IDP_SESSION_BYTES_MAX, IdpSession, LogoutTag, LogoutTags, PendingLogout},
};
use crate::{
    Identity, Method, WallTime,
    assurance::{Assurance, Context, Level},
    saml::Ask,
};

/// One key of the ring.
#[derive(Clone, Debug)]
pub struct SealKey {
    /// Names the key in a cookie.
    pub kid: u32,
    /// 32 random bytes.
    pub key: Secret<Vec<u8>>,
}

/// A browser's login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Random, names the session in the ledger.
    pub sid: [u8; 16],
    /// Who.
    pub address: Address,
    /// Institution.
    pub tenant: TenantId,
    /// Staff or student.
    pub category: Category,
    /// Cell named by the directory at login.
    pub cell: Option<CellId>,
    /// How.
    pub method: Method,
    /// Opened.
    pub issued: WallTime,
    /// Ends then at the latest.
    pub ends: WallTime,
    /// Ends then without a request.
    pub idle_ends: WallTime,
    /// What the IdP said of the login; absent: it was not asked.
    pub assurance: Option<Assurance>,
    /// What a logout at the IdP finds it by; only of a login there.
    pub logout: Option<LogoutTags>,
}

impl Session {
    /// Opens a session for a fresh identity; one opened by fallback lives shorter.
    pub fn open(identity: &Identity, lifetimes: &guichet_config::Session, now: WallTime) -> Self {
        let lifetime = match identity.method {
            Method::Fallback => lifetimes.lifetime.min(lifetimes.lifetime_fallback),
            Method::Password | Method::Saml | Method::Certificate | Method::Token => lifetimes.lifetime,
        };
        let ends = now.plus(lifetime);
        Self {
            sid: random(),
            address: identity.address.clone(),
            tenant: identity.tenant.clone(),
            category: identity.category,
            cell: identity.cell.clone(),
            method: identity.method,
            issued: now,
            ends,
            idle_ends: now.plus(lifetimes.lifetime_idle).min(ends),
            assurance: None,
            logout: None,
        }
    }

    /// Who, for placement.
    pub fn identity(&self) -> Identity {
        Identity {
            address: self.address.clone(),
            tenant: self.tenant.clone(),
            category: self.category,
            cell: self.cell.clone(),
            method: self.method,
        }
    }

    /// The same session with its idle end moved on, when it is due to be sealed again (older than 5 minutes, or than
    /// half of a shorter idle life). The idle end never moves back and never passes the absolute end.
    pub fn renewed(&self, lifetimes: &guichet_config::Session, now: WallTime) -> Option<Self> {
        if self.ended(now) {
            return None;
        }
        let idle_ends = now.plus(lifetimes.lifetime_idle).min(self.ends).max(self.idle_ends);
        let due = RENEW_AFTER.min(lifetimes.lifetime_idle / 2);
        // The last stretch before the absolute end is sealed once more: its gain may be shorter.
        let last = idle_ends == self.ends && self.idle_ends < self.ends;
        (idle_ends.since(self.idle_ends) >= due || last).then(|| Self { idle_ends, ..self.clone() })
    }

    fn ended(&self, now: WallTime) -> bool {
        now >= self.ends || now >= self.idle_ends
    }
}

/// A login under way at an IdP: sealed into a cookie that only this browser holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingLogin {
    /// RelayState; also the tail of the cookie's name. 32 hex digits.
    pub handle: String,
    /// ID of the AuthnRequest.
    pub request_id: String,
    /// Tenant it was made for.
    pub tenant: TenantId,
    /// Hostname on which it began; the Response comes back there.
    pub host: String,
    /// Path and query on our host to go to afterwards; sealed as `/` when longer than [`PendingLogin::TARGET_BYTES_MAX`].
    pub target: String,
    /// Made then; good for ten minutes.
    pub issued: WallTime,
    /// An operator's test: its answer is shown, and opens no session.
    pub test: bool,
    /// What it asks of the login.
    pub ask: Ask,
    /// The session that it is to take the place of, for a page that wants more.
    pub step_up: Option<Replaced>,
}

/// A session that another login of the same user takes the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its sid.
    pub sid: [u8; 16],
    /// Its end at the latest.
    pub ends: WallTime,
    /// Its user.
    pub address: Address,
}

/// A link that an operator hands out for a test login. It opens no session, and shows its user what the IdP said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestTicket {
    /// Whose IdP is tested.
    pub tenant: TenantId,
    /// Made then; good for an hour.
    pub issued: WallTime,
}

impl TestTicket {
    /// How long the link may be used.
    pub const LIFETIME: Duration = Duration::from_secs(3600);
}

impl PendingLogin {
    /// How long the IdP's page may take.
    pub const LIFETIME: Duration = Duration::from_secs(10 * 60);

    /// Longest target that is kept, so that the cookie stays below 3 KiB.
    pub const TARGET_BYTES_MAX: usize = 384;
}

/// Why a cookie is not a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Not made by us, or changed, or for another name or host, or by a key that is gone.
    #[error("the cookie was not sealed by this service")]
    Foreign,
    /// Past its end.
    #[error("the cookie has ended")]
    Ended,
}

/// Seals and opens cookies of one host.
pub struct Sealer {
    /// Newest first, never empty.
    keys: Vec<SealKey>,
    host: String,
    /// Sessions opened lately by their whole cookie: a browser sends the same one with every request. Holds only what
    /// was opened under `keys`, and goes with them; ends and revocations are looked at each time.
    opened: moka::sync::Cache<Box<str>, Arc<Session>>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("keys", &self.keys).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Sealer {
    /// `keys` newest first; the first seals, all open. Without any, a key of this process alone is made, and its
    /// cookies end with it.
    pub fn new(mut keys: Vec<SealKey>, host: &str) -> Self {
        if keys.is_empty() {
            keys.push(SealKey { kid: 0, key: Secret::new(random::<32>().to_vec()) });
        }
        Self { keys, host: host.to_owned(), opened: moka::sync::Cache::new(OPENED_MAX) }
    }

    /// The cookie value of a session.
    pub fn seal_session(&self, session: &Session) -> String {
        self.seal(
            Kind::Session,
            &SessionWire(
                URL_SAFE_NO_PAD.encode(session.sid),
                session.address.as_str().to_owned(),
                session.tenant.as_str().to_owned(),
                session.category.as_str().to_owned(),
                session.cell.as_ref().map(|cell| cell.as_str().to_owned()),
                session.method.as_str().to_owned(),
                session.issued.0,
                session.ends.0,
                session.idle_ends.0,
                SessionTable {
                    assurance: session.assurance.map(write_assurance),
                    logout: session.logout.map(LogoutTags::write),
                },
            ),
        )
    }

    /// The session of a cookie value that has not ended.
    ///
    /// # Errors
    /// Foreign or ended.
    pub fn open_session(&self, cookie: &str, now: WallTime) -> Result<Arc<Session>, SealError> {
        let session = match self.opened.get(cookie) {
            Some(session) => session,
            None => {
                let session = Arc::new(self.read_session(cookie)?);
                self.opened.insert(cookie.into(), Arc::clone(&session));
                session
            }
        };
        if session.ended(now) { Err(SealError::Ended) } else { Ok(session) }
    }

    fn read_session(&self, cookie: &str) -> Result<Session, SealError> {
        let wire = self.open(Kind::Session, cookie).or_else(|_| {
            let SessionWire1(sid, address, tenant, category, cell, method, issued, ends, idle_ends) =
                self.open(Kind::Session1, cookie)?;
            let table = SessionTable::default();
            Ok(SessionWire(sid, address, tenant, category, cell, method, issued, ends, idle_ends, table))
        })?;
        let SessionWire(sid, address, tenant, category, cell, method, issued, ends, idle_ends, table) = wire;
        Ok(Session {
            sid: read_sid(&sid)?,
            address: address.parse().map_err(|_| SealError::Foreign)?,
            tenant: tenant.parse().map_err(|_| SealError::Foreign)?,
            category: [Category::Staff, Category::Student]
                .into_iter()
                .find(|known| known.as_str() == category)
                .ok_or(SealError::Foreign)?,
            cell: cell.map(|cell| cell.parse()).transpose().map_err(|_| SealError::Foreign)?,
            method: [Method::Password, Method::Saml, Method::Fallback]
                .into_iter()
                .find(|known| known.as_str() == method)
                .ok_or(SealError::Foreign)?,
            issued: WallTime(issued),
            ends: WallTime(ends),
            idle_ends: WallTime(idle_ends),
            assurance: table.assurance.map(read_assurance).transpose()?,
            logout: table.logout.map(|tags| LogoutTags::read(&tags).ok_or(SealError::Foreign)).transpose()?,
        })
    }

    /// The cookie value of a pending login.
    pub fn seal_pending(&self, pending: &PendingLogin) -> String {
        let target = if pending.target.len() > PendingLogin::TARGET_BYTES_MAX { "/" } else { &pending.target };
        self.seal(
            Kind::Pending,
            &PendingWire(
                pending.handle.clone(),
                pending.request_id.clone(),
                pending.tenant.as_str().to_owned(),
                pending.host.clone(),
                target.to_owned(),
                pending.issued.0,
                PendingTable {
                    test: pending.test,
                    force_authn: pending.ask.force_authn,
                    authn_context: pending.ask.authn_context.clone(),
                    step_up: pending.step_up.as_ref().map(|before| {
                        (URL_SAFE_NO_PAD.encode(before.sid), before.ends.0, before.address.as_str().to_owned())
                    }),
                },
            ),
        )
    }

    /// The text of a ticket, fit for a link.
    pub fn seal_ticket(&self, ticket: &TestTicket) -> String {
        self.seal(Kind::TestTicket, &TicketWire(ticket.tenant.as_str().to_owned(), ticket.issued.0))
    }

    /// The ticket of a text younger than an hour.
    ///
    /// # Errors
    /// Foreign or ended.
    pub fn open_ticket(&self, text: &str, now: WallTime) -> Result<TestTicket, SealError> {
        let TicketWire(tenant, issued) = self.open(Kind::TestTicket, text)?;
        let ticket = TestTicket { tenant: tenant.parse().map_err(|_| SealError::Foreign)?, issued: WallTime(issued) };
        if now >= ticket.issued.plus(TestTicket::LIFETIME) { Err(SealError::Ended) } else { Ok(ticket) }
    }

    /// The pending login of a cookie value younger than ten minutes.
    ///
    /// # Errors
    /// Foreign or ended.
    pub fn open_pending(&self, cookie: &str, now: WallTime) -> Result<PendingLogin, SealError> {
        let PendingWire(handle, request_id, tenant, host, target, issued, table) = self.open(Kind::Pending, cookie)?;
        let tenant = tenant.parse().map_err(|_| SealError::Foreign)?;
        let issued = WallTime(issued);
        if now >= issued.plus(PendingLogin::LIFETIME) {
            return Err(SealError::Ended);
        }
        let ask = Ask { force_authn: table.force_authn, authn_context: table.authn_context };
        let step_up = table.step_up.map(|(sid, ends, address)| {
            let address = address.parse().map_err(|_| SealError::Foreign)?;
            Ok(Replaced { sid: read_sid(&sid)?, ends: WallTime(ends), address })
        });
        let (test, step_up) = (table.test, step_up.transpose()?);
        Ok(PendingLogin { handle, request_id, tenant, host, target, issued, test, ask, step_up })
    }

    fn seal<T: Serialize>(&self, kind: Kind, value: &T) -> String {
        let key = self.keys.first().expect("`new` leaves at least one key");
        let salt: [u8; SALT_BYTES] = random();
        let mut bytes = serde_json::to_vec(value).expect("strings and numbers have a JSON form");
        let (cipher, nonce) = cipher(key, &salt, kind);
        cipher
            .seal_in_place_append_tag(nonce, Aad::from(self.associated(kind, key.kid)), &mut bytes)
            .expect("a cookie is far shorter than AES-GCM's limit");
        format!("{}.{}.{}", key.kid, URL_SAFE_NO_PAD.encode(salt), URL_SAFE_NO_PAD.encode(bytes))
    }

    fn open<T: DeserializeOwned>(&self, kind: Kind, cookie: &str) -> Result<T, SealError> {
        if cookie.len() > kind.bytes_max() {
            return Err(SealError::Foreign);
        }
        let mut parts = cookie.splitn(3, '.');
        let (Some(kid), Some(salt), Some(sealed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SealError::Foreign);
        };
        // The number is compared as text: one cookie has one spelling.
        let key = self.keys.iter().find(|key| key.kid.to_string() == kid).ok_or(SealError::Foreign)?;
        let salt = URL_SAFE_NO_PAD.decode(salt).ok().and_then(|salt| <[u8; SALT_BYTES]>::try_from(salt).ok());
        let mut sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| SealError::Foreign)?;
        let (cipher, nonce) = cipher(key, &salt.ok_or(SealError::Foreign)?, kind);
        let plain = cipher
            .open_in_place(nonce, Aad::from(self.associated(kind, key.kid)), &mut sealed)
            .map_err(|_| SealError::Foreign)?;
        serde_json::from_slice(plain).map_err(|_| SealError::Foreign)
    }

    fn associated(&self, kind: Kind, kid: u32) -> Vec<u8> {
        format!("{}\0{kid}\0{}", kind.context(), self.host).into_bytes()
    }
}

/// What a cookie holds. A cookie of one kind never opens as the other.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Session,
    /// Of the version before; only opened.
    Session1,
    Pending,
    TestTicket,
    Discovery,
    IdpSession,
    PendingLogout,
}

impl Kind {
    /// HKDF context; the number is the version of the plaintext.
    fn context(self) -> &'static str {
        match self {
            Self::Session => "guichet session 2",
            Self::Session1 => "guichet session 1",
            Self::Pending => "guichet pending login 4",
            Self::TestTicket => "guichet test ticket 1",
            Self::Discovery => "guichet pending discovery 1",
            Self::IdpSession => "guichet idp session 1",
            Self::PendingLogout => "guichet pending logout 1",
        }
    }

    /// Longer values are not looked at: what we seal stays below. Browsers take 4 KiB.
    fn bytes_max(self) -> usize {
        match self {
            Self::Session | Self::Session1 | Self::TestTicket => 1024,
            Self::Discovery => 1536,
            Self::Pending => 3 * 1024,
            // An entityID may have a kilobyte by itself.
            Self::IdpSession | Self::PendingLogout => IDP_SESSION_BYTES_MAX,
        }
    }
}

/// sid, address, tenant, category, cell, method, issued, ends, idle end, more.
#[derive(Serialize, serde::Deserialize)]
struct SessionWire(String, String, String, String, Option<String>, String, u64, u64, u64, SessionTable);

/// What a session may have. Names are short: every request carries them.
#[derive(Default, Serialize, serde::Deserialize)]
struct SessionTable {
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    assurance: Option<AssuranceWire>,
    /// Tags of the name and of the index.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    logout: Option<(String, Option<String>)>,
}

/// Context, instant, level.
#[derive(Serialize, serde::Deserialize)]
struct AssuranceWire(Option<String>, u64, Option<String>);

fn write_assurance(assurance: Assurance) -> AssuranceWire {
    let level = assurance.level.map(|level| level.as_str().to_owned());
    AssuranceWire(assurance.context.map(Context::write), assurance.at.0, level)
}

fn read_assurance(AssuranceWire(context, at, level): AssuranceWire) -> Result<Assurance, SealError> {
    let context = context.map(|text| Context::read(&text).ok_or(SealError::Foreign)).transpose()?;
    let level = level.map(|name| Level::named(&name).ok_or(SealError::Foreign)).transpose()?;
    Ok(Assurance { context, at: WallTime(at), level })
}

fn read_sid(text: &str) -> Result<[u8; 16], SealError> {
    URL_SAFE_NO_PAD.decode(text).ok().and_then(|sid| sid.try_into().ok()).ok_or(SealError::Foreign)
}

/// [`SessionWire`] before it had a table.
#[derive(serde::Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct SessionWire1(String, String, String, String, Option<String>, String, u64, u64, u64);

/// handle, request, tenant, host, target, issued, more.
#[derive(Serialize, serde::Deserialize)]
struct PendingWire(String, String, String, String, String, u64, PendingTable);

/// What a login under way may be for, and ask.
#[derive(Default, Serialize, serde::Deserialize)]
struct PendingTable {
    #[serde(rename = "t", default, skip_serializing_if = "std::ops::Not::not")]
    test: bool,
    #[serde(rename = "f", default, skip_serializing_if = "std::ops::Not::not")]
    force_authn: bool,
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    authn_context: Vec<String>,
    /// sid, end and user of the session to be replaced.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    step_up: Option<(String, u64, String)>,
}

/// tenant, issued.
#[derive(Serialize, serde::Deserialize)]
struct TicketWire(String, u64);

/// Key and nonce of one cookie: 44 bytes of HKDF output.
struct OneTime;

impl hkdf::KeyType for OneTime {
    fn len(&self) -> usize {
        AES_256_GCM.key_len() + NONCE_LEN
    }
}

fn cipher(key: &SealKey, salt: &[u8; SALT_BYTES], kind: Kind) -> (LessSafeKey, Nonce) {
    let mut material = zeroize::Zeroizing::new([0u8; 32 + NONCE_LEN]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(key.key.expose())
        .expand(&[kind.context().as_bytes()], OneTime)
        .and_then(|okm| okm.fill(&mut material[..]))
        .expect("44 bytes are within HKDF-SHA256's limit");
    let (key, nonce) = material.split_at(32);
    let key = UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes");
    let nonce = Nonce::try_assume_unique_for_key(nonce).expect("a GCM nonce has 12 bytes");
    (LessSafeKey::new(key), nonce)
}

/// Bytes nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// A session younger than this is not sealed again.
const RENEW_AFTER: Duration = Duration::from_secs(5 * 60);

/// Salt of one cookie.
const SALT_BYTES: usize = 16;

/// Sessions kept open: under a KiB each.
const OPENED_MAX: u64 = 16_384;

#[cfg(test)]
mod tests;
