//! The document that we publish: what stands in it, where, and that it is the same each time.

use guichet_config::{
    AttributeName, CertificateFiles, IdentifierSource, IdpOfTenant, Logo, Organization, Publication, Requirement,
    Tenant, Text,
};

use super::{
    super::{
        ServiceProvider,
        minter::{ACS, EPPN, Encryption, MAIL, NOW, Recipe, SP, TestKey, consume, lenient, world},
        xml,
    },
    *,
};

fn text(fr: &str, en: &str) -> Text {
    Text { fr: fr.to_owned(), en: en.to_owned() }
}

fn contact(address: &str) -> Option<Contact> {
    Some(Contact { name: "Équipe <& équipiers>".to_owned(), address: address.parse().unwrap() })
}

fn publication() -> Publication {
    Publication {
        display_name: Some(text("Messagerie \"PARTAGE\" & <agenda>", "Mail")),
        description: Some(text("Courrier des établissements", "Mail of institutions")),
        information_url: Some(text("https://www.example/?a=1&b=2", "https://www.example/en")),
        privacy_url: Some(text("https://www.example/vie-privee", "https://www.example/privacy")),
        logo: Some(Logo { url: "https://www.example/logo.png".to_owned(), width: 80, height: 60 }),
        organization: Some(Organization {
            name: text("Réseau", "Network"),
            url: text("https://www.example/", "https://www.example/"),
        }),
        technical: contact("ops@example.org"),
        support: contact("help@example.org"),
        security: contact("cert@example.org"),
        entity_categories: vec!["https://refeds.org/category/code-of-conduct/v2".to_owned()],
        assurance_certifications: vec!["https://refeds.org/sirtfi".to_owned()],
    }
}

fn tenant_with(address_attributes: &[&str]) -> Tenant {
    let idp = world().tenant.idp.as_ref().unwrap();
    let address_attributes = address_attributes.iter().map(|name| name.parse().unwrap()).collect();
    Tenant { idp: Some(IdpOfTenant { address_attributes, ..idp.clone() }), ..world().tenant.clone() }
}

/// As `tenant_with`, but the directory is asked with an identifier, and something is required besides.
fn tenant_with_identifier(identifier: &str, required: &str) -> Tenant {
    let mut tenant = tenant_with(&[MAIL]);
    let idp = tenant.idp.as_mut().unwrap();
    let attribute: AttributeName = identifier.parse().unwrap();
    let syntax = attribute.identifier_syntax().unwrap();
    idp.identifier = Some(IdentifierSource { attribute, syntax, directory_attribute: None });
    idp.requirements = vec![Requirement { attribute: required.parse().unwrap(), values: vec!["x".to_owned()] }];
    tenant
}

