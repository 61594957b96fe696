//! The canonical form of aggregates in pieces against that of one tree: bergshamra's, and libxmlsec1's by `samael`.

use bergshamra_core::algorithm as alg;
use proptest::{prelude::*, sample::select, test_runner::Config};
use samael::crypto::{CertificateDer, Crypto, CryptoProvider as _, ReduceMode};

use super::{
    super::{
        super::{
            differential::{edit, runner},
            minter::{NOW, Recipe, TestKey, cut, sign, world},
            signature,
        },
        MetadataIndex, document,
        properties::{metadata, of_one_tree},
    },
    *,
};

/// What libxmlsec1 digested, if the one signature of the document is by `key`.
fn digested_by_libxmlsec(xml: &str, key: &TestKey) -> Option<String> {
    let certificates = [CertificateDer::from(key.certificate.clone())];
    Crypto::reduce_xml_to_signed(xml, &certificates, ReduceMode::PreDigest).ok()
}

/// Whether libxmlsec1 holds every signature of the document for good.
fn libxmlsec_accepts(xml: &str, key: &TestKey) -> bool {
    let certificates = [CertificateDer::from(key.certificate.clone())];
    Crypto::reduce_xml_to_signed(xml, &certificates, ReduceMode::ValidateAndMark).is_ok()
}

/// Signs the root as a signer sees it, and leaves the rest as it is written.
fn signed(xml: &str, key: &TestKey) -> String {
    let template = cut(xml, "<ds:Signature ", "</ds:Signature>");
    let signature = cut(&sign(&xml::normalised(xml), key), "<ds:Signature ", "</ds:Signature>");
    xml.replacen(&template, &signature, 1)
}

fn in_pieces(xml: &str, prefixes: &[String]) -> Result<String, Fault> {
    let mut canonical = Vec::new();
    walk(xml, prefixes, &mut |bytes| canonical.extend_from_slice(bytes), &mut |_| ())?;
    Ok(String::from_utf8(canonical).unwrap())
}

fn accepts(xml: &str, key: &TestKey) -> bool {
    MetadataIndex::read(xml.as_bytes(), std::slice::from_ref(&key.certificate), NOW).is_ok()
}

fn accepts_as_one_tree(xml: &str, key: &TestKey) -> bool {
    let xml = xml::normalised(xml);
    let doc = xml::parse(&xml).unwrap();
    let root = doc.document_element().unwrap();
    let first = document::first_signature(&doc, root).unwrap();
    let keys = signature::keys_of([key.certificate.as_slice()]);
    signature::verify_first(&doc, doc.input_text(), first, root, &keys).is_ok()
}

const SPACES: &[&str] = &[
    "",
    "",
    "\n",
    " \t",
    "\r\n  ",
    "\r",
    "\r<!-- one -->\n<!--two-->\r\n",
    "<!-- < > & \" ' - -> é -->",
    "&#32;",
    "&#13;&#xA;",
];

/// Children of groups. `@` is the prefix of metadata (with its colon).
const CHILDREN: &[&str] = &[
    "<@EntityDescriptor entityID=\"https://a.example\"/>",
    "<@EntityDescriptor\n  b='\"2\"' a=\"1\"\tentityID = 'https://b.example' ></@EntityDescriptor\n>",
    "<@EntityDescriptor entityID=\"https://c.example\" xml:lang=\"fr\" xml:space=\"preserve\">\r\n é &#233; &amp;&lt;&gt;&#13; ]] </@EntityDescriptor>",
    "<@EntityDescriptor entityID=\"a&#9;b&#10;c&#13;&quot;&lt;&amp;'\r\n\" xmlns:b=\"urn:b\" b:z=\"1\" xmlns:a=\"urn:a\" a:z=\"2\" z=\"3\"/>",
    "<@Extensions xmlns:p=\"urn:p\"><x xmlns=\"\" p:y=\"\"/><p:x xmlns:p=\"urn:q\"/><p:x/></@Extensions>",
    "<@Extensions><![CDATA[<a>&]]><?target some data?><!-- gone --><x xmlns=\"urn:d\"><y xmlns=\"urn:d\"/></x></@Extensions>",
    "<e:EntityDescriptor xmlns:e=\"urn:oasis:names:tc:SAML:2.0:metadata\" xmlns:xs=\"http://www.w3.org/2001/XMLSchema\" ID=\"_e@\" entityID=\"https://d.example\"><e:Extensions xs:a=\"\"/></e:EntityDescriptor>",
    "<foreign xmlns=\"urn:f\"><EntitiesDescriptor><a/></EntitiesDescriptor></foreign>",
    "<xs:odd/>",
    "<@EntityDescriptor><ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"><ds:SignedInfo/></ds:Signature></@EntityDescriptor>",
];

