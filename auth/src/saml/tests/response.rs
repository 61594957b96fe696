//! Each refusal for its own reason, with the honest response beside it.

use bergshamra_core::algorithm as alg;
use guichet_config::Category;
use proptest::prelude::*;

use super::{
    super::minter::{
        ACS, AFFILIATION, EPPN, Encryption, IDP, MAIL, NOW, REQUEST, Recipe, TestKey, at, audience, conditions,
        consume, consume_as, cut, encrypt, field, lenient, name_of, sign, world,
    },
    super::properties::unsigned_response,
    *,
};

fn accepted(recipe: &Recipe) {
    let login = consume(&recipe.xml()).unwrap();
    assert_eq!(name_of(&login), "ada@univ-a.example");
}

fn refused(xml: &str) -> Refusal {
    match consume(xml) {
        Ok(login) => panic!("accepted as {}", name_of(&login)),
        Err(refusal) => refusal,
    }
}

fn refused_by_lenient(xml: &str) -> Refusal {
    match consume_as(xml, &lenient(), NOW) {
        Ok(login) => panic!("accepted as {}", name_of(&login)),
        Err(refusal) => refusal,
    }
}

fn assertion_signed() -> Recipe {
    Recipe { sign_response: None, sign_assertion: Some(&world().idp_key), ..Recipe::default() }
}

#[test]
fn an_honest_response_names_the_user() {
    let login = consume(&Recipe::default().xml()).unwrap();
    assert_eq!(name_of(&login), "ada@univ-a.example");
    let identity = login.identity("ada@univ-a.example".parse().unwrap());
    assert_eq!((identity.tenant.as_str(), identity.category), ("univ-a", Category::Staff));
    assert_eq!(identity.method, Method::Saml);
    assert_eq!(login.session_not_after(), Some(NOW.plus(Duration::from_secs(3600))));
    assert_eq!(login.replay_ids(), [format!("{IDP} _response"), format!("{IDP} _assertion")]);
    assert_eq!(login.replay_until(), NOW.plus(Duration::from_secs(480)));
}

#[test]
fn a_response_counts_on_the_host_on_which_its_login_began() {
    let world = world();
    let other = "https://mail.univ-a.example/saml/acs";
    let at = |acs_url, recipe: &Recipe| {
        let expected = Expected {
            idp: &world.idp,
            request_id: REQUEST,
            acs_url,
            tenant: &world.tenant,
            asked: Asked::default(),
            clock_skew: Duration::from_secs(180),
            now: NOW,
        };
        super::consume(&field(&recipe.xml()), &world.sp, &expected).map(|_| ())
    };
    let honest = Recipe::default();
    assert_eq!(at(ACS, &honest), Ok(()));
    assert_eq!(at(other, &honest), Err(Refusal::Destination));
    let to_other = Recipe { destination: Some(other.to_owned()), ..honest.clone() };
    assert_eq!(at(other, &to_other), Err(Refusal::Recipient), "each of the two places counts");
    let all = Recipe { recipient: Some(other.to_owned()), ..to_other };
    assert_eq!(at(other, &all), Ok(()));
    assert_eq!(at(ACS, &all), Err(Refusal::Destination));
}

#[test]
fn every_signature_shape_in_use_is_accepted() {
    let world = world();
    for signature_algorithm in [alg::RSA_SHA256, alg::RSA_SHA384, alg::RSA_SHA512] {
        for digest_algorithm in [alg::SHA256, alg::SHA384, alg::SHA512] {
            accepted(&Recipe { signature_algorithm, digest_algorithm, ..Recipe::default() });
        }
    }
    accepted(&Recipe {
        signature_algorithm: alg::ECDSA_SHA256,
        sign_response: Some(&world.idp_key_ec),
        ..Recipe::default()
    });
    accepted(&Recipe { sign_assertion: Some(&world.idp_key), ..Recipe::default() });
    accepted(&Recipe { inclusive: Some("xs"), ..Recipe::default() });
    assert!(consume_as(&assertion_signed().xml(), &lenient(), NOW).is_ok());
}

#[test]
fn every_encryption_in_use_is_accepted() {
    let ours = Encryption::shibboleth;
    for data in [alg::AES128_GCM, alg::AES192_GCM, alg::AES256_GCM, alg::AES128_CBC, alg::AES192_CBC, alg::AES256_CBC] {
        accepted(&Recipe::encrypted(Encryption { data, ..ours() }));
    }
    accepted(&Recipe::encrypted(Encryption {
        key: alg::RSA_OAEP_ENC11,
        digest: alg::SHA256,
        mask: Some(alg::MGF1_SHA256),
        ..ours()
    }));
    accepted(&Recipe::encrypted(Encryption { beside: true, ..ours() }));
    accepted(&Recipe::encrypted(Encryption { recipient: Some("https://mail.example/saml/metadata"), ..ours() }));
    let old = world().encryption_old.certificate.clone();
    accepted(&Recipe::encrypted(Encryption { certificate: old, ..ours() }));
    let both = Recipe { sign_assertion: Some(&world().idp_key), ..Recipe::encrypted(ours()) };
    accepted(&both);
    let inner_only = Recipe { sign_response: None, ..both };
    assert!(consume_as(&inner_only.xml(), &lenient(), NOW).is_ok());
}

