//! Our side of SAML and the metadata it reads.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DiscoveryClient, Lapse, Pair, Text};

/// The gateway as SAML service provider.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saml {
    /// entityID; by default `ORIGIN/saml/metadata`.
    pub(crate) entity_id: Option<String>,
    /// Signs requests.
    pub(crate) signing: Pair,
    /// Will sign requests next: published beside the one that does.
    pub(crate) signing_next: Option<Pair>,
    /// Decrypt assertions, newest first; by default the signing pair.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub(crate) encryption: Vec<Pair>,
    /// Decrypt assertions, too, but are not published: keys that come or go.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub(crate) decryption_only: Vec<Pair>,
    /// Clock difference allowed to an identity provider.
    #[serde(default = "saml_clock_skew")]
    pub(crate) clock_skew: Lapse,
    /// Name of the service, as institutions show it.
    pub(crate) display_name: Option<Text>,
    /// What the service is, in a sentence.
    pub(crate) description: Option<Text>,
    /// Address of a page about the service.
    pub(crate) information_url: Option<Text>,
    /// Address of its privacy statement.
    pub(crate) privacy_url: Option<Text>,
    /// Its picture.
    pub(crate) logo: Option<Logo>,
    /// Who runs it.
    pub(crate) organization: Option<Organization>,
    /// Whom other operators write to.
    #[serde(default)]
    pub(crate) contact: Contacts,
    /// Entity categories it belongs to, such as `https://refeds.org/category/code-of-conduct/v2`.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub(crate) entity_categories: Vec<String>,
    /// Assurance certifications it holds, such as `https://refeds.org/sirtfi`.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub(crate) assurance_certifications: Vec<String>,
    /// Discovery service of the federation, offered on the login page to those who do not find their institution.
    pub(crate) discovery: Option<String>,
    /// Service providers that may ask us where their users belong, by name; without any, nobody is answered.
    #[serde(default)]
    pub(crate) discovery_for: BTreeMap<String, DiscoveryClient>,
}

/// A picture.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logo {
    /// Where it is.
    pub(crate) url: String,
    /// Its width in pixels.
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) width: u16,
    /// Its height in pixels.
    #[schemars(range(min = 1, max = 4096))]
    pub(crate) height: u16,
}

/// Who runs the service.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Organization {
    /// Name.
    pub(crate) name: Text,
    /// Address of its pages.
    pub(crate) url: Text,
}

/// Whom other operators write to.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Contacts {
    /// For technical questions.
    pub(crate) technical: Option<Contact>,
    /// For users in trouble.
    pub(crate) support: Option<Contact>,
    /// For security incidents.
    pub(crate) security: Option<Contact>,
}

/// Somebody to write to: a function, not a person.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contact {
    /// Name.
    pub(crate) name: String,
    /// Mail address.
    pub(crate) address: String,
}

fn saml_clock_skew() -> Lapse {
    Lapse::new("3m")
}

/// A source of metadata of identity providers.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Federation {
    /// Signed metadata in a file: short for `source.file`.
    pub(crate) file: Option<String>,
    /// Where the signed metadata is.
    pub(crate) source: Option<MetadataSource>,
    /// PEM certificates or public keys; one of them signed the metadata.
    #[schemars(length(min = 1, max = 8))]
    pub(crate) signing_keys: Vec<String>,
    /// How often the metadata is looked at again, at least; its `cacheDuration` may ask for more.
    #[serde(default = "federation_refresh")]
    pub(crate) refresh: Lapse,
    /// How far ahead the `validUntil` of fetched metadata may be.
    #[serde(default = "federation_validity_max")]
    pub(crate) validity_max: Lapse,
    /// How many of the tenants' identity providers, of a hundred, a new document may drop; beyond, it is refused.
    #[serde(default = "federation_dropped_percent_max")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) dropped_percent_max: u8,
    /// Which identity providers are kept in memory.
    #[serde(default)]
    pub(crate) keep: Keep,
}

/// Where signed metadata is: one of `file`, `url` and `mdq`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetadataSource {
    /// A file, replaced by its owner.
    pub(crate) file: Option<String>,
    /// An aggregate, by HTTPS.
    pub(crate) url: Option<String>,
    /// A server of one document for each entity (MDQ), by HTTPS; `{sha1}` in it stands for the digest of the entityID.
    pub(crate) mdq: Option<String>,
    /// PEM roots for the HTTPS of `url` and `mdq`; by default the system's.
    pub(crate) ca: Option<String>,
}

/// Which identity providers of a federation are kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Keep {
    /// Those of the tenants.
    #[default]
    Tenants,
    /// All.
    All,
}

fn federation_refresh() -> Lapse {
    Lapse::new("1h")
}

fn federation_validity_max() -> Lapse {
    Lapse::new("14d")
}

fn federation_dropped_percent_max() -> u8 {
    50
}
