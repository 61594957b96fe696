//! The protocol's texts, both ways, and the search.

use proptest::prelude::*;

use super::*;

fn clients() -> BTreeMap<String, DiscoveryClient> {
    let wiki = DiscoveryClient {
        name: "wiki".to_owned(),
        entity_id: "https://wiki.example/shibboleth".to_owned(),
        return_to: vec!["https://wiki.example/Shibboleth.sso/Login".to_owned(), "https://wiki.example/DS".to_owned()],
    };
    BTreeMap::from([(wiki.entity_id.clone(), wiki)])
}

fn read(query: &str) -> Result<(String, bool), QuestionRefusal> {
    let clients = clients();
    let fields: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let question = Question::read(fields.iter().map(|(name, value)| (&**name, &**value)), &clients)?;
    Ok((question.answer(Some("https://idp.example/a?b=c&d")), question.passive()))
}

const WHO: &str = "entityID=https%3A%2F%2Fwiki.example%2Fshibboleth";

fn with_return(url: &str) -> String {
    let url: String = form_urlencoded::byte_serialize(url.as_bytes()).collect();
    format!("{WHO}&return={url}")
}

#[test]
fn a_question_is_answered_at_an_address_of_its_service_provider() {
    for (query, answer) in [
        (WHO.to_owned(), "https://wiki.example/Shibboleth.sso/Login?entityID="),
        (with_return("https://wiki.example/DS"), "https://wiki.example/DS?entityID="),
        (with_return("https://wiki.example/DS?"), "https://wiki.example/DS?entityID="),
        (
            with_return("https://wiki.example/DS?SAMLDS=1&target=a%2Fb"),
            "https://wiki.example/DS?SAMLDS=1&target=a%2Fb&entityID=",
        ),
        (
            format!("{}&returnIDParam=idp", with_return("https://wiki.example/DS?entityID=x")),
            "https://wiki.example/DS?entityID=x&idp=",
        ),
        (
            format!("{WHO}&isPassive=false&policy={SINGLE}&lang=fr"),
            "https://wiki.example/Shibboleth.sso/Login?entityID=",
        ),
    ] {
        let expected = format!("{answer}https%3A%2F%2Fidp.example%2Fa%3Fb%3Dc%26d");
        assert_eq!(read(&query), Ok((expected, false)), "{query}");
    }
    assert!(read(&format!("{WHO}&isPassive=true")).unwrap().1);
}

#[test]
fn nobody_chosen_means_the_bare_return_address() {
    let clients = clients();
    let fields = [("entityID", "https://wiki.example/shibboleth"), ("return", "https://wiki.example/DS?a=b")];
    let question = Question::read(fields.into_iter(), &clients).unwrap();
    assert_eq!(question.answer(None), "https://wiki.example/DS?a=b");
    assert_eq!((question.host(), question.client().name.as_str()), ("wiki.example", "wiki"));
    let again = Question::read(question.fields().into_iter(), &clients).unwrap();
    assert_eq!(again, question);
}

#[test]
fn no_other_address_is_ever_returned_to() {
    for url in [
        "",
        "https://evil.example/",
        "https://wiki.example",
        "https://wiki.example/",
        "https://wiki.example/DS/",
        "https://wiki.example/DS/../other",
        "https://wiki.example/ds",
        "https://wiki.example/DS;x",
        "https://wiki.example/DS#fragment",
        "https://wiki.example/DS?a#fragment",
        "https://wiki.example/DS\\@evil.example",
        "https://wiki.example/DS?a\\b",
        "https://wiki.example/DS?a b",
        "https://wiki.example/DS?a\r\nSet-Cookie: a=b",
        "https://wiki.example/DS?\u{e9}",
        "https://wiki.example/DS\0",
        "https://wiki.example.evil.example/DS",
        "https://wiki.example@evil.example/DS",
        "https://evil.example/?https://wiki.example/DS",
        "https://wiki.example:444/DS",
        "http://wiki.example/DS",
        "HTTPS://wiki.example/DS",
        " https://wiki.example/DS",
        "//wiki.example/DS",
        "/DS",
        "javascript:alert(1)//https://wiki.example/DS",
        "data:text/html,hello",
    ] {
        assert_eq!(read(&with_return(url)), Err(QuestionRefusal::Return), "{url:?}");
    }
    let long = with_return(&format!("https://wiki.example/DS?{}", "a".repeat(RETURN_BYTES_MAX)));
    assert_eq!(read(&long), Err(QuestionRefusal::Return));
}