#[test]
fn a_prefix_declared_on_the_response_only_is_known_inside_the_ciphertext() {
    let recipe = Recipe::encrypted(Encryption::shibboleth());
    let bare = recipe.assertion().replacen(&format!(" xmlns:saml=\"{SAML}\""), "", 1);
    let xml = recipe.around(&encrypt(&bare, &Encryption::shibboleth()));
    assert!(consume(&xml).is_ok());
}

#[test]
fn line_breaks_in_the_form_field_are_skipped_and_nothing_else() {
    let world = world();
    let expected = Expected {
        idp: &world.idp,
        request_id: REQUEST,
        acs_url: ACS,
        tenant: &world.tenant,
        asked: Asked::default(),
        clock_skew: Duration::from_secs(180),
        now: NOW,
    };
    let whole = field(&Recipe::default().xml());
    let broken: Vec<u8> = whole.chunks(76).flat_map(|line| [line, b"\r\n"].concat()).collect();
    assert!(consume_field(&broken, &expected).is_ok());
    assert_eq!(consume_field(b"%%%", &expected), Err(Refusal::Encoding));
    assert_eq!(consume_field(&field("\u{feff}<a/>"), &expected), Err(Refusal::Malformed));
    assert_eq!(consume_field(b"/////w==", &expected), Err(Refusal::Encoding));
    assert_eq!(consume_field(&vec![b'A'; 256 * 1024 + 1], &expected), Err(Refusal::TooLarge));
    assert_eq!(consume_field(b"", &expected), Err(Refusal::Malformed));
}

fn consume_field(field: &[u8], expected: &Expected<'_>) -> Result<(), Refusal> {
    super::consume(field, &world().sp, expected).map(|_| ())
}

#[test]
fn documents_outside_our_xml_are_refused() {
    let honest = Recipe::default().xml();
    assert_eq!(refused(&format!("<!DOCTYPE x>{honest}")), Refusal::Doctype);
    assert_eq!(
        refused(&honest.replacen("<samlp:Status>", "<samlp:Status xmlns:r=\"rel\">", 1)),
        Refusal::RelativeNamespace
    );
    assert_eq!(refused(&honest.replacen("<saml:Subject>", "<saml:Subject ID=\"_response\">", 1)), Refusal::AmbiguousId);
    let polluted = honest.replacen("<saml:Subject>", "<saml:Subject xmlns:e=\"urn:e\" e:ID=\"_x\">", 1);
    assert_eq!(refused(&polluted), Refusal::AmbiguousId);
    assert_eq!(refused(&honest.replacen("</samlp:Response>", "", 1)), Refusal::Malformed);
    assert_eq!(refused(&honest.replace("Version=\"2.0\"", "Version=\"1.1\"")), Refusal::NotAResponse);
    assert_eq!(refused("<a/>"), Refusal::NotAResponse);
    let bomb = format!("{}{}", "<a>".repeat(5_000), "</a>".repeat(5_000));
    assert_eq!(refused(&bomb), Refusal::Malformed);
}

#[test]
fn unsigned_stripped_and_foreign_signatures_are_refused() {
    let world = world();
    let unsigned = Recipe { sign_response: None, ..Recipe::default() };
    assert_eq!(refused(&unsigned.xml()), Refusal::Unsigned);
    assert_eq!(refused_by_lenient(&unsigned.xml()), Refusal::Unsigned);
    let foreign = Recipe { sign_response: Some(&world.foreign_key), ..Recipe::default() };
    assert_eq!(refused(&foreign.xml()), Refusal::SignatureInvalid);
    let honest = Recipe::default().xml();
    let emptied = regex_between(&honest, "<ds:SignatureValue>", "</ds:SignatureValue>", "");
    assert_eq!(refused(&emptied), Refusal::SignatureShape);
    let elsewhere = regex_between(&honest, "<ds:SignatureValue>", "</ds:SignatureValue>", "AAAA");
    assert_eq!(refused(&elsewhere), Refusal::SignatureInvalid);
    assert_eq!(refused(&honest.replacen("Ada@", "Eve@", 1)), Refusal::SignatureInvalid);
    assert_eq!(refused(&honest.replacen(alg::RSA_SHA256, alg::RSA_SHA1, 1)), Refusal::SignatureAlgorithm);
    assert_eq!(refused(&honest.replacen(alg::RSA_SHA256, alg::HMAC_SHA256, 1)), Refusal::SignatureAlgorithm);
    assert_eq!(refused(&honest.replacen(alg::SHA256, alg::SHA1, 1)), Refusal::SignatureAlgorithm);
    assert_eq!(refused(&assertion_signed().xml()), Refusal::ResponseUnsigned);
    // One good and one bad signature: fatal in both places.
    let mixed = Recipe { sign_assertion: Some(&world.foreign_key), ..Recipe::default() };
    assert_eq!(refused(&mixed.xml()), Refusal::SignatureInvalid);
    let mixed =
        Recipe { sign_assertion: Some(&world.idp_key), sign_response: Some(&world.foreign_key), ..Recipe::default() };
    assert_eq!(refused(&mixed.xml()), Refusal::SignatureInvalid);
    let mixed = Recipe { sign_assertion: Some(&world.foreign_key), ..Recipe::encrypted(Encryption::shibboleth()) };
    assert_eq!(refused(&mixed.xml()), Refusal::SignatureInvalid);
}

