//! The IdP's answer to a password, through an envelope: each refusal for its own reason, the honest answer beside it.

use std::time::Duration;

use bergshamra_core::algorithm as alg;

use super::{
    super::{
        Asked, Subject,
        minter::{Encryption, NOW, REQUEST, Recipe, audience, conditions, cut, lenient, sign, world},
        signature,
    },
    *,
};

const URL: &str = "https://mail.example/saml/ecp";

/// As an honest IdP answers by ECP.
fn recipe() -> Recipe {
    Recipe { destination: Some(URL.to_owned()), recipient: Some(URL.to_owned()), ..Recipe::default() }
}

fn ada() -> Subject {
    Subject::Address("ada@univ-a.example".parse().unwrap())
}

fn header(url: &str) -> String {
    format!(
        "<S:Header><ecp:Response xmlns:ecp=\"{ECP}\" S:mustUnderstand=\"1\" \
         S:actor=\"http://schemas.xmlsoap.org/soap/actor/next\" AssertionConsumerServiceURL=\"{url}\"/></S:Header>"
    )
}

fn envelope(header: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<S:Envelope xmlns:S=\"{}\">{header}\n  <S:Body>{body}</S:Body></S:Envelope>\n",
        soap::SOAP
    )
}

fn around(response: &str) -> String {
    envelope(&header(URL), response)
}

fn answer(status: u16, body: &str) -> EcpAnswer {
    answer_for(&world().tenant, status, body)
}

fn answer_for(tenant: &guichet_config::Tenant, status: u16, body: &str) -> EcpAnswer {
    let world = world();
    let expected = Expected {
        idp: &world.idp,
        request_id: REQUEST,
        acs_url: world.sp.ecp_url(),
        tenant,
        asked: Asked::default(),
        clock_skew: Duration::from_secs(180),
        now: NOW,
    };
    read(status, body.as_bytes(), &world.sp, &expected)
}

fn accepted(body: &str) {
    match answer(200, body) {
        EcpAnswer::Known(login) => assert_eq!(*login.subject(), ada()),
        other => panic!("{other:?}\n{body}"),
    }
}

fn unusable(body: &str) -> Refusal {
    match answer(200, body) {
        EcpAnswer::Unusable(EcpFault::Refused(refusal)) => refusal,
        other => panic!("{other:?}\n{body}"),
    }
}

fn failed(code: &str, message: &str, signed: bool) -> String {
    let top = "urn:oasis:names:tc:SAML:2.0:status:";
    let second = if code.is_empty() { String::new() } else { format!("<samlp:StatusCode Value=\"{top}{code}\"/>") };
    let message = if message.is_empty() {
        String::new()
    } else {
        format!("<samlp:StatusMessage>{message}</samlp:StatusMessage>")
    };
    let status = format!(
        "<samlp:Status><samlp:StatusCode Value=\"{top}Responder\">{second}</samlp:StatusCode>{message}</samlp:Status>"
    );
    let sign_response = signed.then_some(&world().idp_key);
    around(&Recipe { status, sign_response, ..recipe() }.around(""))
}

#[test]
fn the_request_is_signed_and_names_our_paos_consumer() {
    let world = world();
    let idp = IdpMetadata { sso_soap: Some("https://idp.univ-a.example/ecp".to_owned()), ..world.idp.clone() };
    let request = world.sp.ecp_request(&idp, NOW).unwrap();
    assert_eq!(request.endpoint, "https://idp.univ-a.example/ecp");
    let doc = xml::parse(&request.envelope).unwrap();
    let Envelope { blocks, content } = Envelope::read(&doc, |_, _| false).unwrap();
    assert!(blocks.is_empty());
    assert!(xml::is(&doc, content, SAMLP, "AuthnRequest"));
    for (name, value) in [
        ("ID", request.id.as_str()),
        ("Destination", "https://idp.univ-a.example/ecp"),
        ("ProtocolBinding", "urn:oasis:names:tc:SAML:2.0:bindings:PAOS"),
        ("AssertionConsumerServiceURL", URL),
    ] {
        assert_eq!(xml::attribute(&doc, content, name), Some(value));
    }
    let signature = xml::elements(&doc, content).nth(1).unwrap();
    let keys = signature::keys_of([world.signing.certificate.as_slice()]);
    assert_eq!(signature::verify(&doc, &request.envelope, signature, content, &keys), Ok(()));
    assert_ne!(world.sp.ecp_request(&idp, NOW).unwrap().id, request.id);
    assert!(world.sp.ecp_request(&world.idp, NOW).is_err(), "an IdP without the endpoint");
    for (endpoint, fit) in [
        ("http://127.0.0.1:8080/ecp", true),
        ("http://[::1]/ecp", true),
        ("http://idp.univ-a.example/ecp", false),
        ("http://localhost/ecp", false),
        ("http://127.0.0.1.evil.example/ecp", false),
        ("ftp://127.0.0.1/ecp", false),
    ] {
        let idp = IdpMetadata { sso_soap: Some(endpoint.to_owned()), ..world.idp.clone() };
        assert_eq!(world.sp.ecp_request(&idp, NOW).is_ok(), fit, "{endpoint}");
    }
}

