//! Reading XML that a stranger wrote: one parser, one tree, and helpers that never guess.
//!
//! Attributes are looked up without namespace only, so that `evil:ID` is never taken for `ID`; values are read from
//! elements that hold text and nothing else. SAML is its first user, and the reason of the checks on identifiers; the
//! gateway reads the requests of mail programs with it.

use std::borrow::Cow;

pub use uppsala::{Document, NodeId};
use uppsala::{Element, NodeKind, Parser};

/// Why a text is not taken as a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XmlFault {
    /// It has a document type declaration.
    Doctype,
    /// It is not well-formed, too deep, or declares another encoding than UTF-8 or another version than 1.0.
    Malformed,
    /// A namespace name is relative (void canonicalization), or no plain URI: readers differ over those.
    RelativeNamespace,
    /// An identifying attribute (`ID`, `Id`, `id`, `AssertionID`) in a namespace.
    QualifiedId,
    /// Two elements share an identifier.
    DuplicateId,
    /// An element with more attributes than any profile has.
    TooManyAttributes,
}

/// Parses `text` and applies the checks that hold for every document: no DTD, UTF-8, bounded depth and attributes,
/// absolute namespace names, identifiers without namespace and each only once.
///
/// # Errors
/// The first check that failed.
pub fn parse(text: &str) -> Result<Document<'_>, XmlFault> {
    // The scan also meets the word inside comments and CDATA: no honest document has it there.
    if text.contains("<!DOCTYPE") || text.contains("<!ENTITY") {
        return Err(XmlFault::Doctype);
    }
    if !text.starts_with('<') {
        return Err(XmlFault::Malformed);
    }
    if longest_tag(text) > TAG_BYTES_MAX {
        return Err(XmlFault::TooManyAttributes);
    }
    let parser = Parser::new().with_forbid_dtd(true).with_forbid_entities(true).with_max_depth(DEPTH_MAX);
    let doc = parser.parse(text).map_err(|_| XmlFault::Malformed)?;
    let encoding = doc.xml_declaration.as_ref().and_then(|declaration| declaration.encoding.as_deref());
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
        return Err(XmlFault::Malformed);
    }
    // 1.1 has other characters and other line ends, and few readers.
    if doc.xml_declaration.as_ref().is_some_and(|declaration| declaration.version != "1.0") {
        return Err(XmlFault::Malformed);
    }
    check_tree(&doc)?;
    Ok(doc)
}

fn check_tree(doc: &Document<'_>) -> Result<(), XmlFault> {
    let mut ids = std::collections::HashSet::new();
    for node in doc.descendants(doc.root()) {
        let Some(element) = doc.element(node) else { continue };
        if element.attributes.len() > ATTRIBUTES_MAX {
            return Err(XmlFault::TooManyAttributes);
        }
        for (_, name) in &element.namespace_declarations {
            // Empty undeclares the default namespace.
            if !name.is_empty() && !is_absolute(name) {
                return Err(XmlFault::RelativeNamespace);
            }
        }
        for attribute in &element.attributes {
            if !is_identifier(&attribute.name.local_name) {
                continue;
            }
            if attribute.name.namespace_uri.is_some() || attribute.name.prefix.is_some() {
                return Err(XmlFault::QualifiedId);
            }
            if !ids.insert(attribute.value.to_string()) {
                return Err(XmlFault::DuplicateId);
            }
        }
    }
    Ok(())
}

/// Whether a namespace name is an URI that every reader takes for one: a URN, or an address of the web, of plain characters.
fn is_absolute(name: &str) -> bool {
    let plain = |text: &str| {
        text.matches('#').count() <= 1
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?#=&+,;@!$'()*".contains(&byte))
    };
    if let Some(rest) = name.strip_prefix("urn:") {
        return !rest.is_empty() && !rest.starts_with('/') && plain(rest);
    }
    let Some(rest) = name.strip_prefix("http://").or_else(|| name.strip_prefix("https://")) else { return false };
    let (host, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host_is_plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    !host.is_empty() && host_is_plain && plain(rest)
}

/// Length of the longest tag. Parsers compare the attributes of an element pairwise, so a tag of megabytes is work
/// without end; real tags are some hundred bytes.
fn longest_tag(text: &str) -> usize {
    let mut longest = 0;
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = rest.get(start..).unwrap_or_default();
        let length = markup_length(rest);
        if is_tag(rest) {
            longest = longest.max(length.unwrap_or(rest.len()));
        }
        rest = length.and_then(|length| rest.get(length..)).unwrap_or_default();
    }
    longest
}

fn is_tag(text: &str) -> bool {
    !["<!--", "<![CDATA[", "<?"].iter().any(|start| text.starts_with(start))
}

