//! Why a Response is refused: one name per check.

use guichet_config::AttributeName;

use super::ErrorCode;

/// Why a Response is refused. One name per check; [`Refusal::kind`] is the metric's label. The text is for operators: it
/// never quotes what the peer sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Larger than 256 KiB.
    #[error("the response is too large")]
    TooLarge,
    /// Not base64, or not UTF-8 inside.
    #[error("the response is not base64 of UTF-8 text")]
    Encoding,
    /// Document type declaration or entity.
    #[error("the response has a document type declaration")]
    Doctype,
    /// Not well-formed, too deep, too wide, or another declared encoding.
    #[error("the response is not well-formed XML within our limits")]
    Malformed,
    /// More elements than any Response has.
    #[error("the response has too many elements")]
    TooManyNodes,
    /// Relative namespace name.
    #[error("the response has a relative namespace name")]
    RelativeNamespace,
    /// An ID twice, or an ID attribute in a namespace.
    #[error("the response has an identifier twice or in a namespace")]
    AmbiguousId,
    /// Not a samlp:Response 2.0 with an ID.
    #[error("the document is not a SAML 2.0 Response with an ID")]
    NotAResponse,
    /// Not exactly one Assertion or EncryptedAssertion, directly under the Response.
    #[error("the response does not have exactly one assertion in its place")]
    AssertionCount,
    /// More than one signature under an element, or one elsewhere.
    #[error("the response has a signature where none belongs")]
    SignaturePlace,
    /// A signature that is not the plain enveloped one over its parent.
    #[error("a signature does not have the enveloped shape over its parent")]
    SignatureShape,
    /// SHA-1, HMAC, or another algorithm that is not accepted.
    #[error("a signature uses an algorithm that is not accepted")]
    SignatureAlgorithm,
    /// Metadata of the IdP has no usable signing key.
    #[error("the metadata of the identity provider has no usable signing key")]
    NoKey,
    /// A signature that does not verify with the IdP's keys.
    #[error("a signature is not valid with the keys of the identity provider")]
    SignatureInvalid,
    /// Neither Response nor Assertion is signed.
    #[error("neither the response nor the assertion is signed")]
    Unsigned,
    /// Only the Assertion is signed and the tenant does not allow that.
    #[error("only the assertion is signed, which this tenant does not allow")]
    ResponseUnsigned,
    /// EncryptedAssertion of an unexpected shape, or more that is encrypted.
    #[error("the encrypted assertion does not have the expected shape")]
    EncryptionShape,
    /// Encryption algorithm that is not accepted.
    #[error("the assertion is encrypted with an algorithm that is not accepted")]
    EncryptionAlgorithm,
    /// CBC without a valid signature around it.
    #[error("the assertion is encrypted with CBC and nothing signed vouches for it")]
    UnauthenticatedCipher,
    /// No key of ours opens it.
    #[error("no key of ours decrypts the assertion")]
    Undecryptable,
    /// A comment, processing instruction, CDATA section or element inside a value that is read.
    #[error("a value holds something else than text")]
    ValueNotPlain,
    /// Issuer missing.
    #[error("an issuer is missing")]
    IssuerMissing,
    /// Issuer is not the IdP that was asked.
    #[error("the issuer is not the identity provider that was asked")]
    Issuer,
    /// The IdP says no.
    #[error("the identity provider answered {code}{}", if *signed { "" } else { " (unsigned)" })]
    Status {
        /// Last part of the most precise known status code, such as `AuthnFailed`; `other` for an unknown one.
        code: &'static str,
        /// Whether the answer was signed by the IdP.
        signed: bool,
    },
    /// Destination missing on a signed Response, or not our ACS.
    #[error("the destination is not our assertion consumer service")]
    Destination,
    /// InResponseTo missing, or of another request.
    #[error("the response does not answer the pending request")]
    InResponseTo,
    /// No bearer confirmation with its data.
    #[error("the assertion has no bearer subject confirmation")]
    SubjectConfirmation,
    /// Recipient missing or not our ACS.
    #[error("the recipient is not our assertion consumer service")]
    Recipient,
    /// NotOnOrAfter of the confirmation missing.
    #[error("the subject confirmation does not end")]
    Endless,
    /// NotOnOrAfter is past.
    #[error("the assertion has expired")]
    Expired,
    /// NotBefore, IssueInstant or AuthnInstant is in the future.
    #[error("the assertion is not valid yet")]
    NotYetValid,
    /// A required time is missing or is none.
    #[error("a time is missing or malformed")]
    Time,
    /// Conditions missing or twice.
    #[error("the assertion does not have exactly one Conditions")]
    Conditions,
    /// A condition we do not know.
    #[error("the assertion has an unknown condition")]
    ConditionUnknown,
    /// AudienceRestriction missing, or without us.
    #[error("the assertion is not for us")]
    Audience,
    /// AuthnStatement missing.
    #[error("the assertion has no authentication statement")]
    AuthnStatement,
    /// The login has none of the contexts that were asked for.
    #[error("the login has none of the authentication contexts that were asked for")]
    AuthnContext,
    /// AuthnInstant is older than the request for a fresh login.
    #[error("the login is older than the request for a fresh one")]
    AuthnInstant,
    /// Scoped value outside the IdP's scopes.
    #[error("a scoped attribute is outside the scopes of the identity provider")]
    Scope,
    /// Address outside the tenant's domains.
    #[error("the address is in no domain of the tenant")]
    Domain,
    /// No attribute holds an address.
    #[error("no attribute holds an address")]
    AddressMissing,
    /// The identifier is not released.
    #[error("no attribute holds the identifier")]
    IdentifierMissing,
    /// The identifier has not the form of its kind, or several values.
    #[error("the identifier does not have the form of its kind, or has several values")]
    Identifier,
    /// A required attribute has none of the values listed.
    #[error("{attribute} {}", if *released { "has none of the values required" } else { "is required, and missing" })]
    Requirement {
        /// The attribute, as the configuration names it.
        attribute: AttributeName,
        /// Whether the IdP released it at all.
        released: bool,
    },
    /// ECP: not a SOAP 1.1 envelope with exactly one element in its body.
    #[error("the answer is not a SOAP envelope with one message")]
    SoapEnvelope,
    /// ECP: a header block that must be understood, and is not.
    #[error("the answer has a SOAP header that must be understood, and is not")]
    SoapHeader,
    /// ECP: the endpoint could not process the request.
    #[error("the endpoint answered a SOAP fault ({code})")]
    SoapFault {
        /// `Client`, `Server`, `MustUnderstand`, `VersionMismatch` or `other`.
        code: &'static str,
    },
    /// ECP: the `ecp:Response` header is missing or names another consumer.
    #[error("the answer is not meant for our consumer of the PAOS binding")]
    EcpConsumer,
}

