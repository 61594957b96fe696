//! What we send is signed, well-formed, and the same each time where it must be.

use std::{collections::HashMap, io::Read as _};

use super::{
    super::{
        minter::{ACS, NOW, SP, TestKey, world},
        signature,
    },
    *,
};

fn query_of(url: &str) -> HashMap<String, String> {
    url::Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

fn inflate(text: &str) -> String {
    let bytes = BASE64_STANDARD.decode(text).unwrap();
    let mut out = String::new();
    flate2::read::DeflateDecoder::new(bytes.as_slice()).read_to_string(&mut out).unwrap();
    out
}

#[test]
fn a_redirect_is_signed_over_the_query_as_sent() {
    let world = world();
    let out = world.sp.authn_request(&world.idp, ACS, "handle-1", NOW).unwrap();
    let Binding::Redirect { url } = &out.binding else { panic!("redirect expected") };
    let query = query_of(url);
    assert_eq!(query["RelayState"], "handle-1");
    assert_eq!(query["SigAlg"], alg::RSA_SHA256);
    let request = inflate(&query["SAMLRequest"]);
    let doc = xml::parse(&request).unwrap();
    let root = doc.document_element().unwrap();
    assert_eq!(xml::attribute(&doc, root, "ID"), Some(out.id.as_str()));
    assert_eq!(xml::attribute(&doc, root, "Destination"), world.idp.sso_redirect.as_deref());
    assert_eq!(xml::attribute(&doc, root, "AssertionConsumerServiceURL"), Some(ACS));
    assert_eq!(xml::attribute(&doc, root, "IssueInstant"), Some("2026-11-24T00:00:00.000Z"));
    assert_eq!(
        xml::children(&doc, root, xml::SAML, "Issuer").filter_map(|node| xml::text(&doc, node)).next().unwrap(),
        SP
    );
    let (_, sent) = url.split_once('?').unwrap();
    let (signed, _) = sent.split_once("&Signature=").unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&world.signing.certificate).unwrap();
    let key = &certificate.public_key().subject_public_key.data;
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256, key);
    let value = BASE64_STANDARD.decode(&query["Signature"]).unwrap();
    assert!(key.verify(signed.as_bytes(), &value).is_ok());
    assert!(key.verify(signed.replacen("handle-1", "handle-2", 1).as_bytes(), &value).is_err());
    let again = world.sp.authn_request(&world.idp, ACS, "handle-1", NOW).unwrap();
    assert_ne!(again.id, out.id);
    assert_eq!(out.id.len(), 41);
}

#[test]
fn a_posted_request_carries_its_signature_after_the_issuer() {
    let world = world();
    let idp = IdpMetadata { sso_redirect: None, ..world.idp.clone() };
    let out = world.sp.authn_request(&idp, ACS, "", NOW).unwrap();
    let Binding::Post { action, saml_request } = &out.binding else { panic!("post expected") };
    assert_eq!(Some(action), idp.sso_post.as_ref());
    let text = String::from_utf8(BASE64_STANDARD.decode(saml_request).unwrap()).unwrap();
    let doc = xml::parse(&text).unwrap();
    let root = doc.document_element().unwrap();
    let signature = xml::elements(&doc, root).nth(1).unwrap();
    let keys = signature::keys_of([world.signing.certificate.as_slice()]);
    assert_eq!(signature::verify(&doc, &text, signature, root, &keys), Ok(()));
    let foreign = signature::keys_of([world.foreign_key.certificate.as_slice()]);
    assert!(signature::verify(&doc, &text, signature, root, &foreign).is_err());
}