fn content(change: impl FnOnce(&mut Content<'_>)) -> String {
    let (signing, encryption, old) =
        (&world().signing.certificate, &world().encryption.certificate, &world().encryption_old.certificate);
    let requested = Requested::of([&world().tenant]);
    let publication = publication();
    let origins = ["https://mail.example".to_owned(), "https://mail.univ-a.example".to_owned()];
    let mut content = Content {
        entity_id: SP,
        origins: &origins,
        signing: &[signing],
        encryption: &[encryption, old],
        requested: &requested,
        publication: &publication,
    };
    change(&mut content);
    content.document().unwrap()
}

fn requested(tenants: &[&Tenant]) -> String {
    let requested = Requested::of(tenants.iter().copied());
    content(|content| content.requested = Box::leak(Box::new(requested)))
}

/// Local names of the elements under the path of local names.
fn names_under(document: &str, path: &[&str]) -> Vec<String> {
    let doc = xml::parse(document).unwrap();
    let mut node = doc.document_element().unwrap();
    let local = |node| doc.element(node).unwrap().name.local_name.to_string();
    for step in path {
        node = xml::elements(&doc, node).find(|child| local(*child) == *step).unwrap();
    }
    let mut names: Vec<String> = xml::elements(&doc, node).map(local).collect();
    names.dedup();
    names
}

fn values(document: &str, namespace: &str, local: &str, name: &str) -> Vec<String> {
    let doc = xml::parse(document).unwrap();
    let all = xml::everywhere(&doc, namespace, local);
    all.into_iter().map(|node| xml::attribute(&doc, node, name).unwrap_or_default().to_owned()).collect()
}

#[test]
fn elements_stand_in_the_order_of_the_schema() {
    let document = content(|_| {});
    assert_eq!(names_under(&document, &[]), ["Extensions", "SPSSODescriptor", "Organization", "ContactPerson"]);
    assert_eq!(
        names_under(&document, &["SPSSODescriptor"]),
        [
            "Extensions",
            "KeyDescriptor",
            "SingleLogoutService",
            "NameIDFormat",
            "AssertionConsumerService",
            "AttributeConsumingService"
        ]
    );
    assert_eq!(names_under(&document, &["Extensions"]), ["DigestMethod", "SigningMethod", "EntityAttributes"]);
    assert_eq!(
        names_under(&document, &["SPSSODescriptor", "Extensions"]),
        ["RequestInitiator", "DiscoveryResponse", "UIInfo"]
    );
    assert_eq!(
        names_under(&document, &["SPSSODescriptor", "Extensions", "UIInfo"]),
        ["DisplayName", "Description", "InformationURL", "PrivacyStatementURL", "Logo"]
    );
}

#[test]
fn every_host_has_its_logout_service_and_the_public_one_comes_first() {
    let document = content(|_| {});
    let bindings = values(&document, xml::MD, "SingleLogoutService", "Binding");
    assert_eq!(bindings, [HTTP_REDIRECT, HTTP_POST, SOAP, HTTP_REDIRECT, HTTP_POST, SOAP]);
    let (public, other) = ("https://mail.example/saml/slo", "https://mail.univ-a.example/saml/slo");
    let locations = values(&document, xml::MD, "SingleLogoutService", "Location");
    let soap = |url: &str| format!("{url}/soap");
    assert_eq!(locations, [public, public, &soap(public), other, other, &soap(other)]);
}

#[test]
fn every_host_has_its_consumer_and_the_public_one_is_the_default() {
    let document = content(|_| {});
    let all = |name| values(&document, xml::MD, "AssertionConsumerService", name);
    let ecp = "https://mail.example/saml/ecp";
    assert_eq!(all("Location"), [ACS, ecp, "https://mail.univ-a.example/saml/acs"]);
    assert_eq!(all("Binding"), [HTTP_POST, PAOS_BINDING, HTTP_POST]);
    assert_eq!(all("index"), ["0", "1", "2"]);
    assert_eq!(all("isDefault"), ["true", "", ""]);
}

#[test]
fn every_host_says_where_a_login_begins_and_where_a_discovery_service_leads_back_to() {
    let document = content(|_| {});
    let at = |path: &str| [format!("https://mail.example{path}"), format!("https://mail.univ-a.example{path}")];
    assert_eq!(values(&document, INIT, "RequestInitiator", "Location"), at("/login"));
    assert_eq!(values(&document, IDPDISC, "DiscoveryResponse", "Location"), at("/login/discovery"));
    assert_eq!(values(&document, IDPDISC, "DiscoveryResponse", "index"), ["0", "1"]);
}

#[test]
fn what_identifies_users_is_required_and_nothing_unused_is_asked_for() {
    let asked = |tenants: &[&Tenant]| {
        let document = requested(tenants);
        let all = |name| values(&document, xml::MD, "RequestedAttribute", name);
        let mut rows: Vec<_> = all("FriendlyName")
            .into_iter()
            .zip(all("isRequired"))
            .map(|(name, required)| format!("{name} {required}"))
            .collect();
        rows.sort();
        (rows.join(", "), document.contains(SUBJECT_ID_REQ))
    };
    let (rows, subject) = asked(&[&tenant_with(&[MAIL, EPPN])]);
    assert_eq!(rows, "eduPersonAffiliation false, eduPersonPrincipalName false, mail true");
    assert!(!subject);
    let (rows, _) = asked(&[&tenant_with(&[MAIL, EPPN]), &tenant_with(&[EPPN])]);
    assert_eq!(rows, "eduPersonAffiliation false, eduPersonPrincipalName true, mail true");
    let (rows, subject) = asked(&[&tenant_with_identifier("supannEmpId", "eduPersonEntitlement")]);
    assert_eq!(rows, "eduPersonAffiliation false, eduPersonEntitlement true, supannEmpId true");
    assert!(!subject);
    let (rows, subject) = asked(&[&tenant_with_identifier("pairwise-id", "urn:x:<own>")]);
    assert_eq!(rows, " true, eduPersonAffiliation false");
    assert!(subject, "subject identifiers are asked for by an entity attribute");
    let without = Tenant { idp: None, ..world().tenant.clone() };
    assert!(!requested(&[&without]).contains("AttributeConsumingService"), "the schema wants one attribute or more");
}

#[test]
fn subject_identifiers_are_asked_for_as_their_profile_says() {
    let ask = |identifiers: &[&str]| {
        let tenants: Vec<Tenant> = identifiers.iter().map(|one| tenant_with_identifier(one, "mail")).collect();
        Requested::of(&tenants).subject_id()
    };
    assert_eq!(ask(&["uid"]), None);
    assert_eq!(ask(&["subject-id", "uid"]), Some("subject-id"));
    assert_eq!(ask(&["pairwise-id"]), Some("pairwise-id"));
    assert_eq!(ask(&["pairwise-id", "subject-id"]), Some("any"));
}

#[test]
fn keys_come_with_the_algorithms_that_are_accepted() {
    let document = content(|_| {});
    assert_eq!(values(&document, xml::MD, "KeyDescriptor", "use"), ["signing", "encryption", "encryption"]);
    let methods = ENCRYPTION_METHODS.map(|method| method.algorithm);
    assert_eq!(values(&document, xml::MD, "EncryptionMethod", "Algorithm"), [methods, methods].concat());
    // What stands there is what the consumer opens.
    for method in ENCRYPTION_METHODS.iter().filter(|method| method.oaep.is_some()) {
        let (digest, mask) = method.oaep.unwrap();
        let encryption = Encryption { key: method.algorithm, digest, mask, ..Encryption::shibboleth() };
        assert!(consume(&Recipe::encrypted(encryption).xml()).is_ok(), "{digest}");
    }
    for data in [alg::AES256_GCM, alg::AES128_GCM, alg::AES128_CBC] {
        assert!(consume(&Recipe::encrypted(Encryption { data, ..Encryption::shibboleth() }).xml()).is_ok(), "{data}");
    }
}

#[test]
fn names_are_escaped_and_told_in_both_languages() {
    let document = content(|_| {});
    assert!(
        document.contains("xml:lang=\"fr\">Messagerie &quot;PARTAGE&quot; &amp; &lt;agenda&gt;</mdui:DisplayName>")
    );
    assert!(document.contains("xml:lang=\"en\">Mail</md:ServiceName>"));
    assert!(document.contains("https://www.example/?a=1&amp;b=2"));
    assert!(document.contains("<md:GivenName>Équipe &lt;&amp; équipiers&gt;</md:GivenName>"));
    assert!(document.contains("<md:EmailAddress>mailto:cert@example.org</md:EmailAddress>"));
    assert!(document.contains("remd:contactType=\"http://refeds.org/metadata/contactType/security\""));
    let bare = content(|content| content.publication = Box::leak(Box::default()));
    for absent in ["UIInfo", "Organization", "ContactPerson", "EntityAttributes", "ServiceDescription"] {
        assert!(!bare.contains(absent), "{absent}");
    }
    assert!(bare.contains("xml:lang=\"fr\">Messagerie</md:ServiceName>"));
}

#[test]
fn the_same_configuration_gives_the_same_bytes() {
    assert_eq!(content(|_| {}), content(|_| {}));
    assert!(!content(|_| {}).contains("validUntil"));
    // The order in which tenants are given is of no account.
    let (one, other) = (tenant_with(&[MAIL]), tenant_with(&[EPPN]));
    assert_eq!(requested(&[&one, &other]), requested(&[&other, &one]));
}

#[test]
fn a_name_that_xml_has_no_form_for_makes_no_document() {
    let origins = ["https://mail.example".to_owned()];
    let content = Content {
        entity_id: "https://mail.example/\u{1}",
        origins: &origins,
        signing: &[],
        encryption: &[],
        requested: &Requested::default(),
        publication: &Publication::default(),
    };
    assert!(content.document().is_err());
}

fn with_keys(change: impl FnOnce(&mut guichet_config::ServiceProvider)) -> ServiceProvider {
    let dir = tempfile::tempdir().unwrap();
    let write = |key: &TestKey, name: &str| -> CertificateFiles { key.write(dir.path(), name) };
    let mut settings = guichet_config::ServiceProvider {
        entity_id: SP.to_owned(),
        signing: write(&world().signing, "signing"),
        signing_next: Some(write(&world().foreign_key, "next")),
        encryption: vec![write(&world().encryption, "new")],
        decryption_only: vec![write(&world().encryption_old, "old")],
        clock_skew: std::time::Duration::ZERO,
        publication: Publication::default(),
    };
    change(&mut settings);
    ServiceProvider::from_parts("https://mail.example", &settings).unwrap()
}

#[test]
fn a_next_signing_key_is_published_before_it_signs() {
    let sp = with_keys(|_| {});
    assert_eq!(values(sp.metadata_xml(), xml::MD, "KeyDescriptor", "use"), ["signing", "signing", "encryption"]);
    let roles: Vec<_> = sp.certificates().iter().map(|one| (one.role, one.key.as_str())).collect();
    assert_eq!(
        roles,
        [
            ("signing", "saml.signing.certificate"),
            ("signing_next", "saml.signing_next.certificate"),
            ("encryption", "saml.encryption[0].certificate")
        ]
    );
    assert!(sp.certificates().iter().all(|one| one.not_after > NOW));
    let certificate = BASE64_STANDARD.encode(&world().foreign_key.certificate);
    assert!(sp.metadata_xml().contains(&certificate));
    assert!(!with_keys(|settings| settings.signing_next = None).metadata_xml().contains(&certificate));
}

#[test]
fn a_key_that_only_decrypts_is_not_published() {
    let sp = with_keys(|_| {});
    assert!(!sp.metadata_xml().contains(&BASE64_STANDARD.encode(&world().encryption_old.certificate)));
    let world = world();
    let opens = |sp: &ServiceProvider| {
        let certificate = world.encryption_old.certificate.clone();
        let xml = Recipe::encrypted(Encryption { certificate, ..Encryption::shibboleth() }).xml();
        super::super::minter::consume_at(sp, &xml, &lenient(), NOW).is_ok()
    };
    assert!(opens(&sp));
    assert!(!opens(&with_keys(|settings| settings.decryption_only.clear())));
}

/// Another stack must read what we write: libxml2, through `samael`.
#[test]
fn samael_reads_the_document() {
    let read: samael::metadata::EntityDescriptor = content(|_| {}).parse().unwrap();
    let role = read.sp_sso_descriptors.unwrap().remove(0);
    assert_eq!(role.key_descriptors.unwrap().len(), 3);
    assert_eq!(role.assertion_consumer_services[2].location, "https://mail.univ-a.example/saml/acs");
    assert_eq!(role.attribute_consuming_services.unwrap()[0].request_attributes.len(), 3);
}
