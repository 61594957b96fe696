//! One signed document: verified as a whole, and what was read of it only then.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use bergshamra_keys::KeysManager;
use uppsala::{Document, NodeId};

use super::{
    super::{
        signature,
        xml::{self, DS, MD},
    },
    IdpMetadata, MetadataError, aggregate,
    entity::{self, Remark, Remarks},
    fault::Fault,
    split::{self, PIECE_BYTES_MAX},
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

impl Rules<'_> {
    /// The keys, fit for use.
    pub(super) fn verification_keys(&self) -> KeysManager {
        signature::keys_of(self.keys.iter().map(Vec::as_slice))
    }
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
    let text = text.trim_start_matches('\u{feff}');
    let draft = if split::root_name(text)? == split::GROUP {
        aggregate::read(text, rules, now)?
    } else {
        read_entity(text, rules, now)?
    };
    draft.accept(rules, now)
}

/// A document of one entity is small enough for one tree.
fn read_entity(text: &str, rules: &Rules<'_>, now: WallTime) -> Result<Draft, Fault> {
    if text.len() > PIECE_BYTES_MAX {
        return Err(Fault::PieceTooLarge);
    }
    let text = xml::normalised(text);
    let doc = xml::parse(&text)?;
    let root = doc.document_element().filter(|root| xml::is(&doc, *root, MD, "EntityDescriptor"));
    let root = root.ok_or(Fault::NotMetadata)?;
    let signature = first_signature(&doc, root).ok_or(Fault::Unsigned)?;
    signature::verify_first(&doc, doc.input_text(), signature, root, &rules.verification_keys())?;
    let mut draft = Draft::default();
    draft.root(&doc, root, now);
    draft.entity(&doc, root, Group::default(), rules.wanted, now);
    Ok(draft)
}

/// The schema puts the signature first, so a reader's "first signature of the document" is the root's.
pub(super) fn first_signature(doc: &Document<'_>, root: NodeId) -> Option<NodeId> {
    xml::elements(doc, root).next().filter(|first| xml::is(doc, *first, DS, "Signature"))
}

pub(super) fn valid_until(doc: &Document<'_>, node: NodeId) -> Option<WallTime> {
    xml::attribute(doc, node, "validUntil").and_then(xml::time)
}

/// An end that cannot be read has passed.
pub(super) fn is_current(doc: &Document<'_>, node: NodeId, now: WallTime) -> bool {
    xml::attribute(doc, node, "validUntil").is_none() || valid_until(doc, node).is_some_and(|until| now < until)
}

/// A group that is current.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    /// The earliest `validUntil` of it and the groups around it.
    end: Option<WallTime>,
}

impl Group {
    /// The group at `node`, within another or not; `None`: it has expired.
    pub(super) fn read(doc: &Document<'_>, node: NodeId, around: Self, now: WallTime) -> Option<Self> {
        is_current(doc, node, now).then(|| Self { end: earlier(around.end, valid_until(doc, node)) })
    }
}

/// What was read of a document that is not known to be good yet, or was just found to be.
#[derive(Debug, Default)]
pub(super) struct Draft {
    idps: HashMap<String, Arc<IdpMetadata>>,
    is_current: bool,
    valid_until: Option<WallTime>,
    cache_duration: Option<Duration>,
    entities: usize,
    others: Vec<String>,
    remarks: Remarks,
}

impl Draft {
    /// Reads what the root says of the whole.
    pub(super) fn root(&mut self, doc: &Document<'_>, root: NodeId, now: WallTime) {
        self.is_current = is_current(doc, root, now);
        self.valid_until = valid_until(doc, root);
        self.cache_duration = xml::attribute(doc, root, "cacheDuration").and_then(duration);
    }

    /// Reads an EntityDescriptor in `group`.
    pub(super) fn entity(
        &mut self,
        doc: &Document<'_>,
        node: NodeId,
        group: Group,
        wanted: Option<&HashSet<String>>,
        now: WallTime,
    ) {
        if !is_current(doc, node, now) {
            return;
        }
        self.entities += 1;
        let Some(entity_id) = xml::attribute(doc, node, "entityID") else { return };
        if wanted.is_some_and(|wanted| !wanted.contains(entity_id)) {
            if self.others.len() <= KNOWN_SHOWN_MAX {
                self.others.push(entity_id.to_owned());
            }
            return;
        }
        let Some(mut idp) = entity::read(doc, node, now, &mut self.remarks) else { return };
        idp.valid_until = earlier(idp.valid_until, group.end);
        match self.idps.entry(entity_id.to_owned()) {
            Entry::Occupied(_) => self.remarks.add(entity_id, Remark::Twice),
            Entry::Vacant(place) => drop(place.insert(Arc::new(idp))),
        }
    }

    /// The document was signed by one of the keys: the rest of the rules.
    fn accept(mut self, rules: &Rules<'_>, now: WallTime) -> Result<Verified, MetadataError> {
        let fail = |message: &str| MetadataError { message: message.to_owned() };
        if !self.is_current {
            return Err(fail("the document has expired (validUntil)"));
        }
        if let Some(max) = rules.validity_max {
            let until = self.valid_until.ok_or_else(|| fail("the document has no end (validUntil)"))?;
            if until > now.plus(max).plus(CLOCK_SKEW) {
                return Err(fail("the end of the document (validUntil) is further ahead than `validity_max`"));
            }
        }
        self.remarks.emit();
        self.idps.shrink_to_fit();
        Ok(Verified {
            idps: self.idps,
            valid_until: self.valid_until,
            cache_duration: self.cache_duration,
            entities: self.entities,
            others: self.others,
        })
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

/// More names are no help.
pub(super) const KNOWN_SHOWN_MAX: usize = 12;
/// The whole of eduGAIN is about 100 MB.
pub(super) const DOCUMENT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The signer's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
