//! Institutions and what they refer to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Check, all, directory::category};
use crate::{Address, Domain, FallbackPolicy, Forced, Place, Tenant, TenantId, Text, file, shape};

impl Check {
    pub(super) fn tenants(
        &mut self,
        files: &BTreeMap<String, file::Tenant>,
    ) -> Option<BTreeMap<TenantId, Arc<Tenant>>> {
        if files.is_empty() && !self.tenants_partial {
            self.problem(
                "tenant",
                "no tenant is configured: nobody could log in",
                "add a [tenant.NAME], here or in tenants.d/".to_owned(),
            );
        }
        let mut tenants = Some(BTreeMap::new());
        for (name, file) in files {
            let tenant = self.tenant(name, file);
            match (tenants.as_mut(), tenant) {
                (Some(tenants), Some(tenant)) => {
                    tenants.insert(tenant.id.clone(), Arc::new(tenant));
                }
                _ => tenants = None,
            }
        }
        tenants
    }

    fn tenant(&mut self, name: &str, file: &file::Tenant) -> Option<Tenant> {
        let key = shape::join("tenant", name);
        let id: Option<TenantId> = self.parse(&key, name);
        let shown = self.name(&format!("{key}.name"), &file.name);
        let domains = file.domains.iter().enumerate();
        let domains = all(domains.map(|(index, text)| self.parse(&format!("{key}.domains[{index}]"), text)).collect());
        let cell = self.cell(&format!("{key}.cell"), &file.cell);
        let idp = file.idp.as_ref().map_or(Some(None), |idp| self.idp(&format!("{key}.idp.saml"), &idp.saml).map(Some));
        let step_up = self.step_up(&key, file);
        let contact = file.contact.as_deref().map(|text| self.parse::<Address>(&format!("{key}.contact"), text));
        let contact = contact.map_or(Some(None), |address| address.map(|address| Some(address.as_str().to_owned())));
        Some(Tenant {
            id: id?,
            name: shown?,
            domains: domains?,
            cell: cell?,
            category: category(file.category),
            idp: idp?,
            fallback_staff: policy(file.fallback.staff),
            fallback_students: policy(file.fallback.students),
            idp_forced: file.idp.as_ref().and_then(|idp| idp.forced).map(|forced| match forced {
                file::Forced::Down => Forced::Down,
                file::Forced::Up => Forced::Up,
            }),
            contact: contact?,
            step_up: step_up?,
        })
    }

    /// A name in the two languages of the pages.
    pub(super) fn name(&mut self, key: &str, file: &file::Text) -> Option<Text> {
        let fr = self.text(&format!("{key}.fr"), &file.fr);
        let en = self.text_or_none(&format!("{key}.en"), file.en.as_deref());
        let fr = fr?;
        Some(Text { en: en?.unwrap_or_else(|| fr.clone()), fr })
    }

    /// Fills in the tenant of each domain; a domain has one.
    pub(super) fn domains(&mut self, files: &BTreeMap<String, file::Tenant>, domains: &mut HashMap<Domain, TenantId>) {
        let mut claims = Vec::new();
        for (name, file) in files {
            for (index, text) in file.domains.iter().enumerate() {
                let key = format!("{}.domains[{index}]", shape::join("tenant", name));
                claims.push((self.place(&key), key, name, text));
            }
        }
        claims.sort();
        let mut first: HashMap<Domain, (Place, String)> = HashMap::new();
        for (place, key, name, text) in claims {
            let Ok(domain) = text.parse::<Domain>() else { continue };
            if let Some((place, other)) = first.get(&domain) {
                let message =
                    format!("{domain} belongs to `{other}` already ({}, line {})", place.file.display(), place.line);
                self.problem(&key, message, "a domain is claimed once".to_owned());
                continue;
            }
            first.insert(domain.clone(), (place, key));
            if let Ok(tenant) = name.parse() {
                domains.insert(domain, tenant);
            }
        }
    }

    /// Who has an identity provider needs our side of SAML, and metadata to know it by.
    pub(super) fn idps(&mut self, main: &file::Main) {
        for (name, tenant) in &main.tenant {
            let Some(idp) = &tenant.idp else { continue };
            let key = format!("{}.idp.saml", shape::join("tenant", name));
            if let Some(identifier) = &idp.saml.identifier {
                self.identifier_in_directory(&format!("{key}.identifier"), identifier, &main.directory);
            }
            if main.saml.is_none() {
                self.problem(
                    &key,
                    "there is no [saml] to speak with an identity provider",
                    "add [saml] to the main file".to_owned(),
                );
            }
            if main.federation.is_empty() {
                let hint = "add a [federation.NAME] with its metadata to the main file".to_owned();
                self.problem(&key, "there is no federation that knows this identity provider", hint);
            }
        }
    }
}

fn policy(file: file::FallbackPolicy) -> FallbackPolicy {
    match file {
        file::FallbackPolicy::Off => FallbackPolicy::Off,
        file::FallbackPolicy::Operator => FallbackPolicy::Operator,
        file::FallbackPolicy::Auto => FallbackPolicy::Auto,
    }
}
