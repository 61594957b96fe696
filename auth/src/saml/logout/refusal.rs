//! Why a logout message is refused: one name per check.

use super::super::{decrypt::DecryptFault, signature::SignatureFault, xml::XmlFault};

/// Why a LogoutRequest or LogoutResponse is refused. [`LogoutRefusal::kind`] is the metric's label. The text is for
/// operators: it never quotes what the peer sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogoutRefusal {
    /// Larger than 64 KiB, as sent or inflated.
    #[error("the logout message is too large")]
    TooLarge,
    /// A query that is not exactly the parameters of the binding, each once, in their order.
    #[error("the parameters are not those of the binding, once each and in its order")]
    Parameters,
    /// Percent signs, base64 or UTF-8 are broken.
    #[error("the logout message is not base64 of UTF-8 text")]
    Encoding,
    /// Not a whole DEFLATE stream, or something behind it.
    #[error("the logout message is not compressed as the binding says")]
    Deflate,
    /// Document type declaration or entity.
    #[error("the logout message has a document type declaration")]
    Doctype,
    /// Not well-formed, too deep, too wide, or another declared encoding.
    #[error("the logout message is not well-formed XML within our limits")]
    Malformed,
    /// More elements than any logout message has.
    #[error("the logout message has too many elements")]
    TooManyNodes,
    /// Relative namespace name.
    #[error("the logout message has a relative namespace name")]
    RelativeNamespace,
    /// An ID twice, or an ID attribute in a namespace.
    #[error("the logout message has an identifier twice or in a namespace")]
    AmbiguousId,
    /// Not the one SAML 2.0 message with an ID that belongs there.
    #[error("the document is not the one SAML 2.0 logout message with an ID that belongs there")]
    NotALogout,
    /// Not a SOAP envelope around exactly one LogoutRequest.
    #[error("the document is not a SOAP envelope around one logout request")]
    Envelope,
    /// A signature where none belongs.
    #[error("the logout message has a signature where none belongs")]
    SignaturePlace,
    /// Not the plain enveloped one over its parent.
    #[error("the signature does not have the enveloped shape over its parent")]
    SignatureShape,
    /// SHA-1, HMAC, or another algorithm that is not accepted.
    #[error("the signature uses an algorithm that is not accepted")]
    SignatureAlgorithm,
    /// Metadata of the IdP has no usable signing key.
    #[error("the metadata of the identity provider has no usable signing key")]
    NoKey,
    /// Not valid with the IdP's keys.
    #[error("the signature is not valid with the keys of the identity provider")]
    SignatureInvalid,
    /// Not signed.
    #[error("the logout message is not signed")]
    Unsigned,
    /// Issuer missing.
    #[error("the issuer is missing")]
    IssuerMissing,
    /// Issuer is no IdP of a tenant, or not the one that was asked.
    #[error("the issuer is not an identity provider of a tenant, or not the one that was asked")]
    Issuer,
    /// Destination missing where the binding wants it, or not ours.
    #[error("the destination is not our logout service")]
    Destination,
    /// NotOnOrAfter is past, or the message is older than minutes.
    #[error("the logout message has expired")]
    Expired,
    /// IssueInstant is in the future.
    #[error("the logout message is from the future")]
    NotYetValid,
    /// A required time is missing or is none.
    #[error("a time is missing or malformed")]
    Time,
    /// Not exactly one NameID or EncryptedID, or one without a usable name.
    #[error("the logout request does not have exactly one name")]
    NameId,
    /// More than 16 SessionIndex elements, or one out of bounds.
    #[error("the logout request has more or longer session indexes than we take")]
    SessionIndexes,
    /// A comment, processing instruction, CDATA section or element inside a value that is read.
    #[error("a value holds something else than text")]
    ValueNotPlain,
    /// EncryptedID of an unexpected shape, or more that is encrypted.
    #[error("the encrypted name does not have the expected shape")]
    EncryptionShape,
    /// Encryption algorithm that is not accepted.
    #[error("the name is encrypted with an algorithm that is not accepted")]
    EncryptionAlgorithm,
    /// No key of ours opens it.
    #[error("no key of ours decrypts the name")]
    Undecryptable,
    /// The request ID was used before.
    #[error("the logout request was used before")]
    Replay,
    /// A LogoutResponse that answers another request, or none.
    #[error("the logout response does not answer the pending request")]
    InResponseTo,
    /// A LogoutResponse without a status.
    #[error("the logout response has no status")]
    Status,
}

impl LogoutRefusal {
    /// Short name of the check that failed.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Parameters => "parameters",
            Self::Encoding => "encoding",
            Self::Deflate => "deflate",
            Self::Doctype => "doctype",
            Self::Malformed => "malformed",
            Self::TooManyNodes => "too_many_nodes",
            Self::RelativeNamespace => "relative_namespace",
            Self::AmbiguousId => "ambiguous_id",
            Self::NotALogout => "not_a_logout",
            Self::Envelope => "envelope",
            Self::SignaturePlace => "signature_place",
            Self::SignatureShape => "signature_shape",
            Self::SignatureAlgorithm => "signature_algorithm",
            Self::NoKey => "no_key",
            Self::SignatureInvalid => "signature_invalid",
            Self::Unsigned => "unsigned",
            Self::IssuerMissing => "issuer_missing",
            Self::Issuer => "issuer",
            Self::Destination => "destination",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Time => "time",
            Self::NameId => "name_id",
            Self::SessionIndexes => "session_indexes",
            Self::ValueNotPlain => "value_not_plain",
            Self::EncryptionShape => "encryption_shape",
            Self::EncryptionAlgorithm => "encryption_algorithm",
            Self::Undecryptable => "undecryptable",
            Self::Replay => "replay",
            Self::InResponseTo => "in_response_to",
            Self::Status => "status",
        }
    }
}

impl From<XmlFault> for LogoutRefusal {
    fn from(fault: XmlFault) -> Self {
        match fault {
            XmlFault::Doctype => Self::Doctype,
            XmlFault::Malformed | XmlFault::TooManyAttributes => Self::Malformed,
            XmlFault::RelativeNamespace => Self::RelativeNamespace,
            XmlFault::QualifiedId | XmlFault::DuplicateId => Self::AmbiguousId,
        }
    }
}

impl From<SignatureFault> for LogoutRefusal {
    fn from(fault: SignatureFault) -> Self {
        match fault {
            SignatureFault::Shape => Self::SignatureShape,
            SignatureFault::Algorithm => Self::SignatureAlgorithm,
            SignatureFault::NoKey => Self::NoKey,
            SignatureFault::Invalid => Self::SignatureInvalid,
        }
    }
}

impl From<DecryptFault> for LogoutRefusal {
    fn from(fault: DecryptFault) -> Self {
        match fault {
            DecryptFault::Shape => Self::EncryptionShape,
            // Cannot be met: a signature covers what is decrypted here.
            DecryptFault::Algorithm | DecryptFault::Unauthenticated => Self::EncryptionAlgorithm,
            DecryptFault::Undecryptable => Self::Undecryptable,
        }
    }
}
