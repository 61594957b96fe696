//! Logout messages of an honest IdP are taken by all three bindings, ours are read by another stack, and the attacks on
//! them are refused, each for its own named reason. The honest message that each starts from is taken beside it.

use std::{io::Write as _, sync::Arc, time::Duration};

use aws_lc_rs::{rand::SystemRandom, signature as lc};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bergshamra_core::algorithm as alg;
use proptest::{prelude::*, sample::select};
use rustls::pki_types::pem::PemObject as _;
use url::form_urlencoded::byte_serialize;

use super::{
    super::{
        Binding, IdpMetadata, NameId, Named, Outgoing,
        minter::{Encryption, IDP, NOW, Recipe, SP, TestKey, at, cut, encrypt, field, sign, world},
        properties::{redirect_decode, unsigned_logout},
        soap::SOAP,
        xml::{self, SAML, SAMLP},
    },
    *,
};
use crate::store::Store;

const SLO: &str = "https://mail.example/saml/slo";
const SLO_SOAP: &str = "https://mail.example/saml/slo/soap";
const ASKED: &str = "_asked";
const SKEW: Duration = Duration::from_secs(180);

/// Everything a logout message is made of; the default is an honest request for one session.
#[derive(Clone)]
struct Message {
    local: &'static str,
    issuer: String,
    destination: Option<&'static str>,
    issued: i64,
    attributes: String,
    content: String,
    key: Option<&'static TestKey>,
    algorithm: &'static str,
}

impl Message {
    fn request() -> Self {
        Self {
            local: "LogoutRequest",
            issuer: format!("<saml:Issuer>{IDP}</saml:Issuer>"),
            destination: Some(SLO),
            issued: -2,
            attributes: format!(" NotOnOrAfter=\"{}\"", at(300)),
            content: "<saml:NameID SPNameQualifier=\"https://mail.example/saml/metadata\">x7f3</saml:NameID>\
                      <samlp:SessionIndex>_s1</samlp:SessionIndex>"
                .to_owned(),
            key: Some(&world().idp_key),
            algorithm: alg::RSA_SHA256,
        }
    }

    fn response() -> Self {
        Self {
            local: "LogoutResponse",
            attributes: format!(" InResponseTo=\"{ASKED}\""),
            content: status("Success", ""),
            ..Self::request()
        }
    }

    fn document(&self, signature: &str) -> String {
        let destination = self.destination.map(|url| format!(" Destination=\"{url}\"")).unwrap_or_default();
        format!(
            "<samlp:{local} xmlns:samlp=\"{SAMLP}\" xmlns:saml=\"{SAML}\" ID=\"_m\" Version=\"2.0\" \
             IssueInstant=\"{}\"{destination}{}>{}{signature}{}</samlp:{local}>",
            at(self.issued),
            self.attributes,
            self.issuer,
            self.content,
            local = self.local,
        )
    }

    /// With an enveloped signature, when there is a key.
    fn signed(&self) -> String {
        let recipe = Recipe { signature_algorithm: self.algorithm, ..Recipe::default() };
        match self.key {
            Some(key) => sign(&self.document(&recipe.template("_m")), key),
            None => self.document(""),
        }
    }

    fn envelope(&self) -> String {
        let message = Self { destination: self.destination.map(|_| SLO_SOAP), ..self.clone() };
        enclose(&message.signed())
    }

    /// A query with a detached signature, when there is a key.
    fn query(&self, relay_state: Option<&str>) -> String {
        query(self.local, &self.document(""), relay_state, self.key, self.algorithm)
    }
}

fn status(top: &str, inner: &str) -> String {
    let code = |name: &str| format!("<samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:{name}\"");
    let inner = if inner.is_empty() { String::new() } else { format!("{}/>", code(inner)) };
    format!("<samlp:Status>{}>{inner}</samlp:StatusCode></samlp:Status>", code(top))
}

fn enclose(message: &str) -> String {
    format!("<s:Envelope xmlns:s=\"{SOAP}\"><s:Header/><s:Body>{message}</s:Body></s:Envelope>")
}

fn deflated(document: &[u8]) -> Vec<u8> {
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(document).unwrap();
    deflate.finish().unwrap()
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    byte_serialize(bytes.as_ref()).collect()
}

fn query(local: &str, document: &str, relay_state: Option<&str>, key: Option<&TestKey>, algorithm: &str) -> String {
    let parameter = if local == "LogoutRequest" { "SAMLRequest" } else { "SAMLResponse" };
    let mut query = format!("{parameter}={}", encoded(BASE64_STANDARD.encode(deflated(document.as_bytes()))));
    if let Some(state) = relay_state {
        query.push_str(&format!("&RelayState={}", encoded(state)));
    }
    let Some(key) = key else { return query };
    query.push_str(&format!("&SigAlg={}", encoded(algorithm)));
    let value = encoded(BASE64_STANDARD.encode(detached(key, algorithm, query.as_bytes())));
    format!("{query}&Signature={value}")
}

