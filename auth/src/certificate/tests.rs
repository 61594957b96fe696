use guichet_config::TenantId;
use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

use super::*;
use crate::chain::tests::config;

fn email(text: &str) -> SanType {
    SanType::Rfc822Name(text.try_into().unwrap())
}

fn certificate(names: Vec<SanType>, subject: &[(&[u64], &str)]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (oid, value) in subject {
        params.distinguished_name.push(DnType::from_oid(oid), DnValue::Utf8String((*value).to_owned()));
    }
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn rules(subject_attribute: Option<&str>, tenants: &[&str]) -> ClientCa {
    ClientCa {
        file: "ca.pem".into(),
        required: false,
        subject_attribute: subject_attribute.map(str::to_owned),
        tenants: tenants.iter().map(|name| name.parse::<TenantId>().unwrap()).collect(),
    }
}

fn held(names: &[&str], tenants: &[&str]) -> Result<String, CertificateRefusal> {
    let names = names.iter().map(|name| email(name)).collect();
    holder(&certificate(names, &[]), &rules(None, tenants), &config()).map(|address| address.to_string())
}

const BOTH: &[&str] = &["univ-a", "univ-b"];

#[test]
fn the_one_address_of_our_tenants_is_the_holder_in_canonical_form() {
    assert_eq!(held(&["Alice.M@UNIV-A.example"], BOTH).as_deref(), Ok("alice.m@univ-a.example"));
    // Others have a domain that is nobody's here, or are the same one again.
    let names = ["alice@gmail.example", "alice@univ-a.example", "ALICE@univ-a.example", "not an address"];
    assert_eq!(held(&names, BOTH).as_deref(), Ok("alice@univ-a.example"));
}

#[test]
fn a_certificate_that_names_nobody_or_several_is_nobodys() {
    for (names, refusal) in [
        (&[][..], CertificateRefusal::NoAddress),
        (&["alice", "alice@", "al\u{0}ice@univ-a.example"][..], CertificateRefusal::NoAddress),
        (&["alice@univ-a.example", "bob@univ-a.example"][..], CertificateRefusal::SeveralAddresses),
        (&["alice@univ-a.example", "alice@univ-b.example"][..], CertificateRefusal::SeveralAddresses),
        (&["alice@elsewhere.example"][..], CertificateRefusal::ForeignDomain),
        (&["alice@sub.univ-a.example"][..], CertificateRefusal::ForeignDomain),
    ] {
        assert_eq!(held(names, BOTH), Err(refusal), "{names:?}");
    }
    assert_eq!(holder(b"no certificate", &rules(None, BOTH), &config()), Err(CertificateRefusal::Unreadable));
}

#[test]
fn an_authority_speaks_for_its_own_tenants_only() {
    assert_eq!(held(&["alice@univ-a.example"], &["univ-a"]).as_deref(), Ok("alice@univ-a.example"));
    assert_eq!(held(&["alice@univ-a.example"], &["univ-b"]), Err(CertificateRefusal::ForeignDomain));
}

#[test]
fn the_subject_counts_when_it_is_asked_for_and_then_alone() {
    const EMAIL: &[u64] = &[1, 2, 840, 113_549, 1, 9, 1];
    const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
    let config = config();
    let held = |names: Vec<SanType>, subject: &[(&[u64], &str)], oid: Option<&str>| {
        holder(&certificate(names, subject), &rules(oid, BOTH), &config).map(|address| address.to_string())
    };
    let (alice, bob) = ("alice@univ-a.example", "bob@univ-a.example");
    let oid = Some("1.2.840.113549.1.9.1");
    let subject = [(COMMON_NAME, bob), (EMAIL, alice)];
    assert_eq!(held(Vec::new(), &subject, oid).as_deref(), Ok(alice));
    assert_eq!(held(vec![email(bob)], &subject, oid).as_deref(), Ok(alice));
    assert_eq!(held(Vec::new(), &subject, Some("2.5.4.3")).as_deref(), Ok(bob));
    assert_eq!(held(vec![email(bob)], &[], oid), Err(CertificateRefusal::NoAddress));
    // And does not count when it is not.
    assert_eq!(held(Vec::new(), &subject, None), Err(CertificateRefusal::NoAddress));
}
