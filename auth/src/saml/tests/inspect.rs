//! What an operator is told, and what not.

use super::{
    super::minter::{ACS, EPPN, Encryption, NOW, REQUEST, Recipe, field, lenient, world},
    *,
};
use crate::Unidentified;

fn look_as(file: &[u8], tenants: &[&Tenant], now: WallTime) -> Inspection {
    let world = world();
    let metadata = |entity_id: &str| (entity_id == world.idp.entity_id).then(|| Arc::new(world.idp.clone()));
    inspect(file, &world.sp, tenants, &metadata, Duration::from_secs(180), now)
}

fn look(xml: &str) -> Inspection {
    look_as(xml.as_bytes(), &[&world().tenant], NOW)
}

fn outcome(seen: &Inspection, check: Check) -> &Outcome {
    &seen.checks.iter().find(|(known, _)| *known == check).unwrap().1
}

fn failed(seen: &Inspection) -> Vec<(Check, &'static str)> {
    let fault = |(check, outcome): &(Check, Outcome)| match outcome {
        Outcome::Failed(refusal) => Some((*check, refusal.kind())),
        _ => None,
    };
    seen.checks.iter().filter_map(fault).collect()
}

#[test]
fn a_good_response_passes_every_check_that_it_meets() {
    let seen = look(&Recipe::encrypted(Encryption::shibboleth()).xml());
    assert!(seen.is_good(), "{seen:?}");
    assert!(seen.checks.iter().all(|(_, outcome)| *outcome == Outcome::Passed), "{seen:?}");
    assert_eq!(seen.idp.as_deref(), Some(world().idp.entity_id.as_str()));
    assert_eq!(seen.tenant.as_ref().map(|id| id.as_str()), Some("univ-a"));
    assert!(seen.attributes.contains(&(EPPN.to_owned(), 1)));
    let plain = look(&Recipe::default().xml());
    assert!(plain.is_good());
    assert_eq!(outcome(&plain, Check::Decryption), &Outcome::NotReached);
}

#[test]
fn every_way_a_browser_gives_the_field_is_read() {
    let xml = Recipe::default().xml();
    let bare = String::from_utf8(field(&xml)).unwrap();
    let encoded: String = url::form_urlencoded::byte_serialize(bare.as_bytes()).collect();
    for file in [
        format!("\n{xml}\n"),
        bare.clone(),
        format!("{bare}\n"),
        encoded.clone(),
        format!("SAMLResponse={encoded}"),
        format!("RelayState=x&SAMLResponse={encoded}"),
    ] {
        assert!(look(&file).is_good(), "{file}");
    }
    assert_eq!(failed(&look("no base64")), [(Check::Encoding, "encoding")]);
}

#[test]
fn all_faults_of_a_verified_assertion_are_told_at_once() {
    let recipe = Recipe { recipient: None, destination: Some(format!("{ACS}/x")), ..Recipe::default() };
    assert_eq!(failed(&look(&recipe.xml())), [(Check::Destination, "destination"), (Check::Subject, "recipient")]);
    let late = look_as(Recipe::default().xml().as_bytes(), &[&world().tenant], NOW.plus(Duration::from_secs(86_400)));
    let expired = [Check::Subject, Check::Conditions, Check::Authentication].map(|check| (check, "expired"));
    assert_eq!(failed(&late), expired);
    assert_eq!(outcome(&late, Check::User), &Outcome::Passed);
    let elsewhere = Recipe { subject_in_response_to: Some("_other".to_owned()), ..Recipe::default() };
    assert_eq!(failed(&look(&elsewhere.xml())), [(Check::Subject, "in_response_to")]);
    let unsolicited = Recipe { in_response_to: None, subject_in_response_to: None, ..Recipe::default() };
    assert_eq!(failed(&look(&unsolicited.xml())).first(), Some(&(Check::InResponseTo, "in_response_to")));
}

#[test]
fn a_failed_verification_ends_the_list() {
    let world = world();
    let changed = look(&Recipe::default().xml().replacen("Ada@", "Eve@", 1));
    assert_eq!(failed(&changed), [(Check::ResponseSignature, "signature_invalid")]);
    assert_eq!(outcome(&changed, Check::SignatureShape), &Outcome::Passed);
    assert_eq!(outcome(&changed, Check::User), &Outcome::NotReached);
    assert!(changed.attributes.is_empty(), "what is not verified is not repeated");
    let inner = Recipe { sign_response: None, sign_assertion: Some(&world.foreign_key), ..Recipe::default() };
    assert_eq!(failed(&look(&inner.xml())), [(Check::ResponseSignature, "response_unsigned")]);
    let seen = look_as(inner.xml().as_bytes(), &[&lenient()], NOW);
    assert_eq!(failed(&seen), [(Check::AssertionSignature, "signature_invalid")]);
    let unsigned = Recipe { sign_response: None, ..Recipe::default() };
    assert_eq!(failed(&look(&unsigned.xml())), [(Check::AssertionSignature, "unsigned")]);
    let foreign = Encryption { certificate: world.foreign_key.certificate.clone(), ..Encryption::shibboleth() };
    assert_eq!(failed(&look(&Recipe::encrypted(foreign).xml())), [(Check::Decryption, "undecryptable")]);
    assert_eq!(failed(&look("<!DOCTYPE a><a/>")), [(Check::Document, "doctype")]);
}

#[test]
fn an_unknown_idp_is_told_after_the_checks_that_need_none() {
    let other = Tenant { idp: None, ..world().tenant.clone() };
    let seen = look_as(Recipe::default().xml().as_bytes(), &[&other, &other], NOW);
    assert_eq!(failed(&seen), [(Check::Issuer, "issuer")]);
    assert_eq!(outcome(&seen, Check::Layout), &Outcome::Passed);
    assert_eq!(seen.idp, None);
    let found = look_as(Recipe::default().xml().as_bytes(), &[&other, &world().tenant], NOW);
    assert!(found.is_good());
}

#[test]
fn no_value_of_an_attribute_and_no_key_is_in_what_is_told() {
    let recipe = Recipe::encrypted(Encryption::shibboleth());
    let seen = format!("{:?}", look(&recipe.xml()));
    for secret in ["ada@", "Ada@", "staff", "x7f3", REQUEST] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
}

#[test]
fn the_checks_are_listed_once_each() {
    for (index, check) in Check::ALL.iter().enumerate() {
        assert_eq!(*check as usize, index, "{check:?}");
    }
}

/// docs/saml.md tells what to do about each refusal.
#[test]
fn the_documentation_lists_every_refusal_and_no_other() {
    let documented: std::collections::BTreeSet<&str> = include_str!("../../../../docs/saml.md")
        .lines()
        .skip_while(|line| *line != "## Refusals")
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(kind, _)| kind)
        .collect();
    let known: std::collections::BTreeSet<&str> = include_str!("../refusal.rs")
        .lines()
        .skip_while(|line| !line.contains("pub fn kind"))
        .filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","))
        .collect();
    assert!(known.len() > 30, "{known:?}");
    // Those come from what surrounds the consumer.
    let around = [
        "relay_state",
        "no_pending",
        "pending_ended",
        "replay",
        "account",
        "step_up_user",
        "logged_out",
        Unidentified::Unknown.kind(),
        Unidentified::Several.kind(),
    ];
    let told: std::collections::BTreeSet<&str> = known.into_iter().chain(around).collect();
    assert_eq!(documented, told);
}
