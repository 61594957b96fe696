use proptest::prelude::*;

use super::*;

const NOW: WallTime = WallTime(1_800_000_000_000);

fn lifetimes() -> guichet_config::Session {
    guichet_config::Session {
        lifetime: Duration::from_secs(10 * 3600),
        lifetime_idle: Duration::from_secs(3600),
        lifetime_fallback: Duration::from_secs(2 * 3600),
    }
}

fn identity(method: Method) -> Identity {
    Identity {
        address: "alice@univ-a.example".parse().unwrap(),
        tenant: "univ-a".parse().unwrap(),
        category: Category::Staff,
        cell: Some("alpha".parse().unwrap()),
        method,
    }
}

fn key(kid: u32) -> SealKey {
    SealKey { kid, key: Secret::new(vec![u8::try_from(kid).unwrap(); 32]) }
}

fn sealer() -> Sealer {
    Sealer::new(vec![key(7)], "mail.example")
}

fn pending() -> PendingLogin {
    PendingLogin {
        handle: "0123456789abcdef0123456789abcdef".into(),
        request_id: "_ab12".into(),
        tenant: "univ-a".parse().unwrap(),
        host: "mail.univ-a.example".into(),
        target: "/mail/?q=1".into(),
        issued: NOW,
        test: false,
        ask: Ask::default(),
        step_up: None,
    }
}

fn assured(level: Option<Level>) -> Session {
    let assurance = Assurance { context: Some(Context::of("https://idp.example/ac/own")), at: NOW, level };
    Session { assurance: Some(assurance), ..Session::open(&identity(Method::Saml), &lifetimes(), NOW) }
}

#[test]
fn what_is_sealed_opens_until_it_ends() {
    let session = Session::open(&identity(Method::Saml), &lifetimes(), NOW);
    let cookie = sealer().seal_session(&session);
    assert_eq!(sealer().open_session(&cookie, NOW).as_deref(), Ok(&session));
    assert_eq!(session.identity(), identity(Method::Saml));
    assert_eq!(sealer().open_session(&cookie, session.idle_ends), Err(SealError::Ended));

    let cookie = sealer().seal_pending(&pending());
    assert_eq!(sealer().open_pending(&cookie, NOW), Ok(pending()));
    assert_eq!(sealer().open_pending(&cookie, NOW.plus(Duration::from_secs(10 * 60))), Err(SealError::Ended));
}

#[test]
fn a_test_stays_a_test_on_its_way_through_the_browser() {
    let login = PendingLogin { test: true, ..pending() };
    assert_eq!(sealer().open_pending(&sealer().seal_pending(&login), NOW), Ok(login));
}

#[test]
fn what_the_idp_said_and_what_was_asked_are_sealed_too() {
    for session in [assured(None), assured(Some(Level::High))] {
        let cookie = sealer().seal_session(&session);
        assert_eq!(sealer().open_session(&cookie, NOW).as_deref(), Ok(&session));
        let later = session.renewed(&lifetimes(), NOW.plus(Duration::from_secs(600))).unwrap();
        assert_eq!(later.assurance, session.assurance, "a request is no login");
    }
    let before = assured(None);
    let login = PendingLogin {
        ask: Ask { force_authn: true, authn_context: vec!["https://refeds.org/profile/mfa".into(), "urn:x".into()] },
        step_up: Some(Replaced { sid: before.sid, ends: before.ends, address: before.address }),
        ..pending()
    };
    assert_eq!(sealer().open_pending(&sealer().seal_pending(&login), NOW), Ok(login));
}

#[test]
fn a_ticket_opens_for_an_hour_and_as_nothing_else() {
    let ticket = TestTicket { tenant: "univ-a".parse().unwrap(), issued: NOW };
    let text = sealer().seal_ticket(&ticket);
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{text}");
    assert_eq!(sealer().open_ticket(&text, NOW.plus(Duration::from_secs(3599))), Ok(ticket));
    assert_eq!(sealer().open_ticket(&text, NOW.plus(Duration::from_secs(3600))), Err(SealError::Ended));
    assert_eq!(sealer().open_session(&text, NOW), Err(SealError::Foreign));
    assert_eq!(sealer().open_pending(&text, NOW), Err(SealError::Foreign));
    assert_eq!(sealer().open_ticket(&sealer().seal_pending(&pending()), NOW), Err(SealError::Foreign));
}