#[test]
fn a_key_inside_the_document_is_not_trusted() {
    let foreign = &world().foreign_key;
    let recipe = Recipe { sign_response: Some(foreign), ..Recipe::default() };
    let certificate: String = foreign.certificate_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let info = format!(
        "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
    );
    let xml = recipe.xml().replacen("</ds:SignatureValue>", &format!("</ds:SignatureValue>{info}"), 1);
    assert_eq!(refused(&xml), Refusal::SignatureInvalid);
    // The same addition to an honest one does no harm.
    let honest = Recipe::default().xml().replacen("</ds:SignatureValue>", &format!("</ds:SignatureValue>{info}"), 1);
    assert!(consume(&honest).is_ok());
}

#[test]
fn an_idp_without_a_usable_key_is_refused() {
    let world = world();
    let mut idp = world.idp.clone();
    idp.signing_certificates.clear();
    let expected = Expected {
        idp: &idp,
        request_id: REQUEST,
        acs_url: ACS,
        tenant: &world.tenant,
        asked: Asked::default(),
        clock_skew: Duration::from_secs(180),
        now: NOW,
    };
    assert_eq!(consume_field(&field(&Recipe::default().xml()), &expected), Err(Refusal::NoKey));
    let unusable = IdpMetadata { signing_certificates: vec![b"not a certificate".to_vec()], ..idp.clone() };
    let expected = Expected { idp: &unusable, ..expected };
    assert_eq!(consume_field(&field(&Recipe::default().xml()), &expected), Err(Refusal::NoKey));
}

#[test]
fn signatures_of_another_shape_are_refused_before_any_cryptography() {
    let honest = Recipe::default().xml();
    let change = |from: &str, to: &str| {
        assert!(honest.contains(from), "{from}");
        refused(&honest.replacen(from, to, 1))
    };
    assert_eq!(change("URI=\"#_response\"", "URI=\"\""), Refusal::SignatureShape);
    assert_eq!(change("URI=\"#_response\"", "URI=\"#_assertion\""), Refusal::SignatureShape);
    assert_eq!(change("URI=\"#_response\"", "URI=\"passwd\""), Refusal::SignatureShape);
    assert_eq!(change("URI=\"#_response\"", "URI=\"http://127.0.0.1/x\""), Refusal::SignatureShape);
    assert_eq!(change("URI=\"#_response\"", "URI=\"#xpointer(/)\""), Refusal::SignatureShape);
    assert_eq!(change(alg::ENVELOPED_SIGNATURE, alg::XSLT), Refusal::SignatureShape);
    assert_eq!(change(alg::ENVELOPED_SIGNATURE, alg::XPATH), Refusal::SignatureShape);
    assert_eq!(change(alg::EXC_C14N, alg::EXC_C14N_WITH_COMMENTS), Refusal::SignatureShape);
    assert_eq!(change(alg::EXC_C14N, alg::C14N), Refusal::SignatureShape);
    let start = honest.find("<ds:Reference").unwrap();
    let end = honest.find("</ds:Reference>").unwrap() + "</ds:Reference>".len();
    let twice = honest.replacen("</ds:Reference>", &format!("</ds:Reference>{}", &honest[start..end]), 1);
    assert_eq!(refused(&twice), Refusal::SignatureShape);
    assert_eq!(refused(&honest.replacen(&honest[start..end], "", 1)), Refusal::SignatureShape);
    let info = honest[honest.find("<ds:SignedInfo>").unwrap()..honest.find("<ds:SignatureValue>").unwrap()].to_owned();
    assert_eq!(refused(&honest.replacen(&info, &format!("{info}{info}"), 1)), Refusal::SignatureShape);
    let object = honest.replacen("</ds:Signature>", "<ds:Object/></ds:Signature>", 1);
    assert_eq!(refused(&object), Refusal::SignatureShape);
}

