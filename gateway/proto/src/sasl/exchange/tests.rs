use super::*;

/// Mechanism, user, secret (`<certificate>` without one), authzid.
fn asked(turn: Turn) -> (Mechanism, String, String, Option<String>) {
    let Turn::Login(login) = turn else { panic!("a login, not {turn:?}") };
    let secret = match &login.credential {
        Credential::Password(secret) | Credential::Token(secret) => secret.expose().to_owned(),
        Credential::Certificate => "<certificate>".to_owned(),
    };
    (login.mechanism, login.username, secret, login.authzid)
}

fn login(
    mechanism: Mechanism,
    username: &str,
    secret: &str,
    authzid: Option<&str>,
) -> (Mechanism, String, String, Option<String>) {
    (mechanism, username.to_owned(), secret.to_owned(), authzid.map(str::to_owned))
}

fn challenged(turn: Turn, expected: &str) -> Exchange {
    match turn {
        Turn::Challenge { next, challenge } if challenge == expected => next,
        other => panic!("a challenge {expected:?}, not {other:?}"),
    }
}

fn line(message: &[u8]) -> Vec<u8> {
    base64::encode(message).as_bytes().to_vec()
}

#[test]
fn every_mechanism_logs_in_with_and_without_initial_response() {
    let oauthbearer = b"n,a=alice,\x01host=h\x01port=993\x01auth=Bearer tok\x01\x01";
    let table: [(Mechanism, &[u8], _); 5] = [
        (Mechanism::Plain, b"\0alice\0secret", login(Mechanism::Plain, "alice", "secret", None)),
        (Mechanism::Plain, b"bob\0alice\0secret", login(Mechanism::Plain, "alice", "secret", Some("bob"))),
        (Mechanism::XOAuth2, b"user=alice\x01auth=Bearer tok\x01\x01", login(Mechanism::XOAuth2, "alice", "tok", None)),
        (Mechanism::OAuthBearer, oauthbearer, login(Mechanism::OAuthBearer, "alice", "tok", None)),
        (Mechanism::External, b"alice", login(Mechanism::External, "", "<certificate>", Some("alice"))),
    ];
    for (mechanism, message, expected) in table {
        assert_eq!(asked(Exchange::start(mechanism, Some(&line(message)))), expected);
        let exchange = challenged(Exchange::start(mechanism, None), "");
        assert_eq!(asked(exchange.on_line(&line(message))), expected);
    }
}

#[test]
fn login_prompts_twice_and_takes_the_name_at_once() {
    let expected = login(Mechanism::SaslLogin, "alice", "secret", None);
    let exchange = challenged(Exchange::start(Mechanism::SaslLogin, None), "VXNlcm5hbWU6");
    let exchange = challenged(exchange.on_line(b"YWxpY2U="), "UGFzc3dvcmQ6");
    assert_eq!(asked(exchange.on_line(b"c2VjcmV0")), expected);
    let exchange = challenged(Exchange::start(Mechanism::SaslLogin, Some(b"YWxpY2U=")), "UGFzc3dvcmQ6");
    assert_eq!(asked(exchange.on_line(b"c2VjcmV0")), expected);
    challenged(Exchange::start(Mechanism::SaslLogin, Some(b"=")), "VXNlcm5hbWU6");
}

#[test]
fn external_may_name_nobody() {
    let nobody = login(Mechanism::External, "", "<certificate>", None);
    for empty in [&b""[..], b"="] {
        assert_eq!(asked(Exchange::start(Mechanism::External, Some(empty))), nobody);
        assert_eq!(asked(challenged(Exchange::start(Mechanism::External, None), "").on_line(empty)), nobody);
    }
}

#[test]
fn a_star_cancels_behind_any_challenge_but_is_no_initial_response() {
    for mechanism in Mechanism::ALL {
        let Turn::Challenge { next, .. } = Exchange::start(mechanism, None) else { panic!("a challenge") };
        assert!(matches!(next.on_line(b"*"), Turn::Cancelled));
        assert!(matches!(Exchange::start(mechanism, Some(b"*")), Turn::Invalid(SaslError::Base64)));
    }
    let exchange = challenged(Exchange::start(Mechanism::SaslLogin, Some(b"YQ==")), "UGFzc3dvcmQ6");
    assert!(matches!(exchange.on_line(b"*"), Turn::Cancelled));
}

