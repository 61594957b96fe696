//! What people are told of an IdP, and what others do with it.

use super::{
    super::{
        super::minter::{NOW, world},
        IdpMetadata, MetadataIndex,
        tests::{entity, signed},
    },
    *,
};

const ID: &str = "https://idp.a.example";

/// The test entity with `inside` its UIInfo, `role` before its SingleSignOnService, `end` at its end.
fn read(inside: &str, role: &str, end: &str) -> IdpMetadata {
    let xml = entity(ID, "ID=\"_e\" xmlns:remd=\"http://refeds.org/metadata\"");
    let xml = xml
        .replacen("</mdui:UIInfo>", &format!("{inside}</mdui:UIInfo>"), 1)
        .replacen("<md:SingleSignOnService", &format!("{role}<md:SingleSignOnService"), 1)
        .replacen("</md:EntityDescriptor>", &format!("{end}</md:EntityDescriptor>"), 1);
    let keys = [world().signing.certificate.clone()];
    let verified = MetadataIndex::read(signed(&xml, "_e").as_bytes(), &keys, NOW).unwrap();
    verified.idps.get(ID).unwrap().as_ref().clone()
}

#[test]
fn names_keywords_and_addresses_are_read_by_language() {
    let idp = read(
        "<mdui:Keywords xml:lang=\"fr\">Rennes Haute+Bretagne</mdui:Keywords><mdui:Keywords xml:lang=\"FR\">again</mdui:Keywords>\
         <mdui:InformationURL xml:lang=\"en\">https://univ-a.example/about</mdui:InformationURL>\
         <mdui:PrivacyStatementURL xml:lang=\"fr\">javascript:alert(1)</mdui:PrivacyStatementURL>\
         <mdui:PrivacyStatementURL xml:lang=\"fr\">https://univ-a.example/donnees</mdui:PrivacyStatementURL>",
        "",
        "",
    );
    assert_eq!(idp.keywords.get("fr").unwrap(), &["Rennes", "Haute Bretagne"]);
    assert_eq!(idp.information_urls.get("en").map(String::as_str), Some("https://univ-a.example/about"));
    assert_eq!(idp.privacy_urls.get("fr").map(String::as_str), Some("https://univ-a.example/donnees"));
    assert_eq!(idp.names.len(), 2);
}

#[test]
fn a_logo_counts_by_https_with_its_size() {
    let logo = |attributes: &str, url: &str| format!("<mdui:Logo {attributes}>{url}</mdui:Logo>");
    let size = "width=\"80\" height=\"60\"";
    let idp = read(
        &[
            logo(size, "http://univ-a.example/plain.png"),
            logo(size, "data:image/png;base64,AAAA"),
            logo("width=\"80\"", "https://univ-a.example/no-height.png"),
            logo("width=\"-1\" height=\"60\"", "https://univ-a.example/negative.png"),
            logo(&format!("{size} xml:lang=\"fr\""), "\n https://univ-a.example/logo.png "),
        ]
        .concat(),
        "",
        "",
    );
    let expected = Logo {
        url: "https://univ-a.example/logo.png".to_owned(),
        width: 80,
        height: 60,
        language: Some("fr".to_owned()),
    };
    assert_eq!(idp.logos, [expected]);
}

#[test]
fn contacts_have_a_plain_mail_address_and_a_purpose() {
    let person = |attributes: &str, inner: &str| format!("<md:ContactPerson {attributes}>{inner}</md:ContactPerson>");
    let mail = |address: &str| format!("<md:EmailAddress>{address}</md:EmailAddress>");
    let security = "contactType=\"other\" remd:contactType=\"http://refeds.org/metadata/contactType/security\"";
    let idp = read(
        "",
        "",
        &[
            person(security, &format!("<md:GivenName>CSIRT</md:GivenName>{}", mail("mailto:csirt@univ-a.example"))),
            person("contactType=\"support\"", &mail("Desk@univ-a.example")),
            person(
                "contactType=\"technical\"",
                &format!(
                    "<md:Company>A</md:Company><md:SurName>Byron</md:SurName>{}",
                    mail("MAILTO:ada@univ-a.example")
                ),
            ),
            person("contactType=\"technical\"", &mail("mailto:a@b?subject=x")),
            person("contactType=\"technical\"", &mail("mailto:a@b.example, c@d.example")),
            person("contactType=\"technical\"", &mail(&format!("{}@b.example", "a".repeat(250)))),
            person("contactType=\"technical\"", "<md:GivenName>Nobody</md:GivenName>"),
        ]
        .concat(),
    );
    let seen: Vec<_> = idp.contacts.iter().map(|one| (one.kind, one.name.as_deref(), one.address.as_str())).collect();
    assert_eq!(
        seen,
        [
            (ContactKind::Security, Some("CSIRT"), "csirt@univ-a.example"),
            (ContactKind::Support, None, "Desk@univ-a.example"),
            (ContactKind::Technical, Some("Byron"), "ada@univ-a.example"),
        ]
    );
}

