//! Metadata of the IdPs: signed documents in, an index by entityID out.
//!
//! A document is one `EntityDescriptor` or an `EntitiesDescriptor` of any depth. Its root carries the signature, by a key
//! that the configuration pins (dates of certificates do not count); nothing is read from a document that does not verify.
//! `validUntil` must not be past; a local file may lack it, because its owner replaces it by hand; what is fetched must
//! have one, not too far ahead. Entities that are expired themselves, are no SAML 2.0 IdP or have no name are left out.
//!
//! An aggregate is never held as one tree: [`split`] cuts its text, [`canonical`] digests piece after piece, [`aggregate`]
//! keeps what is wanted. An entity alone is one tree. [`source`] says where documents are and keeps the last good copies;
//! fetching them is the caller's. [`dropped`] compares a new document with the one in use.

mod about;
mod aggregate;
mod canonical;
mod document;
mod dropped;
mod entity;
mod fault;
#[cfg(any(test, feature = "properties"))]
pub(super) mod properties;
mod source;
mod split;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use guichet_config::{Config, Federation, MetadataSource, Problem, RequestBinding, Tenant};
use tracing::warn;

use self::document::{KNOWN_SHOWN_MAX, Rules, earlier};
pub use self::{
    about::{Contact, ContactKind, Logo},
    document::Verified,
    dropped::Dropped,
    source::{DocumentId, Reader, documents, idps_of_tenants},
};
use super::ecp;
use crate::WallTime;

/// What we keep of an IdP.
#[derive(Clone, Debug, Default)]
pub struct IdpMetadata {
    /// entityID.
    pub entity_id: String,
    /// SingleSignOnService, HTTP-Redirect.
    pub sso_redirect: Option<String>,
    /// SingleSignOnService, HTTP-POST.
    pub sso_post: Option<String>,
    /// SingleSignOnService, SOAP: where ECP asks (saml-ecp-v2.0 §2.3.5).
    pub sso_soap: Option<String>,
    /// SingleLogoutService, HTTP-Redirect.
    pub slo_redirect: Option<String>,
    /// Where a LogoutResponse by HTTP-Redirect goes: its ResponseLocation, else its Location.
    pub slo_redirect_response: Option<String>,
    /// SingleLogoutService, HTTP-POST.
    pub slo_post: Option<String>,
    /// Where a LogoutResponse by HTTP-POST goes: its ResponseLocation, else its Location.
    pub slo_post_response: Option<String>,
    /// SingleLogoutService, SOAP.
    pub slo_soap: Option<String>,
    /// DER certificates for signing (no `use`, or `use="signing"`).
    pub signing_certificates: Vec<Vec<u8>>,
    /// `shibmd:Scope` values (regexp ones are left out and reported).
    pub scopes: Vec<String>,
    /// mdui:DisplayName by language, else the organization's name.
    pub names: HashMap<String, String>,
    /// mdui:Keywords by language, for search.
    pub keywords: HashMap<String, Vec<String>>,
    /// mdui:InformationURL by language.
    pub information_urls: HashMap<String, String>,
    /// mdui:PrivacyStatementURL by language.
    pub privacy_urls: HashMap<String, String>,
    /// mdui:Logo, https only.
    pub logos: Vec<Logo>,
    /// Whom to turn to (md:ContactPerson).
    pub contacts: Vec<Contact>,
    /// errorURL.
    pub error_url: Option<String>,
    /// WantAuthnRequestsSigned.
    pub want_signed_requests: bool,
    /// Entity categories (RFC 8409).
    pub entity_categories: Vec<String>,
    /// Certifications of assurance, such as `https://refeds.org/sirtfi`.
    pub assurance: Vec<String>,
    /// The federation asks not to offer it for choice (`http://refeds.org/category/hide-from-discovery`).
    pub hide_from_discovery: bool,
    /// The earliest `validUntil` that holds for it.
    pub valid_until: Option<WallTime>,
}

/// Why metadata cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct MetadataError {
    /// One sentence.
    pub message: String,
}

