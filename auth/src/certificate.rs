//! Whose a client certificate is. That it is genuine and current is the TLS side's business, and settled before.

use guichet_config::{Address, ClientCa, Config};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a certificate names nobody who can log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateRefusal {
    /// It cannot be read.
    Unreadable,
    /// It was issued by nobody we know, or is out of date.
    Untrusted,
    /// No address where one is looked for.
    NoAddress,
    /// Several addresses of our tenants: it does not say who the user is.
    SeveralAddresses,
    /// Addresses of domains that its issuer does not speak for.
    ForeignDomain,
}

impl CertificateRefusal {
    /// For metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Untrusted => "untrusted",
            Self::NoAddress => "no_address",
            Self::SeveralAddresses => "several_addresses",
            Self::ForeignDomain => "foreign_domain",
        }
    }
}

/// The one address of our tenants that the certificate (DER) names, where `rules` say to look.
///
/// # Errors
/// It names none, or several.
pub fn holder(certificate: &[u8], rules: &ClientCa, config: &Config) -> Result<Address, CertificateRefusal> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| CertificateRefusal::Unreadable)?;
    let names = match &rules.subject_attribute {
        None => alternative_names(&certificate)?,
        Some(oid) => subject_values(&certificate, oid),
    };
    let addresses: Vec<Address> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let ours = |address: &&Address| config.tenant_of(address).is_some_and(|tenant| rules.tenants.contains(tenant));
    let mut known = addresses.iter().filter(ours);
    match known.next() {
        Some(first) if known.any(|other| other != first) => Err(CertificateRefusal::SeveralAddresses),
        Some(first) => Ok(first.clone()),
        None if addresses.is_empty() => Err(CertificateRefusal::NoAddress),
        None => Err(CertificateRefusal::ForeignDomain),
    }
}

/// rfc822Name (RFC 5280 §4.2.1.6).
fn alternative_names<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a str>, CertificateRefusal> {
    let extension = certificate.subject_alternative_name().map_err(|_| CertificateRefusal::Unreadable)?;
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::RFC822Name(text) => Some(*text),
            _ => None,
        })
        .collect())
}

fn subject_values<'a>(certificate: &'a X509Certificate<'_>, oid: &str) -> Vec<&'a str> {
    let attributes = certificate.subject().iter_attributes();
    let named = attributes.filter(|attribute| attribute.attr_type().to_id_string() == oid);
    named.filter_map(|attribute| attribute.as_str().ok()).collect()
}

#[cfg(test)]
mod tests;