#[test]
fn a_signed_success_names_the_user_whatever_its_shape() {
    let key = &world().idp_key;
    accepted(&around(&recipe().xml()));
    accepted(&around(&Recipe { sign_assertion: Some(key), ..recipe() }.xml()));
    for data in [alg::AES128_GCM, alg::AES256_GCM, alg::AES128_CBC] {
        let encryption = Some(Encryption { data, ..Encryption::shibboleth() });
        accepted(&around(&Recipe { encryption, ..recipe() }.xml()));
    }
    let inner = around(&Recipe { sign_response: None, sign_assertion: Some(key), ..recipe() }.xml());
    assert!(matches!(answer_for(&lenient(), 200, &inner), EcpAnswer::Known(_)));
    assert_eq!(unusable(&inner), Refusal::ResponseUnsigned);
}

#[test]
fn namespaces_that_the_envelope_declares_are_part_of_what_was_signed() {
    let declared = format!(" xmlns:samlp=\"{SAMLP}\" xmlns:saml=\"{}\"", xml::SAML);
    // Signed where it stands: nothing inside declares the prefixes again.
    let unsigned = Recipe { sign_response: None, ..recipe() };
    let bare = unsigned.around(&format!("@SIG2@{}", unsigned.assertion())).replace(&declared, "");
    let bare = bare.replace(&format!(" xmlns:saml=\"{}\"", xml::SAML), "");
    // The signature belongs behind the Issuer; the consumer only asks that it is a child.
    let whole = around(&bare).replacen("<S:Envelope ", &format!("<S:Envelope{declared} "), 1);
    let whole = sign(&whole.replacen("@SIG2@", &recipe().template("_response"), 1), &world().idp_key);
    accepted(&whole);
    let cut_out = cut(&whole, "<samlp:Response", "</samlp:Response>");
    assert!(xml::parse(&cut_out).is_err(), "cut out of its envelope it is no document");
    assert_eq!(unusable(&whole.replacen("ada@", "eve@", 1)), Refusal::SignatureInvalid);
}

#[test]
fn an_answer_for_another_consumer_or_request_is_none() {
    let honest = recipe().xml();
    for other in
        ["https://mail.example/saml/acs", "https://evil.example/saml/ecp", "https://mail.example/saml/ecp/", ""]
    {
        assert_eq!(unusable(&envelope(&header(other), &honest)), Refusal::EcpConsumer, "{other}");
    }
    assert_eq!(unusable(&envelope("", &honest)), Refusal::EcpConsumer);
    assert_eq!(unusable(&envelope("<S:Header/>", &honest)), Refusal::EcpConsumer);
    let twice = header(URL).replace("<S:Header>", &header(URL).replace("</S:Header>", ""));
    assert_eq!(unusable(&envelope(&twice, &honest)), Refusal::EcpConsumer);
    let elsewhere = header(URL).replace(ECP, "urn:x:ecp").replace("S:mustUnderstand=\"1\"", "");
    assert_eq!(unusable(&envelope(&elsewhere, &honest)), Refusal::EcpConsumer);

    let foreign = Some("_another".to_owned());
    let one = Recipe { in_response_to: foreign.clone(), ..recipe() };
    assert_eq!(unusable(&around(&one.xml())), Refusal::InResponseTo);
    assert_eq!(unusable(&around(&Recipe { in_response_to: None, ..recipe() }.xml())), Refusal::InResponseTo);
    let two = Recipe { subject_in_response_to: foreign, ..recipe() };
    assert_eq!(unusable(&around(&two.xml())), Refusal::InResponseTo);

    // What a browser would have brought is no answer here, and the other way round.
    let browser = "https://mail.example/saml/acs".to_owned();
    let recipient = Recipe { recipient: Some(browser.clone()), ..recipe() };
    assert_eq!(unusable(&around(&recipient.xml())), Refusal::Recipient);
    assert_eq!(unusable(&around(&Recipe { destination: Some(browser), ..recipe() }.xml())), Refusal::Destination);
    assert_eq!(super::super::minter::consume(&recipe().xml()).unwrap_err(), Refusal::Destination);
    let audience = conditions(&audience("https://other.example/sp"));
    assert_eq!(unusable(&around(&Recipe { conditions: audience, ..recipe() }.xml())), Refusal::Audience);
}

