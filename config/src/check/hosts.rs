//! Hostnames of tenants: each belongs to one.

use std::collections::{BTreeMap, HashMap};

use super::Check;
use crate::{Domain, Hosts, Place, Public, TenantId, file, shape};

impl Check {
    /// The names by which browsers reach the service. A name that stands twice, or is the public one, is a problem.
    pub(super) fn hosts(&mut self, public: &Public, files: &BTreeMap<String, file::Tenant>) -> Hosts {
        let mut claims = Vec::new();
        for (name, file) in files {
            for (index, text) in file.hostnames.iter().enumerate() {
                let key = format!("{}.hostnames[{index}]", shape::join("tenant", name));
                let Some(hostname) = self.parse::<Domain>(&key, text) else { continue };
                // A bad name of a tenant was reported where it stands.
                let Ok(tenant) = name.parse::<TenantId>() else { continue };
                claims.push((key, hostname, tenant));
            }
        }
        let hosts = claims.iter().map(|(_, hostname, tenant)| (hostname.clone(), tenant.clone())).collect();
        self.claims(public, claims);
        Hosts::new(&public.hostname, &public.origin, hosts)
    }

    fn claims(&mut self, public: &Public, claims: Vec<(String, Domain, TenantId)>) {
        if let Some((key, _, _)) = claims.get(HOSTS_MAX) {
            self.problem(key, format!("there are more than {HOSTS_MAX} hostnames"), None);
        }
        let mut claims: Vec<_> =
            claims.into_iter().map(|(key, hostname, _)| (self.place(&key), key, hostname)).collect();
        claims.sort();
        let mut first: HashMap<Domain, (Place, String)> = HashMap::new();
        for (place, key, hostname) in claims {
            if hostname.as_str() == public.hostname {
                let hint = "everybody logs in there; leave it out".to_owned();
                self.problem(&key, format!("{hostname} is `public.hostname`"), hint);
                continue;
            }
            if let Some((place, other)) = first.get(&hostname) {
                let message =
                    format!("{hostname} belongs to `{other}` already ({}, line {})", place.file.display(), place.line);
                self.problem(&key, message, "a hostname is claimed once".to_owned());
                continue;
            }
            first.insert(hostname, (place, key));
        }
    }
}

/// Each is an endpoint of ours in the SAML metadata, whose document must stay one that registries take.
const HOSTS_MAX: usize = 2000;
