//! A LogoutRequest of an IdP: whose sessions are to end.

use std::{sync::Arc, time::Duration};

use uppsala::{Document, NodeId as Node};

use super::{
    super::{
        IdpMetadata, ServiceProvider,
        decrypt::Sealed,
        name_id::{NameId, SESSION_INDEX_BYTES_MAX},
        xml::{self, SAML, SAMLP, XENC},
    },
    AGE_MAX, Kind, LogoutRefusal, Received,
    received::{self, Authentic},
};
use crate::WallTime;

/// Who asks, by a verified signature.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The IdP.
    pub idp: Arc<IdpMetadata>,
    /// ID of its request.
    pub request_id: String,
}

/// A verified LogoutRequest. Only [`accept_request`] makes one.
#[derive(Clone, Debug)]
pub struct LogoutRequest {
    asker: Asker,
    name: NameId,
    session_indexes: Vec<String>,
    issued: WallTime,
    replay_until: WallTime,
}

impl LogoutRequest {
    /// Who asks.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Whose sessions.
    pub fn name(&self) -> &NameId {
        &self.name
    }

    /// Which of them, at most sixteen; empty: all.
    pub fn session_indexes(&self) -> &[String] {
        &self.session_indexes
    }

    /// IssueInstant, by the clock of the IdP.
    pub fn issued(&self) -> WallTime {
        self.issued
    }

    /// The ID, prefixed by the issuer: to be marked once in the store before the request counts.
    pub fn replay_id(&self) -> String {
        format!("{} {}", self.asker.idp.entity_id, self.asker.request_id)
    }

    /// The marker may be forgotten then: the request is too old by itself.
    pub fn replay_until(&self) -> WallTime {
        self.replay_until
    }
}

/// A LogoutRequest that is refused.
#[derive(Clone, Debug)]
pub struct Faulted {
    /// Why.
    pub refusal: LogoutRefusal,
    /// Who asked, when that was verified before the fault was found: it may be answered.
    pub asker: Option<Asker>,
}

impl From<LogoutRefusal> for Faulted {
    fn from(refusal: LogoutRefusal) -> Self {
        Self { refusal, asker: None }
    }
}

/// Verifies and judges a LogoutRequest. `idps` knows the IdPs of the tenants, and no other.
///
/// # Errors
/// The first check that failed.
pub fn accept_request(
    received: &Received,
    sp: &ServiceProvider,
    idps: &dyn Fn(&str) -> Option<Arc<IdpMetadata>>,
    clock_skew: Duration,
    now: WallTime,
) -> Result<LogoutRequest, Faulted> {
    if received.kind() != Kind::Request {
        return Err(LogoutRefusal::NotALogout.into());
    }
    let doc = received.parse()?;
    let authentic = received::authenticate(received, &doc, idps)?;
    let asker = Asker { idp: Arc::clone(&authentic.idp), request_id: authentic.id.clone() };
    judge(&authentic, asker.clone(), received, sp, clock_skew, now)
        .map_err(|refusal| Faulted { refusal, asker: Some(asker) })
}

fn judge(
    authentic: &Authentic<'_, '_>,
    asker: Asker,
    received: &Received,
    sp: &ServiceProvider,
    clock_skew: Duration,
    now: WallTime,
) -> Result<LogoutRequest, LogoutRefusal> {
    let (doc, message) = (authentic.doc, authentic.message);
    let issued = authentic.check_address_and_time(received, sp, clock_skew, now)?;
    if let Some(end) = xml::attribute(doc, message, "NotOnOrAfter") {
        let end = xml::time(end).ok_or(LogoutRefusal::Time)?;
        if now >= end.plus(clock_skew) {
            return Err(LogoutRefusal::Expired);
        }
    }
    let session_indexes = session_indexes(doc, message)?;
    let name = name(doc, message, received.source(), sp)?;
    Ok(LogoutRequest { asker, name, session_indexes, issued, replay_until: issued.plus(AGE_MAX).plus(clock_skew) })
}

fn session_indexes(doc: &Document<'_>, message: Node) -> Result<Vec<String>, LogoutRefusal> {
    let nodes: Vec<Node> = xml::children(doc, message, SAMLP, "SessionIndex").take(INDEXES_MAX + 1).collect();
    if nodes.len() > INDEXES_MAX {
        return Err(LogoutRefusal::SessionIndexes);
    }
    let read = |node| {
        let index = xml::text(doc, node).ok_or(LogoutRefusal::ValueNotPlain)?;
        let bounded = !index.is_empty() && index.len() <= SESSION_INDEX_BYTES_MAX;
        if bounded { Ok(index) } else { Err(LogoutRefusal::SessionIndexes) }
    };
    nodes.into_iter().map(read).collect()
}

/// The one name of the request, decrypted when it has to be: the signature was verified before.
fn name(doc: &Document<'_>, message: Node, source: &str, sp: &ServiceProvider) -> Result<NameId, LogoutRefusal> {
    let all = |local| xml::everywhere(doc, SAML, local);
    let (plain, encrypted) = (all("NameID"), all("EncryptedID"));
    if !all("BaseID").is_empty() {
        return Err(LogoutRefusal::NameId);
    }
    match (plain.as_slice(), encrypted.as_slice()) {
        ([name], []) if doc.parent(*name) == Some(message) => read(doc, *name),
        ([], [encrypted]) if doc.parent(*encrypted) == Some(message) => decrypted(doc, *encrypted, source, sp),
        _ => Err(LogoutRefusal::NameId),
    }
}

fn decrypted(doc: &Document<'_>, node: Node, source: &str, sp: &ServiceProvider) -> Result<NameId, LogoutRefusal> {
    if xml::everywhere(doc, XENC, "EncryptedData").len() != 1 {
        return Err(LogoutRefusal::EncryptionShape);
    }
    let sealed = Sealed::read(doc, node, sp.entity_id(), true)?;
    let (opened, place) = sealed.open(source, sp.decryption_keys())?;
    let inner = received::parse(&opened)?;
    let (names, holders) = (xml::everywhere(&inner, SAML, "NameID"), xml::everywhere(&inner, SAML, "EncryptedID"));
    let ([name], [holder]) = (names.as_slice(), holders.as_slice()) else { return Err(LogoutRefusal::NameId) };
    let in_place = inner.parent(*name) == Some(*holder) && inner.node_range(*name).as_ref() == Some(&place);
    if in_place { read(&inner, *name) } else { Err(LogoutRefusal::NameId) }
}

fn read(doc: &Document<'_>, node: Node) -> Result<NameId, LogoutRefusal> {
    if xml::text(doc, node).is_none() {
        return Err(LogoutRefusal::ValueNotPlain);
    }
    NameId::read(doc, node).ok_or(LogoutRefusal::NameId)
}

/// An IdP keeps one session of a browser for us, seldom two.
const INDEXES_MAX: usize = 16;
