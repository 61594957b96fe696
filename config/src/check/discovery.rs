//! Choosing an institution: whom we ask, and who may ask us.

use std::collections::BTreeMap;

use super::{Check, all};
use crate::{Discovery, DiscoveryClient, file, shape};

impl Check {
    pub(super) fn discovery(&mut self, file: Option<&file::Saml>) -> Option<Discovery> {
        let Some(file) = file else { return Some(Discovery::default()) };
        let service = match &file.discovery {
            Some(text) => self.https("saml.discovery", text).map(Some),
            None => Some(None),
        };
        let clients = self.discovery_clients(&file.discovery_for);
        Some(Discovery { service: service?, clients: clients? })
    }

    fn discovery_clients(
        &mut self,
        files: &BTreeMap<String, file::DiscoveryClient>,
    ) -> Option<BTreeMap<String, DiscoveryClient>> {
        let mut clients = Some(BTreeMap::new());
        let mut first: BTreeMap<&str, String> = BTreeMap::new();
        for (name, file) in files {
            let key = shape::join("saml.discovery_for", name);
            // The same rule for every name an operator gives.
            let name = self.parse::<crate::ListenerId>(&key, name).map(|id| id.as_str().to_owned());
            let id_key = format!("{key}.entity_id");
            let entity_id = self.entity_id(&id_key, &file.entity_id);
            if let Some(other) = first.insert(&file.entity_id, key.clone()) {
                self.problem(&id_key, format!("`{other}` is the same service provider"), "name it once".to_owned());
            }
            let one = |(index, text): (usize, &String)| self.return_to(&format!("{key}.return_to[{index}]"), text);
            let return_to = all(file.return_to.iter().enumerate().map(one).collect());
            match (clients.as_mut(), name, entity_id, return_to) {
                (Some(clients), Some(name), Some(entity_id), Some(return_to)) => {
                    clients.insert(entity_id.clone(), DiscoveryClient { name, entity_id, return_to });
                }
                _ => clients = None,
            }
        }
        clients
    }

    /// Requests are held against it byte by byte, up to their query.
    fn return_to(&mut self, key: &str, text: &str) -> Option<String> {
        let text = self.https(key, text)?;
        let host = text.strip_prefix("https://").unwrap_or_default();
        // After `?` comes the state of the service provider, and a browser reads `\` as `/`.
        if text.contains(['?', '\\']) || !host.contains('/') {
            let message = format!("{text:?} is not an address with a path and without a query");
            self.problem(key, message, "such as \"https://wiki.example/Shibboleth.sso/Login\"".to_owned());
            return None;
        }
        Some(text)
    }
}