/// The text with line ends (XML 1.0 §2.11) and space in attribute values (§3.3.3) as every reader has them, and so every
/// signer. The parser does it for text alone.
pub(crate) fn normalised(text: &str) -> Cow<'_, str> {
    let text = if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    };
    let places = spaces_in_values(&text);
    if places.is_empty() {
        return text;
    }
    let mut bytes = text.into_owned().into_bytes();
    for place in places {
        if let Some(byte) = bytes.get_mut(place) {
            *byte = b' ';
        }
    }
    Cow::Owned(String::from_utf8(bytes).expect("one ASCII character instead of another"))
}

/// Where line feeds and tabs stand in attribute values.
fn spaces_in_values(text: &str) -> Vec<usize> {
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find('<')).map(|start| at + start) {
        let rest = text.get(start..).unwrap_or_default();
        let Some(length) = markup_length(rest) else { break };
        let mut quote = None;
        for (offset, byte) in rest.bytes().take(if is_tag(rest) { length } else { 0 }).enumerate() {
            match (quote, byte) {
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(open), byte) if open == byte => quote = None,
                (Some(_), b'\n' | b'\t') => places.push(start + offset),
                _ => {}
            }
        }
        at = start + length;
    }
    places
}

/// Length of the comment, section, instruction or tag that `text` starts with; `None`: it does not end.
pub(crate) fn markup_length(text: &str) -> Option<usize> {
    let until = |start: usize, end: &str| text.get(start..)?.find(end).map(|at| start + at + end.len());
    if text.starts_with("<!--") {
        until(4, "-->")
    } else if text.starts_with("<![CDATA[") {
        until(9, "]]>")
    } else if text.starts_with("<?") {
        until(2, "?>")
    } else {
        tag_length(text)
    }
}

/// Length of the tag that `text` starts with; `>` inside a quoted value does not end it.
fn tag_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let at = from + memchr::memchr3(b'>', b'"', b'\'', bytes.get(from..)?)?;
        let quote = *bytes.get(at)?;
        if quote == b'>' {
            return Some(at + 1);
        }
        from = at + 2 + memchr::memchr(quote, bytes.get(at + 1..)?)?;
    }
}

/// Whether `node` is the element `{namespace}local`.
pub fn is(doc: &Document<'_>, node: NodeId, namespace: &str, local: &str) -> bool {
    doc.element(node).is_some_and(|element| element.matches_name_ns(namespace, local))
}

/// An attribute without namespace.
pub fn attribute<'d>(doc: &'d Document<'_>, node: NodeId, name: &str) -> Option<&'d str> {
    doc.element(node).and_then(|element| plain_attribute(element, name))
}

fn plain_attribute<'d>(element: &'d Element<'_>, name: &str) -> Option<&'d str> {
    element
        .attributes
        .iter()
        .find(|attribute| attribute.name.namespace_uri.is_none() && *attribute.name.local_name == *name)
        .map(|attribute| &*attribute.value)
}

/// Element children, in order.
pub fn elements<'d>(doc: &'d Document<'_>, node: NodeId) -> impl Iterator<Item = NodeId> + 'd {
    doc.children_iter(node).filter(|child| doc.element(*child).is_some())
}

/// Element children called `{namespace}local`.
pub fn children<'d>(
    doc: &'d Document<'_>,
    node: NodeId,
    namespace: &'d str,
    local: &'d str,
) -> impl Iterator<Item = NodeId> + 'd {
    elements(doc, node).filter(move |child| is(doc, *child, namespace, local))
}

/// The only child called `{namespace}local`.
///
/// # Errors
/// There are several.
#[expect(clippy::result_unit_err, reason = "the caller knows which element it asked for")]
pub fn single(doc: &Document<'_>, node: NodeId, namespace: &str, local: &str) -> Result<Option<NodeId>, ()> {
    let mut found = elements(doc, node).filter(|child| is(doc, *child, namespace, local));
    let first = found.next();
    if found.next().is_some() { Err(()) } else { Ok(first) }
}

/// All elements called `{namespace}local` anywhere, in document order.
pub fn everywhere(doc: &Document<'_>, namespace: &str, local: &str) -> Vec<NodeId> {
    doc.descendants(doc.root()).into_iter().filter(|node| is(doc, *node, namespace, local)).collect()
}

/// The identifiers (`ID`, `Id`, `id`, `AssertionID`) of an element and all in it.
pub(crate) fn identifiers<'d>(doc: &'d Document<'_>, node: NodeId) -> impl Iterator<Item = &'d str> {
    let elements = std::iter::once(node).chain(doc.descendants(node)).filter_map(|node| doc.element(node));
    elements
        .flat_map(|element| &element.attributes)
        .filter(|one| is_identifier(&one.name.local_name))
        .map(|one| &*one.value)
}

