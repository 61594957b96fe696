//! Metadata files: signed by a pinned key or not read at all.

use bergshamra_core::algorithm as alg;

use super::{
    super::minter::{NOW, Recipe, at, sign, world, write_private},
    *,
};

const HEAD: &str = "xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" \
    xmlns:shibmd=\"urn:mace:shibboleth:metadata:1.0\" xmlns:mdui=\"urn:oasis:names:tc:SAML:metadata:ui\"";

fn key_descriptor(usage: &str, certificate: &[u8]) -> String {
    let certificate = BASE64_STANDARD.encode(certificate);
    format!(
        "<md:KeyDescriptor{usage}><ds:KeyInfo><ds:X509Data><ds:X509Certificate>\n{certificate}\n</ds:X509Certificate>\
         </ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
    )
}

fn entity(id: &str, attributes: &str) -> String {
    let world = world();
    format!(
        "<md:EntityDescriptor {HEAD} {attributes} entityID=\"{id}\">@SIG@<md:Extensions><shibmd:Scope regexp=\"false\">\
         univ-a.example</shibmd:Scope><shibmd:Scope regexp=\"true\">^.*$</shibmd:Scope></md:Extensions>\
         <md:IDPSSODescriptor WantAuthnRequestsSigned=\"true\" errorURL=\"https://univ-a.example/help\" \
         protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol urn:x\"><md:Extensions><shibmd:Scope>\
         lab.univ-a.example</shibmd:Scope><mdui:UIInfo><mdui:DisplayName xml:lang=\"fr\">Université A</mdui:DisplayName>\
         </mdui:UIInfo></md:Extensions>{}{}{}{}<md:SingleSignOnService \
         Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST\" Location=\"javascript:alert(1)\"/>\
         <md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
         Location=\"https://idp.univ-a.example/sso?x=1\"/></md:IDPSSODescriptor><md:Organization>\
         <md:OrganizationDisplayName xml:lang=\"en\">University A</md:OrganizationDisplayName></md:Organization>\
         </md:EntityDescriptor>",
        key_descriptor(" use=\"signing\"", &world.idp_key.certificate),
        key_descriptor("", &world.idp_key_ec.certificate),
        key_descriptor(" use=\"encryption\"", &world.foreign_key.certificate),
        key_descriptor(" use=\"signing\"", b"nonsense"),
    )
}

fn signed(xml: &str, id: &str) -> String {
    sign(&xml.replacen("@SIG@", &Recipe::default().template(id), 1).replace("@SIG@", ""), &world().signing)
}

fn read(xml: &str) -> Result<Vec<IdpMetadata>, String> {
    let keys = [world().signing.certificate.clone()];
    MetadataIndex::read(xml.as_bytes(), &keys, NOW).map_err(|error| error.message)
}

#[test]
fn a_signed_entity_is_read() {
    let idps = read(&signed(&entity("https://idp.univ-a.example", "ID=\"_e\""), "_e")).unwrap();
    let [idp] = idps.as_slice() else { panic!("one entity expected") };
    assert_eq!(idp.entity_id, "https://idp.univ-a.example");
    assert_eq!(idp.sso_redirect.as_deref(), Some("https://idp.univ-a.example/sso?x=1"));
    assert_eq!(idp.sso_post, None, "a script is no endpoint");
    assert_eq!(idp.signing_certificates, [world().idp_key.certificate.clone(), world().idp_key_ec.certificate.clone()]);
    assert_eq!(idp.scopes, ["univ-a.example", "lab.univ-a.example"]);
    assert_eq!(idp.names.get("fr").map(String::as_str), Some("Université A"));
    assert_eq!(idp.names.get("en").map(String::as_str), Some("University A"));
    assert_eq!(idp.error_url.as_deref(), Some("https://univ-a.example/help"));
    assert!(idp.want_signed_requests);
}

fn aggregate(attributes: &str, inner: &str) -> String {
    format!("<md:EntitiesDescriptor {HEAD} {attributes}>@SIG@{inner}</md:EntitiesDescriptor>")
}

#[test]
fn aggregates_nest_and_the_first_of_two_wins() {
    let expired = entity("https://idp.old.example", &format!("validUntil=\"{}\"", at(-1)));
    let inner = aggregate("", &entity("https://idp.b.example", "ID=\"_b\""));
    let all = format!("{}{expired}{inner}", entity("https://idp.a.example", ""));
    let xml = aggregate(&format!("ID=\"_r\" validUntil=\"{}\"", at(3600)), &all);
    let idps = read(&signed(&xml, "_r")).unwrap();
    let ids: Vec<&str> = idps.iter().map(|idp| idp.entity_id.as_str()).collect();
    assert_eq!(ids, ["https://idp.a.example", "https://idp.b.example"]);
    let mut index = MetadataIndex::default();
    let mut second = idps.clone();
    for idp in &mut second {
        idp.scopes.clear();
    }
    index.add(idps);
    index.add(second);
    assert_eq!(index.idp("https://idp.a.example").unwrap().scopes.len(), 2);
    assert!(index.idp("https://idp.old.example").is_none());
}

