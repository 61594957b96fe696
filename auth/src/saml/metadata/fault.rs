//! Why a document is not used, in one sentence each.

use super::{
    super::{signature::SignatureFault, xml::XmlFault},
    MetadataError,
};

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The strict reader does not take it.
    Xml(XmlFault),
    /// Its signature does not count.
    Signature(SignatureFault),
    /// The root has no signature as its first element.
    Unsigned,
    /// The root is neither an entity nor a group.
    NotMetadata,
    /// In a group stands what is neither an element nor space nor a comment.
    Stray,
    /// An entity, with what stands before it, is too large.
    PieceTooLarge,
    /// More children than any federation has.
    TooMany,
    /// Groups in groups in groups.
    TooDeep,
    /// The tags of the groups are too long.
    TagsTooLong,
}

impl From<XmlFault> for Fault {
    fn from(fault: XmlFault) -> Self {
        Self::Xml(fault)
    }
}

impl From<SignatureFault> for Fault {
    fn from(fault: SignatureFault) -> Self {
        Self::Signature(fault)
    }
}

impl From<Fault> for MetadataError {
    fn from(fault: Fault) -> Self {
        Self { message: fault.sentence().to_owned() }
    }
}

impl Fault {
    fn sentence(self) -> &'static str {
        match self {
            Self::Xml(fault) => xml_sentence(fault),
            Self::Signature(fault) => signature_sentence(fault),
            Self::Unsigned => "the document is not signed (no Signature as first element of its root)",
            Self::NotMetadata => "the document is neither an EntityDescriptor nor an EntitiesDescriptor",
            Self::Stray => "between the entities of the document stands more than space and comments",
            Self::PieceTooLarge => "an entity of the document, with what stands before it, is larger than 1 MiB",
            Self::TooMany => "the document has more than 65,536 entities, or too many identifiers",
            Self::TooDeep => "the groups of the document are nested too deep",
            Self::TagsTooLong => "the tags of the document's groups are too long",
        }
    }
}

fn xml_sentence(fault: XmlFault) -> &'static str {
    match fault {
        XmlFault::Doctype => "the document has a document type declaration",
        XmlFault::Malformed => "the document is not well-formed XML in UTF-8, or nested too deep",
        XmlFault::RelativeNamespace => "the document has a relative namespace name",
        XmlFault::QualifiedId => "the document has an ID attribute in a namespace",
        XmlFault::DuplicateId => "two elements of the document have the same ID",
        XmlFault::TooManyAttributes => "an element of the document has too many attributes",
    }
}

fn signature_sentence(fault: SignatureFault) -> &'static str {
    match fault {
        SignatureFault::Shape => "the signature does not cover the whole document by its ID, or has an unusual shape",
        SignatureFault::Algorithm => "the signature uses an algorithm that is not accepted (such as SHA-1)",
        SignatureFault::NoKey => "no usable signing key is configured",
        SignatureFault::Invalid => "the signature is not by one of the configured keys, or the document was changed",
    }
}
