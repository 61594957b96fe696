//! The canonical form (exclusive C14N 1.0) of an aggregate, piece by piece.
//!
//! Exclusive canonicalization writes an element from what is declared and rendered around it, and nothing else, so
//!
//! ```text
//! c14n(<group>child₁ child₂ …</group>) = start ‖ c14n(child₁) ‖ c14n(child₂) … ‖ end
//! ```
//!
//! where each child's part is what stands between `start` and `end` in `c14n(<group>child</group>)`. Each piece is therefore
//! parsed between the tags of its groups, by the strict reader, and canonicalized by bergshamra there: both see what
//! they would see in the whole document. The same small tree is handed on to be read: nothing is read that is not in
//! the digest, and nothing else than what is in it.

use std::{
    borrow::Cow,
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use bergshamra_c14n::{C14nMode, canonicalize_doc_to};
use uppsala::{Document, NodeId, NodeKind};

use super::{
    super::xml::{self, DS, MD, XmlFault},
    fault::Fault,
    split::{self, GROUP, Piece},
};

/// What was found, in the tree that was canonicalized.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'d, 'x> {
    /// A group begins; the node is its element, without what is in it.
    Group(&'d Document<'x>, NodeId),
    /// A child of the innermost group.
    Child(&'d Document<'x>, NodeId),
    /// The innermost group ends.
    End,
}

/// Goes through an aggregate once. `sink` receives its canonical form without the root's first element, which must be its
/// signature (the enveloped-signature transform); `visit` what is in it. What it sees counts for nothing until the
/// digest of what `sink` received is known to be good.
///
/// # Errors
/// The first fault.
pub(super) fn walk(
    text: &str,
    prefixes: &[String],
    sink: &mut dyn FnMut(&[u8]),
    visit: &mut dyn FnMut(Found<'_, '_>),
) -> Result<(), Fault> {
    let mut walk = Walk {
        prefixes,
        sink,
        tags: String::new(),
        frames: Vec::new(),
        canonical: Vec::new(),
        scratch: String::new(),
        identifiers: HashSet::new(),
        hasher: RandomState::new(),
    };
    let mut signature_is_next = false;
    for (number, piece) in split::pieces(text).enumerate() {
        if number >= PIECES_MAX {
            return Err(Fault::TooMany);
        }
        let piece = piece?;
        if signature_is_next {
            walk.leave_signature_out(piece)?;
            signature_is_next = false;
            continue;
        }
        match piece {
            Piece::Open { before, tag } => {
                if walk.frames.is_empty() {
                    check_outside(before, tag, "")?;
                    signature_is_next = true;
                } else {
                    walk.text(before)?;
                }
                walk.open(tag, visit)?;
            }
            Piece::Child { both, .. } => walk.child(both, visit)?,
            Piece::Close { before, .. } => {
                walk.text(before)?;
                walk.close();
                visit(Found::End);
            }
            Piece::After(after) => check_outside("", "<a>", after)?,
        }
    }
    Ok(())
}

/// What stands before and after the root is well-formed, and no declaration of a type. Nothing there is signed or read.
pub(super) fn check_outside(before: &str, tag: &str, after: &str) -> Result<(), XmlFault> {
    let name = split::name(tag);
    let whole =
        if tag.ends_with("/>") { format!("{before}{tag}{after}") } else { format!("{before}{tag}</{name}>{after}") };
    xml::parse(&whole).map(|_| ())
}

struct Walk<'w> {
    /// InclusiveNamespaces of the signature's transform.
    prefixes: &'w [String],
    sink: &'w mut dyn FnMut(&[u8]),
    /// The tags of the open groups, as written, and what they are in canonical form.
    tags: String,
    frames: Vec<Frame>,
    canonical: Vec<u8>,
    scratch: String,
    /// Of all elements so far, hashed: two alike are refused, whoever might look one up.
    identifiers: HashSet<u64>,
    hasher: RandomState,
}

/// An open group.
struct Frame {
    name: String,
    /// Length of the tags of the groups around it.
    tags_length: usize,
    /// The canonical tags of the groups around it, and its own.
    starts: Vec<u8>,
    /// The canonical end tags, its own first.
    ends: Vec<u8>,
}

