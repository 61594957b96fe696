//! Each kind of problem: what is changed in an example, and the one line that must come out.

use super::Copy;

const ONE: &str = "one-node.toml";
const MIN: &str = "minimal.toml";
const FLEET: &str = "fleet/fleet.toml";

#[test]
fn every_kind_of_problem_is_told_with_its_place() {
    let script = include_str!("problems.txt");
    let blocks: Vec<&str> = script.split("\n\n").filter(|block| !block.starts_with('#')).collect();
    assert!(blocks.len() > 50, "{} cases", blocks.len());
    for block in blocks {
        let lines = |mark: &str| block.lines().filter_map(|line| line.strip_prefix(mark)).collect::<Vec<_>>();
        let header = block.lines().next().unwrap();
        let (example, file) = header.split_once(' ').map_or((header, None), |(example, file)| (example, Some(file)));
        let copy = Copy::of(example);
        let file = file.map_or_else(|| copy.main_name(), str::to_owned);
        copy.edit(&file, &lines("- ").join("\n"), &lines("+ ").join("\n"));

        let marked = std::fs::read_to_string(copy.path(&file)).unwrap();
        let before = marked.split('«').next().unwrap();
        let (line, column) =
            (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
        copy.write(&file, &marked.replace('«', ""));

        let report = copy.report();
        let found: Vec<&str> = report.lines().filter(|line| !line.starts_with(' ')).collect();
        let expected = lines("! ");
        assert_eq!(found.len(), expected.len(), "{block}\n{report}");
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let (place, text) = found.split_once(": ").unwrap();
            assert!(text.starts_with(expected), "{block}\n{report}");
            assert!(index > 0 || place == format!("{file}:{line}:{column}"), "{block}\n{report}");
        }
    }
}

#[test]
fn an_identity_provider_needs_our_side_of_saml() {
    let copy = Copy::of(MIN);
    copy.edit(MIN, "cell = \"main\"", "cell = \"main\"\nidp.saml.entity_id = \"https://idp.example\"");
    let report = copy.report();
    assert!(report.contains("minimal.toml:34:5: tenant.example.idp.saml: there is no [saml]"), "{report}");
    assert!(report.contains("tenant.example.idp.saml: there is no federation"), "{report}");
}

#[test]
fn plaintext_ldap_can_be_accepted() {
    let copy = Copy::of(ONE);
    copy.edit(
        ONE,
        "password_file = \"secrets/ldap.password\"",
        "password_file = \"secrets/ldap.password\"\ndangerous_plaintext = true",
    );
    let config = copy.load().unwrap();
    assert!(matches!(&config.directory, crate::Directory::Ldap(ldap) if !ldap.start_tls));
}

#[test]
fn what_nothing_can_be_done_without_is_missed() {
    let copy = Copy::of(MIN);
    copy.write(MIN, "listener = {}\ncell = {}\ndirectory.embedded.file = \"users.toml\"\n[public]\nhostname = \"a.example\"\ncertificates = \"tls\"\n[management]\ntoken_file = \"secrets/management.token\"\n");
    copy.write("users.toml", "");
    let report = copy.report();
    for expected in [
        "minimal.toml:1:12: listener: no port is open",
        "minimal.toml:2:8: cell: no cell is configured",
        "minimal.toml:1:1: tenant: no tenant is configured",
    ] {
        assert!(report.contains(expected), "{report}");
    }
    copy.write(MIN, "");
    let report = copy.report();
    for key in ["public", "management", "listener", "directory", "cell"] {
        assert!(report.contains(&format!("minimal.toml:1:1: {key}: missing key")), "{report}");
    }
}

#[test]
fn files_that_cannot_be_used_are_told_where_they_are_named() {
    for block in include_str!("files.txt").split("\n\n").filter(|block| !block.starts_with('#')) {
        let mut lines = block.lines();
        let (example, action) = lines.next().and_then(|line| line.split_once(' ')).unwrap();
        let (action, name) = action.split_once(' ').unwrap();
        let (needle, expected) = (lines.next().unwrap().trim(), lines.next().unwrap());
        let copy = Copy::of(example);
        let main = std::fs::read_to_string(copy.path(&copy.main_name())).unwrap();
        match action {
            "gone" => std::fs::remove_file(copy.path(name)).unwrap(),
            "open" => copy.chmod(name, 0o644),
            "empty" => copy.write(name, "\n"),
            "short" => copy.write(name, "0123456789abcdef0123456789abcde\n"),
            "lines" => copy.write(name, "one\ntwo\n"),
            "binary" => std::fs::write(copy.path(name), [0xff; 40]).unwrap(),
            _ => panic!("{action}"),
        }
        let at = main.find(needle).unwrap();
        let before = &main[..at];
        let (line, column) =
            (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
        let place =
            if needle.is_empty() { format!("{name}:1:1") } else { format!("{}:{line}:{column}", copy.main_name()) };
        let report = copy.report();
        let found: Vec<&str> = report.lines().filter(|line| !line.starts_with(' ')).collect();
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("{place}: {expected}")),
            "{block}\n{place}\n{report}"
        );
    }
}

