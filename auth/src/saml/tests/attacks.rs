//! The attacks that service providers fell for, one line each: minted, and refused for its own named reason. The honest
//! response that each starts from is accepted beside it, else a consumer that refuses everything would pass.

use std::time::Duration;

use bergshamra_core::algorithm as alg;

use super::{
    Asked, Expected, IdpMetadata, Refusal,
    minter::{
        ACS, EPPN, Encryption, IDP, MAIL, NOW, REQUEST, Recipe, SP, at, audience, conditions, consume, consume_as, cut,
        encrypt, field, lenient, name_of, sign, world,
    },
    response, xml,
};
use crate::store::Store;

/// Name, document, reason.
type Line = (&'static str, String, Refusal);

fn refuse(lines: Vec<Line>) {
    let tenant = lenient();
    for (name, xml, reason) in lines {
        // Whatever a tenant that also takes signed assertions refuses, the strict one refuses.
        match consume_as(&xml, &tenant, NOW) {
            Ok(login) => panic!("{name}: accepted as {}", name_of(&login)),
            Err(refusal) => assert_eq!(refusal, reason, "{name}"),
        }
        assert!(consume(&xml).is_err(), "{name}");
    }
}

fn signed_assertion() -> Recipe {
    Recipe { sign_response: None, sign_assertion: Some(&world().idp_key), ..Recipe::default() }
}

fn inside(outer: &str, part: &str) -> String {
    outer.replacen("<saml:Subject>", &format!("{part}<saml:Subject>"), 1)
}

/// Numbers follow SAML Raider: a forged part says `eve`, the signed one `ada`.
#[test]
fn wrapped_signatures() {
    let honest = Recipe::default();
    let original = honest.xml();
    assert!(consume(&original).is_ok());
    let signature = cut(&original, "<ds:Signature", "</ds:Signature>");
    let copy = original.replacen(&signature, "", 1);
    let forged = copy.replace("Ada@", "Eve@").replace("ID=\"_", "ID=\"_evil");
    let before_status = |part: &str| forged.replacen("<samlp:Status>", &format!("{part}<samlp:Status>"), 1);
    let with = |part: &str| signature.replacen("</ds:Signature>", &format!("{part}</ds:Signature>"), 1);

    let recipe = signed_assertion();
    let genuine = recipe.assertion();
    assert!(consume_as(&recipe.around(&genuine), &lenient(), NOW).is_ok());
    let inner = cut(&genuine, "<ds:Signature", "</ds:Signature>");
    let bare = genuine.replacen(&inner, "", 1);
    let evil = bare.replace("Ada@", "Eve@").replacen("ID=\"_assertion\"", "ID=\"_evil\"", 1);
    let inner_with = |part: &str| inner.replacen("</ds:Signature>", &format!("{part}</ds:Signature>"), 1);
    let object = format!("<ds:Object>{bare}</ds:Object>");
    let extensions = |part: &str| format!("<samlp:Extensions>{part}</samlp:Extensions>");
    let sealed_evil = encrypt(&evil, &Encryption::shibboleth());
    let foreign = |part: &str| format!("<x xmlns=\"urn:x\">{part}</x>");

    let unsigned = Recipe { sign_response: None, ..Recipe::default() };
    let count = || Refusal::AssertionCount;
    refuse(vec![
        ("xsw1: the signed response in the signature of a forged one", before_status(&with(&copy)), count()),
        ("xsw2: the signed response beside the signature", before_status(&format!("{copy}{signature}")), count()),
        ("xsw3: a forged assertion before the signed one", recipe.around(&format!("{evil}{genuine}")), count()),
        ("xsw4: the signed assertion in a forged one", recipe.around(&inside(&evil, &genuine)), count()),
        (
            "xsw5: the signature moved into a forged one",
            recipe.around(&format!("{}{bare}", inside(&evil, &inner))),
            count(),
        ),
        ("xsw6: the signed one in the moved signature", recipe.around(&inside(&evil, &inner_with(&bare))), count()),
        ("xsw7: a forged one in Extensions", recipe.around(&format!("{}{genuine}", extensions(&evil))), count()),
        ("xsw8: the signed one in an Object", recipe.around(&inside(&evil, &inner_with(&object))), count()),
        ("xsw9: the signed one in Extensions", recipe.around(&format!("{evil}{}", extensions(&genuine))), count()),
        ("a forged encrypted one beside", recipe.around(&format!("{}{sealed_evil}", extensions(&genuine))), count()),
        ("one in a foreign element", recipe.around(&foreign(&genuine)), count()),
        ("two under one valid signature", honest.around(&format!("{bare}{evil}")), count()),
        ("the signature of one under another", recipe.around(&inside(&evil, &inner)), Refusal::SignatureShape),
        (
            "the same with the ID of the signed one",
            recipe.around(&inside(&evil.replacen("_evil", "_assertion", 1), &inner)),
            Refusal::SignatureInvalid,
        ),
        (
            "the response's signature on the assertion",
            unsigned.around(&inside(&bare, &signature)),
            Refusal::SignatureShape,
        ),
    ]);
}

#[test]
fn signatures_that_are_none() {
    let world = world();
    let honest = Recipe::default().xml();
    let signature = cut(&honest, "<ds:Signature", "</ds:Signature>");
    let value = cut(&honest, "<ds:SignatureValue>", "</ds:SignatureValue>");
    let digest = cut(&honest, "<ds:DigestValue>", "</ds:DigestValue>");
    let reference = cut(&honest, "<ds:Reference", "</ds:Reference>");
    let info = cut(&honest, "<ds:SignedInfo>", "</ds:SignedInfo>");
    let change = |from: &str, to: &str| {
        assert!(honest.contains(from), "{from}");
        honest.replacen(from, to, 1)
    };
    let certificate: String =
        world.foreign_key.certificate_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let brought = format!(
        "</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data>\
         </ds:KeyInfo>"
    );
    let foreign = Recipe { sign_response: Some(&world.foreign_key), ..Recipe::default() }.xml();
    let elliptic =
        Recipe { signature_algorithm: alg::ECDSA_SHA256, sign_response: Some(&world.idp_key_ec), ..Recipe::default() }
            .xml();
    assert!(consume(&elliptic).is_ok());
    let point = cut(&elliptic, "<ds:SignatureValue>", "</ds:SignatureValue>");
    let point_bytes = decoded(&point);
    let zero = format!("<ds:SignatureValue>{}==</ds:SignatureValue>", "A".repeat(86));
    let sha1 = change(alg::SHA256, alg::SHA1);
    let bare = Recipe { sign_response: None, ..Recipe::default() }.xml();
    let empty_reference = Recipe::default().template("_response").replacen("URI=\"#_response\"", "URI=\"\"", 1);
    let whole = bare.replacen("<samlp:Status>", &format!("{empty_reference}<samlp:Status>"), 1);
    let whole = sign(&whole, &world.idp_key);
    let shape = || Refusal::SignatureShape;
    refuse(vec![
        ("no signature at all", Recipe { sign_response: None, ..Recipe::default() }.xml(), Refusal::Unsigned),
        ("signature stripped", change(&signature, ""), Refusal::Unsigned),
        ("signature in a foreign namespace", honest.replace(xml::DS, "urn:other"), Refusal::Unsigned),
        ("signature twice", change(&signature, &format!("{signature}{signature}")), Refusal::SignaturePlace),
        (
            "signature moved into Status",
            change(&signature, "").replacen("<samlp:Status>", &format!("<samlp:Status>{signature}"), 1),
            Refusal::SignaturePlace,
        ),
        ("signature value empty", change(&value, "<ds:SignatureValue/>"), shape()),
        ("signature value a comment", change(&value, "<ds:SignatureValue><!-- --></ds:SignatureValue>"), shape()),
        (
            "signature value of another",
            change(&value, &cut(&foreign, "<ds:SignatureValue>", "</ds:SignatureValue>")),
            Refusal::SignatureInvalid,
        ),
        ("comment in the digest", change("<ds:DigestValue>", "<ds:DigestValue><!-- x -->"), shape()),
        ("digest empty", change(&digest, "<ds:DigestValue/>"), shape()),
        ("two digests", change(&digest, &format!("{digest}{digest}")), shape()),
        ("no reference", change(&reference, ""), shape()),
        ("two references", change(&reference, &format!("{reference}{reference}")), shape()),
        ("two SignedInfo", change(&info, &format!("{info}{info}")), shape()),
        ("a manifest", change("</ds:Signature>", "<ds:Object><ds:Manifest/></ds:Object></ds:Signature>"), shape()),
        ("reference to everything", change("URI=\"#_response\"", "URI=\"\""), shape()),
        ("reference to everything, and valid", whole, shape()),
        ("reference to the assertion only", change("URI=\"#_response\"", "URI=\"#_assertion\""), shape()),
        ("reference to a file", change("URI=\"#_response\"", "URI=\"file:///etc/passwd\""), shape()),
        ("reference to a URL", change("URI=\"#_response\"", "URI=\"http://127.0.0.1/x\""), shape()),
        ("reference by XPointer", change("URI=\"#_response\"", "URI=\"#xpointer(id('_response'))\""), shape()),
        ("XSLT transform", change(alg::ENVELOPED_SIGNATURE, alg::XSLT), shape()),
        ("XPath transform", change(alg::ENVELOPED_SIGNATURE, alg::XPATH), shape()),
        ("canonicalization with comments", change(alg::EXC_C14N, alg::EXC_C14N_WITH_COMMENTS), shape()),
        (
            "a hundred transforms",
            change(
                "<ds:Transforms>",
                &format!("<ds:Transforms>{}", format!("<ds:Transform Algorithm=\"{}\"/>", alg::EXC_C14N).repeat(100)),
            ),
            shape(),
        ),
        ("RSA with SHA-1", change(alg::RSA_SHA256, alg::RSA_SHA1), Refusal::SignatureAlgorithm),
        ("digest with SHA-1", sha1, Refusal::SignatureAlgorithm),
        ("RSA with MD5", change(alg::RSA_SHA256, MD5_RSA), Refusal::SignatureAlgorithm),
        ("digest with MD5", change(alg::SHA256, MD5), Refusal::SignatureAlgorithm),
        ("HMAC keyed with the certificate", change(alg::RSA_SHA256, alg::HMAC_SHA256), Refusal::SignatureAlgorithm),
        ("an unknown algorithm", change(alg::RSA_SHA256, "urn:none"), Refusal::SignatureAlgorithm),
        ("RSA signature called ECDSA", change(alg::RSA_SHA256, alg::ECDSA_SHA256), Refusal::SignatureInvalid),
        ("ECDSA of zeros", elliptic.replacen(&point, &zero, 1), Refusal::SignatureInvalid),
        ("ECDSA as DER", elliptic.replacen(&point, &encoded(&as_der(&point_bytes)), 1), Refusal::SignatureInvalid),
        (
            "ECDSA too short",
            elliptic.replacen(&point, "<ds:SignatureValue>AAAA</ds:SignatureValue>", 1),
            Refusal::SignatureInvalid,
        ),
        ("a key nobody knows", foreign.clone(), Refusal::SignatureInvalid),
        ("a key brought in KeyInfo", foreign.replacen("</ds:SignatureValue>", &brought, 1), Refusal::SignatureInvalid),
        (
            "a key that is said to be elsewhere",
            change(
                "</ds:SignatureValue>",
                "</ds:SignatureValue><ds:KeyInfo><ds:RetrievalMethod URI=\"file:///etc/passwd\"/></ds:KeyInfo>",
            ),
            shape(),
        ),
        ("a changed value", change("Ada@", "Eve@"), Refusal::SignatureInvalid),
        (
            "good response, bad assertion signature",
            Recipe { sign_assertion: Some(&world.foreign_key), ..Recipe::default() }.xml(),
            Refusal::SignatureInvalid,
        ),
        (
            "good assertion, bad response signature",
            Recipe {
                sign_assertion: Some(&world.idp_key),
                sign_response: Some(&world.foreign_key),
                ..Recipe::default()
            }
            .xml(),
            Refusal::SignatureInvalid,
        ),
    ]);
    // Whoever has (r, s) can write (r, n - s): still the IdP's word, for the same person, to be used once.
    let bent = elliptic.replacen(&point, &encoded(&other_half(&point_bytes)), 1);
    assert_ne!(bent, elliptic);
    let logins = [&elliptic, &bent].map(|xml| consume(xml).unwrap());
    let [first, second] = logins.each_ref().map(|login| (name_of(login), login.replay_ids()));
    assert_eq!(first, second);
    // Only where the tenant does not ask for less.
    assert_eq!(consume(&signed_assertion().xml()).map(|_| ()), Err(Refusal::ResponseUnsigned));
}

#[test]
fn documents_that_parsers_stumble_over() {
    let honest = Recipe::default().xml();
    let change = |from: &str, to: &str| {
        assert!(honest.contains(from), "{from}");
        honest.replacen(from, to, 1)
    };
    let laughs = "<!DOCTYPE r [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;\">]>";
    let wide: String = (0..100).map(|n| format!(" a{n}=\"\"")).collect();
    refuse(vec![
        ("a document type", format!("<!DOCTYPE r>{honest}"), Refusal::Doctype),
        (
            "an external entity",
            format!("<!DOCTYPE r [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>{honest}"),
            Refusal::Doctype,
        ),
        ("entities in entities", format!("{laughs}{}", change("x7f3", "&b;")), Refusal::Doctype),
        ("default attributes", format!("<!DOCTYPE r [<!ATTLIST r ID CDATA \"_evil\">]>{honest}"), Refusal::Doctype),
        ("an entity nobody declared", change("x7f3", "&e;"), Refusal::Malformed),
        (
            "too deep",
            change("<samlp:Status>", &format!("{}{}<samlp:Status>", "<a>".repeat(70), "</a>".repeat(70))),
            Refusal::Malformed,
        ),
        (
            "too many elements",
            change("<samlp:Status>", &format!("{}<samlp:Status>", "<a/>".repeat(17_000))),
            Refusal::TooManyNodes,
        ),
        ("too many attributes", change("<samlp:Status>", &format!("<samlp:Status{wide}>")), Refusal::Malformed),
        ("an attribute twice", change(" Version=", " Version=\"2.0\" Version="), Refusal::Malformed),
        ("a byte order mark", format!("\u{feff}{honest}"), Refusal::Malformed),
        (
            "another encoding declared",
            format!("<?xml version=\"1.0\" encoding=\"UTF-7\"?>{honest}"),
            Refusal::Malformed,
        ),
        ("a second root", format!("{honest}{honest}"), Refusal::Malformed),
        ("text behind the end", format!("{honest}x"), Refusal::Malformed),
        ("a relative namespace", change("<samlp:Status>", "<samlp:Status xmlns:r=\"1\">"), Refusal::RelativeNamespace),
        ("an ID twice", change("<saml:Subject>", "<saml:Subject ID=\"_response\">"), Refusal::AmbiguousId),
        (
            "an ID twice, spelt otherwise",
            change("<saml:Subject>", "<saml:Subject Id=\"_assertion\">"),
            Refusal::AmbiguousId,
        ),
        ("an xml:id", change("<saml:Subject>", "<saml:Subject xml:id=\"_response\">"), Refusal::AmbiguousId),
        (
            "an ID in a namespace",
            change(" ID=\"_response\"", " ID=\"_evil\" samlp:ID=\"_response\""),
            Refusal::AmbiguousId,
        ),
        ("an ID that is an expression", honest.replace("_response", "xpointer(/)"), Refusal::NotAResponse),
        ("no ID", change(" ID=\"_response\"", ""), Refusal::NotAResponse),
        ("another version", change("Version=\"2.0\"", "Version=\"1.1\""), Refusal::NotAResponse),
        ("another message", honest.replace("samlp:Response", "samlp:LogoutResponse"), Refusal::NotAResponse),
        ("a bare assertion", signed_assertion().assertion(), Refusal::NotAResponse),
        ("no assertion", Recipe::default().around(""), Refusal::AssertionCount),
    ]);
    let utf16: Vec<u8> = honest.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (sp, expected) = (&world().sp, expected(&world().idp, REQUEST));
    let consume = |field: &[u8]| response::consume(field, sp, &expected).map(|_| ());
    assert_eq!(
        consume(&base64::Engine::encode(&base64::prelude::BASE64_STANDARD, utf16).into_bytes()),
        Err(Refusal::Malformed)
    );
    assert_eq!(consume(&vec![b'A'; 1 << 20]), Err(Refusal::TooLarge));
    assert_eq!(consume(&[b"\0".as_slice(), &field(&honest)].concat()), Err(Refusal::Encoding));
    assert_eq!(consume(&field(&honest)), Ok(()));
}

/// In signed text a comment can be put without the IdP: C14N drops it (CVE-2017-11427 and kin).
#[test]
fn values_that_readers_read_differently() {
    let honest = Recipe::default().xml();
    let mail =
        |value: &str| Recipe { attributes: vec![(MAIL.to_owned(), vec![value.to_owned()])], ..Recipe::default() }.xml();
    let named = |name: &str| Recipe::default().around(&Recipe::default().assertion().replacen("x7f3", name, 1));
    assert!(consume(&named("x7f4")).is_ok());
    let plain = || Refusal::ValueNotPlain;
    refuse(vec![
        (
            "comment that cuts an address",
            mail("ada@univ-a.example.evil").replacen("univ-a.example.evil", "univ-a.example<!-- -->.evil", 1),
            plain(),
        ),
        ("comment in the NameID", honest.replacen("x7f3", "x7<!-- -->f3", 1), plain()),
        ("comment in the issuer", honest.replacen(IDP, &format!("{IDP}<!-- -->"), 1), plain()),
        ("comment in the audience", honest.replacen(&format!(">{SP}<"), &format!(">{SP}<!-- --><"), 1), plain()),
        ("an instruction in the NameID", named("x7<?x?>f3"), plain()),
        ("CDATA in the NameID", honest.replacen("x7f3", "x7<![CDATA[f3]]>", 1), plain()),
        ("an instruction", mail("ada<?x?>@univ-a.example"), plain()),
        ("CDATA", mail("<![CDATA[ada@univ-a.example]]>"), plain()),
        ("an element", mail("<b>ada@univ-a.example</b>"), plain()),
    ]);
}

#[test]
fn ciphertexts() {
    let world = world();
    let ours = Encryption::shibboleth;
    let inner = |encryption| Recipe { encryption: Some(encryption), ..signed_assertion() };
    let honest = inner(ours()).xml();
    assert!(consume_as(&honest, &lenient(), NOW).is_ok());
    assert!(consume(&Recipe::encrypted(ours()).xml()).is_ok());
    let cbc = || Encryption { data: alg::AES128_CBC, ..ours() };
    let foreign = Encryption { certificate: world.foreign_key.certificate.clone(), ..ours() };
    let addressed = Encryption { recipient: Some("https://other.example"), ..ours() };
    let change = |from: &str, to: &str| {
        assert!(honest.contains(from), "{from}");
        honest.replacen(from, to, 1)
    };
    let start = honest.rfind("<xenc:CipherValue>").unwrap();
    let data = |new: &str| {
        let end = honest.rfind("</xenc:CipherValue>").unwrap();
        format!("{}<xenc:CipherValue>{new}{}", &honest[..start], &honest[end..])
    };
    let value = &honest[start + "<xenc:CipherValue>".len()..honest.rfind("</xenc:CipherValue>").unwrap()];
    let bare: String = value.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, bare).unwrap();
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes);
    let flipped = |at: usize| {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        data(&encode(&changed))
    };
    let key = cut(&honest, "<xenc:EncryptedKey", "</xenc:EncryptedKey>");
    let reference = format!(
        "<xenc:CipherData xmlns:xenc=\"{}\"><xenc:CipherReference URI=\"/etc/passwd\"/></xenc:CipherData>",
        xml::XENC
    );
    let signed = Recipe::encrypted(ours());
    let one = signed.assertion();
    let other = one.replacen("_assertion", "_other", 1);
    let plaintext = |text: &str| signed.around(&encrypt(text, &ours()));
    let closes = format!("</saml:EncryptedAssertion><saml:EncryptedAssertion>{one}");
    let sealed_evil = encrypt(&other.replace("Ada@", "Eve@"), &ours());
    let undecryptable = || Refusal::Undecryptable;
    refuse(vec![
        (
            "encrypted and not signed",
            Recipe { sign_response: None, ..Recipe::encrypted(ours()) }.xml(),
            Refusal::Unsigned,
        ),
        (
            "signed inside by another",
            Recipe { sign_assertion: Some(&world.foreign_key), ..Recipe::encrypted(ours()) }.xml(),
            Refusal::SignatureInvalid,
        ),
        ("CBC that nothing vouches for", inner(cbc()).xml(), Refusal::UnauthenticatedCipher),
        ("GCM called CBC", change(alg::AES128_GCM, alg::AES128_CBC), Refusal::UnauthenticatedCipher),
        (
            "GCM called CBC under a signature",
            signed.xml().replacen(alg::AES128_GCM, alg::AES128_CBC, 1),
            Refusal::SignatureInvalid,
        ),
        ("triple DES", change(alg::AES128_GCM, alg::TRIPLEDES_CBC), Refusal::EncryptionAlgorithm),
        ("RSA 1.5", change(alg::RSA_OAEP, alg::RSA_PKCS1), Refusal::EncryptionAlgorithm),
        ("a wrapped key", change(alg::RSA_OAEP, alg::KW_AES128), Refusal::EncryptionAlgorithm),
        ("another size of key", change(alg::AES128_GCM, alg::AES256_GCM), undecryptable()),
        ("a bit of the nonce", flipped(0), undecryptable()),
        ("a bit of the ciphertext", flipped(20), undecryptable()),
        ("a bit of the tag", flipped(bytes.len() - 1), undecryptable()),
        ("a short tag", data(&encode(&bytes[..bytes.len() - 4])), undecryptable()),
        ("a short nonce", data(&encode(&bytes[..8])), undecryptable()),
        ("nothing but a nonce", data(&encode(&bytes[..12])), undecryptable()),
        ("no bytes", data(""), Refusal::EncryptionShape),
        ("no base64", data("%%%"), Refusal::EncryptionShape),
        ("for a key that is not ours", inner(foreign).xml(), undecryptable()),
        ("addressed to another", inner(addressed).xml(), undecryptable()),
        ("nine keys", change(&key, &key.repeat(9)), Refusal::EncryptionShape),
        ("no key", change(&key, ""), Refusal::EncryptionShape),
        (
            "a reference instead of a value",
            change(&cut(&honest, "<xenc:CipherData>", "</xenc:CipherData>"), &reference),
            Refusal::EncryptionShape,
        ),
        ("content instead of an element", change("xmlenc#Element\"", "xmlenc#Content\""), Refusal::EncryptionShape),
        ("two assertions inside", plaintext(&format!("{one}{other}")), Refusal::AssertionCount),
        ("none inside", plaintext("<x xmlns=\"urn:x\"/>"), Refusal::AssertionCount),
        ("one in another element", plaintext(&format!("<x xmlns=\"urn:x\">{one}</x>")), Refusal::AssertionCount),
        ("text beside it", plaintext(&format!("text{one}")), Refusal::AssertionCount),
        ("one that closes its place", plaintext(&closes), Refusal::AssertionCount),
        ("one that is encrypted again", plaintext(&encrypt(&one, &ours())), Refusal::AssertionCount),
        ("a document type inside", plaintext(&format!("<!DOCTYPE r>{one}")), Refusal::Doctype),
        ("an ID of the outside inside", plaintext(&one.replacen("_assertion", "_response", 1)), Refusal::AmbiguousId),
        ("a plain one beside", signed.around(&format!("{}{other}", encrypt(&one, &ours()))), Refusal::AssertionCount),
        (
            "two encrypted ones",
            signed.around(&format!("{}{sealed_evil}", encrypt(&one, &ours()))),
            Refusal::AssertionCount,
        ),
        (
            "other encrypted things",
            Recipe::default()
                .around(&format!("{one}{}", cut(&sealed_evil, "<xenc:EncryptedData", "</xenc:EncryptedData>"))),
            Refusal::EncryptionShape,
        ),
    ]);
}

