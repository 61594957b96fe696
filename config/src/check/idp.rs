//! The SAML identity provider of a tenant: which of its attributes say what.

use std::collections::{BTreeMap, HashMap};

use super::{Check, all};
use crate::{AttributeName, IdentifierSource, IdpOfTenant, Requirement, file, shape};

impl Check {
    pub(super) fn idp(&mut self, key: &str, file: &file::IdpSaml) -> Option<IdpOfTenant> {
        let entity_id = self.entity_id(&format!("{key}.entity_id"), &file.entity_id);
        let address_attributes = self.attribute_names(&format!("{key}.address_attributes"), &file.address_attributes);
        let identifier_key = format!("{key}.identifier");
        let identifier = file.identifier.as_ref().map(|identifier| self.identifier(&identifier_key, identifier));
        if identifier.is_some() && self.places.contains_key(&format!("{key}.address_attributes")) {
            let hint = "keep one of them: with an identifier the address comes from the directory alone".to_owned();
            self.problem(&identifier_key, "`address_attributes` stands beside it", hint);
        }
        let affiliation_key = format!("{key}.affiliation_attributes");
        let affiliation_attributes = self.attribute_names(&affiliation_key, &file.affiliation_attributes);
        let staff_affiliations = self.affiliations(&format!("{key}.staff_affiliations"), &file.staff_affiliations, &[]);
        let student_key = format!("{key}.student_affiliations");
        let staff = staff_affiliations.clone().unwrap_or_default();
        let student_affiliations = self.affiliations(&student_key, &file.student_affiliations, &staff);
        let requirements = self.requirements(&format!("{key}.require"), &file.require);
        let ecp = file.ecp.as_ref().map_or(Some(None), |ecp| self.ecp(&format!("{key}.ecp"), ecp).map(Some));
        let request = self.login_request(key, file);
        Some(IdpOfTenant {
            entity_id: entity_id?,
            address_attributes: address_attributes?,
            identifier: match identifier {
                Some(identifier) => Some(identifier?),
                None => None,
            },
            affiliation_attributes: affiliation_attributes?,
            staff_affiliations: staff_affiliations?,
            student_affiliations: student_affiliations?,
            requirements: requirements?,
            assertion_signature_only: file.assertion_signature_only,
            ecp: ecp?,
            request: request?,
            logout_asks_idp: matches!(file.logout, file::Logout::Idp),
            logout_ends_mail: file.logout_ends_mail,
        })
    }

    /// A name of an assertion's attribute, or a word for one.
    fn attribute_name(&mut self, key: &str, text: &str) -> Option<AttributeName> {
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                let words: Vec<&str> = AttributeName::words(false).collect();
                let hint = match shape::similar(text, &words) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None if text.starts_with(|c: char| c.is_ascii_digit()) => {
                        format!("did you mean \"urn:oid:{text}\"?")
                    }
                    None => {
                        "write the name of the assertion, such as \"urn:oid:0.9.2342.19200300.100.1.3\", or a word \
                             such as \"mail\""
                            .to_owned()
                    }
                };
                self.problem(key, format!("{text:?} names no attribute: {error}"), hint);
                None
            }
        }
    }

    fn attribute_names(&mut self, key: &str, texts: &[String]) -> Option<Vec<AttributeName>> {
        let names = texts.iter().enumerate().map(|(index, text)| self.attribute_name(&format!("{key}[{index}]"), text));
        all(names.collect())
    }

    fn identifier(&mut self, key: &str, file: &file::IdpIdentifier) -> Option<IdentifierSource> {
        let attribute_key = format!("{key}.attribute");
        let attribute = self.attribute_name(&attribute_key, &file.attribute);
        let syntax = attribute.as_ref().and_then(AttributeName::identifier_syntax);
        if let (Some(attribute), None) = (&attribute, syntax) {
            let known: Vec<&str> = AttributeName::words(true).collect();
            self.problem(
                &attribute_key,
                format!("{attribute} does not identify a user for good"),
                format!("one of {}", shape::list(&known, '"')),
            );
        }
        let name = file.directory_attribute.as_deref();
        let directory_attribute = name.map(|name| self.attribute(&format!("{key}.directory_attribute"), name));
        Some(IdentifierSource {
            attribute: attribute?,
            syntax: syntax?,
            directory_attribute: match directory_attribute {
                Some(name) => Some(name?),
                None => None,
            },
        })
    }

    /// LDAP is searched by an attribute of its own, users of a file carry their identifiers.
    pub(super) fn identifier_in_directory(
        &mut self,
        key: &str,
        file: &file::IdpIdentifier,
        directory: &file::Directory,
    ) {
        let key = format!("{key}.directory_attribute");
        match (&file.directory_attribute, directory.ldap.is_some(), directory.embedded.is_some()) {
            (None, true, false) => {
                let hint = "name the attribute of the LDAP directory that holds the same values".to_owned();
                self.problem(&key, "missing key", hint);
            }
            (Some(_), false, true) => {
                let hint = "leave it out: users of [directory.embedded] have `identifiers`".to_owned();
                self.problem(&key, "there is no LDAP directory", hint);
            }
            // With none or two of them there is a problem already.
            _ => {}
        }
    }

    /// Values of affiliations, in lower case; one means one thing.
    fn affiliations(&mut self, key: &str, texts: &[String], others: &[String]) -> Option<Vec<String>> {
        let one = |(index, text): (usize, &String)| {
            let key = format!("{key}[{index}]");
            let text = self.text(&key, text)?.to_ascii_lowercase();
            if text.contains('@') {
                self.problem(&key, "an affiliation has no scope here", "write \"staff\", not \"staff@…\"".to_owned());
                return None;
            }
            if others.contains(&text) {
                self.problem(
                    &key,
                    format!("{text:?} means staff already"),
                    "keep it in one of the two lists".to_owned(),
                );
                return None;
            }
            Some(text)
        };
        all(texts.iter().enumerate().map(one).collect())
    }

    fn requirements(&mut self, key: &str, file: &BTreeMap<String, Vec<String>>) -> Option<Vec<Requirement>> {
        if file.len() > REQUIREMENTS_MAX {
            self.problem(key, format!("{} is out of range: at most {REQUIREMENTS_MAX} are expected", file.len()), None);
            return None;
        }
        let mut seen: HashMap<AttributeName, String> = HashMap::new();
        let mut found = Vec::new();
        for (text, values) in file {
            let key = shape::join(key, text);
            let attribute = self.attribute_name(&key, text);
            if values.is_empty() || values.len() > REQUIRED_VALUES_MAX {
                let message =
                    format!("{} is out of range: 1 to {REQUIRED_VALUES_MAX} entries are expected", values.len());
                self.problem(&key, message, "nobody could log in without a value".to_owned());
            }
            let values = self.texts(&key, values).filter(|values| (1..=REQUIRED_VALUES_MAX).contains(&values.len()));
            if let Some(first) = attribute.clone().and_then(|attribute| seen.insert(attribute, text.clone())) {
                let message = format!("`{first}` is the same attribute");
                self.problem(&key, message, "keep one of them, with the values of both".to_owned());
                found.push(None);
                continue;
            }
            found.push(attribute.zip(values).map(|(attribute, values)| Requirement { attribute, values }));
        }
        all(found)
    }
}

/// More make a policy nobody can tell at a glance.
const REQUIREMENTS_MAX: usize = 16;
/// Establishments and entitlements of one tenant are a handful.
const REQUIRED_VALUES_MAX: usize = 64;