fn detached(key: &TestKey, algorithm: &str, bytes: &[u8]) -> Vec<u8> {
    let der = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.pem.as_bytes()).unwrap();
    let random = SystemRandom::new();
    if let Ok(pair) = lc::RsaKeyPair::from_pkcs8(der.secret_der()) {
        let padding = match algorithm {
            alg::RSA_SHA384 => &lc::RSA_PKCS1_SHA384,
            alg::RSA_SHA512 => &lc::RSA_PKCS1_SHA512,
            _ => &lc::RSA_PKCS1_SHA256,
        };
        let mut out = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &random, bytes, &mut out).unwrap();
        return out;
    }
    let pair = lc::EcdsaKeyPair::from_pkcs8(&lc::ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der()).unwrap();
    pair.sign(&random, bytes).unwrap().as_ref().to_vec()
}

fn idp() -> Arc<IdpMetadata> {
    let url = |path: &str| Some(format!("https://idp.univ-a.example/{path}"));
    Arc::new(IdpMetadata {
        slo_redirect: url("slo/redirect"),
        slo_redirect_response: url("slo/redirect/answer?x=1"),
        slo_post: url("slo/post"),
        slo_post_response: url("slo/post"),
        ..world().idp.clone()
    })
}

fn known(entity_id: &str) -> Option<Arc<IdpMetadata>> {
    (entity_id == IDP).then(idp)
}

fn take(received: Result<Received, LogoutRefusal>) -> Result<LogoutRequest, Faulted> {
    accept_request(&received?, &world().sp, &known, SKEW, NOW)
}

fn by_redirect(query: &str) -> Result<LogoutRequest, Faulted> {
    take(Received::by_redirect(query))
}

fn by_post(document: &str) -> Result<LogoutRequest, Faulted> {
    take(Received::by_post(&String::from_utf8(field(document)).unwrap(), "", ""))
}

fn by_soap(document: &str) -> Result<LogoutRequest, Faulted> {
    take(Received::by_soap(document.as_bytes()))
}

fn answer(received: Result<Received, LogoutRefusal>) -> Result<LogoutOutcome, LogoutRefusal> {
    let idp = idp();
    let expected = ExpectedLogout { idp: &idp, request_id: ASKED, clock_skew: SKEW, now: NOW };
    accept_response(&received?, &world().sp, &expected)
}

fn posted_answer(document: &str) -> Result<LogoutOutcome, LogoutRefusal> {
    answer(Received::by_post("", &String::from_utf8(field(document)).unwrap(), ""))
}