#[test]
fn assertions_for_somebody_else() {
    let recipe = Recipe::default;
    let other = || "https://other.example".to_owned();
    let issuer = || "<saml:Issuer>https://idp.univ-b.example/idp</saml:Issuer>".to_owned();
    let bearer = "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches".to_owned();
    let status = |code: &str| {
        format!("<samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:{code}\"/></samlp:Status>")
    };
    let with = |inner: String| Recipe { conditions: conditions(&inner), ..recipe() }.xml();
    let instant = |seconds| Recipe {
        authn_statement: format!("<saml:AuthnStatement AuthnInstant=\"{}\"/>", at(seconds)),
        ..recipe()
    };
    let scoped = |value: &str| Recipe { attributes: vec![(EPPN.to_owned(), vec![value.to_owned()])], ..recipe() }.xml();
    let mail = |value: &str| Recipe { attributes: vec![(MAIL.to_owned(), vec![value.to_owned()])], ..recipe() }.xml();
    let twice = |part: &str| {
        let assertion = recipe().assertion();
        let part = cut(&assertion, &format!("<saml:{part}>"), &format!("</saml:{part}>"));
        recipe().around(&assertion.replacen(&part, &format!("{part}{part}"), 1))
    };
    let two_conditions = Recipe { conditions: conditions(&audience(SP)).repeat(2), ..recipe() };
    let late = conditions(&audience(SP)).replacen(&at(300), &at(-181), 1);
    let early = conditions(&audience(SP)).replacen(&at(-60), &at(181), 1);
    let prefix = Some(format!("{ACS}.evil.example"));
    let dated = |recipe: &Recipe, from: &str, to: &str| recipe.around(&recipe.assertion().replacen(from, to, 1));
    let confirmed_from = |seconds| {
        let start = format!("<saml:SubjectConfirmationData NotBefore=\"{}\"", at(seconds));
        dated(&recipe(), "<saml:SubjectConfirmationData", &start)
    };
    let session_until = |seconds| dated(&recipe(), &at(3600), &at(seconds));
    assert!(consume(&confirmed_from(-30)).is_ok() && consume(&session_until(30)).is_ok());
    refuse(vec![
        ("another audience", with(audience("https://other.example")), Refusal::Audience),
        ("an audience that only starts like ours", with(audience(&format!("{SP}.evil"))), Refusal::Audience),
        (
            "a second restriction without us",
            with(format!("{}{}", audience(SP), audience("https://other.example"))),
            Refusal::Audience,
        ),
        ("no audience", with(String::new()), Refusal::Audience),
        ("no conditions", Recipe { conditions: String::new(), ..recipe() }.xml(), Refusal::Conditions),
        ("conditions twice", two_conditions.xml(), Refusal::Conditions),
        ("an unknown condition", with(format!("{}<saml:Condition/>", audience(SP))), Refusal::ConditionUnknown),
        ("another recipient", Recipe { recipient: Some(other()), ..recipe() }.xml(), Refusal::Recipient),
        (
            "a recipient that only starts like ours",
            Recipe { recipient: prefix.clone(), ..recipe() }.xml(),
            Refusal::Recipient,
        ),
        ("no recipient", Recipe { recipient: None, ..recipe() }.xml(), Refusal::Recipient),
        ("another destination", Recipe { destination: Some(other()), ..recipe() }.xml(), Refusal::Destination),
        (
            "a destination that only starts like ours",
            Recipe { destination: prefix, ..recipe() }.xml(),
            Refusal::Destination,
        ),
        ("no destination", Recipe { destination: None, ..recipe() }.xml(), Refusal::Destination),
        ("another issuer of the response", Recipe { issuer: issuer(), ..recipe() }.xml(), Refusal::Issuer),
        ("another issuer of the assertion", Recipe { assertion_issuer: issuer(), ..recipe() }.xml(), Refusal::Issuer),
        (
            "two issuers",
            Recipe { issuer: format!("{}{}", recipe().issuer, issuer()), ..recipe() }.xml(),
            Refusal::Issuer,
        ),
        ("no issuer", Recipe { issuer: String::new(), ..recipe() }.xml(), Refusal::IssuerMissing),
        (
            "no issuer of the assertion",
            Recipe { assertion_issuer: String::new(), ..recipe() }.xml(),
            Refusal::IssuerMissing,
        ),
        (
            "an answer to another request",
            Recipe { in_response_to: Some("_x".to_owned()), ..recipe() }.xml(),
            Refusal::InResponseTo,
        ),
        (
            "an assertion for another request",
            Recipe { subject_in_response_to: Some("_x".to_owned()), ..recipe() }.xml(),
            Refusal::InResponseTo,
        ),
        ("an answer to nothing", Recipe { in_response_to: None, ..recipe() }.xml(), Refusal::InResponseTo),
        ("an assertion for nothing", Recipe { subject_in_response_to: None, ..recipe() }.xml(), Refusal::InResponseTo),
        ("sender-vouches", Recipe { method: bearer, ..recipe() }.xml(), Refusal::SubjectConfirmation),
        (
            "no confirmation",
            recipe().around(&recipe().assertion().replacen(
                &cut(&recipe().assertion(), "<saml:SubjectConfirmation ", "</saml:SubjectConfirmation>"),
                "",
                1,
            )),
            Refusal::SubjectConfirmation,
        ),
        ("two subjects", twice("Subject"), Refusal::SubjectConfirmation),
        ("a confirmation without end", Recipe { not_on_or_after: None, ..recipe() }.xml(), Refusal::Endless),
        ("a confirmation of tomorrow", confirmed_from(181), Refusal::NotYetValid),
        ("an assertion of tomorrow", dated(&recipe(), &at(-5), &at(181)), Refusal::NotYetValid),
        ("a response of tomorrow", signed_assertion().xml().replacen(&at(-4), &at(181), 1), Refusal::NotYetValid),
        ("a session that has ended", session_until(-181), Refusal::Expired),
        ("a confirmation that has ended", Recipe { not_on_or_after: Some(-181), ..recipe() }.xml(), Refusal::Expired),
        ("conditions that have ended", Recipe { conditions: late, ..recipe() }.xml(), Refusal::Expired),
        ("conditions of tomorrow", Recipe { conditions: early, ..recipe() }.xml(), Refusal::NotYetValid),
        ("an authentication of tomorrow", instant(181).xml(), Refusal::NotYetValid),
        ("no authentication", Recipe { authn_statement: String::new(), ..recipe() }.xml(), Refusal::AuthnStatement),
        (
            "a time that is none",
            Recipe { authn_statement: "<saml:AuthnStatement AuthnInstant=\"now\"/>".to_owned(), ..recipe() }.xml(),
            Refusal::Time,
        ),
        (
            "a failure with an assertion",
            Recipe { status: status("Responder"), ..recipe() }.xml(),
            Refusal::Status { code: "Responder", signed: true },
        ),
        (
            "no status",
            Recipe { status: String::new(), ..recipe() }.xml(),
            Refusal::Status { code: "other", signed: true },
        ),
        (
            "two statuses",
            Recipe { status: status("Success").repeat(2), ..recipe() }.xml(),
            Refusal::Status { code: "other", signed: true },
        ),
        ("a person of another university", scoped("ada@univ-b.example"), Refusal::Scope),
        ("a scope that only ends like ours", scoped("ada@evil-univ-a.example"), Refusal::Scope),
        ("a scope below ours", scoped("ada@x.univ-a.example"), Refusal::Scope),
        ("two scopes", scoped("ada@univ-b.example@univ-a.example"), Refusal::Scope),
        ("nobody in our scope", scoped("@univ-a.example"), Refusal::Scope),
        ("no scope", scoped("ada@"), Refusal::Scope),
        ("a scope that looks like ours", scoped("ada@univ-\u{430}.example"), Refusal::Scope),
        ("a mail address elsewhere", mail("ada@univ-b.example"), Refusal::Domain),
        ("a mail address with two @", mail("ada@univ-b.example@univ-a.example"), Refusal::AddressMissing),
        (
            "an attribute by friendly name only",
            Recipe { attributes: vec![("mail".to_owned(), vec!["ada@univ-a.example".to_owned()])], ..recipe() }.xml(),
            Refusal::AddressMissing,
        ),
    ]);
    assert!(consume(&instant(-30).xml()).is_ok());
}

