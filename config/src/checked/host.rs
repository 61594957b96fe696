//! The names by which browsers reach the service.

use std::{collections::HashMap, sync::Arc};

use crate::{Domain, TenantId};

/// A name by which browsers reach the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name, in lower case.
    pub hostname: String,
    /// Origin that browsers see there, such as `https://mail.example` or, with a port, `https://localhost:8443`. No
    /// trailing slash.
    pub origin: String,
    /// Whose login it is; absent: that of everybody.
    pub tenant: Option<TenantId>,
}

impl Host {
    /// What browsers send as `Host`: the name, and the port when it is not that of HTTPS.
    pub fn authority(&self) -> &str {
        self.origin.strip_prefix("https://").unwrap_or(&self.origin)
    }
}

/// All of them: the public one, then those of the tenants by tenant and in the order in which they are written.
#[derive(Clone, Debug)]
pub struct Hosts {
    public: Arc<Host>,
    own: Vec<Arc<Host>>,
    by_name: HashMap<String, Arc<Host>>,
}

impl Hosts {
    /// `origin` is that of `hostname`; the tenants' hosts have its port.
    pub fn new(hostname: &str, origin: &str, own: Vec<(Domain, TenantId)>) -> Self {
        let public = Host { hostname: hostname.to_owned(), origin: origin.to_owned(), tenant: None };
        let port = public.authority().strip_prefix(hostname).unwrap_or_default();
        let host = |(name, tenant): (Domain, TenantId)| {
            let origin = format!("https://{name}{port}");
            Arc::new(Host { hostname: name.as_str().to_owned(), origin, tenant: Some(tenant) })
        };
        let own: Vec<Arc<Host>> = own.into_iter().map(host).collect();
        let by_name = own.iter().map(|host| (host.hostname.clone(), Arc::clone(host))).collect();
        Self { public: Arc::new(public), own, by_name }
    }

    /// That of `public.hostname`.
    pub fn public(&self) -> &Arc<Host> {
        &self.public
    }

    /// Each of them, the public one first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Host>> {
        std::iter::once(&self.public).chain(&self.own)
    }

    /// The host of a name, whatever its letters' case.
    pub fn named(&self, name: &str) -> Option<&Arc<Host>> {
        if name.eq_ignore_ascii_case(&self.public.hostname) {
            return Some(&self.public);
        }
        // Most services have the one name: no copy is made for them.
        if self.by_name.is_empty() { None } else { self.by_name.get(&name.to_ascii_lowercase()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_of_tenants_have_the_port_of_the_public_one() {
        let own = vec![("mail.univ.example".parse().unwrap(), "univ".parse().unwrap())];
        let hosts = Hosts::new("mail.example", "https://mail.example:8443", own.clone());
        let all: Vec<&str> = hosts.all().map(|host| host.origin.as_str()).collect();
        assert_eq!(all, ["https://mail.example:8443", "https://mail.univ.example:8443"]);
        let univ = hosts.named("Mail.Univ.Example").unwrap();
        assert_eq!((univ.authority(), univ.tenant.as_ref().unwrap().as_str()), ("mail.univ.example:8443", "univ"));
        assert_eq!(hosts.named("MAIL.example"), Some(hosts.public()));
        assert_eq!(hosts.named("univ.example"), None);
        let hosts = Hosts::new("mail.example", "https://mail.example", own);
        assert_eq!(hosts.named("mail.univ.example").unwrap().authority(), "mail.univ.example");
    }
}
