//! Metadata files: signed by a pinned key or not read at all.

use bergshamra_core::algorithm as alg;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::{
        minter::{NOW, Recipe, at, sign, world, write_private},
        signature,
    },
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

pub(super) fn entity(id: &str, attributes: &str) -> String {
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

pub(super) fn signed(xml: &str, id: &str) -> String {
    sign(&xml.replacen("@SIG@", &Recipe::default().template(id), 1).replace("@SIG@", ""), &world().signing)
}

fn read(xml: &str) -> Result<Vec<Arc<IdpMetadata>>, String> {
    let keys = [world().signing.certificate.clone()];
    let mut idps: Vec<_> = verified(xml, &keys)?.idps.into_values().collect();
    idps.sort_by(|one, other| one.entity_id.cmp(&other.entity_id));
    Ok(idps)
}

fn verified(xml: &str, keys: &[Vec<u8>]) -> Result<Verified, String> {
    MetadataIndex::read(xml.as_bytes(), keys, NOW).map_err(|error| error.message)
}

fn id(federation: &str) -> DocumentId {
    DocumentId { federation: federation.to_owned(), entity_id: None }
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

pub(super) fn aggregate(attributes: &str, inner: &str) -> String {
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
    let keys = [world().signing.certificate.clone()];
    let hold = |xml: &str| Held { verified: Arc::new(verified(xml, &keys).unwrap()), since: NOW };
    let index = MetadataIndex::of_federations(vec!["z".to_owned(), "a".to_owned()]);
    let scopeless = xml.replace("shibmd:Scope", "shibmd:Other");
    let index = index.with(id("a"), hold(&signed(&scopeless, "_r")), NOW).with(id("z"), hold(&signed(&xml, "_r")), NOW);
    assert_eq!(index.idp("https://idp.a.example").unwrap().scopes.len(), 2, "the first in the configuration wins");
    assert!(index.idp("https://idp.old.example").is_none());
    assert!(!index.has_ended(NOW));
    let end = NOW.plus(std::time::Duration::from_secs(3600));
    assert!(index.has_ended(end) && index.at(end).idp("https://idp.a.example").is_none(), "an end is kept");
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
fn a_document_that_was_cut_short_is_refused() {
    let honest = signed(&entity("https://idp.a.example", "ID=\"_e\""), "_e");
    for part in 0..20 {
        let mut end = honest.len() * part / 20;
        while !honest.is_char_boundary(end) {
            end -= 1;
        }
        assert!(read(&honest[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn an_entity_that_stands_twice_counts_once_and_the_first_is_used() {
    let first = entity("https://idp.a.example", "");
    let second = first.replace("univ-a.example", "univ-b.example").replace("Université A", "Université B");
    let second = second.replacen("https://idp.univ-b.example", "https://idp.a.example", 1);
    let idps = read(&signed(&aggregate("ID=\"_r\"", &format!("{first}{second}")), "_r")).unwrap();
    let [idp] = idps.as_slice() else { panic!("one entity expected") };
    assert_eq!(idp.scopes, ["univ-a.example", "lab.univ-a.example"], "no scope of the second is added");
}

#[test]
fn a_scope_by_regular_expression_is_no_scope() {
    for spelt in ["true", "1", " true ", "TRUE", "", "yes"] {
        let xml = entity("https://idp.a.example", "ID=\"_e\"");
        let xml = xml.replacen("<shibmd:Scope>", &format!("<shibmd:Scope regexp=\"{spelt}\">"), 1);
        let idps = read(&signed(&xml, "_e")).unwrap();
        assert_eq!(idps[0].scopes, ["univ-a.example"], "{spelt:?}");
    }
}

#[test]
fn endpoints_of_logout_and_categories_are_kept() {
    let logout = "<md:SingleLogoutService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect\" \
        Location=\"https://idp.a.example/slo\"/><md:SingleSignOnService";
    let category = "<md:Extensions><x:EntityAttributes xmlns:x=\"urn:oasis:names:tc:SAML:metadata:attribute\">\
        <s:Attribute xmlns:s=\"urn:oasis:names:tc:SAML:2.0:assertion\" Name=\"http://macedir.org/entity-category\">\
        <s:AttributeValue>http://refeds.org/category/personalized</s:AttributeValue></s:Attribute></x:EntityAttributes>";
    let xml = entity("https://idp.a.example", "ID=\"_e\"");
    let xml = xml.replacen("<md:SingleSignOnService", logout, 1).replacen("<md:Extensions>", category, 1);
    let idps = read(&signed(&xml, "_e")).unwrap();
    assert_eq!(idps[0].slo_redirect.as_deref(), Some("https://idp.a.example/slo"));
    assert_eq!((&idps[0].slo_post, &idps[0].slo_soap), (&None, &None));
    assert_eq!(idps[0].entity_categories, ["http://refeds.org/category/personalized"]);
}

#[test]
fn a_bare_public_key_pins_as_well_as_a_certificate() {
    let honest = signed(&entity("https://idp.a.example", "ID=\"_e\""), "_e");
    let key = signature::verification_key(&world().signing.certificate).unwrap().to_spki_der().unwrap();
    assert_eq!(MetadataIndex::read(honest.as_bytes(), &[key], NOW).unwrap().idps.len(), 1);
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
    // Whose passwords are to be asked for there, and cannot.
    let asked = "https://idp.a.example\"\necp.username = \"local_part";
    let problems = load(asked).unwrap_err();
    assert_eq!((problems.len(), problems[0].key.as_str()), (1, "tenant.univ-a.idp.saml.ecp"), "{problems:?}");
    let endpoint = |location: &str| {
        let service = format!(
            "<md:SingleSignOnService Binding=\"urn:oasis:names:tc:SAML:2.0:bindings:SOAP\" Location=\"{location}\"/>\
             </md:IDPSSODescriptor>"
        );
        let entity = entity("https://idp.a.example", "ID=\"_e\"").replace("</md:IDPSSODescriptor>", &service);
        put("idps.xml", &signed(&entity, "_e"));
        load(asked)
    };
    let problems = endpoint("http://idp.a.example/ecp").unwrap_err();
    assert!(problems[0].message.contains("without TLS"), "{problems:?}");
    let index = endpoint("https://idp.a.example/ecp").unwrap();
    let idp = index.idp("https://idp.a.example").unwrap();
    assert_eq!(idp.sso_soap.as_deref(), Some("https://idp.a.example/ecp"));

    let problems = load("https://idp.b.example").unwrap_err();
    let [problem] = problems.as_slice() else { panic!("one problem expected: {problems:?}") };
    assert_eq!(problem.key, "tenant.univ-a.idp.saml.entity_id");
    assert!(text("").lines().nth(problem.place.line - 1).unwrap().starts_with("entity_id"), "{problem}");
    assert_eq!(problem.hint.as_deref(), Some("known: https://idp.a.example"));
    let wanting = |binding: &str| load(&format!("https://idp.a.example\"\nbinding = \"{binding}"));
    assert!(wanting("redirect").is_ok());
    let problems = wanting("post").unwrap_err();
    let [problem] = problems.as_slice() else { panic!("one problem expected: {problems:?}") };
    assert_eq!(problem.key, "tenant.univ-a.idp.saml.binding");
    assert!(problem.message.ends_with("no SingleSignOnService for HTTP-POST"), "{problem}");
    put("idps.xml", "<a/>");
    assert_eq!(load("https://idp.a.example").unwrap_err()[0].key, "federation.local.file");
    std::fs::remove_file(dir.path().join("signing.crt")).unwrap();
    world().foreign_key.write(dir.path(), "signing");
    put("idps.xml", &signed(&entity("https://idp.a.example", "ID=\"_e\""), "_e"));
    assert_eq!(load("https://idp.a.example").unwrap_err()[0].key, "federation.local.file", "signed by another key");
}
