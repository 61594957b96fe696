//! Which IdPs of tenants a new document takes away. A federation's mistake, or an aggregate of another kind under the same
//! key, must not end the logins of everybody at once.

use std::collections::BTreeSet;

use super::{IdpMetadata, MetadataError, Verified};

/// What a new document drops.
#[derive(Debug)]
pub struct Dropped<'a> {
    /// IdPs of tenants that are usable in the document before, and not in the new one. Each once.
    pub entity_ids: Vec<&'a str>,
    /// How many were usable before.
    pub before: usize,
}

impl<'a> Dropped<'a> {
    /// Compares two documents about the IdPs of `tenants` (entityIDs).
    pub fn between(tenants: impl IntoIterator<Item = &'a String>, before: &Verified, after: &Verified) -> Self {
        let tenants: BTreeSet<&str> = tenants.into_iter().map(String::as_str).collect();
        let had: Vec<&str> = tenants.into_iter().filter(|entity_id| holds(before, entity_id)).collect();
        let count = had.len();
        Self { entity_ids: had.into_iter().filter(|entity_id| !holds(after, entity_id)).collect(), before: count }
    }

    /// Refuses more than `percent_max` of a hundred.
    ///
    /// # Errors
    /// How many of how many, and the first of them.
    pub fn check(&self, percent_max: u8) -> Result<(), MetadataError> {
        let (count, before) = (self.entity_ids.len(), self.before);
        match self.entity_ids.first() {
            Some(first) if count * 100 > before * usize::from(percent_max) => Err(MetadataError {
                message: format!(
                    "the document drops {count} of the {before} IdPs of tenants that the one in use has ({first} first), \
                     and `dropped_percent_max` is {percent_max}"
                ),
            }),
            _ => Ok(()),
        }
    }
}

fn holds(document: &Verified, entity_id: &str) -> bool {
    document.idps.get(entity_id).is_some_and(|idp| idp.trouble().is_none())
}

impl IdpMetadata {
    /// Why nobody can log in by it, if so.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        if self.signing_certificates.is_empty() {
            return Some("the IdP's metadata has no usable signing key");
        }
        let reachable = self.sso_redirect.is_some() || self.sso_post.is_some();
        (!reachable).then_some("the IdP's metadata has no SingleSignOnService for HTTP-Redirect or HTTP-POST")
    }
}

#[cfg(test)]
#[path = "../tests/metadata_dropped.rs"]
mod tests;
