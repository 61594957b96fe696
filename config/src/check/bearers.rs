//! Issuers of bearer tokens.

use std::collections::BTreeMap;

use super::{Check, all, values::seconds};
use crate::{Bearer, BearerAlgorithm, file, shape};

impl Check {
    pub(super) fn bearers(&mut self, files: &BTreeMap<String, file::Bearer>) -> Option<Vec<Bearer>> {
        let mut bearers = Vec::new();
        let mut issuers: Vec<(&str, String)> = Vec::new();
        for (name, file) in files {
            let key = shape::join("bearer", name);
            if let Some((_, first)) = issuers.iter().find(|(issuer, _)| *issuer == file.issuer) {
                let message = format!("`{first}` (line {}) has this issuer already", self.place(first).line);
                self.problem(
                    &format!("{key}.issuer"),
                    message,
                    "a token has one issuer, and that one table".to_owned(),
                );
            }
            issuers.push((&file.issuer, key.clone()));
            bearers.push(self.bearer(&key, name, file));
        }
        all(bearers)
    }

    fn bearer(&mut self, key: &str, name: &str, file: &file::Bearer) -> Option<Bearer> {
        // The same rule for every name an operator gives.
        let name = self.parse::<crate::ListenerId>(key, name).map(|id| id.as_str().to_owned());
        let issuer = self.text(&format!("{key}.issuer"), &file.issuer);
        let audience = self.text(&format!("{key}.audience"), &file.audience);
        let keys_file = self.file(&format!("{key}.keys_file"), &file.keys_file);
        let address_claim = self.text(&format!("{key}.address_claim"), &file.address_claim);
        let tenants = self.tenant_names(&format!("{key}.tenants"), &file.tenants);
        let clock_skew = self.lapse(&format!("{key}.clock_skew"), &file.clock_skew, seconds(0)..=seconds(600));
        let mut algorithms = Vec::new();
        for (index, file) in file.algorithms.iter().enumerate() {
            let algorithm = match file {
                file::BearerAlgorithm::Es256 => BearerAlgorithm::Es256,
                file::BearerAlgorithm::Rs256 => BearerAlgorithm::Rs256,
            };
            if algorithms.contains(&algorithm) {
                self.problem(&format!("{key}.algorithms[{index}]"), "this algorithm stands here twice", None);
            }
            algorithms.push(algorithm);
        }
        Some(Bearer {
            name: name?,
            issuer: issuer?,
            audience: audience?,
            keys_file: keys_file?,
            algorithms,
            address_claim: address_claim?,
            tenants: tenants?,
            clock_skew: clock_skew?,
        })
    }
}