/// Name, what came of it, reason.
type Line = (&'static str, Result<LogoutRequest, Faulted>, LogoutRefusal);

fn refuse(lines: Vec<Line>) {
    for (name, taken, reason) in lines {
        match taken {
            Ok(_) => panic!("{name}: taken"),
            Err(faulted) => assert_eq!(faulted.refusal, reason, "{name}"),
        }
    }
}

fn name(value: &str) -> NameId {
    NameId::new(value.to_owned(), None, None, Some(SP.to_owned())).unwrap()
}

#[test]
fn an_honest_request_is_taken_by_every_binding() {
    let message = Message::request();
    for request in [
        by_redirect(&message.query(Some("state 1&2"))),
        by_redirect(&message.query(None)),
        by_post(&message.signed()),
        by_soap(&message.envelope()),
        by_soap(&Message { destination: None, ..message.clone() }.envelope()),
    ] {
        let request = request.unwrap();
        assert_eq!(request.name(), &name("x7f3"));
        assert_eq!(request.session_indexes(), ["_s1"]);
        assert_eq!(request.replay_id(), format!("{IDP} _m"));
        assert_eq!(request.replay_until(), NOW.plus(Duration::from_secs(300 + 180 - 2)));
    }
    let received = Received::by_redirect(&message.query(Some("state 1&2"))).unwrap();
    assert_eq!((received.relay_state(), received.kind()), (Some("state 1&2"), Kind::Request));
}

#[test]
fn every_signature_algorithm_in_use_is_taken() {
    for algorithm in [alg::RSA_SHA256, alg::RSA_SHA384, alg::RSA_SHA512] {
        let message = Message { algorithm, ..Message::request() };
        assert!(by_redirect(&message.query(None)).is_ok() && by_post(&message.signed()).is_ok(), "{algorithm}");
    }
    let elliptic = Message { algorithm: alg::ECDSA_SHA256, key: Some(&world().idp_key_ec), ..Message::request() };
    assert!(by_redirect(&elliptic.query(None)).is_ok() && by_post(&elliptic.signed()).is_ok());
    // OpenSAML hands on the DER form.
    let query = elliptic.query(None);
    let (signed, _) = query.split_once("&Signature=").unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(world().idp_key_ec.pem.as_bytes()).unwrap();
    let pair = lc::EcdsaKeyPair::from_pkcs8(&lc::ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_der()).unwrap();
    let value = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    assert!(by_redirect(&format!("{signed}&Signature={}", encoded(BASE64_STANDARD.encode(value)))).is_ok());
}

#[test]
fn an_encrypted_name_is_decrypted_under_the_signature() {
    let plain = format!("<saml:NameID xmlns:saml=\"{SAML}\">x7f3</saml:NameID>");
    let sealed = |plain: &str, data| {
        let encryption = Encryption { data, ..Encryption::shibboleth() };
        let content = encrypt(plain, &encryption).replace("EncryptedAssertion", "EncryptedID");
        Message { content, ..Message::request() }
    };
    for data in [alg::AES128_GCM, alg::AES256_GCM, alg::AES128_CBC] {
        let message = sealed(&plain, data);
        for request in [
            by_redirect(&message.query(None)),
            by_post(&message.signed()),
            by_soap(&message.envelope()),
            by_soap(&sealed("<saml:NameID>x7f3</saml:NameID>", data).envelope()),
        ] {
            assert_eq!(request.unwrap().name().parts().0, "x7f3", "{data}");
        }
    }
    let two = format!("{plain}{plain}");
    let foreign = Encryption { certificate: world().foreign_key.certificate.clone(), ..Encryption::shibboleth() };
    let foreign = encrypt(&plain, &foreign).replace("EncryptedAssertion", "EncryptedID");
    let commented = plain.replace("x7f3", "x7<!-- -->f3");
    let nested = format!("<saml:EncryptedID xmlns:saml=\"{SAML}\">{plain}</saml:EncryptedID>");
    let unknown = sealed(&plain, alg::AES128_GCM).content.replace(alg::AES128_GCM, "urn:none");
    let without_key = sealed(&plain, alg::AES128_GCM).content;
    let without_key = without_key.replace(&cut(&without_key, "<ds:KeyInfo", "</ds:KeyInfo>"), "");
    let with = |content: String| by_post(&Message { content, ..Message::request() }.signed());
    refuse(vec![
        ("two names inside", with(sealed(&two, alg::AES128_GCM).content), LogoutRefusal::NameId),
        ("no name inside", with(sealed("<x/>", alg::AES128_GCM).content), LogoutRefusal::NameId),
        ("a name deeper inside", with(sealed(&nested, alg::AES128_GCM).content), LogoutRefusal::NameId),
        ("a comment inside", with(sealed(&commented, alg::AES128_GCM).content), LogoutRefusal::ValueNotPlain),
        ("for somebody else", with(foreign), LogoutRefusal::Undecryptable),
        ("by another algorithm", with(unknown), LogoutRefusal::EncryptionAlgorithm),
        ("without its key", with(without_key), LogoutRefusal::EncryptionShape),
    ]);
}

#[test]
fn a_signed_query_that_was_touched_is_refused() {
    let message = Message::request();
    let honest = message.query(Some("state/1"));
    assert!(by_redirect(&honest).is_ok());
    let part = |name: &str| honest.split('&').find(|part| part.starts_with(name)).unwrap();
    let (request, relay) = (part("SAMLRequest="), part("RelayState="));
    let (algorithm, value) = (part("SigAlg="), part("Signature="));
    let join = |parts: &[&str]| by_redirect(&parts.join("&"));
    let foreign = Message { key: Some(&world().foreign_key), ..message.clone() };
    let other = Message { content: message.content.replace("x7f3", "y8a4"), ..message.clone() };
    let other = other.query(None);
    let lower = honest.replace("%2F", "%2f");
    assert_ne!(lower, honest);
    let swapped = honest.replace(&encoded(alg::RSA_SHA256), &encoded(alg::RSA_SHA512));
    let sha1 = Message { algorithm: alg::RSA_SHA1, ..message.clone() };
    let hmac = honest.replace("rsa-sha256", "hmac-sha256");
    let enveloped = query("LogoutRequest", &message.signed(), None, message.key, message.algorithm);
    let parameters = || LogoutRefusal::Parameters;
    let invalid = || LogoutRefusal::SignatureInvalid;
    refuse(vec![
        ("unsigned", by_redirect(&Message { key: None, ..message.clone() }.query(None)), LogoutRefusal::Unsigned),
        ("signature removed", join(&[request, relay, algorithm]), parameters()),
        ("signature and algorithm removed", join(&[request, relay]), LogoutRefusal::Unsigned),
        ("algorithm removed", join(&[request, relay, value]), parameters()),
        ("algorithm swapped", by_redirect(&swapped), invalid()),
        ("SHA-1", by_redirect(&sha1.query(None)), LogoutRefusal::SignatureAlgorithm),
        ("HMAC", by_redirect(&hmac), LogoutRefusal::SignatureAlgorithm),
        ("RelayState removed", join(&[request, algorithm, value]), invalid()),
        ("RelayState changed", by_redirect(&honest.replace("state%2F1", "state%2F2")), invalid()),
        ("RelayState added", by_redirect(&message.query(None).replacen("&", "&RelayState=x&", 1)), invalid()),
        ("percent signs re-encoded", by_redirect(&lower), invalid()),
        ("a letter re-encoded", by_redirect(&honest.replace("RelayState=s", "RelayState=%73")), invalid()),
        ("a name re-encoded", by_redirect(&honest.replace("RelayState", "Relay%53tate")), parameters()),
        ("reordered", join(&[relay, request, algorithm, value]), parameters()),
        ("signature first", join(&[value, request, relay, algorithm]), parameters()),
        ("another request in front", join(&[other.split('&').next().unwrap(), &honest]), parameters()),
        ("request twice", join(&[request, request, relay, algorithm, value]), parameters()),
        ("RelayState twice", join(&[request, relay, relay, algorithm, value]), parameters()),
        ("signature twice", join(&[request, relay, algorithm, value, value]), parameters()),
        ("a response beside", join(&[&honest, "SAMLResponse=x"]), parameters()),
        ("another parameter", join(&[&honest, "x=1"]), parameters()),
        ("another encoding", join(&[request, "SAMLEncoding=x", relay, algorithm, value]), parameters()),
        ("nothing", by_redirect(""), parameters()),
        ("the content of another", by_redirect(&honest.replace(request, other.split('&').next().unwrap())), invalid()),
        ("the key of somebody", by_redirect(&foreign.query(None)), invalid()),
        ("an empty signature", join(&[request, relay, algorithm, "Signature="]), invalid()),
        ("a broken percent sign", by_redirect(&honest.replace("%2F", "%2")), LogoutRefusal::Encoding),
        ("not base64", by_redirect("SAMLRequest=%25%25"), LogoutRefusal::Encoding),
        ("an enveloped signature, too", by_redirect(&enveloped), LogoutRefusal::SignaturePlace),
    ]);
}

#[test]
fn compressed_bombs_and_tails_are_refused() {
    let raw = |bytes: &[u8]| by_redirect(&format!("SAMLRequest={}", encoded(BASE64_STANDARD.encode(bytes))));
    let document = Message::request().document("");
    let honest = deflated(document.as_bytes());
    let bomb = deflated(&vec![b' '; 8 << 20]);
    assert!(bomb.len() < 16 * 1024);
    let long = format!("SAMLRequest={}", "A".repeat(20_000));
    refuse(vec![
        ("as it is, unsigned", raw(&honest), LogoutRefusal::Unsigned),
        ("a bomb", raw(&bomb), LogoutRefusal::TooLarge),
        ("a long query", by_redirect(&long), LogoutRefusal::TooLarge),
        ("cut short", raw(&honest[..honest.len() - 3]), LogoutRefusal::Deflate),
        ("with a tail", raw(&[&honest[..], b"tail"].concat()), LogoutRefusal::Deflate),
        ("not compressed", raw(document.as_bytes()), LogoutRefusal::Deflate),
        ("nothing", raw(b""), LogoutRefusal::Deflate),
        ("not UTF-8", raw(&deflated(b"\xff")), LogoutRefusal::Encoding),
    ]);
    let huge = "A".repeat(128 * 1024);
    assert_eq!(Received::by_post(&huge, "", "").unwrap_err(), LogoutRefusal::TooLarge);
    assert_eq!(Received::by_soap(huge.as_bytes()).unwrap_err(), LogoutRefusal::TooLarge);
    assert_eq!(Received::by_post("QQ==", "QQ==", "").unwrap_err(), LogoutRefusal::Parameters);
    assert_eq!(Received::by_post("", "", "").unwrap_err(), LogoutRefusal::Parameters);
    assert_eq!(Received::by_post("%", "", "").unwrap_err(), LogoutRefusal::Encoding);
}

#[test]
fn forged_and_wrapped_documents_are_refused() {
    let honest = Message::request();
    let signed = honest.signed();
    assert!(by_post(&signed).is_ok());
    let signature = cut(&signed, "<ds:Signature", "</ds:Signature>");
    let evil = honest.document("").replace("x7f3", "victim").replace("ID=\"_m\"", "ID=\"_evil\"");
    let wrap = |part: &str| evil.replacen("<saml:NameID", &format!("{part}<saml:NameID"), 1);
    let extensions = |part: &str| format!("<samlp:Extensions>{part}</samlp:Extensions>");
    let foreign = Message { key: Some(&world().foreign_key), ..honest.clone() };
    let elsewhere = |issuer: &str| Message { issuer: issuer.to_owned(), ..honest.clone() };
    let version = signed.replace("Version=\"2.0\"", "Version=\"1.1\"");
    let nested = format!("<samlp:Extensions xmlns:samlp=\"{SAMLP}\">{signed}</samlp:Extensions>");
    refuse(vec![
        ("unsigned", by_post(&honest.document("")), LogoutRefusal::Unsigned),
        ("unsigned by SOAP", by_soap(&enclose(&honest.document(""))), LogoutRefusal::Unsigned),
        ("changed", by_post(&signed.replace("x7f3", "y8a4")), LogoutRefusal::SignatureInvalid),
        ("the key of somebody", by_post(&foreign.signed()), LogoutRefusal::SignatureInvalid),
        ("the key of somebody by SOAP", by_soap(&foreign.envelope()), LogoutRefusal::SignatureInvalid),
        ("SHA-1", by_post(&signed.replace(alg::RSA_SHA256, alg::RSA_SHA1)), LogoutRefusal::SignatureAlgorithm),
        ("the signed one in Extensions", by_post(&wrap(&extensions(&signed))), LogoutRefusal::NotALogout),
        ("the signed one deeper", by_post(&nested), LogoutRefusal::NotALogout),
        ("the signature moved", by_post(&wrap(&signature)), LogoutRefusal::SignatureShape),
        ("the signature elsewhere", by_post(&wrap(&extensions(&signature))), LogoutRefusal::SignaturePlace),
        ("two signatures", by_post(&signed.replace(&signature, &signature.repeat(2))), LogoutRefusal::SignaturePlace),
        ("a response", by_post(&Message::response().signed()), LogoutRefusal::NotALogout),
        ("another version", by_post(&version), LogoutRefusal::NotALogout),
        ("an identifier twice", by_post(&wrap("<x ID=\"_evil\"/>")), LogoutRefusal::AmbiguousId),
        ("a declaration", by_post(&format!("<!DOCTYPE x>{signed}")), LogoutRefusal::Doctype),
        ("a relative namespace", by_post("<x xmlns=\"1\"/>"), LogoutRefusal::RelativeNamespace),
        ("no XML", by_post("x"), LogoutRefusal::Malformed),
        ("a thousand elements", by_post(&wrap(&"<x/>".repeat(1000))), LogoutRefusal::TooManyNodes),
        (
            "a foreign issuer",
            by_post(&elsewhere("<saml:Issuer>https://idp.other.example</saml:Issuer>").signed()),
            LogoutRefusal::Issuer,
        ),
        ("no issuer", by_post(&elsewhere("").signed()), LogoutRefusal::IssuerMissing),
        (
            "a comment in the issuer",
            by_post(&elsewhere("<saml:Issuer>https://idp.<!-- -->univ-a.example/idp</saml:Issuer>").signed()),
            LogoutRefusal::ValueNotPlain,
        ),
    ]);
    let keyless = |_: &str| Some(Arc::new(IdpMetadata { signing_certificates: Vec::new(), ..(*idp()).clone() }));
    for received in [
        Received::by_redirect(&honest.query(None)),
        Received::by_post(&String::from_utf8(field(&signed)).unwrap(), "", ""),
    ] {
        let refused = accept_request(&received.unwrap(), &world().sp, &keyless, SKEW, NOW).unwrap_err();
        assert_eq!(refused.refusal, LogoutRefusal::NoKey);
        assert!(refused.asker.is_none(), "nobody is answered whose signature did not verify");
    }
}

#[test]
fn an_envelope_holds_one_request_and_nothing_else() {
    let message = Message { destination: Some(SLO_SOAP), ..Message::request() }.signed();
    assert!(by_soap(&enclose(&message)).is_ok());
    let body = |content: &str| format!("<s:Envelope xmlns:s=\"{SOAP}\">{content}</s:Envelope>");
    let whole = format!("<s:Body>{message}</s:Body>");
    assert!(by_soap(&body(&whole)).is_ok());
    let shape = || LogoutRefusal::Envelope;
    refuse(vec![
        ("no envelope", by_soap(&message), shape()),
        ("two bodies", by_soap(&body(&format!("{whole}<s:Body/>"))), shape()),
        ("two elements", by_soap(&enclose(&format!("{message}<x/>"))), shape()),
        ("two requests", by_soap(&enclose(&format!("{message}{}", message.replace("_m", "_n")))), shape()),
        ("nothing inside", by_soap(&enclose("")), shape()),
        ("a header that asks for more", by_soap(&body(&format!("<s:Header><x/></s:Header>{whole}"))), shape()),
        ("the request in the header", by_soap(&body(&format!("<s:Header>{message}</s:Header><s:Body/>"))), shape()),
        ("SOAP 1.2", by_soap(&enclose(&message).replace(SOAP, "http://www.w3.org/2003/05/soap-envelope")), shape()),
        ("a browser's destination", by_soap(&enclose(&Message::request().signed())), LogoutRefusal::Destination),
    ]);
}

#[test]
fn what_a_request_says_is_held_against_its_rules() {
    let honest = Message::request();
    let with = |message: Message| {
        let (posted, redirected) = (by_post(&message.signed()), by_redirect(&message.query(None)));
        let refusals = [&posted, &redirected].map(|taken| taken.as_ref().err().map(|fault| fault.refusal.clone()));
        assert_eq!(refusals[0], refusals[1], "both bindings read the same");
        if let Err(faulted) = &posted {
            assert!(faulted.asker.is_some(), "a verified IdP is told");
        }
        posted
    };
    let named = |names: &str| Message { content: names.to_owned(), ..honest.clone() };
    let indexes = |count: usize| {
        let all: String = (0..count).map(|n| format!("<samlp:SessionIndex>_{n}</samlp:SessionIndex>")).collect();
        named(&format!("<saml:NameID>x</saml:NameID>{all}"))
    };
    assert_eq!(with(indexes(16)).unwrap().session_indexes().len(), 16);
    assert!(with(indexes(0)).unwrap().session_indexes().is_empty());
    assert!(with(Message { attributes: String::new(), ..honest.clone() }).is_ok());
    assert!(with(Message { issued: 179, ..honest.clone() }).is_ok());
    let ends = |offset| Message { attributes: format!(" NotOnOrAfter=\"{}\"", at(offset)), ..honest.clone() };
    assert!(with(ends(-179)).is_ok());
    let long = "n".repeat(1025);
    refuse(vec![
        (
            "another destination",
            with(Message { destination: Some("https://evil.example/"), ..honest.clone() }),
            LogoutRefusal::Destination,
        ),
        (
            "the acs",
            with(Message { destination: Some("https://mail.example/saml/acs"), ..honest.clone() }),
            LogoutRefusal::Destination,
        ),
        ("no destination", with(Message { destination: None, ..honest.clone() }), LogoutRefusal::Destination),
        ("ended", with(ends(-180)), LogoutRefusal::Expired),
        (
            "too old",
            with(Message { issued: -480, attributes: String::new(), ..honest.clone() }),
            LogoutRefusal::Expired,
        ),
        ("from the future", with(Message { issued: 181, ..honest.clone() }), LogoutRefusal::NotYetValid),
        (
            "no time",
            with(Message { attributes: " NotOnOrAfter=\"soon\"".to_owned(), ..honest.clone() }),
            LogoutRefusal::Time,
        ),
        ("two names", with(named("<saml:NameID>x</saml:NameID><saml:NameID>y</saml:NameID>")), LogoutRefusal::NameId),
        ("no name", with(named("")), LogoutRefusal::NameId),
        ("an empty name", with(named("<saml:NameID/>")), LogoutRefusal::NameId),
        ("a long name", with(named(&format!("<saml:NameID>{long}</saml:NameID>"))), LogoutRefusal::NameId),
        ("a base name beside", with(named("<saml:NameID>x</saml:NameID><saml:BaseID/>")), LogoutRefusal::NameId),
        ("a name deeper", with(named("<x><saml:NameID>x</saml:NameID></x>")), LogoutRefusal::NameId),
        (
            "a comment in the name",
            with(named("<saml:NameID>vic<!-- -->tim</saml:NameID>")),
            LogoutRefusal::ValueNotPlain,
        ),
        ("CDATA in the name", with(named("<saml:NameID><![CDATA[x]]></saml:NameID>")), LogoutRefusal::ValueNotPlain),
        ("seventeen indexes", with(indexes(17)), LogoutRefusal::SessionIndexes),
        (
            "a comment in an index",
            with(named("<saml:NameID>x</saml:NameID><samlp:SessionIndex>_<!-- -->s</samlp:SessionIndex>")),
            LogoutRefusal::ValueNotPlain,
        ),
        (
            "an empty index",
            with(named("<saml:NameID>x</saml:NameID><samlp:SessionIndex/>")),
            LogoutRefusal::SessionIndexes,
        ),
    ]);
}

#[test]
fn a_request_counts_once() {
    let request = by_redirect(&Message::request().query(None)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    let mark = || store.mark_once("saml logout", &request.replay_id(), request.replay_until(), NOW).unwrap();
    assert!(mark());
    assert!(!mark());
    let late = accept_request(
        &Received::by_redirect(&Message::request().query(None)).unwrap(),
        &world().sp,
        &known,
        SKEW,
        request.replay_until(),
    );
    assert_eq!(late.unwrap_err().refusal, LogoutRefusal::Expired, "the marker outlives what it marks");
}

#[test]
fn an_honest_answer_says_what_became_of_the_session() {
    let with = |content: String| Message { content, ..Message::response() };
    for (message, outcome) in [
        (with(status("Success", "")), LogoutOutcome::Ended),
        (with(status("Success", "PartialLogout")), LogoutOutcome::Partly),
        (with(status("Responder", "PartialLogout")), LogoutOutcome::Partly),
        (with(status("Responder", "RequestDenied")), LogoutOutcome::Refused("RequestDenied")),
        (with(status("Requester", "")), LogoutOutcome::Refused("Requester")),
        (with(status("Whatever", "Unheard")), LogoutOutcome::Refused("other")),
    ] {
        assert_eq!(posted_answer(&message.signed()), Ok(outcome));
        assert_eq!(answer(Received::by_redirect(&message.query(Some("h")))), Ok(outcome));
    }
}

#[test]
fn forged_and_stray_answers_are_refused() {
    let honest = Message::response();
    assert!(posted_answer(&honest.signed()).is_ok());
    let to = |attributes: &str| Message { attributes: attributes.to_owned(), ..honest.clone() };
    let foreign = Message { key: Some(&world().foreign_key), ..honest.clone() };
    let issuer = "<saml:Issuer>https://idp.other.example</saml:Issuer>".to_owned();
    let mixed = Message { issuer, ..honest.clone() };
    let denied = Message { content: status("Responder", ""), ..honest.clone() };
    let promoted = denied.signed().replace("status:Responder", "status:Success");
    for (name, refused, reason) in [
        ("unsigned", posted_answer(&honest.document("")), LogoutRefusal::Unsigned),
        ("forged", posted_answer(&foreign.signed()), LogoutRefusal::SignatureInvalid),
        ("promoted", posted_answer(&promoted), LogoutRefusal::SignatureInvalid),
        ("to another request", posted_answer(&to(" InResponseTo=\"_other\"").signed()), LogoutRefusal::InResponseTo),
        ("unsolicited", posted_answer(&to("").signed()), LogoutRefusal::InResponseTo),
        ("of another IdP", posted_answer(&mixed.signed()), LogoutRefusal::Issuer),
        ("a request", posted_answer(&Message::request().signed()), LogoutRefusal::NotALogout),
        (
            "without status",
            posted_answer(&Message { content: String::new(), ..honest.clone() }.signed()),
            LogoutRefusal::Status,
        ),
        (
            "to another address",
            posted_answer(&Message { destination: Some("https://evil.example/"), ..honest.clone() }.signed()),
            LogoutRefusal::Destination,
        ),
        ("old", posted_answer(&Message { issued: -480, ..honest.clone() }.signed()), LogoutRefusal::Expired),
        (
            "unsigned query",
            answer(Received::by_redirect(&Message { key: None, ..honest.clone() }.query(None))),
            LogoutRefusal::Unsigned,
        ),
        ("forged query", answer(Received::by_redirect(&foreign.query(None))), LogoutRefusal::SignatureInvalid),
    ] {
        assert_eq!(refused, Err(reason), "{name}");
    }
}

/// The messages of ours, read back as an IdP that has our key would.
fn ours(binding: &str, reply: &str) -> String {
    match binding {
        "redirect" => {
            let (_, query) = reply.split_once('?').unwrap();
            let query = query.strip_prefix("x=1&").unwrap_or(query);
            let redirected = super::super::redirect::decode(query).unwrap();
            let certificate = world().signing.certificate.as_slice();
            redirected.detached.unwrap().verify([certificate]).unwrap();
            redirected.document
        }
        _ => {
            let text = match BASE64_STANDARD.decode(reply) {
                Ok(bytes) => String::from_utf8(bytes).unwrap(),
                Err(_) => reply.to_owned(),
            };
            let doc = xml::parse(&text).unwrap();
            let signature = xml::everywhere(&doc, xml::DS, "Signature")[0];
            let keys = super::super::signature::keys_of([world().signing.certificate.as_slice()]);
            let signed = doc.parent(signature).unwrap();
            assert_eq!(super::super::signature::verify(&doc, &text, signature, signed, &keys), Ok(()));
            text
        }
    }
}

#[test]
fn our_request_names_the_session_as_the_idp_did_and_is_signed() {
    let odd = NameId::new("<a>&\"".to_owned(), Some("urn:f".to_owned()), None, Some("<q>".to_owned())).unwrap();
    let named = Named { name: odd, session_index: Some("_s<1>".to_owned()) };
    let sp = &world().sp;
    let Outgoing { id, binding } = sp.logout_request(&idp(), &named, "handle", NOW).unwrap().unwrap();
    let Binding::Redirect { url } = &binding else { panic!("redirect expected") };
    assert!(
        url.starts_with("https://idp.univ-a.example/slo/redirect?SAMLRequest=") && url.contains("&RelayState=handle&")
    );
    let post = IdpMetadata { slo_redirect: None, ..(*idp()).clone() };
    let posted = sp.logout_request(&post, &named, "handle", NOW).unwrap().unwrap();
    let Binding::Post { saml_request, action } = &posted.binding else { panic!("post expected") };
    assert_eq!(Some(action), post.slo_post.as_ref());
    for (id, text) in [(&id, ours("redirect", url)), (&posted.id, ours("post", saml_request))] {
        let doc = xml::parse(&text).unwrap();
        let root = doc.document_element().unwrap();
        assert_eq!(xml::attribute(&doc, root, "ID"), Some(id.as_str()));
        let name = xml::single(&doc, root, SAML, "NameID").unwrap().unwrap();
        assert_eq!(NameId::read(&doc, name).as_ref(), Some(&named.name));
        let index = xml::single(&doc, root, SAMLP, "SessionIndex").unwrap().unwrap();
        assert_eq!(xml::text(&doc, index).as_deref(), Some("_s<1>"));
        assert_eq!(xml::attribute(&doc, root, "NotOnOrAfter"), Some("2026-11-24T00:05:00Z"));
    }
    let neither = IdpMetadata { slo_redirect: None, slo_post: None, ..(*idp()).clone() };
    assert!(sp.logout_request(&neither, &named, "handle", NOW).unwrap().is_none());
}

#[test]
fn our_answer_goes_back_the_way_the_request_came() {
    let request = by_redirect(&Message::request().query(None)).unwrap();
    let asker = request.asker();
    let sp = &world().sp;
    let reply = |asker: &Asker, status, channel| sp.logout_response(asker, status, channel, "st&te", NOW).unwrap();
    let Some(Reply::Redirect { url }) = reply(asker, LogoutStatus::Ended, Channel::Redirect) else {
        panic!("redirect")
    };
    assert!(url.starts_with("https://idp.univ-a.example/slo/redirect/answer?x=1&SAMLResponse="), "{url}");
    assert!(url.contains("&RelayState=st%26te&"), "{url}");
    let Some(Reply::Post { action, saml_response, relay_state }) = reply(asker, LogoutStatus::Partly, Channel::Post)
    else {
        panic!("post")
    };
    assert_eq!(relay_state, "st&te");
    assert_eq!(action, "https://idp.univ-a.example/slo/post");
    let Some(Reply::Soap { body }) = reply(asker, LogoutStatus::Refused, Channel::Soap) else { panic!("soap") };
    let told = [ours("redirect", &url), ours("post", &saml_response), ours("soap", &body)];
    for (text, codes) in
        told.iter().zip([&["Success"][..], &["Success", "PartialLogout"], &["Requester", "RequestDenied"]])
    {
        let doc = xml::parse(text).unwrap();
        let message = xml::everywhere(&doc, SAMLP, "LogoutResponse")[0];
        assert_eq!(xml::attribute(&doc, message, "InResponseTo"), Some("_m"));
        let read: Vec<_> = xml::everywhere(&doc, SAMLP, "StatusCode")
            .into_iter()
            .map(|node| xml::attribute(&doc, node, "Value").unwrap().rsplit(':').next().unwrap())
            .collect();
        assert_eq!(read, codes);
    }
    let redirect_only = Asker {
        idp: Arc::new(IdpMetadata { slo_post_response: None, ..(*idp()).clone() }),
        request_id: asker.request_id.clone(),
    };
    assert!(matches!(reply(&redirect_only, LogoutStatus::Ended, Channel::Post), Some(Reply::Redirect { .. })));
}

/// Another stack must read what we write: libxmlsec1 and OpenSSL, through `samael`.
#[test]
fn libxmlsec_accepts_our_messages() {
    use samael::crypto::{CertificateDer, Crypto, CryptoProvider as _, UrlVerifier};
    let named = Named { name: name("x7f3"), session_index: Some("_s1".to_owned()) };
    let certificate = CertificateDer::from(world().signing.certificate.clone());
    let post = IdpMetadata { slo_redirect: None, ..(*idp()).clone() };
    let Some(Outgoing { binding: Binding::Post { saml_request, .. }, .. }) =
        world().sp.logout_request(&post, &named, "", NOW).unwrap()
    else {
        panic!("post")
    };
    let text = String::from_utf8(BASE64_STANDARD.decode(saml_request).unwrap()).unwrap();
    assert!(Crypto::verify_signed_xml(text.clone(), &certificate, Some("ID")).is_ok());
    let read: samael::schema::LogoutRequest = text.parse().unwrap();
    assert_eq!(read.name_id.unwrap().value, "x7f3");
    let Some(Outgoing { binding: Binding::Redirect { url }, .. }) =
        world().sp.logout_request(&idp(), &named, "handle", NOW).unwrap()
    else {
        panic!("redirect")
    };
    let verifier = UrlVerifier::from_x509_cert_pem(&world().signing.certificate_pem).unwrap();
    assert!(verifier.verify_signed_request_url(&url::Url::parse(&url).unwrap()).unwrap());
}

#[test]
fn no_name_of_a_user_shows() {
    let received = Received::by_redirect(&Message::request().query(None)).unwrap();
    let request = by_redirect(&Message::request().query(None)).unwrap();
    let shown = format!("{received:?} {:?}", request.name());
    assert!(!shown.contains("x7f3"), "{shown}");
}

/// docs/saml.md tells what to do about each refusal.
#[test]
fn the_documentation_lists_every_logout_refusal_and_no_other() {
    let documented: std::collections::BTreeSet<&str> = include_str!("../../../../docs/saml.md")
        .lines()
        .skip_while(|line| *line != "### Refused logout messages")
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(kind, _)| kind)
        .collect();
    let known: std::collections::BTreeSet<&str> = include_str!("../logout/refusal.rs")
        .lines()
        .skip_while(|line| !line.contains("pub fn kind"))
        .filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","))
        .collect();
    assert!(known.len() > 25, "{known:?}");
    // Those come from what surrounds the reader.
    let around = ["relay_state", "no_pending", "pending_ended", "tenant_gone", "store"];
    let told: std::collections::BTreeSet<&str> = known.into_iter().chain(around).collect();
    assert_eq!(documented, told);
}

