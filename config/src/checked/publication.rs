//! What our SAML metadata says of the service, beside keys and endpoints.

use crate::{Address, Text};

/// For people and registries; all of it may be absent.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Name of the service, as institutions show it.
    pub display_name: Option<Text>,
    /// What the service is, in a sentence.
    pub description: Option<Text>,
    /// Page about the service, `https://`.
    pub information_url: Option<Text>,
    /// Privacy statement, `https://`.
    pub privacy_url: Option<Text>,
    /// Its picture.
    pub logo: Option<Logo>,
    /// Who runs it.
    pub organization: Option<Organization>,
    /// For technical questions.
    pub technical: Option<Contact>,
    /// For users in trouble.
    pub support: Option<Contact>,
    /// For security incidents.
    pub security: Option<Contact>,
    /// URIs of entity categories.
    pub entity_categories: Vec<String>,
    /// URIs of assurance certifications.
    pub assurance_certifications: Vec<String>,
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Logo {
    /// Where it is, `https://`.
    pub url: String,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// Who runs the service.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Name.
    pub name: Text,
    /// Its pages, `https://`.
    pub url: Text,
}

/// Somebody to write to.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Name.
    pub name: String,
    /// Mail address.
    pub address: Address,
}
