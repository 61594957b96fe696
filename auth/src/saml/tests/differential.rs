//! A second opinion on every signature: libxmlsec1, through `samael`, on minted and mutated documents. What we accept, it
//! must accept too, and it must find the same person in what is signed.

use bergshamra_core::algorithm as alg;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use samael::crypto::{CertificateDer, Crypto, CryptoProvider as _, ReduceMode};

use super::minter::{NOW, Recipe, TestKey, consume_as, lenient, name_of, world};

/// The documents that are mutated, with the key that signed.
fn originals() -> Vec<(String, &'static TestKey)> {
    let world = world();
    let plain = Recipe::default;
    let assertion_only = || Recipe { sign_response: None, sign_assertion: Some(&world.idp_key), ..plain() };
    let elliptic = Recipe {
        sign_response: Some(&world.idp_key_ec),
        signature_algorithm: alg::ECDSA_SHA256,
        digest_algorithm: alg::SHA512,
        ..plain()
    };
    vec![
        (plain().xml(), &world.idp_key),
        (Recipe { sign_assertion: Some(&world.idp_key), ..plain() }.xml(), &world.idp_key),
        (assertion_only().xml(), &world.idp_key),
        (Recipe { inclusive: Some("xs saml"), ..assertion_only() }.xml(), &world.idp_key),
        (
            Recipe { signature_algorithm: alg::RSA_SHA512, digest_algorithm: alg::SHA384, ..plain() }.xml(),
            &world.idp_key,
        ),
        (elliptic.xml(), &world.idp_key_ec),
    ]
}

/// What libxmlsec1 holds to be signed.
fn signed_part(xml: &str, key: &TestKey) -> Option<String> {
    let certificates = [CertificateDer::from(key.certificate.clone())];
    Crypto::reduce_xml_to_signed(xml, &certificates, ReduceMode::ValidateAndMark).ok()
}

/// A change to a document.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// A byte becomes another one.
    Byte(prop::sample::Index, u8),
    /// A piece from one tag to another is dropped, copied or moved.
    Drop(prop::sample::Index, prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index, prop::sample::Index),
    Move(prop::sample::Index, prop::sample::Index, prop::sample::Index),
    /// Something is put before a tag: comments, space, instructions, references.
    Insert(prop::sample::Index, &'static str),
    /// Something is put into a tag: attributes, declarations.
    Attribute(prop::sample::Index, &'static str),
    /// Two spellings that mean the same, or not quite.
    Respell(&'static str, &'static str),
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        1 => (index(), index()).prop_map(|(from, to)| Edit::Drop(from, to)),
        2 => (index(), index(), index()).prop_map(|(from, to, at)| Edit::Copy(from, to, at)),
        2 => (index(), index(), index()).prop_map(|(from, to, at)| Edit::Move(from, to, at)),
        4 => (index(), prop::sample::select(INSERTS)).prop_map(|(at, what)| Edit::Insert(at, what)),
        4 => (index(), prop::sample::select(ATTRIBUTES)).prop_map(|(at, what)| Edit::Attribute(at, what)),
        4 => prop::sample::select(SPELLINGS).prop_map(|(from, to)| Edit::Respell(from, to)),
    ]
}