fn expected<'a>(idp: &'a IdpMetadata, request_id: &'a str) -> Expected<'a> {
    Expected {
        idp,
        request_id,
        acs_url: ACS,
        tenant: &world().tenant,
        asked: Asked::default(),
        clock_skew: Duration::from_secs(180),
        now: NOW,
    }
}

/// The response of an IdP that is allowed for another tenant, to a request that was sent to ours.
#[test]
fn identity_providers_are_not_mixed_up() {
    let world = world();
    let (sp, honest) = (&world.sp, field(&Recipe::default().xml()));
    let consume = |idp: &IdpMetadata| response::consume(&honest, sp, &expected(idp, REQUEST)).map(|_| ());
    assert_eq!(consume(&world.idp), Ok(()));
    let other = IdpMetadata { entity_id: "https://idp.univ-b.example/idp".to_owned(), ..world.idp.clone() };
    assert_eq!(consume(&other), Err(Refusal::Issuer));
    let same_name =
        IdpMetadata { signing_certificates: vec![world.foreign_key.certificate.clone()], ..world.idp.clone() };
    assert_eq!(consume(&same_name), Err(Refusal::SignatureInvalid));
    let keyless = IdpMetadata { signing_certificates: Vec::new(), ..world.idp.clone() };
    assert_eq!(consume(&keyless), Err(Refusal::NoKey));
    let elliptic =
        IdpMetadata { signing_certificates: vec![world.idp_key_ec.certificate.clone()], ..world.idp.clone() };
    assert_eq!(consume(&elliptic), Err(Refusal::SignatureInvalid));
}