impl Refusal {
    /// What the institution's errorURL is told.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::Scope | Self::Domain | Self::AddressMissing | Self::IdentifierMissing | Self::Identifier => {
                ErrorCode::Identification
            }
            Self::Requirement { .. } => ErrorCode::Authorization,
            Self::Status { .. } | Self::AuthnStatement | Self::AuthnContext | Self::AuthnInstant => {
                ErrorCode::Authentication
            }
            _ => ErrorCode::Other,
        }
    }

    /// Short name of the check that failed.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Encoding => "encoding",
            Self::Doctype => "doctype",
            Self::Malformed => "malformed",
            Self::TooManyNodes => "too_many_nodes",
            Self::RelativeNamespace => "relative_namespace",
            Self::AmbiguousId => "ambiguous_id",
            Self::NotAResponse => "not_a_response",
            Self::AssertionCount => "assertion_count",
            Self::SignaturePlace => "signature_place",
            Self::SignatureShape => "signature_shape",
            Self::SignatureAlgorithm => "signature_algorithm",
            Self::NoKey => "no_key",
            Self::SignatureInvalid => "signature_invalid",
            Self::Unsigned => "unsigned",
            Self::ResponseUnsigned => "response_unsigned",
            Self::EncryptionShape => "encryption_shape",
            Self::EncryptionAlgorithm => "encryption_algorithm",
            Self::UnauthenticatedCipher => "unauthenticated_cipher",
            Self::Undecryptable => "undecryptable",
            Self::ValueNotPlain => "value_not_plain",
            Self::IssuerMissing => "issuer_missing",
            Self::Issuer => "issuer",
            Self::Status { code: "NoAuthnContext", .. } => "no_authn_context",
            Self::Status { .. } => "status",
            Self::Destination => "destination",
            Self::InResponseTo => "in_response_to",
            Self::SubjectConfirmation => "subject_confirmation",
            Self::Recipient => "recipient",
            Self::Endless => "endless",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Time => "time",
            Self::Conditions => "conditions",
            Self::ConditionUnknown => "condition_unknown",
            Self::Audience => "audience",
            Self::AuthnStatement => "authn_statement",
            Self::AuthnContext => "authn_context",
            Self::AuthnInstant => "authn_instant",
            Self::Scope => "scope",
            Self::Domain => "domain",
            Self::AddressMissing => "address_missing",
            Self::IdentifierMissing => "identifier_missing",
            Self::Identifier => "identifier",
            Self::Requirement { .. } => "requirement",
            Self::SoapEnvelope => "soap_envelope",
            Self::SoapHeader => "soap_header",
            Self::SoapFault { .. } => "soap_fault",
            Self::EcpConsumer => "ecp_consumer",
        }
    }
}