/// Names follow SAML Raider. The forged part says `eve`, the signed one `ada`.
#[test]
fn wrapping_is_refused() {
    // XSW 1 and 2: a signed Response as a copy inside, before or after the signature, of a forged one.
    let honest = Recipe::default();
    let original = honest.xml();
    let signature = cut(&original, "<ds:Signature", "</ds:Signature>");
    let unsigned_copy = original.replacen(&signature, "", 1);
    let forged = unsigned_copy.replace("Ada@", "Eve@").replace("ID=\"_", "ID=\"_evil");
    let xsw1 = forged.replacen(
        "<samlp:Status>",
        &format!(
            "{}<samlp:Status>",
            signature.replacen("</ds:Signature>", &format!("{unsigned_copy}</ds:Signature>"), 1)
        ),
        1,
    );
    assert_eq!(refused(&xsw1), Refusal::AssertionCount);
    let xsw2 = forged.replacen("<samlp:Status>", &format!("{unsigned_copy}{signature}<samlp:Status>"), 1);
    assert_eq!(refused(&xsw2), Refusal::AssertionCount);

    // XSW 3 to 8: a signed Assertion moved beside, under, or into an object of the signature of a forged one.
    let recipe = assertion_signed();
    let genuine = recipe.assertion();
    let signature = cut(&genuine, "<ds:Signature", "</ds:Signature>");
    let bare = genuine.replacen(&signature, "", 1);
    let evil = bare.replace("Ada@", "Eve@").replacen("ID=\"_assertion\"", "ID=\"_evil\"", 1);
    let inside = |outer: &str, part: &str| outer.replacen("<saml:Subject>", &format!("{part}<saml:Subject>"), 1);
    let with_object =
        signature.replacen("</ds:Signature>", &format!("<ds:Object>{bare}</ds:Object></ds:Signature>"), 1);
    let cases = [
        ("xsw3", format!("{evil}{genuine}")),
        ("xsw4", inside(&evil, &genuine)),
        ("xsw5", format!("{}{bare}", inside(&evil, &signature))),
        ("xsw6", inside(&evil, &signature.replacen("</ds:Signature>", &format!("{bare}</ds:Signature>"), 1))),
        ("xsw7", format!("<samlp:Extensions>{evil}</samlp:Extensions>{genuine}")),
        ("xsw8", inside(&evil, &with_object)),
        ("xsw9", format!("{evil}<samlp:Extensions>{genuine}</samlp:Extensions>")),
    ];
    for (name, content) in cases {
        assert_eq!(refused_by_lenient(&recipe.around(&content)), Refusal::AssertionCount, "{name}");
    }
    // The signature of the genuine one under the forged one, same ID or not.
    assert_eq!(refused_by_lenient(&recipe.around(&inside(&evil, &signature))), Refusal::SignatureShape);
    let same_id = evil.replacen("_evil", "_assertion", 1);
    assert_eq!(refused_by_lenient(&recipe.around(&inside(&same_id, &signature))), Refusal::SignatureInvalid);
    assert!(consume_as(&recipe.around(&genuine), &lenient(), NOW).is_ok());
}

#[test]
fn assertions_are_counted_over_the_whole_tree() {
    let recipe = Recipe::default();
    let one = recipe.assertion();
    let other = one.replacen("_assertion", "_other", 1);
    assert_eq!(refused(&recipe.around(&format!("{one}{other}"))), Refusal::AssertionCount);
    assert_eq!(
        refused(&recipe.around(&format!("<samlp:Extensions>{one}</samlp:Extensions>"))),
        Refusal::AssertionCount
    );
    assert_eq!(refused(&recipe.around("")), Refusal::AssertionCount);
    let sealed = encrypt(&one, &Encryption::shibboleth());
    assert_eq!(refused(&recipe.around(&format!("{sealed}{other}"))), Refusal::AssertionCount);
    assert_eq!(refused(&recipe.around(&format!("{sealed}{sealed}"))), Refusal::AssertionCount);
}

#[test]
fn a_signature_elsewhere_is_refused() {
    let recipe = Recipe::default();
    let signature = cut(&recipe.xml(), "<ds:Signature", "</ds:Signature>");
    let xml = recipe.around(&recipe.assertion()).replacen("<samlp:Status>", &format!("<samlp:Status>{signature}"), 1);
    assert_eq!(refused(&xml), Refusal::SignaturePlace);
    let twice = recipe.xml().replacen(&signature, &format!("{signature}{signature}"), 1);
    assert_eq!(refused(&twice), Refusal::SignaturePlace);
    let stripped = recipe.xml().replacen(&signature, &signature.replace(DSIG, "urn:other"), 1);
    assert_eq!(refused(&stripped), Refusal::Unsigned);
}

