//! Cuts the text of an aggregate into pieces that are small enough for a tree each: the tags of the groups
//! (`EntitiesDescriptor`), and every other child of a group with what stands before it.
//!
//! It only counts brackets. Each piece is parsed by the strict reader between the tags of its groups and must be well-formed
//! there ([`super::canonical`]), so a cut in the wrong place is refused, never read otherwise: XML's content is a
//! sequence, and a sequence of well-formed pieces, each ending with a `>`, is the whole.

use super::{
    super::xml::{self, XmlFault},
    fault::Fault,
};

/// What stands next. The pieces of a document, put together, are the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// A group begins. `before` is what stands before its tag: space and comments, for the root also the declaration.
    Open { before: &'t str, tag: &'t str },
    /// Any other child of the innermost group.
    Child { before: &'t str, element: &'t str, both: &'t str },
    /// The innermost group ends.
    Close { before: &'t str, tag: &'t str },
    /// What stands after the root.
    After(&'t str),
}

/// The pieces of `text`, until the first fault.
#[derive(Clone, Debug)]
pub(super) struct Pieces<'t> {
    text: &'t str,
    at: usize,
    /// Names of the groups that are open, as written.
    open: Vec<&'t str>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Prolog,
    Content,
    Epilog,
    Done,
}

/// The pieces of an aggregate.
pub(super) fn pieces(text: &str) -> Pieces<'_> {
    Pieces { text, at: 0, open: Vec::new(), state: State::Prolog }
}

/// The name of the root as written, without its prefix.
pub(super) fn root_name(text: &str) -> Result<&str, Fault> {
    match pieces(text).next() {
        Some(Ok(Piece::Open { tag, .. })) => Ok(local(name(tag))),
        Some(Err(fault)) => Err(fault),
        _ => Err(MALFORMED),
    }
}

impl<'t> Iterator for Pieces<'t> {
    type Item = Result<Piece<'t>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = match self.state {
            State::Prolog => self.root(),
            State::Content => self.content(),
            State::Epilog => {
                self.state = State::Done;
                let after = self.text.get(self.at..).unwrap_or_default();
                if after.len() > PIECE_BYTES_MAX { Err(Fault::PieceTooLarge) } else { Ok(Piece::After(after)) }
            }
            State::Done => return None,
        };
        if piece.is_err() {
            self.state = State::Done;
        }
        Some(piece)
    }
}

impl<'t> Pieces<'t> {
    fn root(&mut self) -> Result<Piece<'t>, Fault> {
        let (start, tag) = self.markup(self.at)?;
        let piece = Piece::Open { before: self.slice(0, start)?, tag };
        self.at = start + tag.len();
        self.open.push(name(tag));
        self.state = State::Content;
        Ok(piece)
    }

    fn content(&mut self) -> Result<Piece<'t>, Fault> {
        let begin = self.at;
        let (start, tag) = self.markup(begin)?;
        let before = self.slice(begin, start)?;
        if let Some(end) = tag.strip_prefix("</") {
            // No tree sees this tag: nothing but space is behind the name.
            let name = end.trim_end_matches('>').trim_end_matches(SPACE);
            if self.open.pop() != Some(name) {
                return Err(MALFORMED);
            }
            if self.open.is_empty() {
                self.state = State::Epilog;
            }
            self.at = start + tag.len();
            return Ok(Piece::Close { before, tag });
        }
        if local(name(tag)) == GROUP && !tag.ends_with("/>") {
            if self.open.len() >= GROUPS_DEPTH_MAX {
                return Err(Fault::TooDeep);
            }
            self.open.push(name(tag));
            self.at = start + tag.len();
            return Ok(Piece::Open { before, tag });
        }
        let end = self.end_of_element(begin, start, tag)?;
        self.at = end;
        Ok(Piece::Child { before, element: self.slice(start, end)?, both: self.slice(begin, end)? })
    }

    /// Where the element ends whose tag `tag` starts at `start`.
    fn end_of_element(&self, begin: usize, start: usize, tag: &str) -> Result<usize, Fault> {
        let mut end = start + tag.len();
        let mut depth = usize::from(!tag.ends_with("/>"));
        while depth > 0 {
            let (at, tag) = self.markup(end)?;
            end = at + tag.len();
            if end - begin > PIECE_BYTES_MAX {
                return Err(Fault::PieceTooLarge);
            }
            if tag.starts_with("</") {
                depth -= 1;
            } else if !tag.ends_with("/>") {
                depth += 1;
            }
        }
        Ok(end)
    }

    /// The first tag at or after `from`, and where it starts.
    fn markup(&self, from: usize) -> Result<(usize, &'t str), Fault> {
        let mut at = from;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let start = at + rest.find('<').ok_or(MALFORMED)?;
            let rest = self.text.get(start..).unwrap_or_default();
            let length = xml::markup_length(rest).ok_or(MALFORMED)?;
            if start + length - from > PIECE_BYTES_MAX {
                return Err(Fault::PieceTooLarge);
            }
            let is_tag = !rest.starts_with("<!") && !rest.starts_with("<?");
            if is_tag {
                return Ok((start, self.slice(start, start + length)?));
            }
            let known = rest.starts_with("<!--") || rest.starts_with("<![CDATA[") || rest.starts_with("<?");
            if !known {
                return Err(Fault::Xml(XmlFault::Doctype));
            }
            at = start + length;
        }
    }

    fn slice(&self, from: usize, to: usize) -> Result<&'t str, Fault> {
        self.text.get(from..to).ok_or(MALFORMED)
    }
}

/// The name in a start tag, as written.
pub(super) fn name(tag: &str) -> &str {
    tag.trim_start_matches('<').split(|c| SPACE.contains(&c) || c == '/' || c == '>').next().unwrap_or_default()
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or_default()
}

const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
const MALFORMED: Fault = Fault::Xml(XmlFault::Malformed);
/// What begins a group.
pub(super) const GROUP: &str = "EntitiesDescriptor";
/// An entity with its comments has some kilobytes, with logos in it some hundred.
pub(super) const PIECE_BYTES_MAX: usize = 1 << 20;
/// Federations nest two or three; each tag is parsed again with each child.
const GROUPS_DEPTH_MAX: usize = 8;