impl Edit {
    pub(super) fn apply(&self, xml: &str) -> String {
        let starts: Vec<usize> = xml.match_indices('<').map(|(at, _)| at).collect();
        let ends: Vec<usize> = xml
            .match_indices('>')
            .filter(|(at, _)| *at > 0 && !matches!(xml.as_bytes()[at - 1], b'/' | b'-' | b'?'))
            .map(|(at, _)| at)
            .collect();
        if starts.is_empty() || ends.is_empty() {
            return xml.to_owned();
        }
        let place = |index: &prop::sample::Index| starts[index.index(starts.len())];
        let piece = |from, to| {
            let (from, to) = (place(from), place(to));
            from.min(to)..from.max(to)
        };
        let put = |at: usize, what: &str| format!("{}{what}{}", &xml[..at], &xml[at..]);
        match self {
            Self::Byte(at, byte) => {
                let mut bytes = xml.as_bytes().to_vec();
                let at = at.index(bytes.len());
                bytes[at] = *byte;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Self::Drop(from, to) => {
                let piece = piece(from, to);
                format!("{}{}", &xml[..piece.start], &xml[piece.end..])
            }
            Self::Copy(from, to, at) => put(place(at), &xml[piece(from, to)]),
            Self::Move(from, to, at) => {
                let (piece, at) = (piece(from, to), place(at));
                if piece.contains(&at) {
                    return xml.to_owned();
                }
                let (low, high) = (&xml[..piece.start], &xml[piece.end..]);
                if at < piece.start {
                    format!("{}{}{}{high}", &low[..at], &xml[piece.clone()], &low[at..])
                } else {
                    let at = at - piece.end;
                    format!("{low}{}{}{}", &high[..at], &xml[piece.clone()], &high[at..])
                }
            }
            Self::Insert(at, what) => put(place(at), what),
            Self::Attribute(at, what) => put(ends[at.index(ends.len())], what),
            Self::Respell(from, to) => xml.replacen(from, to, 1),
        }
    }
}

#[test]
fn what_we_accept_libxmlsec_accepts_and_reads_alike() {
    let originals = originals();
    for (xml, key) in &originals {
        assert!(consume_as(xml, &lenient(), NOW).is_ok());
        assert!(signed_part(xml, key).is_some_and(|part| part.contains("Ada@univ-a.example")));
        assert!(signed_part(&xml.replacen("Ada@", "Eve@", 1), key).is_none(), "the second opinion is one");
    }
    let (mut accepted, mut refused) = (0_u32, 0_u32);
    let cases = (any::<prop::sample::Index>(), proptest::collection::vec(edit(), 1..4));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let counts = std::cell::RefCell::new((&mut accepted, &mut refused));
    // The same mutations each time: what they find is found before it lands. GUICHET_SEED asks for others.
    let outcome = runner(config).run(&cases, |(which, edits)| {
        let (original, key) = which.get(&originals);
        let xml = edits.iter().fold(original.clone(), |xml, edit| edit.apply(&xml));
        match consume_as(&xml, &lenient(), NOW) {
            Ok(login) => {
                *counts.borrow_mut().0 += 1;
                prop_assert_eq!(name_of(&login), "ada@univ-a.example");
                let part = signed_part(&xml, key);
                prop_assert!(part.is_some(), "we accept, they refuse: {}", xml);
                prop_assert!(
                    part.is_some_and(|part| part.contains("Ada@univ-a.example")),
                    "not in the signed part: {}",
                    xml
                );
            }
            Err(_) => *counts.borrow_mut().1 += 1,
        }
        Ok(())
    });
    outcome.unwrap();
    // Mutations that are all refused would prove nothing.
    assert!(accepted > CASES / 20 && refused > CASES / 4, "{accepted} accepted, {refused} refused");
}

/// The same cases each time; `GUICHET_SEED` asks for others.
pub(super) fn runner(config: Config) -> TestRunner {
    if std::env::var_os("GUICHET_SEED").is_some() {
        return TestRunner::new(config);
    }
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

const CASES: u32 = 3000;

const INSERTS: &[&str] = &[
    "<!-- x -->",
    " ",
    "\n",
    "&#10;",
    "<?x y?>",
    "<x:y xmlns:x=\"urn:x\" ID=\"_x\"/>",
    "<samlp:Extensions/>",
    "<saml:Issuer>https://idp.univ-b.example/idp</saml:Issuer>",
];

const ATTRIBUTES: &[&str] = &[
    " Consent=\"urn:x\"",
    " xmlns:x=\"urn:x\"",
    " xmlns=\"urn:x\"",
    " xmlns:xs=\"http://www.w3.org/2001/XMLSchema\"",
    " Id=\"_other\"",
    " xml:space=\"preserve\"",
    " xml:lang=\"fr\"",
    " ",
];

const SPELLINGS: &[(&str, &str)] = &[
    (" Version=\"2.0\"", " Version='2.0'"),
    (" Version=\"2.0\"", "  Version = \"2.0\""),
    ("Success", "Succ&#101;ss"),
    ("univ-a.example", "univ&#x2D;a.example"),
    ("<saml:NameID>x7f3</saml:NameID>", "<saml:NameID\n>x7f3</saml:NameID >"),
    ("xmlns:ds=", "xmlns:dz="),
    ("Ada@", "Eve@"),
    ("ID=\"_response\"", "ID=\"_other\""),
    ("</samlp:Response>", "</samlp:Response>\n<!-- x -->"),
    ("<samlp:Response ", "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<samlp:Response "),
];
