//! Who knows the passwords: LDAP servers or a file of users.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{Check, all, network::parse_endpoint, network::parse_host, values::seconds};
use crate::{
    Address, Category, Directory, Domain, Ldap, Secret, TenantId, User, Users,
    document::{self, Document},
    file::{self, Status},
};

impl Check {
    pub(super) fn directory(
        &mut self,
        file: &file::Directory,
        domains: &HashMap<Domain, TenantId>,
    ) -> Option<Directory> {
        match (&file.embedded, &file.ldap) {
            (Some(embedded), None) => self.users(embedded, domains).map(Directory::Embedded),
            (None, Some(ldap)) => self.ldap(ldap).map(Directory::Ldap),
            (None, None) => {
                self.problem(
                    "directory",
                    "no directory is configured",
                    "add [directory.embedded] or [directory.ldap]".to_owned(),
                );
                None
            }
            (Some(_), Some(_)) => {
                self.problem("directory.ldap", "there is a [directory.embedded] too", "keep one of them".to_owned());
                None
            }
        }
    }

    fn ldap(&mut self, file: &file::Ldap) -> Option<Ldap> {
        let start_tls = file.start_tls.unwrap_or(!file.dangerous_plaintext);
        let mut urls = Vec::new();
        for (index, text) in file.urls.iter().enumerate() {
            let key = format!("directory.ldap.urls[{index}]");
            let url = ldap_url(text);
            if url.is_none() {
                self.problem(
                    &key,
                    format!("{text:?} is not the address of an LDAP server"),
                    "write \"ldaps://ldap.example\" or \"ldap://ldap.example:389\"".to_owned(),
                );
            }
            if url.as_ref().is_some_and(|url| url.starts_with("ldap://")) && !start_tls && !file.dangerous_plaintext {
                let hint = "remove `start_tls = false`, or accept it with `dangerous_plaintext = true`".to_owned();
                self.problem(&key, "passwords would travel in the clear", hint);
            }
            urls.push(url);
        }
        if file.start_tls == Some(true) && file.dangerous_plaintext {
            self.problem(
                "directory.ldap.dangerous_plaintext",
                "`start_tls = true` stands beside it",
                "keep one of them".to_owned(),
            );
        }
        let base = self.text("directory.ldap.base", &file.base);
        let bind_dn = self.text("directory.ldap.bind_dn", &file.bind_dn);
        let password = self.secret("directory.ldap.password_file", &file.password_file);
        let tls_ca = self.file_or_none("directory.ldap.tls_ca", file.tls_ca.as_deref());
        let attributes = file.address_attributes.iter().enumerate();
        let attributes = attributes
            .map(|(index, name)| self.attribute(&format!("directory.ldap.address_attributes[{index}]"), name));
        let address_attributes = all(attributes.collect());
        let mut optional = |key: &str, name: Option<&str>| match name {
            Some(name) => self.attribute(&format!("directory.ldap.{key}"), name).map(Some),
            None => Some(None),
        };
        let cell_attribute = optional("cell_attribute", file.cell_attribute.as_deref());
        let category_attribute = optional("category_attribute", file.category_attribute.as_deref());
        let status_attribute = optional("status_attribute", file.status_attribute.as_deref());
        let category_staff = self.texts("directory.ldap.category_staff", &file.category_staff);
        let status_active = self.texts("directory.ldap.status_active", &file.status_active);
        if file.status_attribute.is_some() && file.status_active.is_empty() {
            self.problem("directory.ldap.status_active", "nobody could log in: no value means an active account", None);
        }
        let range = std::time::Duration::from_millis(10)..=seconds(60);
        let timeout_connect = self.lapse("directory.ldap.timeout_connect", &file.timeout_connect, range.clone());
        let timeout_request = self.lapse("directory.ldap.timeout_request", &file.timeout_request, range);
        Some(Ldap {
            urls: all(urls)?,
            base: base?,
            bind_dn: bind_dn?,
            password: password?,
            start_tls,
            tls_ca: tls_ca?,
            address_attributes: address_attributes?,
            cell_attribute: cell_attribute?,
            category_attribute: category_attribute?,
            category_staff: category_staff?,
            status_attribute: status_attribute?,
            status_active: status_active?,
            timeout_connect: timeout_connect?,
            timeout_request: timeout_request?,
            connections_max: file.connections_max,
        })
    }