const ATTRIBUTES: &[&str] = &[
    "",
    " Name=\"n\"",
    "\n\tName='a &quot; b &#10; c'  xml:lang=\"fr\"",
    " xmlns:unused=\"urn:u\" xmlns:xs=\"urn:other\" xml:space=\"preserve\"",
    " z=\"1\" a=\"2\" xmlns:p=\"urn:p\" p:a=\"3\"",
];

const PREFIXES: &[Option<&str>] =
    &[None, Some(""), Some("#default"), Some("xs"), Some("md p"), Some("#default md xs ds unused p missing")];

#[derive(Clone, Debug)]
enum Node {
    Child(&'static str, &'static str),
    Group(&'static str, &'static str, Vec<Node>, &'static str),
}

fn node() -> impl Strategy<Value = Node> {
    let child = (select(SPACES), select(CHILDREN)).prop_map(|(before, child)| Node::Child(before, child));
    child.prop_recursive(3, 16, 4, |inner| {
        (select(SPACES), select(ATTRIBUTES), proptest::collection::vec(inner, 0..4), select(SPACES))
            .prop_map(|(before, attributes, children, after)| Node::Group(before, attributes, children, after))
    })
}

fn write(nodes: &[Node], prefix: &str, count: &mut usize, out: &mut String) {
    for node in nodes {
        *count += 1;
        match node {
            Node::Child(before, child) => {
                out.push_str(before);
                out.push_str(&child.replace("_e@", &format!("_e{count}")).replace('@', prefix));
            }
            Node::Group(before, attributes, children, after) => {
                out.push_str(&format!("{before}<{prefix}EntitiesDescriptor{attributes} ID=\"_g{count}\">"));
                write(children, prefix, count, out);
                out.push_str(&format!("{after}</{prefix}EntitiesDescriptor >"));
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Made {
    xml: String,
    prefixes: Vec<String>,
}

prop_compose! {
    fn aggregate()(
        prefix in select(&["md:", ""][..]),
        attributes in select(ATTRIBUTES),
        prolog in select(&["", "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<!-- c -->\n", "<?target data?>"][..]),
        before in select(SPACES),
        nodes in proptest::collection::vec(node(), 0..6),
        after in select(SPACES),
        epilog in select(&["", "\n", "\r\n<!-- end --><?target?>\n"][..]),
        list in select(PREFIXES),
    ) -> Made {
        let declared = if prefix.is_empty() { "xmlns".to_owned() } else { "xmlns:md".to_owned() };
        let xs = if attributes.contains("xmlns:xs") { "" } else { " xmlns:xs=\"http://www.w3.org/2001/XMLSchema\"" };
        let mut xml = format!(
            "{prolog}<{prefix}EntitiesDescriptor {declared}=\"{MD}\"{xs}{attributes} ID=\"_r\">{before}{}",
            Recipe { inclusive: list, ..Recipe::default() }.template("_r")
        );
        write(&nodes, prefix, &mut 0, &mut xml);
        xml.push_str(&format!("{after}</{prefix}EntitiesDescriptor\t>{epilog}"));
        let prefixes = list.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        Made { xml, prefixes }
    }
}

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn an_aggregate_in_pieces_is_digested_as_one_tree_by_two_other_readers() {
    let key = &world().signing;
    runner(config(300))
        .run(&aggregate(), |made| {
            let signed = signed(&made.xml, key);
            let ours = in_pieces(&signed, &made.prefixes)
                .map_err(|fault| TestCaseError::fail(format!("{fault:?}: {signed}")))?;
            prop_assert_eq!(&ours, &String::from_utf8(of_one_tree(&signed, &made.prefixes)).unwrap());
            prop_assert!(accepts_as_one_tree(&signed, key) && accepts(&signed, key), "{}", signed);
            // It verifies every signature of a document, ours only the root's.
            if !signed.contains("<ds:SignedInfo/>") {
                let theirs = digested_by_libxmlsec(&signed, key);
                prop_assert_eq!(Some(ours.as_str()), theirs.as_deref(), "{}", signed);
            }
            Ok(())
        })
        .unwrap();
}

/// An aggregate with what real ones have, signed by elliptic keys and others.
fn originals() -> Vec<(String, &'static TestKey)> {
    let world = world();
    let inner = |prefix: &str| {
        let mut xml = String::new();
        let children: Vec<Node> = CHILDREN[..8].iter().map(|child| Node::Child("\r\n <!-- c -->", child)).collect();
        let group = Node::Group("\n", " Name=\"inner\"", vec![Node::Child("\n", CHILDREN[0])], "\n");
        write(&[children, vec![group]].concat(), prefix, &mut 0, &mut xml);
        xml
    };
    let whole = |recipe: Recipe| {
        format!(
            "<?xml version=\"1.0\"?>\n<md:EntitiesDescriptor xmlns:md=\"{MD}\" {UNUSED} ID=\"_r\" Name=\"n\">\n{}{}\n</md:EntitiesDescriptor>\n",
            recipe.template("_r"),
            inner("md:")
        )
    };
    let elliptic =
        Recipe { signature_algorithm: alg::ECDSA_SHA256, digest_algorithm: alg::SHA512, ..Recipe::default() };
    let long = Recipe { signature_algorithm: alg::RSA_SHA512, digest_algorithm: alg::SHA384, ..Recipe::default() };
    vec![
        (signed(&whole(Recipe::default()), &world.signing), &world.signing),
        (
            signed(&whole(Recipe { inclusive: Some("md xs #default"), ..Recipe::default() }), &world.signing),
            &world.signing,
        ),
        (signed(&whole(elliptic), &world.idp_key_ec), &world.idp_key_ec),
        (signed(&whole(long), &world.signing), &world.signing),
    ]
}

#[test]
fn what_we_accept_in_pieces_libxmlsec_accepts_after_any_mutation() {
    let originals = originals();
    for (xml, key) in &originals {
        assert!(accepts(xml, key) && libxmlsec_accepts(xml, key), "{xml}");
        assert!(!libxmlsec_accepts(&xml.replacen("a.example", "b.example", 1), key), "the second opinion is one");
    }
    let counts = std::cell::Cell::new((0_u32, 0_u32));
    let cases = (any::<prop::sample::Index>(), proptest::collection::vec(edit(), 1..3));
    runner(config(CASES))
        .run(&cases, |(which, edits)| {
            let (original, key) = which.get(&originals);
            let xml = edits.iter().fold(original.clone(), |xml, edit| edit.apply(&xml));
            metadata(xml.as_bytes(), std::slice::from_ref(&world().foreign_key.certificate));
            let (accepted, refused) = counts.get();
            if accepts(&xml, key) {
                counts.set((accepted + 1, refused));
                prop_assert!(accepts_as_one_tree(&xml, key), "one tree refuses: {}", xml);
                prop_assert!(libxmlsec_accepts(&xml, key), "libxmlsec refuses: {}", xml);
            } else {
                counts.set((accepted, refused + 1));
            }
            Ok(())
        })
        .unwrap();
    let (accepted, refused) = counts.get();
    assert!(accepted > CASES / 20 && refused > CASES / 4, "{accepted} accepted, {refused} refused");
}

#[test]
fn every_letter_of_the_signed_part_counts() {
    let (xml, key) = originals().swap_remove(0);
    let signature = cut(&xml, "<ds:Signature ", "</ds:Signature>");
    let skipped = [signature.as_str(), "<?xml version=\"1.0\"?>", "<!-- c -->", "<!-- gone -->", UNUSED];
    let mut tried = 0;
    let skips: Vec<_> =
        skipped.iter().flat_map(|part| xml.match_indices(part).map(|(at, text)| at..at + text.len())).collect();
    for (at, byte) in xml.bytes().enumerate() {
        if !byte.is_ascii_alphanumeric() || skips.iter().any(|range| range.contains(&at)) {
            continue;
        }
        let mut changed = xml.clone().into_bytes();
        changed[at] = if byte == b'x' { b'y' } else { b'x' };
        tried += 1;
        assert!(!accepts(std::str::from_utf8(&changed).unwrap(), &key), "{}", String::from_utf8_lossy(&changed));
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn entities_that_are_signed_themselves_do_not_confuse_the_signature_of_the_whole() {
    let world = world();
    let entity = format!(
        "<md:EntityDescriptor xmlns:md=\"{MD}\" ID=\"_e\" entityID=\"https://a.example\">{}</md:EntityDescriptor>",
        Recipe::default().template("_e")
    );
    let by_another = sign(&entity, &world.idp_key);
    let xml = format!(
        "<md:EntitiesDescriptor xmlns:md=\"{MD}\" ID=\"_r\">{}{by_another}</md:EntitiesDescriptor>",
        Recipe::default().template("_r")
    );
    let signed = sign(&xml, &world.signing);
    assert!(accepts(&signed, &world.signing) && accepts_as_one_tree(&signed, &world.signing));
    assert!(!accepts(&signed, &world.idp_key), "the key of an entity does not sign the whole");
    let same = sign(&xml.replacen(&by_another, &sign(&entity, &world.signing), 1), &world.signing);
    assert!(accepts(&same, &world.signing) && libxmlsec_accepts(&same, &world.signing));
}

#[test]
fn what_stands_between_entities_is_space_and_comments() {
    let key = &world().signing;
    let around = |inner: &str| {
        let xml = format!(
            "<md:EntitiesDescriptor xmlns:md=\"{MD}\" ID=\"_r\">{}{inner}</md:EntitiesDescriptor>",
            Recipe::default().template("_r")
        );
        let signed = sign(&xml, key);
        assert!(accepts_as_one_tree(&signed, key));
        in_pieces(&signed, &[])
    };
    let entity = "<md:EntityDescriptor/>";
    assert!(around(&format!(" {entity} <!-- c --> {entity}&#10;")).is_ok());
    for stray in ["x", "&amp;", "&#160;", "<![CDATA[ ]]>", "<?target?>", "\u{85}"] {
        for inner in [format!("{stray}{entity}"), format!("{entity}{stray}"), stray.to_owned()] {
            assert_eq!(around(&inner).unwrap_err(), Fault::Stray, "{inner}");
        }
    }
    assert_eq!(around("<EntitiesDescriptor xmlns=\"urn:x\"></EntitiesDescriptor>").unwrap_err(), Fault::NotMetadata);
}

#[test]
fn what_is_not_well_formed_or_too_much_has_a_name() {
    let head = format!("<md:EntitiesDescriptor xmlns:md=\"{MD}\" ID=\"_r\">");
    let signature = "<ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"/>";
    let fault = |inner: &str| in_pieces(&format!("{head}{signature}{inner}</md:EntitiesDescriptor>"), &[]).err();
    let malformed = Some(Fault::Xml(XmlFault::Malformed));
    assert_eq!(fault("<md:EntityDescriptor/>"), None);
    for inner in [
        "<a><b></a></b>",
        "</a>",
        "<a",
        "<!-- ",
        "<!-- -- -->",
        "<!-->",
        "<a b=\"1\" b=\"2\"/>",
        "<x:a/>",
        "<a>&undeclared;</a>",
        "<a>\u{1}</a>",
        "<md:EntitiesDescriptor></md:entitiesDescriptor>",
        "<md:EntitiesDescriptor></a></md:EntitiesDescriptor>",
        "<md:EntitiesDescriptor></md:EntitiesDescriptor a=\"1\">",
        "<md:EntitiesDescriptor></ md:EntitiesDescriptor>",
        "<md:EntitiesDescriptor></md:EntitiesDescriptor/>",
    ] {
        assert_eq!(fault(inner), malformed, "{inner}");
    }
    assert_eq!(fault("<!DOCTYPE a>"), Some(Fault::Xml(XmlFault::Doctype)));
    assert_eq!(fault("<a><!ENTITY b 'c'></a>"), Some(Fault::Xml(XmlFault::Doctype)));
    let duplicate = Some(Fault::Xml(XmlFault::DuplicateId));
    assert_eq!(fault("<a ID=\"_r\"/>"), duplicate, "the root's");
    assert_eq!(fault("<a ID=\"x\"/><b><c Id=\"x\"/></b>"), duplicate, "of another piece");
    assert_eq!(fault("<md:EntitiesDescriptor ID=\"g\"><a ID=\"g\"/></md:EntitiesDescriptor>"), duplicate);
    let group = "<md:EntitiesDescriptor ID=\"g\"></md:EntitiesDescriptor>";
    assert_eq!(fault(&format!("{group}{group}")), duplicate, "of two groups");
    assert_eq!(fault(&format!("{group}<a id=\"g\"/>")), duplicate, "of a group that is over");
    assert_eq!(fault("<a xmlns:x=\"relative\"/>"), Some(Fault::Xml(XmlFault::RelativeNamespace)));
    let nested = |depth: usize| {
        let (open, close) = ("<md:EntitiesDescriptor>", "</md:EntitiesDescriptor>");
        fault(&format!("{}{}", open.repeat(depth), close.repeat(depth)))
    };
    assert_eq!((nested(7), nested(8)), (None, Some(Fault::TooDeep)));
    assert_eq!(fault(&format!("<a>{}</a>", " ".repeat(1 << 20))), Some(Fault::PieceTooLarge));
    assert_eq!(fault(&format!("<!--{}--><a/>", " ".repeat(1 << 20))), Some(Fault::PieceTooLarge));
    assert_eq!(fault(&"<a/>".repeat(1 << 16)), Some(Fault::TooMany));
    let long = format!("<md:EntitiesDescriptor Name=\"{}\"></md:EntitiesDescriptor>", "n".repeat(8192));
    assert_eq!(fault(&long), Some(Fault::TagsTooLong));
    assert_eq!(
        in_pieces("<md:EntitiesDescriptor xmlns:md=\"urn:x\"></md:EntitiesDescriptor>", &[]).err(),
        Some(Fault::NotMetadata)
    );
    assert_eq!(in_pieces(&format!("{head}</md:EntitiesDescriptor>"), &[]).err(), Some(Fault::Unsigned));
    assert_eq!(in_pieces(&format!("{head}<a/>{signature}</md:EntitiesDescriptor>"), &[]).err(), Some(Fault::Unsigned));
    let followed_by = |after: &str| in_pieces(&format!("{head}{signature}</md:EntitiesDescriptor>{after}"), &[]).err();
    assert_eq!((followed_by("\n<!-- c -->"), followed_by("<a/>"), followed_by("a")), (None, malformed, malformed));
    assert_eq!(followed_by(&" ".repeat((1 << 20) + 1)), Some(Fault::PieceTooLarge));
}

/// A declaration at the root of those. It is not part of the canonical form.
const UNUSED: &str = "xmlns:xs=\"http://www.w3.org/2001/XMLSchema\"";
const CASES: u32 = 2000;