impl Walk<'_> {
    fn leave_signature_out(&mut self, piece: Piece<'_>) -> Result<(), Fault> {
        let Piece::Child { before, element, .. } = piece else { return Err(Fault::Unsigned) };
        self.text(before)?;
        let around = self.between(element);
        let doc = xml::parse(&around)?;
        let group = innermost(&doc, self.frames.len())?;
        let signature = only_element(&doc, group)?.filter(|first| xml::is(&doc, *first, DS, "Signature"));
        let signature = signature.ok_or(Fault::Unsigned)?;
        self.identify(&doc, signature)
    }

    fn open(&mut self, tag: &str, visit: &mut dyn FnMut(Found<'_, '_>)) -> Result<(), Fault> {
        if tag.ends_with("/>") {
            // An empty root: nothing in it is signed.
            return Err(Fault::Unsigned);
        }
        let name = split::name(tag).to_owned();
        let end = format!("</{name}>");
        let tags_length = self.tags.len();
        let (starts_before, ends_before) =
            self.frames.last().map_or((Vec::new(), Vec::new()), |frame| (frame.starts.clone(), frame.ends.clone()));
        self.tags.push_str(tag);
        if self.tags.len() > TAGS_BYTES_MAX {
            return Err(Fault::TagsTooLong);
        }
        let ends = [end.as_bytes(), &ends_before].concat();
        let frame = Frame { name, tags_length, starts: Vec::new(), ends };
        self.frames.push(frame);
        let around = self.between("");
        let doc = xml::parse(&around)?;
        let group = innermost(&doc, self.frames.len())?;
        if !xml::is(&doc, group, MD, GROUP) {
            return Err(Fault::NotMetadata);
        }
        self.identify(&doc, group)?;
        self.canonicalize(&doc)?;
        let Some(frame) = self.frames.last_mut() else { return Err(BROKEN) };
        frame.starts = self.canonical.strip_suffix(frame.ends.as_slice()).ok_or(BROKEN)?.to_vec();
        let own = frame.starts.strip_prefix(starts_before.as_slice()).ok_or(BROKEN)?;
        (self.sink)(own);
        visit(Found::Group(&doc, group));
        Ok(())
    }

    fn close(&mut self) {
        if let Some(frame) = self.frames.pop() {
            (self.sink)(format!("</{}>", frame.name).as_bytes());
            self.tags.truncate(frame.tags_length);
        }
    }

    /// Space and comments without an element.
    fn text(&mut self, text: &str) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        let around = self.between(text);
        let doc = xml::parse(&around)?;
        let group = innermost(&doc, self.frames.len())?;
        if only_element(&doc, group)?.is_some() {
            return Err(BROKEN);
        }
        self.digest(&doc)?;
        self.scratch = around;
        Ok(())
    }

    fn child(&mut self, both: &str, visit: &mut dyn FnMut(Found<'_, '_>)) -> Result<(), Fault> {
        let around = self.between(both);
        let doc = xml::parse(&around)?;
        let group = innermost(&doc, self.frames.len())?;
        let child = only_element(&doc, group)?.ok_or(BROKEN)?;
        self.identify(&doc, child)?;
        self.digest(&doc)?;
        visit(Found::Child(&doc, child));
        drop(doc);
        self.scratch = around;
        Ok(())
    }

    /// `inner` between the tags of the open groups.
    fn between(&mut self, inner: &str) -> String {
        let mut around = std::mem::take(&mut self.scratch);
        around.clear();
        around.push_str(&self.tags);
        around.push_str(inner);
        for frame in self.frames.iter().rev() {
            around.push_str("</");
            around.push_str(&frame.name);
            around.push('>');
        }
        match xml::normalised(&around) {
            Cow::Borrowed(_) => around,
            Cow::Owned(normalised) => normalised,
        }
    }

    fn canonicalize(&mut self, doc: &Document<'_>) -> Result<(), Fault> {
        self.canonical.clear();
        canonicalize_doc_to(doc, C14nMode::Exclusive, None, self.prefixes, &mut self.canonical).map_err(|_| BROKEN)
    }

    /// Sends on what stands between the tags of the groups.
    fn digest(&mut self, doc: &Document<'_>) -> Result<(), Fault> {
        self.canonicalize(doc)?;
        let frame = self.frames.last().ok_or(BROKEN)?;
        let inner = self.canonical.strip_prefix(frame.starts.as_slice()).ok_or(BROKEN)?;
        (self.sink)(inner.strip_suffix(frame.ends.as_slice()).ok_or(BROKEN)?);
        Ok(())
    }

    /// The reader refuses two alike in one tree; this one in several.
    fn identify(&mut self, doc: &Document<'_>, element: NodeId) -> Result<(), Fault> {
        for identifier in xml::identifiers(doc, element) {
            if !self.identifiers.insert(self.hasher.hash_one(identifier)) {
                return Err(Fault::Xml(XmlFault::DuplicateId));
            }
        }
        if self.identifiers.len() > IDENTIFIERS_MAX { Err(Fault::TooMany) } else { Ok(()) }
    }
}

/// The group at `depth` of the tree of a piece.
fn innermost(doc: &Document<'_>, depth: usize) -> Result<NodeId, Fault> {
    let mut group = doc.document_element().ok_or(BROKEN)?;
    for _ in 1..depth {
        group = xml::elements(doc, group).next().ok_or(BROKEN)?;
    }
    Ok(group)
}

/// The only element in a group that holds space and comments beside it.
fn only_element(doc: &Document<'_>, group: NodeId) -> Result<Option<NodeId>, Fault> {
    let mut only = None;
    for node in doc.children_iter(group) {
        match doc.node_kind(node) {
            Some(NodeKind::Element(_)) if only.is_none() => only = Some(node),
            Some(NodeKind::Comment(_)) => {}
            Some(NodeKind::Text(text)) if text.chars().all(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) => {}
            _ => return Err(Fault::Stray),
        }
    }
    Ok(only)
}

/// A piece that is something else between its tags than where it was cut.
const BROKEN: Fault = Fault::Xml(XmlFault::Malformed);
/// Tags, children and ends of groups. eduGAIN has ten thousand entities.
const PIECES_MAX: usize = 1 << 16;
/// The tags of the open groups are parsed again with each child: with the most pieces these are four times the largest
/// document.
const TAGS_BYTES_MAX: usize = 8 * 1024;
/// Four in each piece.
const IDENTIFIERS_MAX: usize = 4 * PIECES_MAX;

#[cfg(test)]
#[path = "../tests/metadata_canonical.rs"]
mod tests;