const XML: &[&str] = &[
    "<samlp:LogoutRequest xmlns:samlp='urn:oasis:names:tc:SAML:2.0:protocol' ID='_m' Version='2.0'>",
    "</samlp:LogoutRequest>",
    "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>",
    "</s:Body></s:Envelope>",
    "<saml:Issuer xmlns:saml='urn:oasis:names:tc:SAML:2.0:assertion'>https://idp.univ-a.example/idp</saml:Issuer>",
    "<saml:NameID xmlns:saml='urn:oasis:names:tc:SAML:2.0:assertion'>x</saml:NameID>",
    "<ds:Signature xmlns:ds='http://www.w3.org/2000/09/xmldsig#'/>",
    "<!DOCTYPE a>",
    "x",
    "<",
    "&amp;",
];

proptest! {
    #[test]
    fn nothing_unsigned_is_taken(
        pieces in prop::collection::vec(select(XML), 0..12), noise in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let world = world();
        unsigned_logout(&[pieces.concat().as_bytes(), &noise].concat(), &world.sp, &world.idp, NOW);
    }

    #[test]
    fn any_query_is_taken_apart_or_refused(
        pieces in prop::collection::vec(select(&[
            "SAMLRequest=", "SAMLResponse=", "RelayState=", "SigAlg=", "Signature=", "&", "%", "%41", "+", "A", "==", "é",
            "S8nPTwUA", "x=1",
        ][..]), 0..14),
    ) {
        redirect_decode(pieces.concat().as_bytes());
    }
}
