//! Documents that take IdPs of tenants away.

use std::{collections::HashMap, sync::Arc};

use super::*;

fn usable() -> IdpMetadata {
    IdpMetadata {
        signing_certificates: vec![vec![1]],
        sso_post: Some("https://idp.example/sso".to_owned()),
        ..IdpMetadata::default()
    }
}

fn document(idps: &[(&str, IdpMetadata)]) -> Verified {
    let idps: HashMap<_, _> = idps.iter().map(|(id, idp)| ((*id).to_owned(), Arc::new(idp.clone()))).collect();
    Verified { entities: idps.len(), idps, valid_until: None, cache_duration: None, others: Vec::new() }
}

fn tenants() -> Vec<String> {
    ["a", "b", "c", "c", "never"].map(str::to_owned).to_vec()
}

#[test]
fn an_idp_that_is_gone_or_unusable_is_dropped_and_others_do_not_count() {
    let tenants = tenants();
    let before = document(&[("a", usable()), ("b", usable()), ("c", usable()), ("stranger", usable())]);
    let keyless = IdpMetadata { signing_certificates: Vec::new(), ..usable() };
    let mute = IdpMetadata { sso_post: None, ..usable() };
    let dropped = |after: &Verified| {
        let dropped = Dropped::between(&tenants, &before, after);
        assert_eq!(dropped.before, 3);
        dropped.entity_ids.join(" ")
    };
    assert_eq!(dropped(&before), "");
    assert_eq!(dropped(&document(&[("a", usable()), ("c", usable())])), "b");
    assert_eq!(dropped(&document(&[("a", keyless), ("b", mute), ("c", usable()), ("new", usable())])), "a b");
    assert_eq!(Dropped::between(&tenants, &document(&[]), &before).before, 0);
}

#[test]
fn more_than_the_share_is_refused_and_the_share_itself_is_not() {
    let check = |count: usize, before: usize, percent_max: u8| {
        Dropped { entity_ids: vec!["https://idp.example"; count], before }.check(percent_max)
    };
    assert!(check(0, 0, 0).is_ok() && check(0, 4, 0).is_ok());
    assert!(check(2, 4, 50).is_ok() && check(4, 4, 100).is_ok());
    assert!(check(1, 4, 0).is_err() && check(1, 1, 50).is_err());
    let message = check(3, 4, 50).unwrap_err().message;
    assert!(message.contains("drops 3 of the 4") && message.contains("https://idp.example"), "{message}");
}
