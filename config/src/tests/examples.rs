//! The examples load, and say what they are meant to say.

use std::time::Duration;

use super::{Copy, EXAMPLES};
use crate::{
    AttributeName, Category, CellMailTls, ClientAddress, Directory, FallbackPolicy, Forced, IdentifierSyntax,
    ListenerKind, MailLogin, MailProtocol, MailTls, WebEntry,
};

#[test]
fn every_example_loads() {
    for example in EXAMPLES {
        assert_eq!(Copy::of(example).report(), "", "{example}");
    }
}

#[test]
fn the_minimal_example_has_defaults_for_the_rest() {
    let copy = Copy::of("minimal.toml");
    let config = copy.load().unwrap();
    assert_eq!((config.node.name.as_str(), config.public.origin.as_str()), ("mail.example", "https://mail.example"));
    assert_eq!(config.public.certificates, copy.path("tls"));
    assert_eq!(config.management.bind, "127.0.0.1:9443".parse().unwrap());
    assert_eq!(config.management.token.expose(), "0123456789abcdef0123456789abcdef");
    let names: Vec<&str> = config.listeners.iter().map(|listener| listener.id.as_str()).collect();
    assert_eq!(names, ["http", "https", "imaps"]);
    let ListenerKind::Mail { protocol, tls, mechanisms, .. } = &config.listeners[2].kind else {
        panic!("a mail listener")
    };
    assert_eq!((*protocol, *tls, mechanisms.len()), (MailProtocol::Imap, MailTls::Implicit, 3));
    assert!(config.saml.is_none() && config.federations.is_empty());
    assert_eq!(config.availability.dwell, Duration::from_secs(300));
    assert_eq!(config.session.lifetime, Duration::from_secs(36_000));
    assert_eq!(config.limits.body_bytes_max, 100 << 20);
    assert_eq!(config.limits.login_deadline, Duration::from_secs(60));
    assert!(config.setup.enabled && config.setup.name.is_none() && config.setup.dav_path.is_none());

    let Directory::Embedded(users) = &config.directory else { panic!("an embedded directory") };
    let alice = &users.by_address[&"Alice@univ.example".parse().unwrap()];
    assert_eq!(users.by_address[&"a.martin@univ.example".parse().unwrap()].address, alice.address);
    assert_eq!((alice.category, alice.active, alice.cell.is_some()), (Some(Category::Staff), true, true));
    assert!(!users.by_address[&"bob@univ.example".parse().unwrap()].active);

    let cell = &config.cells[&"main".parse().unwrap()];
    let web = cell.web.as_ref().unwrap();
    let WebEntry::IdentityHeaders { key } = &web.entry else { panic!("signed headers") };
    assert_eq!((key.expose().len(), web.tls.is_none()), (32, true));
    let imap = &cell.mail[&MailProtocol::Imap];
    assert!(matches!((&imap.tls, &imap.login), (CellMailTls::Plain, MailLogin::Password)));
    assert_eq!(imap.client_address, ClientAddress::Id);

    let tenant = &config.tenants[&"example".parse().unwrap()];
    assert_eq!((tenant.name.en.as_str(), tenant.category), ("Université d'exemple", Category::Student));
    assert_eq!(config.domains[&"univ.example".parse().unwrap()], tenant.id);
}

#[test]
fn the_example_of_one_node_uses_what_it_writes() {
    let config = Copy::of("one-node.toml").load().unwrap();
    let Directory::Ldap(ldap) = &config.directory else { panic!("LDAP") };
    assert_eq!(ldap.urls, ["ldap://ldap1.univ.example", "ldaps://ldap2.univ.example"]);
    assert_eq!((ldap.start_tls, ldap.password.expose().as_str()), (true, "correct horse"));
    assert_eq!(config.saml.as_ref().unwrap().entity_id, "https://mail.univ.example/saml/metadata");
    let alpha = &config.cells[&"alpha".parse().unwrap()].mail[&MailProtocol::Imap];
    assert!(matches!(&alpha.login, MailLogin::Master { username, .. } if username == "guichet"));
    let beta = &config.cells[&"beta".parse().unwrap()].mail[&MailProtocol::Imap];
    assert!(matches!(&beta.tls, CellMailTls::StartTls(tls) if tls.name.as_deref() == Some("beta.univ.example")));
    let univ = &config.tenants[&"univ".parse().unwrap()];
    assert_eq!((univ.fallback_staff, univ.fallback_students), (FallbackPolicy::Operator, FallbackPolicy::Auto));
    assert_eq!(univ.idp.as_ref().unwrap().address_attributes.len(), 2);
    assert_eq!(univ.idp_forced, None);
    let name = config.setup.name.as_ref().map(|name| name.en.as_str());
    assert_eq!(
        (config.setup.enabled, name, config.setup.dav_path.as_deref()),
        (true, Some("Example mail"), Some("/dav/"))
    );
}

