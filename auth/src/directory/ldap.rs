//! An LDAP directory: find the account by search, then prove the password by binding as it.
//!
//! Searches run on connections bound as the service account and shared by many; a bind has a connection to itself,
//! which from then on carries the user's identity and never searches. Every answer falls into one class; whatever is
//! not clearly an answer about this user is an outage, of which nobody concludes "wrong password".

mod answer;
mod server;

use std::{path::Path, sync::Arc, time::Duration};

use guichet_config::{Address, Category, Domain, Secret};
use ldap3::{LdapConnSettings, SearchEntry, ldap_escape};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tracing::warn;

use self::{
    answer::{Bind, Found},
    server::{Outage, Server},
};
use super::{Account, Answer, Directory, DirectoryError, Identified, Lookup, Question, Verdict};

/// The directory of `[directory.ldap]`.
#[derive(Debug)]
pub struct Ldap(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: guichet_config::Ldap,
    attributes: Vec<String>,
    servers: Vec<Server>,
}

impl Ldap {
    /// Reads the roots; opens no connection yet.
    ///
    /// # Errors
    /// The root file cannot be used.
    pub fn new(config: &guichet_config::Ldap) -> Result<Self, DirectoryError> {
        let mut settings =
            LdapConnSettings::new().set_conn_timeout(config.timeout_connect).set_starttls(config.start_tls);
        if let Some(path) = &config.tls_ca {
            settings = settings.set_config(Arc::new(tls(path)?));
        }
        let mut attributes = config.address_attributes.clone();
        attributes.extend(
            [&config.cell_attribute, &config.category_attribute, &config.status_attribute]
                .into_iter()
                .flatten()
                .cloned(),
        );
        attributes.extend(LOCKS.iter().map(|(attribute, _)| (*attribute).to_owned()));
        let servers = config.urls.iter().map(|url| Server::new(url, settings.clone(), config)).collect();
        Ok(Self(Arc::new(Inner { config: config.clone(), attributes, servers })))
    }
}

impl Directory for Ldap {
    fn verify<'a>(&'a self, address: &'a Address, password: &'a Secret<String>) -> Answer<'a, Verdict> {
        let (inner, address, password) = (Arc::clone(&self.0), address.clone(), password.clone());
        // In a task of its own: the library may panic on a reply that is no LDAP, and a caller who leaves must not
        // drop a connection between request and reply.
        let task = tokio::spawn(async move { inner.verify(&address, &password).await });
        Box::pin(async { task.await.unwrap_or(Verdict::Unavailable) })
    }

    fn lookup<'a>(&'a self, address: &'a Address) -> Answer<'a, Lookup> {
        let (inner, address) = (Arc::clone(&self.0), address.clone());
        let task = tokio::spawn(async move { inner.lookup(&address).await });
        Box::pin(async { task.await.unwrap_or(Lookup::Unavailable) })
    }

    fn identify<'a>(&'a self, question: Question<'a>) -> Answer<'a, Identified> {
        let (inner, value, domains) = (Arc::clone(&self.0), question.value.to_owned(), question.domains.to_vec());
        // The check of the configuration sees to it that there is one.
        let Some(attribute) = question.attribute.map(str::to_owned) else {
            return Box::pin(std::future::ready(Identified::Unavailable));
        };
        let task = tokio::spawn(async move { inner.identify(&attribute, &value, &domains).await });
        Box::pin(async { task.await.unwrap_or(Identified::Unavailable) })
    }
}

impl Inner {
    /// Entries with the identifier count when they have an address in the tenant's domains: what an IdP calls its users
    /// may be what another calls its own.
    async fn identify(&self, attribute: &str, value: &str, domains: &[Domain]) -> Identified {
        let filter = format!("({attribute}={})", ldap_escape(value));
        let all = async {
            for server in self.servers.iter().filter(|server| server.open()) {
                let search = server.search(&self.config.base, &filter, &self.attributes, IDENTIFIED_MAX).await;
                if let Some(found) = server.judge(search) {
                    return self.identified(&found, domains);
                }
            }
            Identified::Unavailable
        };
        tokio::time::timeout(ANSWER_TIMEOUT, all).await.unwrap_or(Identified::Unavailable)
    }

    fn identified(&self, found: &Found, domains: &[Domain]) -> Identified {
        if found.more {
            return Identified::Several;
        }
        let ours = |entry: &&SearchEntry| {
            let address = self
                .addresses(entry)
                .into_iter()
                .find(|address| domains.iter().any(|domain| domain.as_str() == address.domain()))?;
            Some(self.account(entry, &address))
        };
        let mut accounts = found.entries.iter().filter_map(|entry| ours(&entry));
        match (accounts.next(), accounts.next()) {
            (Some(account), None) => Identified::One(account),
            (None, _) => Identified::Unknown,
            (Some(_), Some(_)) => Identified::Several,
        }
    }

    async fn verify(&self, address: &Address, password: &Secret<String>) -> Verdict {
        // RFC 4513 §5.1.2: a bind without password succeeds and proves nothing.
        if password.expose().is_empty() {
            return Verdict::BadCredential;
        }
        let all = async {
            for server in self.servers.iter().filter(|server| server.open()) {
                match server.judge(self.verify_at(server, address, password).await) {
                    Some(verdict) => return verdict,
                    None => continue,
                }
            }
            Verdict::Unavailable
        };
        tokio::time::timeout(ANSWER_TIMEOUT, all).await.unwrap_or(Verdict::Unavailable)
    }