#[test]
fn what_is_too_long_or_too_many_is_left_out() {
    let names: String =
        (0..100).map(|n| format!("<mdui:DisplayName xml:lang=\"x-{n}\">A</mdui:DisplayName>")).collect();
    let long =
        format!("<mdui:InformationURL xml:lang=\"en\">https://a.example/{}</mdui:InformationURL>", "a".repeat(2048));
    let words = format!("<mdui:Keywords xml:lang=\"en\">{}</mdui:Keywords>", "a ".repeat(1000));
    let contact =
        "<md:ContactPerson contactType=\"support\"><md:EmailAddress>a@b.example</md:EmailAddress></md:ContactPerson>";
    let idp = read(&format!("{names}{long}{words}"), "", &contact.repeat(100));
    assert_eq!((idp.names.len(), idp.information_urls.len(), idp.contacts.len()), (32, 0, 16));
    assert_eq!(idp.keywords.get("en").unwrap().len(), 64);
    let idp = read(&format!("<mdui:DisplayName xml:lang=\"de\">{}</mdui:DisplayName>", "a".repeat(513)), "", "");
    assert!(!idp.names.contains_key("de"));
}

#[test]
fn endpoints_for_ecp_and_for_answers_to_a_logout_are_kept() {
    let endpoint = |service: &str, binding: &str, rest: &str| {
        format!(
            "<md:{service} Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:{binding}\" Location=\"https://idp.a.example/x\"{rest}/>"
        )
    };
    let role = [
        endpoint("SingleLogoutService", "HTTP-Redirect", " ResponseLocation=\"https://idp.a.example/answer\""),
        endpoint("SingleLogoutService", "HTTP-POST", ""),
        endpoint("SingleSignOnService", "SOAP", ""),
    ]
    .concat();
    let idp = read("", &role, "");
    assert_eq!(idp.slo_redirect_response.as_deref(), Some("https://idp.a.example/answer"));
    assert_eq!(idp.slo_redirect.as_deref(), Some("https://idp.a.example/x"));
    assert_eq!(idp.slo_post_response.as_deref(), Some("https://idp.a.example/x"));
    assert_eq!(idp.sso_soap.as_deref(), Some("https://idp.a.example/x"));
    let unusable = endpoint("SingleLogoutService", "HTTP-POST", " ResponseLocation=\"javascript:alert(1)\"");
    let idp = read("", &unusable, "");
    assert_eq!((idp.slo_post.is_some(), idp.slo_post_response), (true, None));
}

#[test]
fn certifications_stand_beside_categories_and_one_hides_from_choice() {
    let values = |name: &str, value: &str| {
        format!("<s:Attribute Name=\"{name}\"><s:AttributeValue>{value}</s:AttributeValue></s:Attribute>")
    };
    let attributes = |inner: String| {
        let xml = entity(ID, "ID=\"_e\"").replacen(
            "<md:Extensions>",
            &format!(
                "<md:Extensions><x:EntityAttributes xmlns:x=\"urn:oasis:names:tc:SAML:metadata:attribute\" \
                 xmlns:s=\"urn:oasis:names:tc:SAML:2.0:assertion\">{inner}</x:EntityAttributes>"
            ),
            1,
        );
        let keys = [world().signing.certificate.clone()];
        let verified = MetadataIndex::read(signed(&xml, "_e").as_bytes(), &keys, NOW).unwrap();
        verified.idps.get(ID).unwrap().as_ref().clone()
    };
    let sirtfi = values("urn:oasis:names:tc:SAML:attribute:assurance-certification", "https://refeds.org/sirtfi");
    let idp = attributes(sirtfi.clone());
    assert_eq!(idp.assurance, ["https://refeds.org/sirtfi"]);
    assert!(idp.entity_categories.is_empty() && !idp.hide_from_discovery);
    let hidden = values("http://macedir.org/entity-category", "http://refeds.org/category/hide-from-discovery");
    assert!(attributes(format!("{sirtfi}{hidden}")).hide_from_discovery);
}