#[test]
fn ciphertexts_that_nothing_vouches_for_are_refused() {
    let world = world();
    let ours = Encryption::shibboleth;
    let cbc = Encryption { data: alg::AES128_CBC, ..ours() };
    let bare = Recipe { sign_response: None, ..Recipe::encrypted(ours()) };
    assert_eq!(refused(&bare.xml()), Refusal::ResponseUnsigned);
    assert_eq!(refused_by_lenient(&bare.xml()), Refusal::Unsigned);
    let inner = |encryption| Recipe {
        sign_response: None,
        sign_assertion: Some(&world.idp_key),
        ..Recipe::encrypted(encryption)
    };
    assert_eq!(refused(&inner(ours()).xml()), Refusal::ResponseUnsigned);
    assert_eq!(refused_by_lenient(&inner(cbc.clone()).xml()), Refusal::UnauthenticatedCipher);
    assert!(consume_as(&inner(ours()).xml(), &lenient(), NOW).is_ok());
    let foreign = Encryption { certificate: world.foreign_key.certificate.clone(), ..ours() };
    assert_eq!(refused(&Recipe::encrypted(foreign).xml()), Refusal::Undecryptable);
    let addressed = Encryption { recipient: Some("https://other.example"), ..ours() };
    assert_eq!(refused(&Recipe::encrypted(addressed).xml()), Refusal::Undecryptable);
    let honest = inner(ours()).xml();
    let value = cut(&honest, "<xenc:CipherValue>", "</xenc:CipherValue>");
    for broken in ["AAAA", "", "A", "<!-- -->"] {
        let xml = honest.replacen(&value, &format!("<xenc:CipherValue>{broken}</xenc:CipherValue>"), 1);
        let expected = if broken == "AAAA" { Refusal::Undecryptable } else { Refusal::EncryptionShape };
        assert_eq!(refused_by_lenient(&xml), expected, "{broken}");
    }
    // A flipped bit in the data's ciphertext, which comes last.
    let last = honest.rfind("</xenc:CipherValue>").unwrap() - 40;
    let flipped = if &honest[last..=last] == "A" { "B" } else { "A" };
    assert_eq!(
        refused_by_lenient(&format!("{}{flipped}{}", &honest[..last], &honest[last + 1..])),
        Refusal::Undecryptable
    );
    let change = |from: &str, to: &str| refused_by_lenient(&honest.replacen(from, to, 1));
    assert_eq!(change(alg::AES128_GCM, alg::TRIPLEDES_CBC), Refusal::EncryptionAlgorithm);
    assert_eq!(change(alg::AES128_GCM, alg::AES128_CBC), Refusal::UnauthenticatedCipher);
    assert_eq!(change(alg::RSA_OAEP, alg::RSA_PKCS1), Refusal::EncryptionAlgorithm);
    assert_eq!(change(alg::RSA_OAEP, alg::KW_AES128), Refusal::EncryptionAlgorithm);
    assert_eq!(change(alg::SHA1, alg::SHA256), Refusal::EncryptionAlgorithm);
    let reference = format!("<xenc:CipherReference xmlns:xenc=\"{XENC}\" URI=\"passwd\"/>");
    assert_eq!(change(&value, &reference), Refusal::EncryptionShape);
}

#[test]
fn a_plaintext_holds_one_assertion_and_nothing_else() {
    let recipe = Recipe::encrypted(Encryption::shibboleth());
    let one = recipe.assertion();
    let other = one.replacen("_assertion", "_other", 1);
    let sealed = |plain: &str| recipe.around(&encrypt(plain, &Encryption::shibboleth()));
    assert!(consume(&sealed(&format!("\n{one} "))).is_ok());
    assert_eq!(refused(&sealed(&format!("{one}{other}"))), Refusal::AssertionCount);
    assert_eq!(refused(&sealed("no element")), Refusal::AssertionCount);
    assert_eq!(refused(&sealed(&format!("text{one}"))), Refusal::AssertionCount);
    assert_eq!(refused(&sealed(&format!("<x xmlns=\"urn:x\">{one}</x>"))), Refusal::AssertionCount);
    let closing = format!("</saml:EncryptedAssertion><saml:EncryptedAssertion>{one}");
    assert_eq!(refused(&sealed(&closing)), Refusal::AssertionCount);
    assert_eq!(refused(&sealed(&format!("<!DOCTYPE x>{one}"))), Refusal::Doctype);
    let nested = encrypt(&one, &Encryption::shibboleth());
    assert_eq!(refused(&sealed(&nested)), Refusal::AssertionCount);
}

#[test]
fn values_that_readers_could_read_differently_are_refused() {
    for value in
        ["ada@univ-a.example<!-- -->.evil", "ada<?x?>@univ-a.example", "<![CDATA[ada@univ-a.example]]>", "<b>ada</b>"]
    {
        let attributes = vec![(MAIL.to_owned(), vec![value.to_owned()])];
        assert_eq!(refused(&Recipe { attributes, ..Recipe::default() }.xml()), Refusal::ValueNotPlain, "{value}");
    }
    // In signed text a comment can be put without the IdP: exclusive C14N drops it.
    let honest = Recipe::default().xml();
    assert_eq!(refused(&honest.replacen("Ada@", "Ada@<!-- -->", 1)), Refusal::ValueNotPlain);
    assert_eq!(refused(&honest.replacen("x7f3", "x7<!-- -->f3", 1)), Refusal::ValueNotPlain);
    assert_eq!(refused(&honest.replacen(IDP, &format!("{IDP}<!-- -->"), 1)), Refusal::ValueNotPlain);
    // A comment where nothing is read does no harm.
    assert!(consume(&honest.replacen("<samlp:Status>", "<!-- --><samlp:Status>", 1)).is_ok());
    // An attribute that nobody reads may hold elements (eduPersonTargetedID).
    let mut attributes = Recipe::default().attributes;
    attributes.push(("urn:oid:1.3.6.1.4.1.5923.1.1.1.10".to_owned(), vec!["<saml:NameID>x</saml:NameID>".to_owned()]));
    accepted(&Recipe { attributes, ..Recipe::default() });
}

