//! One signed document: verified as a whole, then read for the IdPs that are wanted.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tracing::warn;
use uppsala::{Document, NodeId};

use super::{
    super::{
        signature::{self, SignatureFault},
        xml::{self, DS, MD, XmlFault},
    },
    IdpMetadata, MetadataError, entity,
};
use crate::WallTime;

/// What a document must be, and what is wanted of it.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    /// DER certificates or SubjectPublicKeyInfo, one of which signed.
    pub(super) keys: &'a [Vec<u8>],
    /// entityIDs to keep; `None`: all.
    pub(super) wanted: Option<&'a HashSet<String>>,
    /// How far ahead `validUntil` may be, and must be given; `None`: it may be absent.
    pub(super) validity_max: Option<Duration>,
}

/// A verified document.
#[derive(Debug)]
pub struct Verified {
    /// What was wanted of it, by entityID.
    pub idps: HashMap<String, Arc<IdpMetadata>>,
    /// `validUntil` of the whole.
    pub valid_until: Option<WallTime>,
    /// `cacheDuration` of the whole.
    pub cache_duration: Option<Duration>,
    /// Entities in it, wanted or not.
    pub entities: usize,
    /// entityIDs that were not wanted, the first few: a name that is nearly one of them is easily mended.
    pub others: Vec<String>,
}

/// Verifies and reads a document.
pub(super) fn read(xml: &[u8], rules: &Rules<'_>, now: WallTime) -> Result<Verified, MetadataError> {
    let fail = |message: &str| MetadataError { message: message.to_owned() };
    if xml.len() > DOCUMENT_BYTES_MAX {
        return Err(fail("the document is larger than 128 MiB"));
    }
    let text = std::str::from_utf8(xml).map_err(|_| fail("the document is not UTF-8"))?;
    let doc = xml::parse(text.trim_start_matches('\u{feff}')).map_err(|fault| fail(xml_message(fault)))?;
    let root = doc.document_element().ok_or_else(|| fail("the document is empty"))?;
    if !xml::is(&doc, root, MD, "EntityDescriptor") && !xml::is(&doc, root, MD, "EntitiesDescriptor") {
        return Err(fail("the document is neither an EntityDescriptor nor an EntitiesDescriptor"));
    }
    // The schema puts the signature first, so bergshamra's "first signature of the document" is the root's.
    let signature = xml::elements(&doc, root)
        .next()
        .filter(|first| xml::is(&doc, *first, DS, "Signature"))
        .ok_or_else(|| fail("the document is not signed (no Signature as first element of its root)"))?;
    let keys = signature::keys_of(rules.keys.iter().map(Vec::as_slice));
    signature::verify_first(&doc, doc.input_text(), signature, root, &keys)
        .map_err(|fault| fail(signature_message(fault)))?;
    if !is_current(&doc, root, now) {
        return Err(fail("the document has expired (validUntil)"));
    }
    let valid_until = valid_until(&doc, root);
    if let Some(max) = rules.validity_max {
        let until = valid_until.ok_or_else(|| fail("the document has no end (validUntil)"))?;
        if until > now.plus(max).plus(CLOCK_SKEW) {
            return Err(fail("the end of the document (validUntil) is further ahead than `validity_max`"));
        }
    }
    let cache_duration = xml::attribute(&doc, root, "cacheDuration").and_then(duration);
    let mut verified = Verified { idps: HashMap::new(), valid_until, cache_duration, entities: 0, others: Vec::new() };
    collect(&doc, root, valid_until, rules.wanted, now, &mut verified);
    Ok(verified)
}

pub(super) fn valid_until(doc: &Document<'_>, node: NodeId) -> Option<WallTime> {
    xml::attribute(doc, node, "validUntil").and_then(xml::time)
}

/// An end that cannot be read has passed.
pub(super) fn is_current(doc: &Document<'_>, node: NodeId, now: WallTime) -> bool {
    xml::attribute(doc, node, "validUntil").is_none() || valid_until(doc, node).is_some_and(|until| now < until)
}

/// Depth is bounded by the parser. `end` is the earliest `validUntil` of the groups around `node`.
fn collect(
    doc: &Document<'_>,
    node: NodeId,
    end: Option<WallTime>,
    wanted: Option<&HashSet<String>>,
    now: WallTime,
    verified: &mut Verified,
) {
    if !is_current(doc, node, now) {
        return;
    }
    if xml::is(doc, node, MD, "EntityDescriptor") {
        verified.entities += 1;
        let Some(entity_id) = xml::attribute(doc, node, "entityID") else { return };
        if wanted.is_some_and(|wanted| !wanted.contains(entity_id)) {
            if verified.others.len() <= KNOWN_SHOWN_MAX {
                verified.others.push(entity_id.to_owned());
            }
            return;
        }
        let Some(mut idp) = entity::read(doc, node, now) else { return };
        if verified.idps.contains_key(entity_id) {
            warn!(entity_id, "An entity stands twice in the metadata; the first is used.");
            return;
        }
        idp.valid_until = earlier(idp.valid_until, end);
        verified.idps.insert(entity_id.to_owned(), Arc::new(idp));
        return;
    }
    let end = earlier(end, valid_until(doc, node));
    for child in xml::elements(doc, node) {
        if xml::is(doc, child, MD, "EntityDescriptor") || xml::is(doc, child, MD, "EntitiesDescriptor") {
            collect(doc, child, end, wanted, now, verified);
        }
    }
}

/// The earlier of two ends, where no end is the latest.
pub(super) fn earlier(one: Option<WallTime>, other: Option<WallTime>) -> Option<WallTime> {
    one.into_iter().chain(other).min()
}

/// `xs:duration` without years and months, which have no length.
fn duration(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.trim().parse().ok()?;
    let days_are_days = jiff::SpanRelativeTo::days_are_24_hours();
    span.to_duration(days_are_days).ok().and_then(|duration| Duration::try_from(duration).ok())
}

fn xml_message(fault: XmlFault) -> &'static str {
    match fault {
        XmlFault::Doctype => "the document has a document type declaration",
        XmlFault::Malformed => "the document is not well-formed XML in UTF-8, or nested too deep",
        XmlFault::RelativeNamespace => "the document has a relative namespace name",
        XmlFault::QualifiedId => "the document has an ID attribute in a namespace",
        XmlFault::DuplicateId => "two elements of the document have the same ID",
        XmlFault::TooManyAttributes => "an element of the document has too many attributes",
    }
}

fn signature_message(fault: SignatureFault) -> &'static str {
    match fault {
        SignatureFault::Shape => "the signature does not cover the whole document by its ID, or has an unusual shape",
        SignatureFault::Algorithm => "the signature uses an algorithm that is not accepted (such as SHA-1)",
        SignatureFault::NoKey => "no usable signing key is configured",
        SignatureFault::Invalid => "the signature is not by one of the configured keys, or the document was changed",
    }
}

/// More names are no help.
pub(super) const KNOWN_SHOWN_MAX: usize = 12;
/// The whole of eduGAIN is about 100 MB; three times the document is needed while reading.
pub(super) const DOCUMENT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The signer's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