/// The consumer answers alike each time; the store lets each response and each assertion in once.
#[test]
fn what_was_used_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    let enter = |xml: &str| {
        let login = consume(xml).unwrap();
        let marks = login.replay_ids().iter().map(|id| store.mark_once("saml", id, login.replay_until(), NOW).unwrap());
        marks.collect::<Vec<_>>()
    };
    let honest = Recipe::default();
    assert_eq!(enter(&honest.xml()), [true, true]);
    assert_eq!(enter(&honest.xml()), [false, false], "the same again");
    let again = Recipe { response_id: "_second".to_owned(), ..Recipe::default() };
    assert_eq!(enter(&again.xml()), [true, false], "the assertion in another response");
    let fresh = Recipe { response_id: "_third".to_owned(), assertion_id: "_third_a".to_owned(), ..Recipe::default() };
    assert_eq!(enter(&fresh.xml()), [true, true]);
}

fn decoded(signature_value: &str) -> Vec<u8> {
    let value = signature_value.trim_start_matches("<ds:SignatureValue>").trim_end_matches("</ds:SignatureValue>");
    let bare: String = value.split_whitespace().collect();
    base64::Engine::decode(&base64::prelude::BASE64_STANDARD, bare).unwrap()
}

fn encoded(signature: &[u8]) -> String {
    let value = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, signature);
    format!("<ds:SignatureValue>{value}</ds:SignatureValue>")
}