#[test]
fn what_is_no_envelope_with_one_response_is_no_answer() {
    let honest = recipe().xml();
    assert_eq!(unusable(&honest), Refusal::SoapEnvelope, "a bare Response");
    assert_eq!(unusable(&around("")), Refusal::SoapEnvelope);
    let second = Recipe { response_id: "_second".to_owned(), assertion_id: "_inner".to_owned(), ..recipe() }.xml();
    assert_eq!(unusable(&around(&format!("{honest}{second}"))), Refusal::SoapEnvelope);
    let two_bodies = around(&honest).replace("</S:Envelope>", "<S:Body/></S:Envelope>");
    assert_eq!(unusable(&two_bodies), Refusal::SoapEnvelope);
    let behind = around(&honest).replace("</S:Envelope>", "<x/></S:Envelope>");
    assert_eq!(unusable(&behind), Refusal::SoapEnvelope);
    let soap_1_2 = around(&honest).replace(soap::SOAP, "http://www.w3.org/2003/05/soap-envelope");
    assert_eq!(unusable(&soap_1_2), Refusal::SoapEnvelope);
    assert_eq!(unusable(&around("<a/>")), Refusal::NotAResponse);
    let demanding = header(URL).replace("</S:Header>", "<x:y xmlns:x=\"urn:x\" S:mustUnderstand=\"1\"/></S:Header>");
    assert_eq!(unusable(&envelope(&demanding, &honest)), Refusal::SoapHeader);
    let offered = demanding.replace("<x:y xmlns:x=\"urn:x\" S:mustUnderstand=\"1\"/>", "<x:y xmlns:x=\"urn:x\"/>");
    accepted(&envelope(&offered, &honest));
    let known = format!("<ecp:RequestAuthenticated xmlns:ecp=\"{ECP}\" S:mustUnderstand=\"0\"/></S:Header>");
    accepted(&envelope(&header(URL).replace("</S:Header>", &known), &honest));

    assert_eq!(unusable(&format!("<!DOCTYPE x>{honest}")), Refusal::Doctype);
    assert_eq!(unusable("<html><form>Sign in</form></html>"), Refusal::SoapEnvelope);
    assert_eq!(unusable("sign in first"), Refusal::Malformed);
    assert_eq!(unusable(&" ".repeat(ANSWER_BYTES_MAX + 1)), Refusal::TooLarge);
}

#[test]
fn a_forged_answer_opens_nothing() {
    let unsigned = Recipe { sign_response: None, ..recipe() };
    assert_eq!(unusable(&around(&unsigned.xml())), Refusal::Unsigned);
    let stranger = Recipe { sign_response: Some(&world().foreign_key), ..recipe() };
    assert_eq!(unusable(&around(&stranger.xml())), Refusal::SignatureInvalid);
    assert_eq!(unusable(&around(&recipe().xml().replacen("Ada@", "Eve@", 1))), Refusal::SignatureInvalid);

    // Wrapping: the genuine Response kept in the header, a forged one in the Body.
    let genuine = recipe().xml();
    let forged = Recipe { response_id: "_forged".to_owned(), assertion_id: "_evil".to_owned(), ..unsigned }.xml();
    let kept = header(URL).replace("</S:Header>", &format!("{genuine}</S:Header>"));
    assert_eq!(unusable(&envelope(&kept, &forged)), Refusal::NotAResponse);
    // Only its signed assertion kept there: counted wherever it stands.
    let signed = Recipe { sign_response: None, sign_assertion: Some(&world().idp_key), ..recipe() }.assertion();
    let kept = header(URL).replace("</S:Header>", &format!("<x xmlns=\"urn:x\">{signed}</x></S:Header>"));
    assert_eq!(unusable(&envelope(&kept, &forged)), Refusal::AssertionCount);
    // Its signature moved out of it.
    let signature = cut(&genuine, "<ds:Signature ", "</ds:Signature>");
    let moved = header(URL).replace("</S:Header>", &format!("{signature}</S:Header>"));
    assert_eq!(unusable(&envelope(&moved, &genuine.replace(&signature, ""))), Refusal::SignaturePlace);
    // An ID of the signed Response once more, on the envelope.
    let twin = around(&genuine).replacen("<S:Body>", "<S:Body ID=\"_response\">", 1);
    assert_eq!(unusable(&twin), Refusal::AmbiguousId);
}