#[test]
fn issuers_must_be_the_idp_that_was_asked() {
    let other = "<saml:Issuer>https://idp.univ-b.example/idp</saml:Issuer>".to_owned();
    assert_eq!(refused(&Recipe { issuer: other.clone(), ..Recipe::default() }.xml()), Refusal::Issuer);
    assert_eq!(refused(&Recipe { assertion_issuer: other, ..Recipe::default() }.xml()), Refusal::Issuer);
    assert_eq!(refused(&Recipe { issuer: String::new(), ..Recipe::default() }.xml()), Refusal::IssuerMissing);
    assert_eq!(refused(&Recipe { assertion_issuer: String::new(), ..Recipe::default() }.xml()), Refusal::IssuerMissing);
    let format =
        format!("<saml:Issuer Format=\"urn:oasis:names:tc:SAML:2.0:nameid-format:transient\">{IDP}</saml:Issuer>");
    assert_eq!(refused(&Recipe { issuer: format, ..Recipe::default() }.xml()), Refusal::Issuer);
}

#[test]
fn the_same_response_does_not_open_another_tenant() {
    let mut other = world().tenant.clone();
    other.domains = vec!["univ-b.example".parse().unwrap()];
    assert_eq!(consume_as(&Recipe::default().xml(), &other, NOW).map(|_| ()), Err(Refusal::Domain));
    if let Some(idp) = other.idp.as_mut() {
        idp.entity_id = "https://idp.univ-b.example/idp".to_owned();
    }
    assert_eq!(consume_as(&Recipe::default().xml(), &other, NOW).map(|_| ()), Err(Refusal::Issuer));
    other.idp = None;
    assert_eq!(consume_as(&Recipe::default().xml(), &other, NOW).map(|_| ()), Err(Refusal::Issuer));
}

#[test]
fn an_error_of_the_idp_is_named() {
    let status = "<samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Responder\">\
        <samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:NoPassive\"/></samlp:StatusCode></samlp:Status>";
    let recipe = Recipe { status: status.to_owned(), ..Recipe::default() };
    assert_eq!(refused(&recipe.around("")), Refusal::Status { code: "NoPassive", signed: true });
    assert_eq!(refused(&recipe.xml()), Refusal::Status { code: "NoPassive", signed: true });
    let unsigned = Recipe { sign_response: None, ..recipe };
    assert_eq!(refused(&unsigned.around("")), Refusal::Status { code: "NoPassive", signed: false });
    let unknown =
        Recipe { status: status.replace("NoPassive", "<script>").replace("<script>", "x"), ..Recipe::default() };
    assert_eq!(refused(&unknown.around("")), Refusal::Status { code: "Responder", signed: true });
    assert_eq!(
        refused(&Recipe { status: String::new(), ..Recipe::default() }.xml()),
        Refusal::Status { code: "other", signed: true }
    );
}

#[test]
fn the_response_must_answer_our_request_at_our_door() {
    let wrong = || Some("https://mail.example/saml/acs/".to_owned());
    let recipe = Recipe::default;
    assert_eq!(refused(&Recipe { destination: wrong(), ..recipe() }.xml()), Refusal::Destination);
    assert_eq!(refused(&Recipe { destination: None, ..recipe() }.xml()), Refusal::Destination);
    assert_eq!(refused(&Recipe { recipient: wrong(), ..recipe() }.xml()), Refusal::Recipient);
    assert_eq!(refused(&Recipe { recipient: None, ..recipe() }.xml()), Refusal::Recipient);
    for other in [None, Some("_other".to_owned())] {
        assert_eq!(refused(&Recipe { in_response_to: other.clone(), ..recipe() }.xml()), Refusal::InResponseTo);
        assert_eq!(refused(&Recipe { subject_in_response_to: other, ..recipe() }.xml()), Refusal::InResponseTo);
    }
    let vouches = "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches".to_owned();
    assert_eq!(refused(&Recipe { method: vouches, ..recipe() }.xml()), Refusal::SubjectConfirmation);
    let without = recipe().assertion();
    let data = cut(&without, "<saml:SubjectConfirmation ", "</saml:SubjectConfirmation>");
    assert_eq!(refused(&recipe().around(&without.replacen(&data, "", 1))), Refusal::SubjectConfirmation);
    let lenient_without = Recipe { destination: None, ..assertion_signed() };
    assert!(consume_as(&lenient_without.xml(), &lenient(), NOW).is_ok());
    assert_eq!(refused_by_lenient(&Recipe { destination: wrong(), ..assertion_signed() }.xml()), Refusal::Destination);
}