#[test]
fn what_is_asked_stands_in_the_request_in_its_order() {
    let world = world();
    let ask = Ask {
        force_authn: true,
        authn_context: vec!["https://refeds.org/profile/mfa".to_owned(), "https://idp.example/?a=1&b=<x>".to_owned()],
    };
    let out = world.sp.authn_request_with(&world.idp, ACS, None, &ask, "h", NOW).unwrap();
    let Binding::Redirect { url } = &out.binding else { panic!("redirect expected") };
    let request = inflate(&query_of(url)["SAMLRequest"]);
    let doc = xml::parse(&request).unwrap();
    let root = doc.document_element().unwrap();
    assert_eq!(xml::attribute(&doc, root, "ForceAuthn"), Some("true"));
    let wanted = xml::single(&doc, root, xml::SAMLP, "RequestedAuthnContext").unwrap().unwrap();
    assert_eq!(xml::attribute(&doc, wanted, "Comparison"), Some("exact"));
    let classes: Vec<_> = xml::children(&doc, wanted, xml::SAML, "AuthnContextClassRef")
        .map(|node| xml::text(&doc, node).unwrap())
        .collect();
    assert_eq!(classes, ask.authn_context);
    // The schema's order (core §3.4.1): Issuer, Signature, NameIDPolicy, RequestedAuthnContext.
    let posted = world.sp.authn_request_with(&world.idp, ACS, Some(RequestBinding::Post), &ask, "", NOW).unwrap();
    let Binding::Post { saml_request, .. } = posted.binding else { panic!("post expected") };
    let text = String::from_utf8(BASE64_STANDARD.decode(saml_request).unwrap()).unwrap();
    let doc = xml::parse(&text).unwrap();
    let names: Vec<String> = xml::elements(&doc, doc.document_element().unwrap())
        .map(|node| doc.element(node).unwrap().name.local_name.to_string())
        .collect();
    assert_eq!(names, ["Issuer", "Signature", "NameIDPolicy", "RequestedAuthnContext"]);

    let plain = world.sp.authn_request(&world.idp, ACS, "h", NOW).unwrap();
    let Binding::Redirect { url } = &plain.binding else { panic!("redirect expected") };
    let request = inflate(&query_of(url)["SAMLRequest"]);
    assert!(!request.contains("ForceAuthn") && !request.contains("RequestedAuthnContext"), "{request}");
}

#[test]
fn the_binding_that_the_tenant_wants_is_used_where_the_idp_has_it() {
    let both = &world().idp;
    let redirect_only = IdpMetadata { sso_post: None, ..both.clone() };
    let post_only = IdpMetadata { sso_redirect: None, ..both.clone() };
    let is_post = |idp: &IdpMetadata, wanted| {
        let out = world().sp.authn_request_with(idp, ACS, wanted, &Ask::default(), "", NOW).unwrap();
        matches!(out.binding, Binding::Post { .. })
    };
    for (idp, wanted, post) in [
        (both, None, false),
        (both, Some(RequestBinding::Redirect), false),
        (both, Some(RequestBinding::Post), true),
        (&redirect_only, Some(RequestBinding::Post), false),
        (&post_only, Some(RequestBinding::Redirect), true),
        (&post_only, None, true),
    ] {
        assert_eq!(is_post(idp, wanted), post, "{wanted:?}");
    }
}

#[test]
fn an_idp_without_endpoints_gets_no_request() {
    let idp = IdpMetadata { sso_redirect: None, sso_post: None, ..world().idp.clone() };
    assert!(world().sp.authn_request(&idp, ACS, "", NOW).is_err());
}

#[test]
fn odd_names_stay_inside_their_element() {
    let dir = tempfile::tempdir().unwrap();
    let settings = guichet_config::ServiceProvider {
        entity_id: "https://x/?a=1&b=\"<x>".to_owned(),
        signing: world().signing.write(dir.path(), "s"),
        encryption: vec![],
        clock_skew: std::time::Duration::ZERO,
        signing_next: None,
        decryption_only: vec![],
        publication: guichet_config::Publication::default(),
    };
    let sp = ServiceProvider::from_parts("https://x", &settings).unwrap();
    let doc = xml::parse(sp.metadata_xml()).unwrap();
    assert_eq!(xml::attribute(&doc, doc.document_element().unwrap(), "entityID"), Some(sp.entity_id()));
    let out = sp.authn_request(&world().idp, ACS, "", NOW).unwrap();
    let Binding::Redirect { url } = out.binding else { panic!("redirect expected") };
    let request = inflate(&query_of(&url)["SAMLRequest"]);
    assert!(request.contains("https://x/?a=1&amp;b=&quot;&lt;x&gt;</saml2:Issuer>"), "{request}");
}