fn is_identifier(name: &str) -> bool {
    matches!(name, "ID" | "Id" | "id" | "AssertionID")
}

/// The text of an element that holds text and nothing else, without surrounding white space. A comment, processing
/// instruction, CDATA section or element inside makes it `None`: readers differ on those (CVE-2017-11427 and kin).
pub fn text(doc: &Document<'_>, node: NodeId) -> Option<String> {
    let mut all = String::new();
    for child in doc.children_iter(node) {
        match doc.node_kind(child) {
            Some(NodeKind::Text(text)) => all.push_str(text),
            _ => return None,
        }
    }
    Some(all.trim_matches([' ', '\t', '\r', '\n']).to_owned())
}

/// Escapes text for element content and for attribute values in either quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
    out
}

/// Deeper than any SAML message; below what a stack bears.
const DEPTH_MAX: u32 = 64;
/// More than any element of SAML, XML Signature or metadata has.
const ATTRIBUTES_MAX: usize = 64;
/// A tag with its attributes, bytes.
const TAG_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<XmlFault> {
        parse(text).err()
    }

    #[test]
    fn documents_that_readers_could_disagree_on_are_refused() {
        assert_eq!(fault("<a xmlns=\"urn:x\" ID=\"i\"><b ID=\"j\"/></a>"), None);
        assert_eq!(fault("<!DOCTYPE a><a/>"), Some(XmlFault::Doctype));
        assert_eq!(fault("\u{feff}<a/>"), Some(XmlFault::Malformed));
        assert_eq!(fault("<?xml version=\"1.0\" encoding=\"UTF-16\"?><a/>"), Some(XmlFault::Malformed));
        assert_eq!(fault("<?xml version=\"1.1\"?><a/>"), Some(XmlFault::Malformed));
        for name in [
            "1",
            "urn:",
            "urn://x",
            "urn:\u{7f}x",
            "urn:%zz",
            "http://",
            "http://a:b/",
            "http://a/#b#c",
            "x:y",
            "urn:é",
        ] {
            assert_eq!(fault(&format!("<a xmlns:x=\"{name}\"/>")), Some(XmlFault::RelativeNamespace), "{name}");
        }
        for name in ["", "urn:x", "http://www.w3.org/2000/09/xmldsig#", "https://a.example?b"] {
            assert_eq!(fault(&format!("<a xmlns=\"{name}\"/>")), None, "{name}");
        }
        assert_eq!(fault("<a xmlns:x=\"urn:x\" x:ID=\"i\"/>"), Some(XmlFault::QualifiedId));
        assert_eq!(fault("<a ID=\"i\"><b Id=\"i\"/></a>"), Some(XmlFault::DuplicateId));
        assert_eq!(fault("<a xml:id=\"i\"/>"), Some(XmlFault::QualifiedId));
        let deep = format!("{}{}", "<a>".repeat(65), "</a>".repeat(65));
        assert_eq!(fault(&deep), Some(XmlFault::Malformed));
        let wide: String = (0..30_000).map(|n| format!(" a{n}='>'")).collect();
        assert_eq!(fault(&format!("<a{wide}/>")), Some(XmlFault::TooManyAttributes));
        assert_eq!(fault(&format!("<a><!-- don't{} --></a>", " ".repeat(20_000))), None);
    }

    #[test]
    fn space_is_as_every_reader_has_it() {
        for (written, read) in [
            ("<a b='\t1\n2\r\n3\r4'\n/>\t\n", "<a b=' 1 2 3 4'\n/>\t\n"),
            ("<a>\t'\r\n'</a><!-- '\n' --><![CDATA[<a b='\n'>]]>", "<a>\t'\n'</a><!-- '\n' --><![CDATA[<a b='\n'>]]>"),
            ("<a b=\"'\n\" c='\n' é='é\n'>", "<a b=\"' \" c=' ' é='é '>"),
            ("<a b='\n", "<a b='\n"),
            ("<a b='&#10;'/>", "<a b='&#10;'/>"),
        ] {
            assert_eq!(normalised(written), read);
        }
    }

    #[test]
    fn text_is_read_only_from_elements_that_hold_nothing_else() {
        let doc =
            parse("<a><b> x&#64;y </b><c>x<!-- -->y</c><d>x<?p i?>y</d><e><![CDATA[x]]></e><f>x<g/></f></a>").unwrap();
        let read: Vec<_> = elements(&doc, doc.document_element().unwrap()).map(|node| text(&doc, node)).collect();
        assert_eq!(read, [Some("x@y".to_owned()), None, None, None, None]);
    }
}