/// A document in use.
#[derive(Clone, Debug)]
pub struct Held {
    /// What it says.
    pub verified: Arc<Verified>,
    /// When its source last stood by it.
    pub since: WallTime,
}

/// IdPs by entityID. Replaced whole when a document changes.
#[derive(Clone, Debug, Default)]
pub struct MetadataIndex {
    by_entity: HashMap<String, Arc<IdpMetadata>>,
    /// In the order of the configuration.
    federations: Vec<String>,
    documents: BTreeMap<DocumentId, Held>,
    /// When the first of the IdPs ends.
    first_end: Option<WallTime>,
}

impl MetadataIndex {
    /// Reads and verifies what this machine has of every federation: files, and copies of what was fetched. Problems
    /// (a file missing, wrongly signed, expired, a tenant's IdP that no file holds) point at the configuration's line. A
    /// copy that cannot be used is no problem of the configuration: it is left out, to be fetched. An entityID in two
    /// documents: the first federation in the configuration wins.
    ///
    /// # Errors
    /// All problems found.
    pub fn load(config: &Config, now: WallTime) -> Result<Self, Vec<Problem>> {
        let mut index = Self::of_federations(config.federations.iter().map(|one| one.name.clone()).collect());
        let mut problems = Vec::new();
        for federation in &config.federations {
            match read_federation(config, federation, now) {
                Ok(documents) => index.documents.extend(documents),
                Err((key, message)) => problems.push(config.problem(&key, message, None)),
            }
        }
        index.merge(now);
        let all_files = config.federations.iter().all(|one| matches!(one.source, MetadataSource::File(_)));
        // With a file missing every IdP in it would be reported too.
        if problems.is_empty() {
            let missing = index.missing(config);
            if all_files {
                problems.extend(missing);
            } else {
                missing.iter().for_each(|problem| warn!(%problem, "A tenant's IdP cannot be used yet."));
            }
        }
        if problems.is_empty() { Ok(index) } else { Err(problems) }
    }

    /// Nothing yet of federations, the one that wins first.
    pub fn of_federations(federations: Vec<String>) -> Self {
        Self { federations, ..Self::default() }
    }

    /// Verifies and reads one metadata document. `keys` are DER certificates or SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// Not signed by one of the keys, expired, malformed.
    pub fn read(xml: &[u8], keys: &[Vec<u8>], now: WallTime) -> Result<Verified, MetadataError> {
        document::read(xml, &Rules { keys, wanted: None, validity_max: None }, now)
    }

    /// One IdP.
    pub fn idp(&self, entity_id: &str) -> Option<Arc<IdpMetadata>> {
        self.by_entity.get(entity_id).cloned()
    }

    /// A document in use.
    pub fn held(&self, id: &DocumentId) -> Option<&Held> {
        self.documents.get(id)
    }

    /// The documents in use of one federation.
    pub fn held_of<'a>(&'a self, federation: &'a str) -> impl Iterator<Item = &'a Held> {
        self.documents.iter().filter(move |(id, _)| id.federation == federation).map(|(_, held)| held)
    }

    /// The same with one document replaced.
    #[must_use]
    pub fn with(&self, id: DocumentId, held: Held, now: WallTime) -> Self {
        let mut next = self.clone();
        next.documents.insert(id, held);
        next.merge(now);
        next
    }

    /// Whether an IdP has come to its end; [`MetadataIndex::at`] is without it.
    pub fn has_ended(&self, now: WallTime) -> bool {
        self.first_end.is_some_and(|end| end <= now)
    }

    /// The same without what has come to its end.
    #[must_use]
    pub fn at(&self, now: WallTime) -> Self {
        let mut next = self.clone();
        next.merge(now);
        next
    }

    fn merge(&mut self, now: WallTime) {
        self.by_entity.clear();
        self.first_end = None;
        for federation in &self.federations {
            let documents = self.documents.iter().filter(|(id, _)| id.federation == *federation);
            for idp in documents.flat_map(|(_, held)| held.verified.idps.values()) {
                if idp.valid_until.is_some_and(|end| end <= now) || self.by_entity.contains_key(&idp.entity_id) {
                    continue;
                }
                self.first_end = earlier(self.first_end, idp.valid_until);
                self.by_entity.insert(idp.entity_id.clone(), Arc::clone(idp));
            }
        }
    }

