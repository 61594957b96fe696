//! What our SAML metadata says of the service.

use super::{Check, all};
use crate::{Contact, Logo, Organization, Publication, Text, file};

impl Check {
    pub(super) fn publication(&mut self, file: &file::Saml) -> Option<Publication> {
        let display_name = self.name_or_none("saml.display_name", file.display_name.as_ref());
        let description = self.name_or_none("saml.description", file.description.as_ref());
        let information_url = self.urls_or_none("saml.information_url", file.information_url.as_ref());
        let privacy_url = self.urls_or_none("saml.privacy_url", file.privacy_url.as_ref());
        let logo = file.logo.as_ref().map_or(Some(None), |logo| {
            let url = self.https("saml.logo.url", &logo.url)?;
            Some(Some(Logo { url, width: logo.width, height: logo.height }))
        });
        let organization = file.organization.as_ref().map_or(Some(None), |organization| {
            let name = self.name("saml.organization.name", &organization.name);
            let url = self.urls("saml.organization.url", &organization.url);
            Some(Some(Organization { name: name?, url: url? }))
        });
        let technical = self.contact("saml.contact.technical", file.contact.technical.as_ref());
        let support = self.contact("saml.contact.support", file.contact.support.as_ref());
        let security = self.contact("saml.contact.security", file.contact.security.as_ref());
        let entity_categories = self.uris("saml.entity_categories", &file.entity_categories);
        let assurance_certifications = self.uris("saml.assurance_certifications", &file.assurance_certifications);
        self.promises(file);
        Some(Publication {
            display_name: display_name?,
            description: description?,
            information_url: information_url?,
            privacy_url: privacy_url?,
            logo: logo?,
            organization: organization?,
            technical: technical?,
            support: support?,
            security: security?,
            entity_categories: entity_categories?,
            assurance_certifications: assurance_certifications?,
        })
    }

    /// What a category or certification demands of the metadata that claims it.
    fn promises(&mut self, file: &file::Saml) {
        for (index, uri) in file.entity_categories.iter().enumerate() {
            if CODES_OF_CONDUCT.contains(&uri.as_str()) && file.privacy_url.is_none() {
                let message = "this category asks for a privacy statement, and there is no `saml.privacy_url`";
                self.problem(&format!("saml.entity_categories[{index}]"), message, None);
            }
        }
        for (index, uri) in file.assurance_certifications.iter().enumerate() {
            if SIRTFI.contains(&uri.as_str()) && file.contact.security.is_none() {
                let message = "Sirtfi asks for a security contact, and there is no `saml.contact.security`";
                self.problem(&format!("saml.assurance_certifications[{index}]"), message, None);
            }
        }
    }

    fn contact(&mut self, key: &str, file: Option<&file::Contact>) -> Option<Option<Contact>> {
        let Some(file) = file else { return Some(None) };
        let name = self.text(&format!("{key}.name"), &file.name);
        let address = self.parse(&format!("{key}.address"), &file.address);
        Some(Some(Contact { name: name?, address: address? }))
    }

    fn name_or_none(&mut self, key: &str, file: Option<&file::Text>) -> Option<Option<Text>> {
        file.map_or(Some(None), |file| self.name(key, file).map(Some))
    }

    fn urls_or_none(&mut self, key: &str, file: Option<&file::Text>) -> Option<Option<Text>> {
        file.map_or(Some(None), |file| self.urls(key, file).map(Some))
    }

    /// An address in each language.
    fn urls(&mut self, key: &str, file: &file::Text) -> Option<Text> {
        let fr = self.https(&format!("{key}.fr"), &file.fr);
        let en = file.en.as_deref().map_or(Some(None), |en| self.https(&format!("{key}.en"), en).map(Some));
        let fr = fr?;
        Some(Text { en: en?.unwrap_or_else(|| fr.clone()), fr })
    }

    fn uris(&mut self, key: &str, texts: &[String]) -> Option<Vec<String>> {
        let one = |(index, text): (usize, &String)| {
            let key = format!("{key}[{index}]");
            let good = text.len() <= 1024 && text.contains(':') && text.bytes().all(|b| b.is_ascii_graphic());
            if !good {
                let hint = "such as \"https://refeds.org/sirtfi\"".to_owned();
                self.problem(&key, format!("{text:?} is not a URI"), hint);
            }
            good.then(|| text.clone())
        };
        all(texts.iter().enumerate().map(one).collect())
    }
}

/// GÉANT's first and REFEDS' second.
const CODES_OF_CONDUCT: [&str; 2] =
    ["http://www.geant.net/uri/dataprotection-code-of-conduct/v1", "https://refeds.org/category/code-of-conduct/v2"];
const SIRTFI: [&str; 2] = ["https://refeds.org/sirtfi", "https://refeds.org/sirtfi2"];