    /// An attribute description (RFC 4512 §2.5): it is written into search filters.
    pub(super) fn attribute(&mut self, key: &str, name: &str) -> Option<String> {
        let good = name.len() <= 128
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.;".contains(c));
        if !good {
            self.problem(key, format!("{name:?} is not the name of an LDAP attribute"), None);
            return None;
        }
        Some(name.to_owned())
    }

    fn users(&mut self, embedded: &file::Embedded, domains: &HashMap<Domain, TenantId>) -> Option<Users> {
        let key = "directory.embedded.file";
        let path = self.path(key, &embedded.file);
        self.private(key, &path)?;
        let before = self.problems.len();
        let document: Document<file::UsersFile> = document::read(&path, &mut self.problems);
        let users = document.value?;
        // The keys of the users' file are places only while it is read.
        let outer = std::mem::replace(&mut self.places, document.places);
        let by_address = self.by_address(&users.user, domains);
        let by_identifier = self.by_identifier(&users.user, &by_address, domains);
        self.places = outer;
        (self.problems.len() == before).then_some(Users { file: path, by_address, by_identifier })
    }

    fn by_address(&mut self, users: &[file::User], domains: &HashMap<Domain, TenantId>) -> HashMap<Address, Arc<User>> {
        let mut by_address = HashMap::new();
        let mut keys: HashMap<Address, String> = HashMap::new();
        for (index, user) in users.iter().enumerate() {
            let key = format!("user[{index}]");
            let mut addresses = vec![(format!("{key}.address"), user.address.as_str())];
            addresses.extend(
                user.aliases.iter().enumerate().map(|(n, alias)| (format!("{key}.aliases[{n}]"), alias.as_str())),
            );
            let mut names = Vec::new();
            for (key, text) in addresses {
                let Some(address) = self.parse::<Address>(&key, text) else { continue };
                let known = address.domain().parse().is_ok_and(|domain: Domain| domains.contains_key(&domain));
                if !known && !self.tenants_partial {
                    self.problem(&key, format!("{} is no domain of a tenant", address.domain()), None);
                }
                match keys.entry(address.clone()) {
                    Entry::Occupied(first) => {
                        let line = self.place(first.get()).line;
                        self.problem(&key, format!("{address} stands already in line {line}"), None);
                    }
                    Entry::Vacant(free) => {
                        free.insert(key);
                        names.push(address);
                    }
                }
            }
            if let Err(trouble) = argon2id(&user.password) {
                let hint = "`guichet hash-password` makes one".to_owned();
                self.problem(&format!("{key}.password"), format!("this is not an Argon2id hash: {trouble}"), hint);
            }
            let cell = user.cell.as_deref().map(|name| self.cell(&format!("{key}.cell"), name));
            let Some(address) = names.first() else { continue };
            let user = Arc::new(User {
                address: address.clone(),
                password: Secret::new(user.password.clone()),
                category: user.category.map(category),
                active: user.status == Status::Active,
                cell: cell.flatten(),
            });
            by_address.extend(names.into_iter().map(|name| (name, Arc::clone(&user))));
        }
        by_address
    }

    /// What the IdP of a tenant calls its users. One name is one user's, within a tenant.
    fn by_identifier(
        &mut self,
        users: &[file::User],
        by_address: &HashMap<Address, Arc<User>>,
        domains: &HashMap<Domain, TenantId>,
    ) -> HashMap<(TenantId, String), Arc<User>> {
        let mut by_identifier = HashMap::new();
        let mut keys: HashMap<(TenantId, String), String> = HashMap::new();
        for (index, file) in users.iter().enumerate() {
            let address = file.address.parse::<Address>().ok();
            let user = address.as_ref().and_then(|address| by_address.get(address));
            let domain = address.as_ref().and_then(|address| address.domain().parse::<Domain>().ok());
            let tenant = domain.and_then(|domain| domains.get(&domain));
            for (number, text) in file.identifiers.iter().enumerate() {
                let key = format!("user[{index}].identifiers[{number}]");
                let Some(identifier) = identifier(text) else {
                    let hint = "write what the identity provider sends: letters, digits and signs, no space".to_owned();
                    self.problem(&key, "this is no identifier", hint);
                    continue;
                };
                // What is wrong with the address has been told.
                let (Some(user), Some(tenant)) = (user, tenant) else { continue };
                match keys.entry((tenant.clone(), identifier)) {
                    Entry::Occupied(first) => {
                        let line = self.place(first.get()).line;
                        self.problem(&key, format!("this identifier stands already in line {line}"), None);
                    }
                    Entry::Vacant(free) => {
                        by_identifier.insert(free.key().clone(), Arc::clone(user));
                        free.insert(key);
                    }
                }
            }
        }
        by_identifier
    }
}

