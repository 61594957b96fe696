use super::*;
use guichet_auth::{Clock, SystemClock};
use rcgen::{CertificateParams, KeyPair};

fn write(folder: &Path, name: &str, params: CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&key).unwrap();
    std::fs::write(folder.join(name).with_extension("crt"), cert.pem()).unwrap();
    std::fs::write(folder.join(name).with_extension("key"), key.serialize_pem()).unwrap();
    cert.der().to_vec()
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn served(certificates: &Certificates, name: &str) -> Vec<u8> {
    certificates.index.load().of(name).unwrap()[0].cert[0].to_vec()
}

#[test]
fn names_come_from_the_certificate_and_wildcards_cover_one_label() {
    let folder = tempfile::tempdir().unwrap();
    let main = write(folder.path(), "b", params(&["mail.example"]));
    let wild = write(folder.path(), "a", params(&["*.univ.example"]));
    let all = Certificates::load(folder.path(), "mail.example", SystemClock.now()).unwrap();
    assert_eq!(served(&all, "MAIL.example"), main);
    assert_eq!(served(&all, "www.univ.example"), wild);
    assert!(all.index.load().of("a.b.univ.example").is_none());
    assert_eq!(all.index.load().default[0].cert[0].to_vec(), main);
}

#[test]
fn a_folder_without_the_public_hostname_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", params(&["other.example"]));
    let problems = Certificates::load(folder.path(), "mail.example", SystemClock.now()).unwrap_err();
    assert!(problems[0].message.contains("mail.example"), "{problems:?}");
}

#[test]
fn an_expired_certificate_a_missing_key_and_a_foreign_key_are_all_named_together() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "good", params(&["mail.example"]));
    let mut old = params(&["old.example"]);
    old.not_before = rcgen::date_time_ymd(2001, 1, 1);
    old.not_after = rcgen::date_time_ymd(2002, 1, 1);
    write(folder.path(), "old", old);
    write(folder.path(), "nokey", params(&["nokey.example"]));
    std::fs::remove_file(folder.path().join("nokey.key")).unwrap();
    write(folder.path(), "swapped", params(&["swapped.example"]));
    std::fs::copy(folder.path().join("good.key"), folder.path().join("swapped.key")).unwrap();
    let problems = Certificates::load(folder.path(), "mail.example", SystemClock.now()).unwrap_err();
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 3, "{text:?}");
    assert!(text[0].contains("nokey.crt") && text[0].contains("missing"), "{text:?}");
    assert!(text[1].contains("old.crt") && text[1].contains("expired"), "{text:?}");
    assert!(text[2].contains("swapped.key") && text[2].contains("not the one"), "{text:?}");
}

#[test]
fn a_good_change_is_taken_over_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", params(&["mail.example"]));
    let all = Certificates::load(folder.path(), "mail.example", SystemClock.now()).unwrap();
    let next = write(folder.path(), "a", params(&["mail.example", "second.example"]));
    all.refresh(SystemClock.now());
    assert_eq!(served(&all, "mail.example"), next);
    std::fs::write(folder.path().join("a.crt"), "nonsense").unwrap();
    all.refresh(SystemClock.now());
    assert_eq!(served(&all, "mail.example"), next);
}