#[test]
fn folders_are_no_files() {
    let copy = Copy::of(ONE);
    std::fs::remove_file(copy.path("secrets/ldap.password")).unwrap();
    std::fs::create_dir(copy.path("secrets/ldap.password")).unwrap();
    copy.edit(ONE, "certificates = \"tls\"", "certificates = \"ca.pem\"");
    copy.edit(ONE, "state_dir = \"/var/lib/guichet\"", "state_dir = \"ca.pem\"");
    let report = copy.report();
    for expected in [
        "one-node.toml:5:13: node.state_dir: ca.pem is not a folder",
        "public.certificates: ca.pem cannot be read",
        "directory.ldap.password_file: secrets/ldap.password cannot be read: not a regular file",
    ] {
        assert!(report.contains(expected), "{report}");
    }
}

#[test]
fn users_are_told_with_their_place() {
    let cases = [
        (
            "bob@univ.example",
            "alice@univ.example",
            "users.toml:9:11: user[1].address: alice@univ.example stands already in line 2",
        ),
        (
            "bob@univ.example",
            "A.Martin@univ.example",
            "users.toml:9:11: user[1].address: a.martin@univ.example stands already in line 3",
        ),
        (
            "bob@univ.example",
            "bob@other.example",
            "users.toml:9:11: user[1].address: other.example is no domain of a tenant",
        ),
        ("bob@univ.example", "bob", "users.toml:9:11: user[1].address: \"bob\" cannot be used: an address with an `@`"),
        (
            "a.martin@univ.example",
            "a martin@univ.example",
            "users.toml:3:12: user[0].aliases[0]: \"a martin@univ.example\" cannot be used",
        ),
        (
            "$argon2id$v=19$m=19456",
            "hunter2",
            "users.toml:4:12: user[0].password: this is not an Argon2id hash: it does not begin with $argon2id$",
        ),
        (
            "cell = \"main\"",
            "identifiers = [\"x7\", \"X7\"]",
            "users.toml:6:22: user[0].identifiers[1]: this identifier stands already in line 6",
        ),
        (
            "cell = \"main\"",
            "identifiers = [\"x 7\"]",
            "users.toml:6:16: user[0].identifiers[0]: this is no identifier",
        ),
        ("cell = \"main\"", "cell = \"man\"", "users.toml:6:8: user[0].cell: no cell called \"man\""),
        ("category = \"staff\"", "category = \"boss\"", "users.toml:5:12: user[0].category: unknown value \"boss\""),
        ("status = \"locked\"", "state = \"locked\"", "users.toml:11:1: user[1].state: unknown key, expected one of"),
        (
            "status = \"locked\"",
            "status = \"gone\"",
            "users.toml:11:10: user[1].status: unknown value \"gone\", expected one of \"active\", \"locked\"",
        ),
    ];
    for (from, to, expected) in cases {
        let copy = Copy::of(MIN);
        copy.edit("users.toml", from, to);
        let report = copy.report();
        let problems: Vec<&str> = report.lines().filter(|line| !line.starts_with(' ')).collect();
        assert!(
            problems.len() == 1 && problems[0].starts_with(expected),
            "{to}\n  expected {expected}\n  found {report}"
        );
        assert!(!report.contains("hunter2"), "a password is shown");
    }
}

#[test]
fn every_problem_of_every_file_comes_in_one_report_in_order() {
    let copy = Copy::of(FLEET);
    copy.edit("fleet.toml", "workers = 8", "workers = 8\nworker = 8");
    copy.edit("fleet.toml", "level = \"info,guichet::mail=debug\"", "level = \"loud\"");
    copy.edit("fleet.toml", "refresh = \"10m\"", "refresh = \"10\"");
    copy.edit("tenants.d/univ-nord.toml", "cell = \"alpha\"", "cell = \"alpa\"");
    copy.edit("tenants.d/univ-sud.toml", "category = ", "categorie = ");
    copy.write("secrets/management.token", "short");
    let report = copy.report();
    let problems: Vec<&str> =
        report.lines().filter(|line| !line.starts_with(' ')).map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        problems,
        [
            "fleet.toml:7:1",
            "fleet.toml:17:14",
            "fleet.toml:22:9",
            "fleet.toml:87:11",
            "tenants.d/univ-nord.toml:4:8",
            "tenants.d/univ-sud.toml:5:1"
        ],
        "{report}"
    );
    for hint in [
        "hint: did you mean `workers`?",
        "hint: did you mean \"alpha\"? (known: alpha, beta, gamma)",
        "hint: did you mean `category`?",
    ] {
        assert!(report.contains(hint), "{report}");
    }
}

#[test]
fn a_file_of_tenants_that_cannot_be_read_is_the_only_thing_told() {
    let copy = Copy::of(FLEET);
    for name in ["univ-nord", "univ-sud", "laboratoires"] {
        copy.write(&format!("tenants.d/{name}.toml"), "[tenant");
    }
    let report = copy.report();
    assert_eq!(report.matches("this is not TOML").count(), 3, "{report}");
    assert_eq!(report.lines().count(), 3, "{report}");
}

#[test]
fn hidden_files_and_other_files_are_no_tenants() {
    let copy = Copy::of(FLEET);
    copy.write("tenants.d/.univ-est.toml", "x");
    copy.write("tenants.d/README", "x");
    copy.write("tenants.d/univ-nord.toml~", "x");
    assert_eq!(copy.report(), "");
}