/// As identifiers are compared: a text of one line that no reader reads differently, in lower case.
fn identifier(text: &str) -> Option<String> {
    let good =
        !text.is_empty() && text.len() <= IDENTIFIER_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| text.to_ascii_lowercase())
}

/// `id@scope` of a subject identifier, the longest, has 255.
const IDENTIFIER_BYTES_MAX: usize = 255;

pub(super) fn category(file: file::Category) -> Category {
    match file {
        file::Category::Staff => Category::Staff,
        file::Category::Student => Category::Student,
    }
}

/// `ldap://HOST[:PORT]` or `ldaps://HOST[:PORT]`, nothing behind; the host in its canonical form.
fn ldap_url(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = ["ldap", "ldaps"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(endpoint) = parse_endpoint(rest) {
        return Some(format!("{scheme}://{endpoint}"));
    }
    let host = parse_host(rest)?;
    Some(if host.contains(':') { format!("{scheme}://[{host}]") } else { format!("{scheme}://{host}") })
}

/// The PHC string `$argon2id$v=19$m=…,t=…,p=…$SALT$HASH` with costs that one login may spend. Says what is wrong
/// without showing any of it.
fn argon2id(text: &str) -> Result<(), &'static str> {
    let mut parts = text.split('$');
    if parts.next() != Some("") || parts.next() != Some("argon2id") {
        return Err("it does not begin with $argon2id$");
    }
    if parts.next() != Some("v=19") {
        return Err("only v=19 is known");
    }
    let mut costs = parts.next().unwrap_or_default().split(',');
    for (name, max) in [("m=", MEMORY_KIB_MAX), ("t=", PASSES_MAX), ("p=", LANES_MAX)] {
        let cost = costs.next().and_then(|text| text.strip_prefix(name)).and_then(|text| text.parse::<u32>().ok());
        match cost {
            Some(cost) if (1..=max).contains(&cost) => {}
            Some(_) => return Err("its costs are out of range (at most m=1048576, t=64, p=64)"),
            None => return Err("m=, t=, p= are expected behind the version"),
        }
    }
    if costs.next().is_some() {
        return Err("only m=, t=, p= are known");
    }
    let base64 = |part: Option<&str>, min: usize| {
        part.is_some_and(|part| {
            (min..=128).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
        })
    };
    // 8 bytes of salt and 16 of hash at least.
    if !base64(parts.next(), 11) || !base64(parts.next(), 22) || parts.next().is_some() {
        return Err("a salt and a hash in base64 without padding are expected at its end");
    }
    Ok(())
}

/// A hash that asks for more memory would be a way to bring the node down.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldap_servers_are_named_by_scheme_and_host() {
        for (text, url) in [
            ("ldap://ldap.example", "ldap://ldap.example"),
            ("LDAPS://LDAP.example:636/", "ldaps://ldap.example:636"),
            ("ldap://[::1]:389", "ldap://[::1]:389"),
            ("ldap://[::1]", "ldap://[::1]"),
        ] {
            assert_eq!(ldap_url(text).as_deref(), Some(url), "{text}");
        }
        for text in [
            "",
            "ldap.example",
            "http://ldap.example",
            "ldap://",
            "ldapi:///x",
            "ldap://a/dc=b",
            "ldap://u@a",
            "ldap://a:0",
            "ldap://a b",
        ] {
            assert_eq!(ldap_url(text), None, "{text}");
        }
    }

    #[test]
    fn hashes_of_passwords_are_argon2id_with_bounded_costs() {
        let good = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo";
        assert_eq!(argon2id(good), Ok(()));
        for bad in [
            "",
            "secret",
            "{SSHA}abc",
            "$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo",
            "$argon2id$v=16$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=99999999,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=19456,t=2$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo$more",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$short",
        ] {
            assert!(argon2id(bad).is_err(), "{bad:?} was taken");
        }
    }
}
