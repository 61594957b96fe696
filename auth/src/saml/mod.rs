//! SAML 2.0 Web Browser SSO, our side: requests out, one strict consumer in, single logout and metadata both ways.
//!
//! `samael` gives the types of what we write; what a stranger wrote is read by one XML tree (`uppsala`) and verified by
//! the bergshamra crates on it. See `docs/decisions/0003-saml-reader.md`.

mod ask;
mod attributes;
mod authentication;
mod decrypt;
pub mod discovery;
pub mod ecp;
mod envelope;
mod error_url;
mod inspect;
mod keys;
pub mod logout;
pub mod metadata;
mod name_id;
#[cfg(any(test, feature = "properties"))]
pub mod properties;
mod redirect;
mod refusal;
pub mod request;
pub mod response;
mod signature;
mod soap;
mod sp_metadata;
mod xml;

pub use ask::{Ask, Asked};
pub use attributes::{Identifier, Subject};
pub use error_url::{ErrorCode, ErrorReport, fill as fill_error_url};
pub use inspect::{Check, Inspection, Outcome, Rehearsal, inspect, rehearse};
pub use metadata::{DocumentId, Held, IdpMetadata, MetadataError, MetadataIndex, Verified};
pub use name_id::{NameId, Named, SESSION_INDEX_BYTES_MAX};
pub use request::{Binding, Outgoing, OwnCertificate, ServiceProvider, SpError};
pub use response::{Expected, Login, Refusal};
pub use sp_metadata::acs_url;

#[cfg(test)]
#[path = "tests/minter.rs"]
mod minter;

#[cfg(test)]
#[path = "tests/attacks.rs"]
mod attacks;

#[cfg(test)]
#[path = "tests/asked.rs"]
mod asked;

#[cfg(test)]
#[path = "tests/differential.rs"]
mod differential;