#[test]
fn times_are_held_with_the_clock_difference_allowed() {
    let recipe = Recipe::default;
    let tenant = &world().tenant;
    let at_time =
        |seconds: i64| consume_as(&recipe().xml(), tenant, WallTime(NOW.0.saturating_add_signed(seconds * 1000)));
    assert!(at_time(479).is_ok());
    assert_eq!(at_time(480).map(|_| ()), Err(Refusal::Expired));
    assert!(at_time(-184).is_ok());
    assert_eq!(at_time(-185).map(|_| ()), Err(Refusal::NotYetValid));
    assert_eq!(refused(&Recipe { not_on_or_after: None, ..recipe() }.xml()), Refusal::Endless);
    assert_eq!(refused(&Recipe { not_on_or_after: Some(-181), ..recipe() }.xml()), Refusal::Expired);
    let expired = conditions(&audience(super::super::minter::SP)).replacen(&at(300), &at(-181), 1);
    assert_eq!(refused(&Recipe { conditions: expired, ..recipe() }.xml()), Refusal::Expired);
    let future = conditions(&audience(super::super::minter::SP)).replacen(&at(-60), &at(181), 1);
    assert_eq!(refused(&Recipe { conditions: future, ..recipe() }.xml()), Refusal::NotYetValid);
    let session = format!("<saml:AuthnStatement AuthnInstant=\"{}\" SessionNotOnOrAfter=\"{}\"/>", at(-30), at(-181));
    assert_eq!(refused(&Recipe { authn_statement: session, ..recipe() }.xml()), Refusal::Expired);
    let later = format!("<saml:AuthnStatement AuthnInstant=\"{}\"/>", at(181));
    assert_eq!(refused(&Recipe { authn_statement: later, ..recipe() }.xml()), Refusal::NotYetValid);
    assert_eq!(refused(&Recipe { authn_statement: String::new(), ..recipe() }.xml()), Refusal::AuthnStatement);
    let nonsense = "<saml:AuthnStatement AuthnInstant=\"yesterday\"/>".to_owned();
    assert_eq!(refused(&Recipe { authn_statement: nonsense, ..recipe() }.xml()), Refusal::Time);
}

#[test]
fn conditions_must_be_there_known_and_ours() {
    let ours = audience(super::super::minter::SP);
    let with = |inner: &str| Recipe { conditions: conditions(inner), ..Recipe::default() };
    assert_eq!(refused(&Recipe { conditions: String::new(), ..Recipe::default() }.xml()), Refusal::Conditions);
    assert_eq!(refused(&with("").xml()), Refusal::Audience);
    assert_eq!(refused(&with(&audience("https://other.example")).xml()), Refusal::Audience);
    assert_eq!(refused(&with(&format!("{ours}{}", audience("https://other.example"))).xml()), Refusal::Audience);
    assert_eq!(refused(&with(&format!("{ours}<saml:Condition/>")).xml()), Refusal::ConditionUnknown);
    assert_eq!(refused(&with(&format!("{ours}<x:New xmlns:x=\"urn:x\"/>")).xml()), Refusal::ConditionUnknown);
    accepted(&with(&format!("{ours}<saml:OneTimeUse/><saml:ProxyRestriction Count=\"0\"/>")));
    let several =
        ours.replacen("<saml:Audience>", "<saml:Audience>https://other.example</saml:Audience><saml:Audience>", 1);
    accepted(&with(&several));
}

#[test]
fn scopes_and_domains_gate_the_address() {
    let with = |attributes: &[(&str, &[&str])]| {
        let attributes = attributes
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
            .collect();
        consume(&Recipe { attributes, ..Recipe::default() }.xml()).map(|login| name_of(&login).to_owned())
    };
    let ada = || Ok("ada@univ-a.example".to_owned());
    assert_eq!(with(&[(EPPN, &["ada@univ-a.example"])]), ada());
    assert_eq!(with(&[(EPPN, &["ada@UNIV-A.example"])]), ada());
    assert_eq!(with(&[(MAIL, &["ada@gmail.example", "ada@univ-a.example"])]), ada());
    assert_eq!(with(&[(MAIL, &["ada@gmail.example"]), (EPPN, &["ada@univ-a.example"])]), ada());
    for foreign in [
        "ada@univ-b.example",
        "ada@evil-univ-a.example",
        "ada@x.univ-a.example",
        "ada@univ-a.example@univ-b.example",
        "ada@univ-b.example@univ-a.example",
        "ada@",
        "@univ-a.example",
        "ada",
        "ada@univ-\u{430}.example",
        "ada@etu.univ-a.example",
    ] {
        assert_eq!(with(&[(EPPN, &[foreign])]), Err(Refusal::Scope), "{foreign}");
    }
    assert_eq!(with(&[(MAIL, &["ada@univ-b.example"])]), Err(Refusal::Domain));
    assert_eq!(with(&[(MAIL, &["ada@x@univ-a.example"])]), Err(Refusal::AddressMissing));
    assert_eq!(with(&[("mail", &["ada@univ-a.example"])]), Err(Refusal::AddressMissing));
    assert_eq!(with(&[]), Err(Refusal::AddressMissing));
    // A student domain of the tenant is fine for mail, which has no scope.
    assert_eq!(with(&[(MAIL, &["ada@etu.univ-a.example"])]), Ok("ada@etu.univ-a.example".to_owned()));
}

#[test]
fn affiliations_tell_the_category() {
    let with = |values: &[&str]| {
        let mut recipe = Recipe::default();
        recipe.attributes.retain(|(name, _)| name != AFFILIATION);
        recipe.attributes.push((AFFILIATION.to_owned(), values.iter().map(|value| (*value).to_owned()).collect()));
        let mut tenant = world().tenant.clone();
        tenant.category = Category::Student;
        consume_as(&recipe.xml(), &tenant, NOW).unwrap().category
    };
    assert_eq!(with(&["member", "Faculty"]), Category::Staff);
    assert_eq!(with(&["student", "employee"]), Category::Staff);
    assert_eq!(with(&["student"]), Category::Student);
    assert_eq!(with(&["affiliate"]), Category::Student);
    assert_eq!(with(&["staff@univ-a.example"]), Category::Staff);
    assert_eq!(with(&["staff@univ-b.example"]), Category::Student);
}

