//! A signed aggregate: digested piece by piece, read for the IdPs that are wanted, and never held as one tree.
//!
//! The signature's value is verified first, over the digest it states; only a document of which that much is true is gone
//! through. What is read on the way is kept back until the digest is known to be the stated one.

use super::{
    super::{
        signature::{self, Statement},
        xml::{self, MD},
    },
    canonical::{self, Found},
    document::{self, Draft, Group, Rules},
    fault::Fault,
    split::{self, Piece},
};
use crate::WallTime;

/// Verifies and reads a group and all that is in it.
pub(super) fn read(text: &str, rules: &Rules<'_>, now: WallTime) -> Result<Draft, Fault> {
    let statement = statement(text, rules)?;
    let mut digest = statement.digest();
    let mut draft = Draft::default();
    // The open groups; one that has expired counts for nothing, and what is in it neither.
    let mut groups: Vec<Option<Group>> = Vec::new();
    canonical::walk(text, statement.prefixes(), &mut |bytes| digest.update(bytes), &mut |found| match found {
        Found::Group(doc, node) => {
            let around = match groups.last() {
                Some(around) => *around,
                None => {
                    draft.root(doc, node, now);
                    Some(Group::default())
                }
            };
            groups.push(around.and_then(|around| Group::read(doc, node, around, now)));
        }
        Found::Child(doc, node) => {
            if let Some(Some(group)) = groups.last()
                && xml::is(doc, node, MD, "EntityDescriptor")
            {
                draft.entity(doc, node, *group, rules.wanted, now);
            }
        }
        Found::End => drop(groups.pop()),
    })?;
    statement.check(digest)?;
    Ok(draft)
}

/// What the root's signature states, verified.
fn statement(text: &str, rules: &Rules<'_>) -> Result<Statement, Fault> {
    let mut pieces = split::pieces(text);
    let Some(Piece::Open { before, tag }) = pieces.next().transpose()? else { return Err(Fault::NotMetadata) };
    canonical::check_outside(before, tag, "")?;
    // An empty root has no first element.
    let first = if tag.ends_with("/>") { None } else { pieces.next().transpose()? };
    let around = match first {
        Some(Piece::Child { element, .. }) => format!("{tag}{element}</{}>", split::name(tag)),
        _ if tag.ends_with("/>") => tag.to_owned(),
        _ => format!("{tag}</{}>", split::name(tag)),
    };
    let around = xml::normalised(&around);
    let doc = xml::parse(&around)?;
    let root =
        doc.document_element().filter(|root| xml::is(&doc, *root, MD, split::GROUP)).ok_or(Fault::NotMetadata)?;
    let signature = document::first_signature(&doc, root).ok_or(Fault::Unsigned)?;
    Ok(signature::verify_statement(&doc, signature, root, &rules.verification_keys())?)
}