#[test]
fn sessions_of_the_version_before_still_open() {
    let session = Session::open(&identity(Method::Saml), &lifetimes(), NOW);
    let (sealer, sid) = (sealer(), URL_SAFE_NO_PAD.encode(session.sid));
    let text = |text: &str| text.to_owned();
    let wire = SessionWire1(
        sid,
        text("alice@univ-a.example"),
        text("univ-a"),
        text("staff"),
        Some(text("alpha")),
        text("saml"),
        session.issued.0,
        session.ends.0,
        session.idle_ends.0,
    );
    let cookie = sealer.seal(Kind::Session1, &wire);
    assert_eq!(sealer.open_session(&cookie, NOW).as_deref(), Ok(&session));
}

#[test]
fn a_fallback_session_lives_shorter() {
    let session = Session::open(&identity(Method::Fallback), &lifetimes(), NOW);
    assert_eq!(session.ends, NOW.plus(Duration::from_secs(2 * 3600)));
}

#[test]
fn renewal_moves_the_idle_end_on_and_never_past_the_absolute_end() {
    let mut session = Session::open(&identity(Method::Fallback), &lifetimes(), NOW);
    assert_eq!(session.renewed(&lifetimes(), NOW.plus(Duration::from_secs(4 * 60))), None);
    let mut now = NOW;
    for _ in 0..100 {
        now = now.plus(Duration::from_secs(6 * 60));
        if let Some(next) = session.renewed(&lifetimes(), now) {
            assert!(next.idle_ends > session.idle_ends && next.idle_ends <= next.ends);
            assert_eq!((next.sid, next.issued, next.ends), (session.sid, session.issued, session.ends));
            session = next;
        }
    }
    assert_eq!(session.idle_ends, session.ends);
    assert_eq!(session.renewed(&lifetimes(), session.ends), None, "an ended session is not revived");
}

#[test]
fn another_key_host_or_kind_is_foreign() {
    let session = sealer().seal_session(&Session::open(&identity(Method::Saml), &lifetimes(), NOW));
    let other_key = Sealer::new(vec![SealKey { kid: 7, key: Secret::new(vec![9; 32]) }], "mail.example");
    let other_kid = Sealer::new(vec![SealKey { kid: 8, key: Secret::new(vec![7; 32]) }], "mail.example");
    let other_host = Sealer::new(vec![key(7)], "mail.other.example");
    for other in [other_key, other_kid, other_host] {
        assert_eq!(other.open_session(&session, NOW), Err(SealError::Foreign));
    }
    assert_eq!(sealer().open_pending(&session, NOW), Err(SealError::Foreign));
    assert_eq!(sealer().open_session(&sealer().seal_pending(&pending()), NOW), Err(SealError::Foreign));
}

#[test]
fn an_older_key_of_the_ring_still_opens() {
    let session = Session::open(&identity(Method::Saml), &lifetimes(), NOW);
    let old = sealer().seal_session(&session);
    let rotated = Sealer::new(vec![key(8), key(7)], "mail.example");
    assert_eq!(rotated.open_session(&old, NOW).as_deref(), Ok(&session));
    assert!(rotated.seal_session(&session).starts_with("8."));
}

#[test]
fn logout_tags_are_sealed_with_the_session_and_kept_when_it_is_renewed() {
    let (name, index) = (LogoutTag([1; 16]), Some(LogoutTag([2; 16])));
    for logout in [None, Some(LogoutTags { name, index }), Some(LogoutTags { name, index: None })] {
        let session = Session { logout, ..Session::open(&identity(Method::Saml), &lifetimes(), NOW) };
        let opened = sealer().open_session(&sealer().seal_session(&session), NOW).unwrap();
        assert_eq!(opened.logout, logout);
        assert_eq!(opened.renewed(&lifetimes(), NOW.plus(Duration::from_secs(600))).unwrap().logout, logout);
    }
}