#[test]
fn what_is_not_plainly_a_question_is_refused_by_name() {
    let good = with_return("https://wiki.example/DS?state=1");
    for (query, refusal) in [
        (String::new(), QuestionRefusal::Client),
        ("entityID=https%3A%2F%2Fevil.example".to_owned(), QuestionRefusal::Client),
        ("entityID=https%3A%2F%2Fwiki.example%2Fshibboleth%20".to_owned(), QuestionRefusal::Client),
        (format!("{good}&{WHO}"), QuestionRefusal::Repeated),
        (format!("{good}&return=https%3A%2F%2Fevil.example"), QuestionRefusal::Repeated),
        (format!("{good}&returnIDParam=a&returnIDParam=a"), QuestionRefusal::Repeated),
        (format!("{good}&returnIDParam="), QuestionRefusal::IdParam),
        (format!("{good}&returnIDParam=state"), QuestionRefusal::IdParam),
        (format!("{good}&returnIDParam=a%26b"), QuestionRefusal::IdParam),
        (format!("{good}&returnIDParam=a%0D%0Ab"), QuestionRefusal::IdParam),
        (format!("{good}&returnIDParam={}", "a".repeat(65)), QuestionRefusal::IdParam),
        (format!("{good}&isPassive=yes"), QuestionRefusal::Passive),
        (format!("{good}&policy=urn:example:many"), QuestionRefusal::Policy),
    ] {
        assert_eq!(read(&query), Err(refusal), "{query}");
        assert!(!refusal.kind().is_empty());
    }
}

#[test]
fn our_own_question_is_one_that_we_would_answer() {
    let mut clients = clients();
    let us = DiscoveryClient {
        name: "us".to_owned(),
        entity_id: "https://mail.example/saml?a&b".to_owned(),
        return_to: vec!["https://mail.example/login/discovery".to_owned()],
    };
    clients.insert(us.entity_id.clone(), us);
    for service in ["https://ds.example/", "https://ds.example/?a=b", "https://ds.example/?"] {
        let asked = ask(service, "https://mail.example/saml?a&b", "https://mail.example/login/discovery?state=00ff");
        assert!(asked.starts_with(service), "{asked}");
        let fields: Vec<_> = form_urlencoded::parse(asked.split_once('?').unwrap().1.as_bytes()).collect();
        let question = Question::read(fields.iter().map(|(name, value)| (&**name, &**value)), &clients).unwrap();
        let answer = question.answer(Some("https://idp.example/?c&d=é"));
        let back: Vec<_> = form_urlencoded::parse(answer.split_once('?').unwrap().1.as_bytes()).collect();
        let back = back.iter().map(|(name, value)| (&**name, &**value));
        assert_eq!(brings_back(back.clone()), Some("https://idp.example/?c&d=é"));
        assert_eq!(back.clone().next(), Some(("state", "00ff")));
    }
}

#[test]
fn only_one_entity_id_is_brought_back() {
    let id = "https://idp.example";
    assert_eq!(brings_back([("state", "1"), ("entityID", id)].into_iter()), Some(id));
    let long = "a".repeat(1025);
    for fields in [
        &[][..],
        &[("entityID", "")],
        &[("entityID", id), ("entityID", id)],
        &[("entityID", &long)],
        &[("entityid", id)],
    ] {
        assert_eq!(brings_back(fields.iter().copied()), None, "{fields:?}");
    }
}

proptest! {
    #[test]
    fn any_query_is_refused_or_answered_at_home(query in "(entityID|return|returnIDParam|isPassive|policy|[a-z]|%[0-9A-F]{2}|https://wiki\\.example|/shibboleth|/DS|[=&?#@\\\\:/. ]|\\PC){0,24}") {
        for query in [query.clone(), format!("{WHO}&{query}"), format!("{WHO}&return=https://wiki.example/DS{query}")] {
            if let Ok((answer, _)) = read(&query) {
                let home = clients().into_values().flat_map(|client| client.return_to).any(|home| {
                    answer.strip_prefix(&home).is_some_and(|rest| rest.starts_with('?'))
                });
                prop_assert!(home, "{} to {}", query, answer);
                prop_assert!(answer.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{}", answer);
                let url = url::Url::parse(&answer).unwrap();
                prop_assert_eq!(url.host_str(), Some("wiki.example"));
                let brought = url.query_pairs().filter(|(_, value)| value == "https://idp.example/a?b=c&d").count();
                prop_assert!(brought >= 1, "{}", answer);
            }
        }
    }
}
