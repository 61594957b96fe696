//! The identity provider discovery protocol (sstc-saml-idp-discovery-cs-01), both ways, as texts in and texts out.
//!
//! As a service provider we [`ask`] a discovery service and read what the browser [`brings_back`]; as a discovery service
//! we read a [`Question`] and [answer](Question::answer) it. What a browser brings is a claim in both: an entityID only
//! chooses among what the configuration has, and a return address only counts when the configuration holds it.

mod feed;
mod fold;
mod institutions;

use std::collections::BTreeMap;

use guichet_config::DiscoveryClient;
use url::form_urlencoded;

pub use institutions::{Found, Institution, Institutions};

/// Where a discovery service sends our users back to: the location of `idpdisc:DiscoveryResponse` in our metadata.
pub const RESPONSE_PATH: &str = "/login/discovery";

/// The address of a discovery service with our question (§2.4.1): which IdP does this user have, to be told at
/// `return_to`?
pub fn ask(service: &str, entity_id: &str, return_to: &str) -> String {
    let question = form_urlencoded::Serializer::new(String::new())
        .append_pair("entityID", entity_id)
        .append_pair("return", return_to)
        .append_pair("returnIDParam", ID_PARAM)
        .append_pair("isPassive", "false")
        .finish();
    format!("{service}{}{question}", joint(service))
}

/// The entityID that a browser brings back from a discovery service (§2.4.3): none when nobody chose, or when it is no
/// single one.
pub fn brings_back<'a>(query: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    let mut ids = query.filter(|(name, _)| *name == ID_PARAM).map(|(_, value)| value);
    ids.next().filter(|id| !id.is_empty() && id.len() <= ENTITY_ID_BYTES_MAX && ids.next().is_none())
}

/// What a service provider asks us: to send the user back with the entityID of the user's IdP (§2.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    client: &'a DiscoveryClient,
    return_to: String,
    id_param: String,
    passive: bool,
}

/// Why a question is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuestionRefusal {
    /// A parameter of the protocol stands twice.
    #[error("a parameter of the protocol stands twice")]
    Repeated,
    /// entityID is absent or of nobody who may ask.
    #[error("entityID is of no service provider in `saml.discovery_for`")]
    Client,
    /// The return address is none of the service provider's.
    #[error("the return address is none of the service provider's `return_to`")]
    Return,
    /// returnIDParam is no plain name, or the return address has a parameter of that name already.
    #[error("returnIDParam is no plain name, or the return address has it already")]
    IdParam,
    /// isPassive is neither true nor false.
    #[error("isPassive is neither true nor false")]
    Passive,
    /// A policy other than "a single IdP".
    #[error("the policy is not the one that there is")]
    Policy,
}

impl QuestionRefusal {
    /// Short, for logs and metrics.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Repeated => "repeated",
            Self::Client => "client",
            Self::Return => "return",
            Self::IdParam => "id_param",
            Self::Passive => "passive",
            Self::Policy => "policy",
        }
    }
}

impl<'a> Question<'a> {
    /// Reads a question from the fields of a query or form. Fields that are not the protocol's do not count.
    ///
    /// # Errors
    /// Whatever is not plainly a question of a configured service provider.
    pub fn read<'b>(
        fields: impl Iterator<Item = (&'b str, &'b str)>,
        clients: &'a BTreeMap<String, DiscoveryClient>,
    ) -> Result<Self, QuestionRefusal> {
        let mut found: [Option<&str>; FIELDS.len()] = [None; FIELDS.len()];
        for (name, value) in fields {
            let place = FIELDS.iter().zip(found.iter_mut()).find(|(known, _)| **known == name);
            if let Some((_, place)) = place
                && place.replace(value).is_some()
            {
                return Err(QuestionRefusal::Repeated);
            }
        }
        let [entity_id, return_to, id_param, passive, policy] = found;
        let client = clients.get(entity_id.unwrap_or_default()).ok_or(QuestionRefusal::Client)?;
        let return_to = returns(client, return_to)?;
        let id_param = id_param.unwrap_or(ID_PARAM);
        if !is_plain_name(id_param) || has_param(&return_to, id_param) {
            return Err(QuestionRefusal::IdParam);
        }
        let passive = match passive.unwrap_or("false") {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return Err(QuestionRefusal::Passive),
        };
        if policy.is_some_and(|policy| policy != SINGLE) {
            return Err(QuestionRefusal::Policy);
        }
        Ok(Self { client, return_to, id_param: id_param.to_owned(), passive })
    }

    /// Who asks.
    pub fn client(&self) -> &'a DiscoveryClient {
        self.client
    }

    /// The host of who asks, to be shown to people. From the configuration, never from the question.
    pub fn host(&self) -> &str {
        let address = self.return_to.strip_prefix("https://").unwrap_or_default();
        address.split('/').next().unwrap_or_default()
    }

    /// The user must not be asked.
    pub fn passive(&self) -> bool {
        self.passive
    }

    /// The question as fields, to be read again when a form brings it back.
    pub fn fields(&self) -> [(&'static str, &str); 3] {
        [("entityID", &self.client.entity_id), ("return", &self.return_to), ("returnIDParam", &self.id_param)]
    }

    /// Where the user goes with the answer (§2.4.3): the return address, with the IdP's entityID when there is one.
    pub fn answer(&self, idp: Option<&str>) -> String {
        let Some(idp) = idp else { return self.return_to.clone() };
        let answer = form_urlencoded::Serializer::new(String::new()).append_pair(&self.id_param, idp).finish();
        format!("{}{}{answer}", self.return_to, joint(&self.return_to))
    }
}

/// The return address, when the part before its query is one of the service provider's (§2.5).
fn returns(client: &DiscoveryClient, asked: Option<&str>) -> Result<String, QuestionRefusal> {
    let Some(asked) = asked else { return client.return_to.first().cloned().ok_or(QuestionRefusal::Return) };
    // Bytes that browsers, proxies or logs read in more ways than one.
    let plain =
        asked.len() <= RETURN_BYTES_MAX && asked.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'\\');
    let base = asked.split_once('?').map_or(asked, |(base, _)| base);
    if plain && client.return_to.iter().any(|known| known == base) {
        return Ok(asked.to_owned());
    }
    Err(QuestionRefusal::Return)
}

fn is_plain_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=ID_PARAM_BYTES_MAX).contains(&name.len()) && name.bytes().all(legal)
}

fn has_param(address: &str, name: &str) -> bool {
    let query = address.split_once('?').map(|(_, query)| query).unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).any(|(known, _)| known == name)
}

/// What stands between an address and one more parameter.
fn joint(address: &str) -> &'static str {
    match address.split_once('?') {
        None => "?",
        Some((_, query)) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    }
}

/// The protocol's default for returnIDParam, and what we ask for.
const ID_PARAM: &str = "entityID";
const FIELDS: [&str; 5] = ["entityID", "return", "returnIDParam", "isPassive", "policy"];
/// The one policy that the specification defines: at most one IdP is told.
const SINGLE: &str = "urn:oasis:names:tc:SAML:profiles:SSO:idp-discovery-protocol:single";
/// saml-core §8.3.6.
const ENTITY_ID_BYTES_MAX: usize = 1024;
/// Service providers put their state there; browsers and servers carry as much.
const RETURN_BYTES_MAX: usize = 2048;
const ID_PARAM_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests;