#[test]
fn kinds_of_refusals_differ() {
    let some = [Refusal::Scope, Refusal::Domain, Refusal::Issuer, Refusal::IssuerMissing, Refusal::Expired];
    let kinds: std::collections::HashSet<_> = some.iter().map(Refusal::kind).collect();
    assert_eq!(kinds.len(), some.len());
    assert_eq!(
        Refusal::Status { code: "AuthnFailed", signed: false }.to_string(),
        "the identity provider answered AuthnFailed (unsigned)"
    );
}

/// What libxmlsec1 verifies through `samael` must agree on honest responses and on a changed one.
#[test]
fn libxmlsec_agrees_on_signatures() {
    use samael::crypto::{CertificateDer, Crypto, CryptoProvider as _};
    let certificate = CertificateDer::from(world().idp_key.certificate.clone());
    let honest = Recipe::default().xml();
    assert!(Crypto::verify_signed_xml(honest.clone(), &certificate, Some("ID")).is_ok());
    assert!(Crypto::verify_signed_xml(honest.replacen("Ada@", "Eve@", 1), &certificate, Some("ID")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is changed in a signed response, either it is refused or it still says what was signed.
    #[test]
    fn no_mutation_yields_another_identity(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6_u8), 1..4)) {
        let mut bytes = honest_bytes().clone();
        for (at, other, kind) in edits {
            mutate(&mut bytes, &at, &other, kind);
        }
        let xml = String::from_utf8_lossy(&bytes).into_owned();
        if let Ok(login) = consume_as(&xml, &lenient(), NOW) {
            prop_assert_eq!(name_of(&login), "ada@univ-a.example");
        }
    }

    #[test]
    fn what_nobody_signed_opens_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6_u8), 1..4),
    ) {
        let world = world();
        let expected = Expected { idp: &world.idp, request_id: REQUEST, acs_url: ACS, tenant: &lenient(), asked: Asked::default(), clock_skew: Duration::ZERO, now: NOW };
        unsigned_response(&bytes, &world.sp, &expected);
        let mut forged = foreign_bytes().clone();
        for (at, other, kind) in edits {
            mutate(&mut forged, &at, &other, kind);
        }
        unsigned_response(&forged, &world.sp, &expected);
    }
}

/// Signed by a key that the metadata does not have.
fn foreign_bytes() -> &'static Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| {
        let key = Some(&world().foreign_key);
        Recipe { sign_response: key, sign_assertion: key, ..Recipe::default() }.xml().into_bytes()
    })
}

fn honest_bytes() -> &'static Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| Recipe { sign_assertion: Some(&world().idp_key), ..Recipe::default() }.xml().into_bytes())
}

/// Bytes, and pieces that attackers use: elements copied, moved and dropped, the name changed.
fn mutate(bytes: &mut Vec<u8>, at: &prop::sample::Index, other: &prop::sample::Index, kind: u8) {
    let tags: Vec<usize> = (0..bytes.len()).filter(|index| bytes[*index] == b'<').collect();
    if tags.is_empty() {
        return;
    }
    let (from, to) = (tags[at.index(tags.len())], tags[other.index(tags.len())]);
    let (low, high) = (from.min(to), from.max(to));
    match kind {
        0 => {
            let place = at.index(bytes.len());
            bytes[place] = u8::try_from(other.index(256)).unwrap();
        }
        1 => drop(bytes.splice(low..low, *b"<!-- x -->")),
        2 => {
            let piece = bytes[low..high].to_vec();
            drop(bytes.splice(high..high, piece));
        }
        3 => drop(bytes.drain(low..high)),
        4 => {
            let text = String::from_utf8_lossy(bytes).replacen("Ada@", "Eve@", 1).replacen("ada@", "eve@", 1);
            *bytes = text.into_bytes();
        }
        _ => {
            let piece =
                String::from_utf8_lossy(&bytes[low..high]).replace("Ada@", "Eve@").replace("_assertion", "_evil");
            drop(bytes.splice(high..high, piece.into_bytes()));
        }
    }
}

fn regex_between(text: &str, from: &str, to: &str, new: &str) -> String {
    let old = cut(text, from, to);
    text.replacen(&old, &format!("{from}{new}{to}"), 1)
}

#[test]
fn the_minter_signs_with_the_key_it_is_given() {
    let other = TestKey::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let recipe = Recipe { signature_algorithm: alg::ECDSA_SHA256, ..Recipe::default() };
    let xml = format!("<a xmlns=\"urn:x\" ID=\"i\">{}</a>", recipe.template("i"));
    assert_ne!(sign(&xml, &other), xml);
    assert_eq!(ACS, world().sp.acs_urls().next().unwrap());
}

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const XENC: &str = "http://www.w3.org/2001/04/xmlenc#";
