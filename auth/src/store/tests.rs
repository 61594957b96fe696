use std::{
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicUsize, Ordering},
};

use guichet_config::Category;

use super::*;
use crate::{
    Method,
    session::{LogoutTag, LogoutTags, Session},
};

const NOW: WallTime = WallTime(1_800_000_000_000);

fn later(seconds: u64) -> WallTime {
    NOW.plus(Duration::from_secs(seconds))
}

fn session(method: Method, issued: WallTime) -> Session {
    Session {
        sid: random(),
        address: "alice@univ-a.example".parse().unwrap(),
        tenant: "univ-a".parse().unwrap(),
        category: Category::Staff,
        cell: None,
        method,
        issued,
        ends: issued.plus(Duration::from_secs(2 * 3600)),
        idle_ends: issued.plus(Duration::from_secs(3600)),
        assurance: None,
        logout: None,
    }
}

#[test]
fn a_marker_is_new_once_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    assert!(store.mark_once("saml", "_a", later(60), NOW).unwrap());
    assert!(!store.mark_once("saml", "_a", later(60), NOW).unwrap());
    assert!(store.mark_once("other", "_a", later(60), NOW).unwrap());
    drop(store);
    let store = Store::open(dir.path(), later(1)).unwrap();
    assert!(!store.mark_once("saml", "_a", later(60), later(1)).unwrap(), "a restart forgets no marker");
    assert!(store.mark_once("saml", "_a", later(120), later(60)).unwrap());
}

#[test]
fn of_many_threads_with_one_marker_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    let won = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                if store.mark_once("saml", "_a", later(60), NOW).unwrap() {
                    won.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 1);
}

#[test]
fn ended_markers_are_purged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    for id in 0..50 {
        store.mark_once("saml", &id.to_string(), later(10), NOW).unwrap();
    }
    store.mark_once("saml", "last", later(600), later(120)).unwrap();
    let txn = store.file.begin_read().unwrap();
    assert_eq!(txn.open_table(MARKERS).unwrap().len().unwrap(), 1);
}

#[test]
fn seal_keys_rotate_daily_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    let first = store.seal_keys(NOW).unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(store.seal_keys(later(3600)).unwrap()[0].key.expose(), first[0].key.expose());
    let day = 24 * 3600;
    let second = store.seal_keys(later(day)).unwrap();
    assert_eq!(second.len(), 2);
    assert!(second[0].kid > second[1].kid);
    assert_eq!(second[1].key.expose(), first[0].key.expose());
    assert_ne!(second[0].key.expose(), first[0].key.expose());
    for days in 2..30 {
        let keys = store.seal_keys(later(days * day)).unwrap();
        assert!(keys.len() <= 10, "{} keys", keys.len());
    }
    drop(store);
    let store = Store::open(dir.path(), later(30 * day)).unwrap();
    assert!(!store.seal_keys(later(30 * day)).unwrap().iter().any(|key| key.kid == first[0].kid));
}

#[test]
fn an_operators_word_is_kept_until_it_ends_or_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    let tenant: TenantId = "univ-a".parse().unwrap();
    let word = IdpOverride {
        forced: "down".into(),
        until: later(600).0,
        reason: "drill".into(),
        actor: "noc".into(),
        since: NOW.0,
    };
    store.force_idp(&tenant, Some(&word)).unwrap();
    drop(store);
    let store = Store::open(dir.path(), later(1)).unwrap();
    assert_eq!(store.forced_idps(later(1)).unwrap(), vec![(tenant.clone(), Forced::Down, word.clone())]);
    assert!(store.forced_idps(later(600)).unwrap().is_empty());
    store.force_idp(&tenant, None).unwrap();
    assert!(store.forced_idps(NOW).unwrap().is_empty());
}

#[test]
fn revocations_hold_over_a_restart_and_only_for_their_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    let (one, other) = (session(Method::Saml, NOW), session(Method::Saml, NOW));
    let (fallback, younger) = (session(Method::Fallback, NOW), session(Method::Fallback, later(60)));
    store.revoke_session(&one.sid, one.ends).unwrap();
    store.revoke_fallback(&one.tenant, later(30), later(7200)).unwrap();
    // An older word takes nothing back.
    store.revoke_fallback(&one.tenant, later(10), later(60)).unwrap();
    for _ in 0..2 {
        let store = &store;
        assert!(store.revoked(&one) && store.revoked(&fallback));
        assert!(!store.revoked(&other) && !store.revoked(&younger));
    }
    drop(store);
    let store = Store::open(dir.path(), later(5)).unwrap();
    assert!(store.revoked(&one) && store.revoked(&fallback));
    assert!(!store.revoked(&other) && !store.revoked(&younger));
    drop(store);
    let store = Store::open(dir.path(), later(8000)).unwrap();
    assert!(!store.revoked(&one), "an entry goes when its session has ended anyway");
}

#[test]
fn a_killed_process_loses_nothing_it_has_said() {
    let (dir, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path(), NOW).unwrap();
    let keys = store.seal_keys(NOW).unwrap();
    let gone = session(Method::Saml, NOW);
    store.mark_once("saml", "_a", later(60), NOW).unwrap();
    store.revoke_session(&gone.sid, gone.ends).unwrap();
    // What a kill leaves: the file as it is while the store is open.
    std::fs::copy(dir.path().join("guichet.redb"), after.path().join("guichet.redb")).unwrap();
    let store = Store::open(after.path(), later(1)).unwrap();
    assert!(!store.mark_once("saml", "_a", later(60), later(1)).unwrap());
    assert!(store.revoked(&gone));
    assert_eq!(store.seal_keys(later(1)).unwrap()[0].key.expose(), keys[0].key.expose());
}