#[test]
fn files_that_are_not_vouched_for_are_refused_whole() {
    let honest = signed(&entity("https://idp.a.example", "ID=\"_e\""), "_e");
    assert!(read(&honest).is_ok());
    let says = |xml: &str, word: &str| {
        let message = read(xml).unwrap_err();
        assert!(message.contains(word), "{message}");
    };
    says(&entity("https://idp.a.example", "ID=\"_e\"").replace("@SIG@", ""), "not signed");
    says(&honest.replacen("lab.univ-a.example", "lab.univ-b.example", 1), "changed");
    says(&honest.replacen(alg::RSA_SHA256, alg::RSA_SHA1, 1), "SHA-1");
    says(&format!("<!DOCTYPE x>{honest}"), "document type");
    says(&honest.replacen("URI=\"#_e\"", "URI=\"\"", 1), "cover");
    says(&honest.replacen("</md:EntityDescriptor>", "", 1), "well-formed");
    says("<a/>", "neither");
    says("", "well-formed");
    let wrapped = format!("<md:EntitiesDescriptor {HEAD} ID=\"_w\">{honest}</md:EntitiesDescriptor>");
    says(&wrapped, "not signed");
    let expired = entity("https://idp.a.example", &format!("ID=\"_e\" validUntil=\"{}\"", at(0)));
    says(&signed(&expired, "_e"), "expired");
    let foreign = [world().foreign_key.certificate.clone()];
    assert!(MetadataIndex::read(honest.as_bytes(), &foreign, NOW).unwrap_err().message.contains("configured keys"));
    assert!(MetadataIndex::read(honest.as_bytes(), &[], NOW).unwrap_err().message.contains("no usable"));
    assert!(MetadataIndex::read(b"\xff\xfe", &foreign, NOW).unwrap_err().message.contains("UTF-8"));
}

#[test]
fn a_bare_public_key_pins_as_well_as_a_certificate() {
    let honest = signed(&entity("https://idp.a.example", "ID=\"_e\""), "_e");
    let key = signature::verification_key(&world().signing.certificate).unwrap().to_spki_der().unwrap();
    assert_eq!(MetadataIndex::read(honest.as_bytes(), &[key], NOW).unwrap().len(), 1);
}

#[test]
fn federations_are_read_from_their_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("idps.xml");
    let pin = dir.path().join("pin.pem");
    std::fs::write(&file, signed(&entity("https://idp.a.example", "ID=\"_e\""), "_e")).unwrap();
    std::fs::write(&pin, &world().signing.certificate_pem).unwrap();
    let federation = Federation {
        name: "local".to_owned(),
        file: file.clone(),
        signing_keys: vec![pin.clone()],
        refresh: std::time::Duration::from_secs(3600),
    };
    assert_eq!(read_federation(&federation, NOW).unwrap().len(), 1);
    std::fs::write(&pin, "nothing").unwrap();
    assert_eq!(read_federation(&federation, NOW).unwrap_err().0, "federation.local.signing_keys");
    std::fs::write(&pin, &world().foreign_key.certificate_pem).unwrap();
    assert_eq!(read_federation(&federation, NOW).unwrap_err().0, "federation.local.file");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(read_federation(&federation, NOW).unwrap_err().0, "federation.local.file");
}

#[test]
fn a_tenant_whose_idp_is_unknown_is_reported_at_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| write_private(&dir.path().join(name), text);
    std::fs::create_dir(dir.path().join("tls")).unwrap();
    put("token", "0123456789abcdef0123456789abcdef");
    put("users.toml", "");
    world().signing.write(dir.path(), "signing");
    world().signing.write(&dir.path().join("tls"), "mail");
    put("idps.xml", &signed(&entity("https://idp.a.example", "ID=\"_e\""), "_e"));
    let text = |entity_id: &str| {
        format!(
            "[node]\nname = \"n\"\nstate_dir = \"state\"\n[public]\nhostname = \"mail.example\"\ncertificates = \"tls\"\n\
             [management]\nbind = \"127.0.0.1:9443\"\ntoken_file = \"token\"\n[listener.web.https]\nbind = [\"127.0.0.1:8443\"]\n\
             [directory.embedded]\nfile = \"users.toml\"\n\
             [saml]\nsigning = {{ certificate = \"signing.crt\", key_file = \"signing.key\" }}\n\
             [federation.local]\nfile = \"idps.xml\"\nsigning_keys = [\"signing.crt\"]\n\
             [cell.main.web]\nendpoints = [\"127.0.0.1:8080\"]\ndangerous_plaintext = true\n\
             entry.identity_headers.key_file = \"token\"\n\
             [tenant.univ-a]\nname = {{ fr = \"A\", en = \"A\" }}\ndomains = [\"univ-a.example\"]\ncell = \"main\"\n\
             [tenant.univ-a.idp.saml]\nentity_id = \"{entity_id}\"\n"
        )
    };
    let load = |entity_id: &str| {
        put("edge.toml", &text(entity_id));
        let config = guichet_config::load(&dir.path().join("edge.toml")).unwrap_or_else(|report| panic!("{report}"));
        assert!(super::super::ServiceProvider::new(&config).is_ok());
        MetadataIndex::load(&config, NOW)
    };
    assert!(load("https://idp.a.example").unwrap().idp("https://idp.a.example").is_some());
    let problems = load("https://idp.b.example").unwrap_err();
    let [problem] = problems.as_slice() else { panic!("one problem expected: {problems:?}") };
    assert_eq!(problem.key, "tenant.univ-a.idp.saml.entity_id");
    assert!(text("").lines().nth(problem.place.line - 1).unwrap().starts_with("entity_id"), "{problem}");
    assert_eq!(problem.hint.as_deref(), Some("known: https://idp.a.example"));
    put("idps.xml", "<a/>");
    assert_eq!(load("https://idp.a.example").unwrap_err()[0].key, "federation.local.file");
}