#[test]
fn a_session_known_from_the_last_request_still_ends() {
    let session = Session::open(&identity(Method::Saml), &lifetimes(), NOW);
    let sealer = sealer();
    let cookie = sealer.seal_session(&session);
    for _ in 0..2 {
        assert_eq!(sealer.open_session(&cookie, NOW).as_deref(), Ok(&session));
    }
    assert_eq!(sealer.open_session(&cookie, session.idle_ends), Err(SealError::Ended));
}

#[test]
fn every_changed_character_is_noticed() {
    let session = Session::open(&identity(Method::Saml), &lifetimes(), NOW);
    let sealer = sealer();
    let cookie = sealer.seal_session(&session);
    // What the last request brought must not vouch for what this one brings.
    assert!(sealer.open_session(&cookie, NOW).is_ok());
    for at in 0..cookie.len() {
        let mut changed = cookie.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(sealer.open_session(&changed, NOW), Err(SealError::Foreign), "character {at}");
        assert!(sealer.open_session(&cookie[..at], NOW).is_err());
    }
    assert!(sealer.open_session(&format!("0{cookie}"), NOW).is_err());
}

#[test]
fn the_longest_names_fit_their_cookies() {
    let long = "x".repeat(64);
    let domain = format!("{}.example", ["y".repeat(60).as_str(); 4].join("."));
    let mut who = identity(Method::Fallback);
    who.address = format!("{long}@{domain}").parse().unwrap();
    who.tenant = long.parse().unwrap();
    who.cell = Some(long.parse().unwrap());
    let tag = LogoutTag([255; 16]);
    let session = Session {
        assurance: assured(Some(Level::Medium)).assurance,
        logout: Some(LogoutTags { name: tag, index: Some(tag) }),
        ..Session::open(&who, &lifetimes(), NOW)
    };
    let cookie = sealer().seal_session(&session);
    assert!(cookie.len() < 1024, "{} bytes", cookie.len());
    assert!(sealer().open_session(&cookie, NOW).is_ok());

    let mut login = pending();
    login.tenant = long.parse().unwrap();
    login.request_id = "_".repeat(64);
    login.host = domain;
    login.target = format!("/{}", "z".repeat(PendingLogin::TARGET_BYTES_MAX - 1));
    login.ask = Ask { force_authn: true, authn_context: vec!["c".repeat(128); 4] };
    login.step_up = Some(Replaced { sid: session.sid, ends: session.ends, address: who.address.clone() });
    let cookie = sealer().seal_pending(&login);
    assert!(cookie.len() < 3 * 1024, "{} bytes", cookie.len());
    assert_eq!(sealer().open_pending(&cookie, NOW), Ok(login.clone()));
    login.target.push('z');
    let cookie = sealer().seal_pending(&login);
    assert_eq!(sealer().open_pending(&cookie, NOW).unwrap().target, "/");
    // Each of these is two characters in the cookie.
    login.target = format!("/{}", "\"".repeat(PendingLogin::TARGET_BYTES_MAX - 1));
    assert_eq!(sealer().open_pending(&sealer().seal_pending(&login), NOW), Ok(login));
}

#[test]
fn an_empty_ring_still_seals_for_this_process() {
    let sealer = Sealer::new(Vec::new(), "mail.example");
    let cookie = sealer.seal_pending(&pending());
    assert_eq!(sealer.open_pending(&cookie, NOW), Ok(pending()));
    assert!(Sealer::new(Vec::new(), "mail.example").open_pending(&cookie, NOW).is_err());
}

proptest! {
    #[test]
    fn no_text_opens_as_a_cookie(text in "\\PC{0,80}", tail in "[A-Za-z0-9_-]{0,120}") {
        for cookie in [text, format!("7.{tail}"), format!("7.AAAAAAAAAAAAAAAAAAAAAA.{tail}")] {
            prop_assert!(sealer().open_session(&cookie, NOW).is_err());
        }
    }
}