#[test]
fn the_fleet_reads_its_tenants_from_their_files() {
    let copy = Copy::of("fleet/fleet.toml");
    let config = copy.load().unwrap();
    assert_eq!(config.tenants.len(), 4);
    assert_eq!(config.domains[&"université-sud.example".parse().unwrap()].as_str(), "univ-sud");
    assert_eq!(config.tenants[&"univ-sud".parse().unwrap()].idp_forced, Some(Forced::Down));
    assert_eq!(config.dns_servers[0], "192.0.2.53:53".parse().unwrap());
    let sud = config.tenants[&"univ-sud".parse().unwrap()].idp.as_ref().unwrap();
    assert_eq!(sud.address_attributes, [AttributeName::PRINCIPAL_NAME]);
    assert_eq!(sud.affiliation_attributes[1], AttributeName::SCOPED_AFFILIATION);
    assert_eq!((sud.staff_affiliations.len(), sud.student_affiliations.len()), (5, 1));
    assert_eq!(sud.requirements[0].attribute.as_str(), "urn:oid:1.3.6.1.4.1.7135.1.2.1.14");
    assert_eq!(sud.requirements[0].values, ["{UAI}0139999S"]);
    let nord = config.tenants[&"univ-nord".parse().unwrap()].idp.as_ref().unwrap().identifier.as_ref().unwrap();
    assert_eq!((nord.attribute.known_as(), nord.syntax), ("pairwise-id", IdentifierSyntax::SubjectId));
    assert_eq!(nord.directory_attribute.as_deref(), Some("partagePairwiseId"));
    let balanced = config.listeners.iter().find(|listener| listener.id.as_str() == "balanced").unwrap();
    assert_eq!(balanced.proxy_from.len(), 2);
    let ports: Vec<_> = config.listeners.iter().filter_map(|listener| listener.public_port).collect();
    assert_eq!(ports, [993, 143]);
    assert!(config.management.tls.is_some());
    let hosts: Vec<&str> = config.hosts.all().map(|host| host.hostname.as_str()).collect();
    assert_eq!(hosts[1..], ["mail.univ-nord.example"]);
    assert_eq!(config.discovery.service.as_deref(), Some("https://discovery.federation.example/"));
    let wiki = &config.discovery.clients["https://wiki.partage.example/shibboleth"];
    assert_eq!((wiki.name.as_str(), wiki.return_to.len()), ("wiki", 1));
    let gamma = &config.cells[&"gamma".parse().unwrap()];
    assert!(matches!(gamma.mail[&MailProtocol::Imap].login, MailLogin::ZimbraToken));
    let zimbra = gamma.zimbra.as_ref().unwrap();
    assert_eq!((zimbra.token_life, zimbra.keys.len()), (Duration::from_secs(3600), 1));
    assert_eq!(zimbra.key.as_ref().unwrap().expose().len(), 64);
    assert_eq!(config.cells[&"alpha".parse().unwrap()].source_addresses.len(), 3);
    let ends = &config.cells[&"beta".parse().unwrap()].web.as_ref().unwrap().endpoints;
    assert_eq!(ends[1].to_string(), "[2001:db8:3::1]:8443");
}