#[test]
fn key_pairs_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let ec = TestKey::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let settings = |signing, encryption| guichet_config::ServiceProvider {
        entity_id: SP.to_owned(),
        signing,
        encryption,
        clock_skew: std::time::Duration::ZERO,
        signing_next: None,
        decryption_only: vec![],
        publication: guichet_config::Publication::default(),
    };
    let good = || world().signing.write(dir.path(), "good");
    let key_of = |settings: &guichet_config::ServiceProvider| {
        ServiceProvider::from_parts("https://x", settings).map(|_| ()).map_err(|error| error.key)
    };
    assert_eq!(key_of(&settings(good(), vec![good()])), Ok(()));
    assert_eq!(key_of(&settings(ec.write(dir.path(), "ec"), vec![])), Ok(()));
    let mut mixed = good();
    mixed.key = ec.write(dir.path(), "ec").key;
    assert_eq!(key_of(&settings(mixed.clone(), vec![])), Err("saml.signing.key_file".to_owned()));
    assert_eq!(key_of(&settings(good(), vec![mixed])), Err("saml.encryption[0].key_file".to_owned()));
    assert_eq!(
        key_of(&settings(good(), vec![ec.write(dir.path(), "ec")])),
        Err("saml.encryption[0].key_file".to_owned())
    );
    let mut missing = good();
    missing.certificate = dir.path().join("none.crt");
    assert_eq!(key_of(&settings(missing, vec![])), Err("saml.signing.certificate".to_owned()));
}

#[test]
fn an_ecdsa_key_signs_both_bindings() {
    let dir = tempfile::tempdir().unwrap();
    let ec = TestKey::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let settings = guichet_config::ServiceProvider {
        entity_id: SP.to_owned(),
        signing: ec.write(dir.path(), "ec"),
        encryption: vec![],
        clock_skew: std::time::Duration::ZERO,
        signing_next: None,
        decryption_only: vec![],
        publication: guichet_config::Publication::default(),
    };
    let sp = ServiceProvider::from_parts("https://mail.example", &settings).unwrap();
    let out = sp.authn_request(&world().idp, ACS, "r", NOW).unwrap();
    let Binding::Redirect { url } = &out.binding else { panic!("redirect expected") };
    let value = BASE64_STANDARD.decode(&query_of(url)["Signature"]).unwrap();
    assert_eq!((query_of(url)["SigAlg"].as_str(), value.len()), (alg::ECDSA_SHA256, 64));
    let idp = IdpMetadata { sso_redirect: None, ..world().idp.clone() };
    let Binding::Post { saml_request, .. } = sp.authn_request(&idp, ACS, "", NOW).unwrap().binding else {
        panic!("post")
    };
    let text = String::from_utf8(BASE64_STANDARD.decode(saml_request).unwrap()).unwrap();
    let doc = xml::parse(&text).unwrap();
    let root = doc.document_element().unwrap();
    let signature = xml::elements(&doc, root).nth(1).unwrap();
    let keys = signature::keys_of([ec.certificate.as_slice()]);
    assert_eq!(signature::verify(&doc, &text, signature, root, &keys), Ok(()));
}

#[test]
fn keys_never_show_in_debug() {
    let shown = format!("{:?}", world().sp);
    assert!(!shown.contains("Prime") && !shown.contains("PRIVATE") && shown.contains("<2 keys>"), "{shown}");
}

/// Another stack must read what we write: libxmlsec1 and OpenSSL, through `samael`.
#[test]
fn libxmlsec_accepts_our_requests() {
    use samael::crypto::{CertificateDer, Crypto, CryptoProvider as _, UrlVerifier};
    let world = world();
    let idp = IdpMetadata { sso_redirect: None, ..world.idp.clone() };
    let Binding::Post { saml_request, .. } = world.sp.authn_request(&idp, ACS, "", NOW).unwrap().binding else {
        panic!("post")
    };
    let text = String::from_utf8(BASE64_STANDARD.decode(saml_request).unwrap()).unwrap();
    let certificate = CertificateDer::from(world.signing.certificate.clone());
    assert!(Crypto::verify_signed_xml(text, &certificate, Some("ID")).is_ok());
    let Binding::Redirect { url } = world.sp.authn_request(&world.idp, ACS, "handle", NOW).unwrap().binding else {
        panic!("redirect")
    };
    let verifier = UrlVerifier::from_x509_cert_pem(&world.signing.certificate_pem).unwrap();
    assert!(verifier.verify_signed_request_url(&url::Url::parse(&url).unwrap()).unwrap());
}