    /// Tenants whose IdP cannot be used.
    fn missing(&self, config: &Config) -> Vec<Problem> {
        let mut problems = Vec::new();
        for tenant in config.tenants.values() {
            let Some(wanted) = &tenant.idp else { continue };
            let key = format!("tenant.{}.idp.saml.entity_id", tenant.id);
            let message = match self.by_entity.get(&wanted.entity_id).map(|idp| idp.trouble()) {
                None => format!("no metadata holds the IdP \"{}\"", wanted.entity_id),
                Some(Some(trouble)) => trouble.to_owned(),
                Some(None) => {
                    problems.extend(self.ecp_problem(config, tenant));
                    problems.extend(self.binding_problem(config, tenant));
                    continue;
                }
            };
            let others = self.documents.values().flat_map(|held| &held.verified.others);
            let known: BTreeSet<&str> = self.by_entity.keys().chain(others).map(String::as_str).collect();
            let few = !known.is_empty() && known.len() <= KNOWN_SHOWN_MAX;
            let hint = (few && !known.contains(wanted.entity_id.as_str()))
                .then(|| format!("known: {}", known.into_iter().collect::<Vec<_>>().join(", ")));
            problems.push(config.problem(&key, message, hint));
        }
        problems
    }

    /// A tenant that wants its IdP to be asked about passwords, and cannot.
    fn ecp_problem(&self, config: &Config, tenant: &Tenant) -> Option<Problem> {
        let wanted = tenant.idp.as_ref().filter(|idp| idp.ecp.is_some())?;
        let message = match &self.by_entity.get(&wanted.entity_id)?.sso_soap {
            None => "the IdP's metadata has no SingleSignOnService for SOAP: it does not offer ECP",
            Some(endpoint) if ecp::is_confidential(endpoint) => return None,
            Some(_) => "the IdP's ECP endpoint would take passwords without TLS",
        };
        Some(config.problem(&format!("tenant.{}.idp.saml.ecp", tenant.id), message, None))
    }

    /// A tenant that wants a binding its IdP has no endpoint for.
    fn binding_problem(&self, config: &Config, tenant: &Tenant) -> Option<Problem> {
        let wanted = tenant.idp.as_ref()?;
        let idp = self.by_entity.get(&wanted.entity_id)?;
        let name = match wanted.request.binding? {
            RequestBinding::Redirect if idp.sso_redirect.is_none() => "HTTP-Redirect",
            RequestBinding::Post if idp.sso_post.is_none() => "HTTP-POST",
            _ => return None,
        };
        let key = format!("tenant.{}.idp.saml.binding", tenant.id);
        let message = format!("the IdP's metadata has no SingleSignOnService for {name}");
        Some(config.problem(&key, message, Some("leave this key out: what the IdP has is used then".to_owned())))
    }
}

/// The documents that this machine has of a federation.
fn read_federation(
    config: &Config,
    federation: &Federation,
    now: WallTime,
) -> Result<Vec<(DocumentId, Held)>, (String, String)> {
    let key_path = |leaf: &str| format!("federation.{}.{leaf}", federation.name);
    let reader = Reader::new(config, federation).map_err(|error| (key_path("signing_keys"), error.message))?;
    let mut held = Vec::new();
    for id in documents(config, federation) {
        match reader.stored(&id, now) {
            Ok(Some((verified, since))) => held.push((id, Held { verified: Arc::new(verified), since })),
            Ok(None) => {}
            Err(error) if federation.source.roots().is_some() => {
                warn!(federation = federation.name, %error, "A copy of metadata is not used; it will be fetched again.");
            }
            Err(error) => {
                let short = config.places.contains_key(&key_path("file"));
                return Err((key_path(if short { "file" } else { "source.file" }), error.message));
            }
        }
    }
    Ok(held)
}

#[cfg(test)]
#[path = "tests/metadata.rs"]
mod tests;
