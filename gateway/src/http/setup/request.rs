//! What a program asks Microsoft's autodiscover (POX, [MS-OXDSCLI]), read by the project's strict XML reader.

use guichet_auth::xml::{self, Document, NodeId};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// As written; not yet an address of ours.
    pub(super) address: Option<String>,
    /// What the program can read.
    pub(super) schema: Schema,
}

/// A schema of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// Settings of mail protocols.
    Outlook,
    /// ActiveSync: the cell serves it, and knows where.
    MobileSync,
    /// Another.
    Other,
}

/// It is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a request. The element names of both kinds of programs are the same, their namespaces are not: the root's counts
/// for all.
pub(super) fn read(bytes: &[u8]) -> Result<Request, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
    // .NET writes one before UTF-8, too.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let doc = xml::parse(text).map_err(|_| Malformed)?;
    let root = doc.document_element().ok_or(Malformed)?;
    let name = &doc.element(root).ok_or(Malformed)?.name;
    let namespace = name.namespace_uri.as_deref().filter(|_| name.local_name == "Autodiscover").ok_or(Malformed)?;
    let request = xml::single(&doc, root, namespace, "Request").map_err(|()| Malformed)?.ok_or(Malformed)?;
    let schema = field(&doc, request, namespace, "AcceptableResponseSchema")?.ok_or(Malformed)?;
    let schema = match schema.as_str() {
        OUTLOOK => Schema::Outlook,
        MOBILE_SYNC => Schema::MobileSync,
        _ => Schema::Other,
    };
    Ok(Request { address: field(&doc, request, namespace, "EMailAddress")?, schema })
}

/// The text of the only child of that name.
fn field(doc: &Document<'_>, parent: NodeId, namespace: &str, name: &str) -> Result<Option<String>, Malformed> {
    match xml::single(doc, parent, namespace, name) {
        Ok(None) => Ok(None),
        Ok(Some(node)) => xml::text(doc, node).filter(|text| text.len() <= TEXT_BYTES_MAX).map(Some).ok_or(Malformed),
        Err(()) => Err(Malformed),
    }
}

/// A request that is read holds bounded texts, and reads the same when it is written anew.
///
/// # Panics
/// When a property does not hold.
#[cfg(any(test, feature = "properties"))]
pub(super) fn holds(bytes: &[u8]) {
    let Ok(request) = read(bytes) else { return };
    let schema = match request.schema {
        Schema::Outlook => OUTLOOK,
        Schema::MobileSync => MOBILE_SYNC,
        Schema::Other => "urn:other",
    };
    // A carriage return that a reference stood for is a line feed in what is written plainly (XML 1.0 §2.11).
    let plain = |text: &String| text.replace("\r\n", "\n").replace('\r', "\n");
    let address = request.address.as_ref().map(plain);
    assert!(address.as_ref().is_none_or(|address| address.len() <= TEXT_BYTES_MAX));
    let element = address
        .as_ref()
        .map(|address| format!("<EMailAddress>{}</EMailAddress>", xml::escape(address)))
        .unwrap_or_default();
    let written = format!(
        "<Autodiscover xmlns=\"urn:x\"><Request>{element}\
         <AcceptableResponseSchema>{schema}</AcceptableResponseSchema></Request></Autodiscover>"
    );
    assert_eq!(read(written.as_bytes()), Ok(Request { address, ..request }));
}

/// Schema of answers for Outlook.
pub(super) const OUTLOOK: &str = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a";
const MOBILE_SYNC: &str = "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006";
/// Longer than any address or schema.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(namespace: &str, inside: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<Autodiscover xmlns=\"{namespace}\"><Request>{inside}</Request></Autodiscover>"
        )
    }

    fn asked(schema: &str, address: &str) -> String {
        let kind = if schema == MOBILE_SYNC { "mobilesync" } else { "outlook" };
        request(
            &format!("http://schemas.microsoft.com/exchange/autodiscover/{kind}/requestschema/2006"),
            &format!(
                "<EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>{schema}</AcceptableResponseSchema>"
            ),
        )
    }

    #[test]
    fn programs_are_told_apart_by_the_schema_they_can_read() {
        for (schema, expected) in
            [(OUTLOOK, Schema::Outlook), (MOBILE_SYNC, Schema::MobileSync), ("urn:other", Schema::Other)]
        {
            let read = read(asked(schema, " ada@univ.example\n").as_bytes()).unwrap();
            assert_eq!(read, Request { address: Some("ada@univ.example".to_owned()), schema: expected });
        }
        let marked = format!("\u{feff}{}", asked(OUTLOOK, "a@b.example"));
        assert!(read(marked.as_bytes()).is_ok());
        let prefixed = asked(OUTLOOK, "a@b.example").replace("xmlns=", "xmlns:x=");
        assert_eq!(read(prefixed.as_bytes()), Err(Malformed), "elements without the namespace");
    }

    #[test]
    fn what_readers_could_disagree_on_is_no_request() {
        let good = asked(OUTLOOK, "a@b.example");
        let schema = format!("<AcceptableResponseSchema>{OUTLOOK}</AcceptableResponseSchema>");
        for bad in [
            String::new(),
            "<Autodiscover/>".to_owned(),
            good.replace("Autodiscover>", "Autodiscovery>"),
            good.replace("<EMailAddress>", "<!DOCTYPE a><EMailAddress>"),
            format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{good}"),
            good.replace("a@b.example", "a@b.example<!-- -->"),
            good.replace("a@b.example", "<![CDATA[a@b.example]]>"),
            good.replace("a@b.example", "&b;"),
            good.replace("a@b.example", &"a".repeat(2000)),
            good.replace("<Request>", "<Request><EMailAddress>c@d.example</EMailAddress>"),
            good.replace("<Request>", &format!("<Request>{schema}")),
            good.replace(&schema, ""),
            good.replace("utf-8", "utf-16"),
            format!("{good}{good}"),
            format!(" {good}"),
        ] {
            assert_eq!(read(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        assert_eq!(read(&[0xff, 0xfe, b'<', 0]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            holds(&bytes);
        }

        #[test]
        fn a_request_with_bytes_changed_is_read_or_refused(
            at in 0usize..400,
            piece in proptest::collection::vec(any::<u8>(), 0..8),
            cut in 0usize..8,
        ) {
            let mut bytes = asked(OUTLOOK, "ada@univ.example").into_bytes();
            let at = at.min(bytes.len());
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, piece);
            holds(&bytes);
        }

        #[test]
        fn any_text_comes_back_as_it_was_written(text in "[^\\p{C}]{0,100}") {
            let read = read(asked(OUTLOOK, &xml::escape(&text)).as_bytes()).unwrap();
            prop_assert_eq!(read.address.unwrap(), text.trim_matches([' ', '\t', '\r', '\n']));
        }
    }
}