#[test]
fn a_denied_token_is_told_why_and_fails_behind_any_reply() {
    for (mechanism, challenge) in
        [(Mechanism::XOAuth2, oauth::XOAUTH2_FAILURE), (Mechanism::OAuthBearer, oauth::OAUTHBEARER_FAILURE)]
    {
        for reply in [&b"AQ=="[..], b"", b"*", b"not base64"] {
            let (exchange, told) = Exchange::on_answer(mechanism, &Answer::Denied).expect("goes on");
            assert_eq!(told, challenge);
            assert!(matches!(exchange.on_line(reply), Turn::Denied));
        }
        for answer in [Answer::Unavailable, Answer::Limited, Answer::Held, Answer::Crowded] {
            assert!(Exchange::on_answer(mechanism, &answer).is_none(), "a good token is not to be dropped");
        }
    }
    for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::SaslLogin, Mechanism::External] {
        assert!(Exchange::on_answer(mechanism, &Answer::Denied).is_none());
    }
}

#[test]
fn lines_and_parts_are_bounded() {
    let longest = vec![b'A'; LINE_BYTES_MAX];
    assert!(matches!(Exchange::start(Mechanism::External, Some(&longest)), Turn::Invalid(SaslError::Illegal)));
    let longer = vec![b'A'; LINE_BYTES_MAX + 4];
    for mechanism in Mechanism::ALL {
        assert!(matches!(Exchange::start(mechanism, Some(&longer)), Turn::Invalid(SaslError::TooLong)));
    }
    let plain = |authzid: usize, authcid: usize, password: usize| {
        let part = |length: usize, letter: &str| letter.repeat(length);
        let message = format!("{}\0{}\0{}", part(authzid, "z"), part(authcid, "c"), part(password, "p"));
        Exchange::start(Mechanism::Plain, Some(&line(message.as_bytes())))
    };
    assert!(matches!(plain(256, 256, 1024), Turn::Login(_)));
    for (authzid, authcid, password) in [(257, 1, 1), (0, 257, 1), (0, 1, 1025), (0, 0, 1), (0, 1, 0)] {
        assert!(matches!(plain(authzid, authcid, password), Turn::Hopeless));
    }
    let token = |length: usize| {
        let message = format!("user=a\u{1}auth=Bearer {}\u{1}\u{1}", "t".repeat(length));
        Exchange::start(Mechanism::XOAuth2, Some(&line(message.as_bytes())))
    };
    assert!(matches!(token(8192), Turn::Login(_)));
    assert!(matches!(token(8193), Turn::Hopeless));
}

#[test]
fn a_line_end_in_a_credential_is_refused() {
    for (mechanism, message) in [
        (Mechanism::Plain, &b"\0a\0b\r\nc"[..]),
        (Mechanism::Plain, b"\0a\rx\0b"),
        (Mechanism::Plain, b"z\n\0a\0b"),
        (Mechanism::External, b"al\0ice"),
        (Mechanism::XOAuth2, b"user=a\nb\x01auth=Bearer t\x01\x01"),
        (Mechanism::OAuthBearer, b"n,a=a\rb,\x01auth=Bearer t\x01\x01"),
    ] {
        let turn = Exchange::start(mechanism, Some(&line(message)));
        assert!(matches!(turn, Turn::Invalid(SaslError::Illegal)), "{turn:?}");
    }
    let exchange = challenged(Exchange::start(Mechanism::SaslLogin, Some(b"YQ==")), "UGFzc3dvcmQ6");
    assert!(matches!(exchange.on_line(&line(b"b\r\nc")), Turn::Invalid(SaslError::Illegal)));
}

#[test]
fn no_secret_shows_in_debug() {
    for (mechanism, message) in [
        (Mechanism::Plain, &b"\0alice\0hunter2"[..]),
        (Mechanism::XOAuth2, b"user=alice\x01auth=Bearer hunter2\x01\x01"),
        (Mechanism::OAuthBearer, b"n,a=alice,\x01auth=Bearer hunter2\x01\x01"),
    ] {
        let shown = format!("{:?}", Exchange::start(mechanism, Some(&line(message))));
        assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    }
}