#[test]
fn a_wrong_password_is_told_from_an_outage() {
    for status in [401, 403] {
        assert!(matches!(answer(status, "<html/>"), EcpAnswer::WrongPassword), "{status}");
    }
    for signed in [true, false] {
        assert!(matches!(answer(200, &failed("AuthnFailed", "", signed)), EcpAnswer::WrongPassword));
        assert!(matches!(answer(200, &failed("UnknownPrincipal", "", signed)), EcpAnswer::WrongPassword));
    }
    let wordy = failed("", "SimpleSAML\\Error\\Error: WRONGUSERPASS", true);
    assert!(matches!(answer(200, &wordy), EcpAnswer::WrongPassword));
    // The IdP's own directory is away: nobody can tell.
    for (code, message) in [("", ""), ("", "LDAP: WRONGUSERPASS?"), ("NoAuthnContext", ""), ("ProxyCountExceeded", "")]
    {
        assert!(
            matches!(unusable(&failed(code, message, true)), Refusal::Status { signed: true, .. }),
            "{code}{message}"
        );
    }
    // A "no" to somebody else's question, or one that somebody changed, is no answer.
    let other = failed("AuthnFailed", "", true).replacen(&format!("\"{REQUEST}\""), "\"_another\"", 1);
    assert_eq!(unusable(&other), Refusal::InResponseTo);
    let changed = failed("RequestDenied", "", true).replacen("RequestDenied", "AuthnFailed", 1);
    assert_eq!(unusable(&changed), Refusal::SignatureInvalid);
    for status in [204, 302, 404, 429, 500, 502, 503] {
        let answer = answer(status, &around(&recipe().xml()));
        assert!(matches!(&answer, EcpAnswer::Unusable(EcpFault::Http(code)) if *code == status), "{answer:?}");
    }
}

#[test]
fn faults_are_told_by_whose_they_are() {
    let fault = |code: &str| {
        envelope("", &format!("<S:Fault><faultcode>{code}</faultcode><faultstring>AuthnFailed</faultstring></S:Fault>"))
    };
    for (text, code, alarming) in [
        ("S:Server", "Server", false),
        ("S:Client.Authentication", "Client", true),
        ("S:MustUnderstand", "MustUnderstand", true),
        ("S:Strange", "other", true),
        ("", "other", true),
    ] {
        for status in [200, 500] {
            let EcpAnswer::Unusable(told) = answer(status, &fault(text)) else { panic!("{text}") };
            assert_eq!(told, EcpFault::Refused(Refusal::SoapFault { code }));
            assert_eq!((told.is_alarming(), told.kind()), (alarming, "soap_fault"));
        }
    }
    assert!(EcpFault::Http(404).is_alarming() && !EcpFault::Http(503).is_alarming());
    assert!(EcpFault::Refused(Refusal::SignatureInvalid).is_alarming());
}

#[test]
fn a_user_without_a_mailbox_here_is_known_and_not_admitted() {
    let denied = answer(200, &failed("RequestDenied", "", true));
    assert!(matches!(denied, EcpAnswer::NotAdmitted(Refusal::Status { .. })), "{denied:?}");
    let named = |name: &str, value: &str| {
        let attributes = vec![(name.to_owned(), vec![value.to_owned()])];
        answer(200, &around(&Recipe { attributes, ..recipe() }.xml()))
    };
    use super::super::minter::{EPPN, MAIL};
    assert!(matches!(named(MAIL, "ada@univ-b.example"), EcpAnswer::NotAdmitted(Refusal::Domain)));
    assert!(matches!(named(EPPN, "ada@univ-b.example"), EcpAnswer::NotAdmitted(Refusal::Scope)));
    assert!(matches!(named("urn:oid:2.5.4.3", "Ada"), EcpAnswer::NotAdmitted(Refusal::AddressMissing)));
    assert!(
        matches!(named(MAIL, "eve@univ-a.example"), EcpAnswer::Known(_)),
        "whom it names is the caller's to compare"
    );
}