#[test]
fn logins_without_a_password_are_offered_where_there_is_something_to_prove_them() {
    let config = Copy::of("fleet/fleet.toml").load().unwrap();
    let offered = |id: &str| {
        let listener = config.listeners.iter().find(|listener| listener.id.as_str() == id).unwrap();
        let ListenerKind::Mail { mechanisms, client_ca, .. } = &listener.kind else { panic!("a mail listener") };
        let names: Vec<&str> = mechanisms.iter().map(|one| one.sasl_name()).collect();
        (names.join(" "), client_ca.clone())
    };
    assert_eq!(offered("imaps-direct"), ("a login command PLAIN LOGIN XOAUTH2 OAUTHBEARER".to_owned(), None));
    let (names, ca) = offered("certified");
    assert_eq!(names, "EXTERNAL");
    let ca = ca.unwrap();
    assert!(ca.required && ca.subject_attribute.is_none() && ca.tenants.len() == 1, "{ca:?}");
    let bearer = &config.bearers[0];
    assert_eq!((bearer.name.as_str(), bearer.address_claim.as_str(), bearer.tenants.len()), ("national", "email", 2));
    assert_eq!((bearer.algorithms.as_slice(), bearer.clock_skew.as_secs()), (&[crate::BearerAlgorithm::Es256][..], 60));

    // Cells that open to a password only are named, for each listener.
    let remarks: Vec<String> = config.remarks.iter().map(ToString::to_string).collect();
    assert_eq!(remarks.len(), 4, "{remarks:#?}");
    assert!(remarks[0].contains("cell.beta.imap: `listener.imap.certified` offers EXTERNAL"), "{}", remarks[0]);

    // Where all cells do, a token has nowhere to go, and is not offered unless somebody says so.
    let copy = Copy::of("fleet/fleet.toml");
    copy.edit(
        "fleet.toml",
        "login.master = { username = \"guichet\", password_file = \"secrets/alpha.password\" }",
        "",
    );
    copy.edit("fleet.toml", "login.zimbra_token = {}", "");
    let report = copy.report();
    let complaint = ":16: listener.imap.certified: no cell can be entered by IMAP without the user's password";
    assert!(report.lines().next().unwrap().ends_with(complaint), "{report}");
    let minimal = Copy::of("minimal.toml");
    minimal.edit(
        "minimal.toml",
        "[tenant.example]",
        "[bearer.b]\nissuer = \"i\"\naudience = \"a\"\nkeys_file = \"ca.pem\"\ntenants = [\"example\"]\n[tenant.example]",
    );
    let config = minimal.load().unwrap();
    let ListenerKind::Mail { mechanisms, .. } = &config.listeners[2].kind else { panic!("a mail listener") };
    assert_eq!(mechanisms.len(), 3, "{mechanisms:?}");
    assert!(config.remarks[0].to_string().contains("XOAUTH2 and OAUTHBEARER are not offered"), "{:?}", config.remarks);
}

#[test]
fn a_domain_that_a_zimbra_cell_cannot_be_told_of_is_remarked() {
    let told = |copy: &Copy| -> Vec<String> {
        let remarks = copy.load().unwrap().remarks;
        remarks.iter().map(ToString::to_string).filter(|remark| remark.contains("PreAuth")).collect()
    };
    let copy = Copy::of("fleet/fleet.toml");
    copy.edit("tenants.d/univ-sud.toml", "cell = \"beta\"", "cell = \"gamma\"");
    assert!(told(&copy).is_empty(), "one key serves all domains");
    copy.edit("fleet.toml", "key_file = \"secrets/gamma.preauth\"\n", "");
    let told = told(&copy);
    assert_eq!(told.len(), 3, "the two laboratories, and one of the two domains: {told:?}");
    assert!(told[2].contains("cell.gamma.zimbra: no PreAuth key for xn--"), "{told:?}");
    assert!(told[2].contains("of `tenant.univ-sud`"), "{told:?}");
}