/// `r || s` of P-256 with `n - s` in the place of `s`.
fn other_half(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(32);
    let mut borrow = 0;
    let bytes = P256_ORDER.iter().zip(s).rev().map(|(n, s)| {
        let difference = i16::from(*n) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        u8::try_from(difference.rem_euclid(256)).unwrap()
    });
    let mut rest: Vec<u8> = bytes.collect();
    rest.reverse();
    [r, rest.as_slice()].concat()
}

/// `r || s` as X.509 writes it; XML signatures do not (RFC 4051 §2.3.6).
fn as_der(signature: &[u8]) -> Vec<u8> {
    let integer = |part: &[u8]| {
        let mut digits: Vec<u8> = part.iter().copied().skip_while(|byte| *byte == 0).collect();
        if digits.first().is_some_and(|first| *first >= 0x80) {
            digits.insert(0, 0);
        }
        [[2, u8::try_from(digits.len()).unwrap()].as_slice(), &digits].concat()
    };
    let integers: Vec<u8> = signature.chunks(32).flat_map(integer).collect();
    [[0x30, u8::try_from(integers.len()).unwrap()].as_slice(), integers.as_slice()].concat()
}

const P256_ORDER: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA,
    0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
];
const MD5_RSA: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-md5";
const MD5: &str = "http://www.w3.org/2001/04/xmldsig-more#md5";
