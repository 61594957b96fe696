//! `guichet check`: everything wrong, at once, with file, line, key and a hint; 78 for configuration, 64 for arguments.

use std::{
    path::Path,
    process::{Command, Output},
};

use guichet_tests::{House, guichet};

fn check(file: &Path) -> Output {
    Command::new(guichet()).arg("check").arg("-c").arg(file).output().expect("guichet runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_whole_configuration_is_good_and_each_flaw_is_told_with_its_line() {
    let house = House::with_idp("check");
    let settings = house.settings("gateway");
    let good = settings.text();
    let file = settings.write();
    let output = check(&file);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let tls = settings.dir().join("tls");
    let federation = house.idp().federation_file();
    let metadata = std::fs::read_to_string(&federation).expect("metadata");
    let flaw = |change: &dyn Fn(String) -> String, complaints: &[&str]| {
        let changed = change(good.clone());
        assert_ne!(changed, good, "the flaw is in the file");
        std::fs::write(&file, &changed).expect("config");
        let output = check(&file);
        assert_eq!(output.status.code(), Some(78), "{complaints:?}: {}", said(&output));
        for complaint in complaints {
            assert!(said(&output).contains(complaint), "no {complaint:?} in:\n{}", said(&output));
        }
        assert!(said(&output).contains("guichet.toml:"), "{}", said(&output));
        let run = Command::new(guichet()).arg("run").arg("-c").arg(&file).output().expect("guichet runs");
        assert_eq!(run.status.code(), Some(78), "run refuses the same: {}", said(&run));
    };
    flaw(&|t| t.replace("[log]", "[log]\ncolour = 1"), &["log.colour", "unknown", "`format`"]);
    flaw(&|t| t.replace("[availability]", "[availabillity]"), &["availabillity"]);
    flaw(&|t| t.replace("format = \"json\"", "format = 7"), &["log.format"]);
    flaw(
        &|t| t.replace("probe_interval = \"1s\"", "probe_interval = \"soon\""),
        &["availability.probe_interval", "soon"],
    );
    flaw(
        &|t| t.replace("cell = \"alpha\"\ncategory", "cell = \"omega\"\ncategory"),
        &["tenant.univ-a.cell", "omega", "alpha"],
    );
    flaw(&|t| t.replace("domains = [\"labo-b.test\"]", "domains = [\"univ-a.test\"]"), &["univ-a.test", "univ-a"]);
    flaw(&|t| t.replace("reader.password", "reader.passwort"), &["reader.passwort"]);
    flaw(
        &|t| t.replace("/saml2/idp/metadata.php\"", "/saml2/idp/other.php\""),
        &["tenant.univ-a.idp.saml.entity_id", "other.php"],
    );
    flaw(&|t| t.replace("certificates = \"tls\"", "certificates = \"tsl\""), &["public.certificates", "tsl"]);
    let two = |t: String| {
        let https = t.lines().skip_while(|l| *l != "[listener.web.https]").nth(1).expect("bind").to_owned();
        t.replace("[listener.imap.imap]\n", &format!("[listener.imap.twice]\n{https}\n[listener.imap.imap]\n"))
    };
    flaw(&two, &["listener.", "127.0.0.1:"]);
    // Several at once: all of them in one report.
    let many = |t: String| {
        t.replace("cell = \"alpha\"\ncategory", "cell = \"omega\"\ncategory")
            .replace("reader.password", "reader.passwort")
    };
    flaw(&many, &["omega", "reader.passwort"]);

    std::fs::write(&file, &good).expect("config");
    std::fs::rename(tls.join("main.key"), tls.join("main.key.away")).expect("renamed");
    let output = check(&file);
    assert_eq!(output.status.code(), Some(78), "a certificate without its key: {}", said(&output));
    assert!(said(&output).contains("main"), "{}", said(&output));
    std::fs::rename(tls.join("main.key.away"), tls.join("main.key")).expect("renamed");

    let changed = metadata.replacen("shibmd:Scope", "shibmd:Skope", 2);
    assert_ne!(changed, metadata);
    std::fs::write(&federation, changed).expect("metadata");
    let output = check(&file);
    assert_eq!(output.status.code(), Some(78), "metadata that was not signed like this: {}", said(&output));
    std::fs::write(&federation, metadata).expect("metadata");
    assert_eq!(check(&file).status.code(), Some(0));
}

#[test]
fn other_commands_print_what_they_promise() {
    let run = |args: &[&str]| Command::new(guichet()).args(args).output().expect("guichet runs");
    let schema = run(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert!(schema["properties"]["tenant"].is_object(), "{schema}");
    assert!(String::from_utf8_lossy(&run(&["completions", "bash"]).stdout).contains("guichet"));
    assert!(String::from_utf8_lossy(&run(&["man"]).stdout).contains(".TH"));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    for bad in [&["frobnicate"][..], &["run"], &["check", "--colour"]] {
        assert_eq!(run(bad).status.code(), Some(64), "{bad:?}");
    }
    let missing = run(&["check", "-c", "/nonexistent/guichet.toml"]);
    assert_eq!(missing.status.code(), Some(78), "{}", said(&missing));
    let hash = guichet_tests::run_with_input(Command::new(guichet()).arg("hash-password"), b"a-password-Pw30\n");
    let hash = String::from_utf8_lossy(&hash.stdout).into_owned();
    assert!(hash.starts_with("$argon2id$") && !hash.contains("a-password"), "{hash}");
}