#[test]
fn an_institution_that_judges_passwords_itself_and_a_cell_that_wants_them_are_remarked() {
    let copy = Copy::of("fleet/fleet.toml");
    let config = copy.load().unwrap();
    let ecp_of = |id: &str| config.tenants[&id.parse().unwrap()].idp.as_ref().unwrap().ecp.as_ref();
    let alice = "alice@univ-nord.example".parse().unwrap();
    let ecp = ecp_of("univ-nord").unwrap();
    assert_eq!((ecp.username.of(&alice), ecp.ca.is_none()), ("alice", true));
    assert!(ecp_of("univ-sud").is_none());
    assert_eq!(crate::EcpUsername::Address.of(&alice), "alice@univ-nord.example");

    copy.edit(
        "tenants.d/univ-sud.toml",
        "[tenant.univ-sud.idp]",
        "[tenant.univ-sud.idp.saml.ecp]\n[tenant.univ-sud.idp]",
    );
    let remarks = copy.load().unwrap().remarks;
    let remarks: Vec<String> = remarks.iter().map(ToString::to_string).filter(|one| one.contains("ecp")).collect();
    let [remark] = remarks.as_slice() else { panic!("{remarks:?}") };
    assert!(
        remark.contains("tenant.univ-sud.idp.saml.ecp: the cell beta opens to the user's password only (IMAP)"),
        "{remark}"
    );
}

#[test]
fn keys_know_where_they_stand() {
    let copy = Copy::of("fleet/fleet.toml");
    let config = copy.load().unwrap();
    let place = config.place("tenant.univ-sud.idp.saml.entity_id");
    assert_eq!(
        (place.file.as_path(), place.line, place.column),
        (copy.path("tenants.d/univ-sud.toml").as_path(), 8, 13)
    );
    // A key that has its default points at its table, the table at its header.
    let table = config.place("tenant.univ-sud.idp.saml");
    assert_eq!((table.line, table.column), (7, 22));
    assert_eq!(config.place("tenant.univ-nord.idp.saml.affiliation_attribute").line, 8);
    assert_eq!(config.place("federation.renater.signing_keys[1]").column, 43);
    assert_eq!((config.place("no.such.key").line, config.place("").line), (1, 1));
    let problem = config.problem("tenant.univ-sud.idp.saml.entity_id", "unknown to the metadata", None);
    assert!(
        problem
            .to_string()
            .ends_with("univ-sud.toml:8:13: tenant.univ-sud.idp.saml.entity_id: unknown to the metadata")
    );
}

#[test]
fn secrets_do_not_show() {
    let config = Copy::of("one-node.toml").load().unwrap();
    let shown = format!("{config:?}");
    for secret in ["0123456789abcdef", "correct horse", "master secret"] {
        assert!(!shown.contains(secret), "{secret}");
    }
    let config = Copy::of("fleet/fleet.toml").load().unwrap();
    assert!(!format!("{config:?}").contains("6b7ead4b"));
    let config = Copy::of("minimal.toml").load().unwrap();
    assert!(!format!("{config:?}").contains("argon2id"));
}

#[test]
fn a_bogus_key_in_any_table_is_found_on_its_line() {
    for example in EXAMPLES {
        let names: Vec<String> = {
            let copy = Copy::of(example);
            let tenants = std::fs::read_dir(copy.path("tenants.d")).into_iter().flatten();
            let tenants = tenants.map(|file| format!("tenants.d/{}", file.unwrap().file_name().to_str().unwrap()));
            tenants.chain([copy.main_name()]).collect()
        };
        for name in names {
            let lines: Vec<String> = {
                let text = std::fs::read_to_string(Copy::of(example).path(&name)).unwrap();
                text.lines().map(str::to_owned).collect()
            };
            for (index, header) in lines.iter().enumerate().filter(|(_, line)| line.starts_with('[')) {
                let table = header.trim_matches(['[', ']']);
                let copy = Copy::of(example);
                let mut lines = lines.clone();
                lines.insert(index + 1, "bogus = 1".to_owned());
                copy.write(&name, &lines.join("\n"));
                let expected = if matches!(table, "listener" | "cell" | "tenant" | "federation") {
                    continue;
                } else {
                    format!("{name}:{}:1: {table}.bogus: unknown key, expected ", index + 2)
                };
                let report = copy.report();
                assert!(report.starts_with(&expected), "{header}: {report}");
                assert_eq!(report.lines().filter(|line| !line.starts_with(' ')).count(), 1, "{report}");
            }
        }
    }
}