#[test]
fn folder_and_file_are_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    drop(Store::open(&state, NOW).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("guichet.redb"))), (0o700, 0o600));
}

#[test]
fn a_file_in_use_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let _held = Store::open(dir.path(), NOW).unwrap();
    assert!(matches!(Store::open(dir.path(), NOW), Err(StoreError::Open(_))));
}

#[test]
fn a_damaged_file_is_an_error_or_still_right_but_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guichet.redb");
    let store = Store::open(dir.path(), NOW).unwrap();
    for id in 0..200 {
        store.mark_once("saml", &id.to_string(), later(10), NOW).unwrap();
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let mut broken = vec![b"not a state file".to_vec(), vec![0; 8192], whole[..whole.len() / 2].to_vec()];
    broken.extend((0..24).map(|step| {
        let mut flipped = whole.clone();
        let at = step * flipped.len() / 24;
        let end = (at + 64).min(flipped.len());
        flipped[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        flipped
    }));
    for (index, bytes) in broken.into_iter().enumerate() {
        std::fs::write(&path, bytes).unwrap();
        match Store::open(dir.path(), NOW) {
            Ok(store) => drop(store.mark_once("saml", "0", later(10), NOW)),
            Err(StoreError::Open(_)) => {}
            Err(error) => panic!("{index}: {error:?}"),
        }
    }
}

#[test]
fn drains_survive_a_restart_and_are_taken_back_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let cell = DrainTarget::Cell("alpha".to_owned());
    let endpoint = DrainTarget::Endpoint("alpha".to_owned(), "mbx1:993".to_owned());
    let word = |target: &DrainTarget, reason: &str| DrainOverride {
        target: target.clone(),
        done: later(10).0,
        until: later(60).0,
        reason: reason.to_owned(),
        actor: "ops".to_owned(),
        since: NOW.0,
    };
    let store = Store::open(dir.path(), NOW).unwrap();
    store.drain(word(&cell, "disks")).unwrap();
    store.drain(word(&endpoint, "kernel")).unwrap();
    store.drain(word(&cell, "disks again")).unwrap();
    drop(store);
    let store = Store::open(dir.path(), later(1)).unwrap();
    assert_eq!(store.drains(later(1)), [word(&cell, "disks again"), word(&endpoint, "kernel")]);
    assert!(store.drains(later(60)).is_empty());
    store.resume(&[cell]).unwrap();
    assert_eq!(store.drains(later(1)), [word(&endpoint, "kernel")]);
    drop(store);
    let store = Store::open(dir.path(), later(60)).unwrap();
    assert!(store.drains(later(1)).is_empty(), "ended words are gone from the file");
}

#[test]
fn a_word_on_a_user_survives_a_restart_and_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let address: Address = "alice@univ-a.example".parse().unwrap();
    let word = |cell: &str| PlacementOverride {
        cell: cell.to_owned(),
        until: later(60).0,
        reason: "wave 3".to_owned(),
        actor: "ops".to_owned(),
        since: NOW.0,
    };
    let store = Store::open(dir.path(), NOW).unwrap();
    assert_eq!(store.placed_user(&address, NOW), None);
    store.place_user(&address, Some(&word("beta"))).unwrap();
    drop(store);
    let store = Store::open(dir.path(), later(1)).unwrap();
    assert_eq!(store.placed_user(&address, later(1)).unwrap().as_str(), "beta");
    assert_eq!(store.placed_users(later(1)), [(address.clone(), word("beta"))]);
    assert_eq!(store.placed_user(&address, later(60)), None);
    store.place_user(&address, None).unwrap();
    assert!(store.placed_users(later(1)).is_empty());
}

#[test]
fn a_logout_at_the_idp_ends_the_sessions_it_means_and_no_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), NOW).unwrap();
    let tag = |byte| LogoutTag([byte; 16]);
    let with = |name, index: Option<u8>, issued| {
        let logout = Some(LogoutTags { name: tag(name), index: index.map(tag) });
        Session { logout, ..session(Method::Saml, issued) }
    };
    let (first, second) = (with(1, Some(10), NOW), with(1, Some(11), NOW));
    let (indexless, someone) = (with(1, None, NOW), with(2, Some(20), NOW));
    let tenant = first.tenant.clone();
    let logout = |tags: &[LogoutTag], at: WallTime| {
        store.log_out(&tenant, tags, &Logout { before: at, asserted: at, until: at.plus(Duration::from_secs(7200)) })
    };
    logout(&[tag(10)], later(1)).unwrap();
    assert!(store.revoked(&first));
    for other in [&second, &indexless, &someone, &session(Method::Saml, NOW)] {
        assert!(!store.revoked(other));
    }
    assert!(!store.revoked(&with(1, Some(10), later(2))), "a session opened afterwards");
    assert!(store.logged_out(&tenant, &LogoutTags { name: tag(1), index: Some(tag(10)) }, later(1)));
    assert!(!store.logged_out(&tenant, &LogoutTags { name: tag(1), index: Some(tag(10)) }, later(2)));
    let elsewhere = Session { tenant: "univ-b".parse().unwrap(), ..first.clone() };
    assert!(!store.revoked(&elsewhere), "an IdP speaks for its own tenants");

    logout(&[tag(1)], later(3)).unwrap();
    logout(&[tag(1)], later(2)).unwrap();
    assert!(store.revoked(&second) && store.revoked(&indexless) && store.revoked(&with(1, None, later(2))));
    assert!(!store.revoked(&someone));
    drop(store);
    let store = Store::open(dir.path(), later(60)).unwrap();
    assert!(store.revoked(&first) && store.revoked(&second), "a restart forgets no logout");
    drop(store);
    let store = Store::open(dir.path(), later(8000)).unwrap();
    assert!(!store.revoked(&first), "no session lives so long");
}
