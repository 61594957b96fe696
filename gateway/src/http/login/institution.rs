//! Which institution a link or a form names.

use std::sync::Arc;

use guichet_auth::saml::discovery::Institutions;
use guichet_config::{Address, Domain, Tenant, TenantId};

use super::{Form, Visit};
use crate::http::{cookie, target};

/// What a link says about the institution.
pub(super) enum Named {
    /// This one.
    One(Arc<Tenant>),
    /// One of these: they share an IdP.
    Several(Vec<Arc<Tenant>>),
    /// An address of none of ours.
    Stranger(String),
    /// Nothing that we know.
    Nobody,
}

impl Named {
    /// Those that share an IdP.
    pub(super) fn of(tenants: Vec<Arc<Tenant>>) -> Self {
        match tenants.as_slice() {
            [] => Self::Nobody,
            [one] => Self::One(Arc::clone(one)),
            _ => Self::Several(tenants),
        }
    }
}

impl Visit {
    /// The institution that the query names, by the first of these that names one: `tenant`, `login_hint` or `address`,
    /// `domain`, `idp` or `entityID`.
    pub(super) fn named(&self) -> Named {
        let query = &self.query;
        let address = self.hinted_address();
        let known = self
            .tenant(query.field("tenant"))
            .or_else(|| self.of_address(address))
            .or_else(|| self.of_domain(query.field("domain")));
        if let Some(tenant) = known {
            return Named::One(tenant);
        }
        let named = Named::of(self.of_idp(first(query, "idp", "entityID")));
        match named {
            Named::Nobody if !address.is_empty() => Named::Stranger(address.to_owned()),
            named => named,
        }
    }

    /// Where a link leads afterwards: `next`, or the address that the Service Provider Request Initiation Protocol calls
    /// `target`.
    pub(super) fn wanted(&self) -> &str {
        let next = self.query.field("next");
        target::safe(if next.is_empty() { target::behind(self.query.field("target"), &self.host.origin) } else { next })
    }

    /// The address that a link brings along.
    pub(super) fn hinted_address(&self) -> &str {
        first(&self.query, "login_hint", "address").trim()
    }

    /// The tenant of an address, by its domain.
    pub(super) fn of_address(&self, address: &str) -> Option<Arc<Tenant>> {
        self.of_domain(address.parse::<Address>().ok()?.domain())
    }

    fn of_domain(&self, domain: &str) -> Option<Arc<Tenant>> {
        let id = self.snapshot.config.domains.get(&domain.parse::<Domain>().ok()?)?;
        self.snapshot.config.tenants.get(id).cloned()
    }

    /// The tenants of an IdP.
    pub(super) fn of_idp(&self, entity_id: &str) -> Vec<Arc<Tenant>> {
        let of = |tenant: &&Arc<Tenant>| tenant.idp.as_ref().is_some_and(|idp| idp.entity_id == entity_id);
        self.snapshot.config.tenants.values().filter(of).cloned().collect()
    }

    /// The one chosen last in this browser.
    pub(super) fn remembered(&self) -> Option<Arc<Tenant>> {
        self.cookie(cookie::TENANT).and_then(|id| self.tenant(id))
    }

    /// All of them, to be searched.
    pub(super) fn institutions(&self) -> &Institutions {
        self.snapshot.institutions.get_or_init(|| Institutions::new(&self.snapshot.config, &self.snapshot.idps))
    }
}

/// The field of one name, else of another.
fn first<'a>(form: &'a Form, name: &str, other: &str) -> &'a str {
    Some(form.field(name)).filter(|value| !value.is_empty()).unwrap_or_else(|| form.field(other))
}

/// Makes a browser remember an institution.
pub(super) fn remember(tenant: &TenantId) -> String {
    cookie::set(cookie::TENANT, tenant.as_str(), cookie::SameSite::Lax, Some(super::YEAR))
}