    async fn lookup(&self, address: &Address) -> Lookup {
        let all = async {
            for server in self.servers.iter().filter(|server| server.open()) {
                match server.judge(self.find(server, address).await) {
                    Some(Some((_, account))) => return Lookup::Found(account),
                    Some(None) => return Lookup::Unknown,
                    None => continue,
                }
            }
            Lookup::Unavailable
        };
        tokio::time::timeout(ANSWER_TIMEOUT, all).await.unwrap_or(Lookup::Unavailable)
    }

    async fn verify_at(
        &self,
        server: &Server,
        address: &Address,
        password: &Secret<String>,
    ) -> Result<Verdict, Outage> {
        let Some((dn, account)) = self.find(server, address).await? else {
            // An unknown user takes a bind too, so that time tells nothing.
            let nobody = format!("cn=guichet-unknown-user,{}", self.config.base);
            server.bind(&nobody, password).await?;
            return Ok(Verdict::BadCredential);
        };
        Ok(match server.bind(&dn, password).await? {
            Bind::Accepted if account.active => Verdict::Valid(account),
            Bind::Accepted | Bind::Refused => Verdict::AccountRefused,
            Bind::BadCredential => Verdict::BadCredential,
        })
    }

    /// The account of an address and its DN.
    async fn find(&self, server: &Server, address: &Address) -> Result<Option<(String, Account)>, Outage> {
        let filter = filter(&self.config.address_attributes, address);
        // Two tell as much as many.
        let found = server.search(&self.config.base, &filter, &self.attributes, 2).await?;
        let mut entries = found.entries.into_iter();
        match (entries.next(), entries.next().is_some() || found.more) {
            (None, false) => Ok(None),
            (Some(entry), false) if entry.dn.is_empty() => Err(Outage::Senseless("an entry without a name")),
            (Some(entry), false) => {
                let account = self.account(&entry, address);
                Ok(Some((entry.dn, account)))
            }
            (_, true) => Err(Outage::Senseless("several entries for one address")),
        }
    }

    /// Canonical addresses.
    fn addresses(&self, entry: &SearchEntry) -> Vec<Address> {
        values(entry, self.config.address_attributes.first()).filter_map(|value| value.parse().ok()).collect()
    }

    fn account(&self, entry: &SearchEntry, asked: &Address) -> Account {
        let config = &self.config;
        let canonical = self.addresses(entry);
        let address = if canonical.contains(asked) { asked } else { canonical.first().unwrap_or(asked) };
        let cell = values(entry, config.cell_attribute.as_ref()).next().and_then(|value| {
            let cell = value.parse().ok();
            if cell.is_none() {
                warn!(user = %address, "The directory names a cell that cannot be one.");
            }
            cell
        });
        let category = values(entry, config.category_attribute.as_ref())
            .map(|value| {
                let staff = config.category_staff.iter().any(|staff| staff.eq_ignore_ascii_case(value));
                if staff { Category::Staff } else { Category::Student }
            })
            .min();
        let active = config.status_attribute.is_none()
            || values(entry, config.status_attribute.as_ref())
                .any(|value| config.status_active.iter().any(|active| active.eq_ignore_ascii_case(value)));
        let active = active && !is_locked(entry);
        Account { address: address.clone(), category, cell, active }
    }
}

/// Whether an administrator locked the account by the server's own means, which a bind would be told of: who logs in without
/// a password never binds. A lock of some minutes after wrong passwords is not one: it keeps guessers out, and ends at a bind.
fn is_locked(entry: &SearchEntry) -> bool {
    LOCKS.iter().any(|(attribute, locked)| {
        let named = entry.attrs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(attribute));
        named.flat_map(|(_, values)| values).any(|value| value.eq_ignore_ascii_case(locked))
    })
}

/// Values of an attribute; servers may spell its name in another case than we asked in.
fn values<'a>(entry: &'a SearchEntry, name: Option<&'a String>) -> impl Iterator<Item = &'a str> {
    name.into_iter().flat_map(|name| {
        entry
            .attrs
            .iter()
            .filter(|(attribute, _)| attribute.eq_ignore_ascii_case(name))
            .flat_map(|(_, values)| values.iter().map(String::as_str))
    })
}

/// Any of the attributes equals the address (RFC 4515, escaped).
fn filter(attributes: &[String], address: &Address) -> String {
    let value = ldap_escape(address.as_str());
    let any: String = attributes.iter().map(|attribute| format!("({attribute}={value})")).collect();
    format!("(|{any})")
}

fn tls(path: &Path) -> Result<ClientConfig, DirectoryError> {
    let unusable = |error: &dyn std::fmt::Display| DirectoryError::Roots(format!("{}: {error}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate in the file"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Operational attributes and the value that means "until further notice": the password policy draft
/// (draft-behera-ldap-password-policy-10 §5.3.3, OpenLDAP), and 389 Directory Server.
const LOCKS: [(&str, &str); 2] = [("pwdAccountLockedTime", "000001010000Z"), ("nsAccountLock", "true")];

/// Entries of other tenants may share a login; more than these are no identifier.
const IDENTIFIED_MAX: i32 = 16;

/// One question, all servers tried.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_cannot_leave_its_place_in_the_filter() {
        let address: Address = "a*=b|c&d@univ-a.example".parse().unwrap();
        let attributes = ["mail".to_owned(), "mailAlternateAddress".to_owned()];
        assert_eq!(
            filter(&attributes, &address),
            "(|(mail=a\\2a=b|c&d@univ-a.example)(mailAlternateAddress=a\\2a=b|c&d@univ-a.example))"
        );
    }
}
