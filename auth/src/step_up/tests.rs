use std::time::Duration;

use guichet_config::Category;
use proptest::prelude::*;

use super::*;
use crate::{
    Identity,
    assurance::{Assurance, Context},
};

const NOW: WallTime = WallTime(1_800_000_000_000);
const MFA: &str = "https://refeds.org/profile/mfa";

fn rule(paths: &[&str], contexts: &[&str]) -> StepUp {
    StepUp {
        paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
        authn_context: contexts.iter().map(|uri| (*uri).to_owned()).collect(),
        max_age: Duration::from_secs(15 * 60),
    }
}

fn session(method: Method, assurance: Option<Assurance>) -> Session {
    let identity = Identity {
        address: "alice@univ-a.example".parse().unwrap(),
        tenant: "univ-a".parse().unwrap(),
        category: Category::Staff,
        cell: None,
        method,
    };
    let lifetimes = guichet_config::Session {
        lifetime: Duration::from_secs(36_000),
        lifetime_idle: Duration::from_secs(3600),
        lifetime_fallback: Duration::from_secs(7200),
    };
    Session { assurance, ..Session::open(&identity, &lifetimes, NOW) }
}

fn known(context: &str, ago: u64) -> Option<Assurance> {
    let at = WallTime(NOW.0 - ago * 1000);
    Some(Assurance { context: Some(Context::of(context)), at, level: None })
}

#[test]
fn a_session_needs_the_context_and_the_age() {
    let strong = rule(&["/admin"], &[MFA]);
    let fresh = rule(&["/admin"], &[]);
    let password = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport";
    for (assurance, by_strong, by_fresh) in [
        (known(MFA, 60), true, true),
        (known(MFA, 15 * 60 - 1), true, true),
        (known(MFA, 15 * 60), false, false),
        (known(password, 60), false, true),
        (known("https://idp.example/mfa", 60), false, true),
        (Some(Assurance { context: None, at: NOW, level: None }), false, true),
        (None, false, false),
    ] {
        let session = session(Method::Saml, assurance);
        assert_eq!(
            (is_met(&strong, &session, NOW), is_met(&fresh, &session, NOW)),
            (by_strong, by_fresh),
            "{assurance:?}"
        );
    }
}

#[test]
fn an_institutions_own_context_counts_as_well() {
    let own = rule(&["/admin"], &["https://idp.example/ac/badge"]);
    assert!(is_met(&own, &session(Method::Saml, known("https://idp.example/ac/badge", 1)), NOW));
    assert!(!is_met(&own, &session(Method::Saml, known("https://idp.example/ac/badgf", 1)), NOW));
}

#[test]
fn only_who_came_by_an_idp_can_be_asked_again() {
    assert!(is_possible(&session(Method::Saml, None)));
    for method in [Method::Password, Method::Fallback] {
        assert!(!is_possible(&session(method, None)), "{method:?}");
    }
}

fn guards(paths: &[&str], path: &str) -> bool {
    guard(&rule(paths, &[]), path).is_some()
}

#[test]
fn a_guarded_path_is_guarded_in_every_spelling() {
    for path in [
        "/zimbraAdmin",
        "/zimbraAdmin/",
        "/zimbraAdmin/public/login.jsp?a=b",
        "/zimbraadmin",
        "/ZIMBRAADMIN/x",
        "//zimbraAdmin",
        "/./zimbraAdmin",
        "/.//./zimbraAdmin",
        "/%7aimbraAdmin",
        "/%7AimbraAdmi%6e/",
        "/%257aimbraAdmin",
        "/%25257aimbraAdmin",
        "/%2525257aimbraAdmin",
        "/%252525257aimbraAdmin",
        "/%2fzimbraAdmin",
        "/zimbraAdmin%2fx",
        "/zimbraAdmin%2Fx",
        "/%2e/zimbraAdmin",
        "/zimbraAdmin;jsessionid=1/x",
        "/;x=1/zimbraAdmin",
        "/;a%2fb/zimbraAdmin",
        "/;a%252fb/zimbraAdmin",
        "/;a%2fzimbraAdmin",
        "/zimbraAdmin%3bx",
        "/zimbraAdmin%3fx",
        "/zimbraAdmin%23x",
        "/zimbraAdmin%00",
        "/zimbraAdmin%0a",
        "/zimbraAdmin.",
        "/zimbraAdmin%20/x",
        "/mail/../zimbraAdmin",
        "/mail/..;/zimbraAdmin",
        "/mail/%2e%2e/zimbraAdmin",
        "/mail/%252e%252e%252fzimbraAdmin",
        "/mail/..%2fzimbraAdmin",
        "/zimbraAdmin/..;/mail",
        "/mail/.../zimbraAdmin",
        "/mail\\..\\zimbraAdmin",
        "/mail%5c..%5czimbraAdmin",
        "\\zimbraAdmin",
        "/zimbraAdm\u{131}n",
        "/zimbraAdm%c4%b1n",
        "/x%c0%afzimbraAdmin",
        "/%u007aimbraAdmin",
        "/%zzzimbraAdmin",
        "zimbraAdmin",
        "/zimbraAdmin#x",
    ] {
        assert!(guards(&["/zimbraAdmin/"], path), "{path}");
    }
    for path in ["/h/prefs", "/h//prefs/x", "/h/./prefs;x", "/h%2fprefs", "/H/PREFS", "/h;x/%70refs", "/h/;y/prefs"] {
        assert!(guards(&["/h/prefs"], path), "{path}");
    }
}

#[test]
fn what_lies_beside_a_guarded_path_is_free() {
    for path in [
        "/",
        "",
        "/mail",
        "/zimbra",
        "/zimbraAdministration",
        "/mail/zimbraAdmin",
        "/mail?next=/zimbraAdmin",
        "/home/alice@univ.example/Calendrier%20d%C3%A9t%C3%A9.ics",
        "/home/alice/100%25.pdf",
        "/home/alice/a;b=c",
        "/home/alice/C%23.pdf",
        "/service/soap",
        "/a.b/c..d",
    ] {
        assert!(!guards(&["/zimbraAdmin/"], path), "{path}");
    }
    for path in ["/h", "/h/", "/h/search", "/h/prefsearch", "/prefs", "/x/h/prefs"] {
        assert!(!guards(&["/h/prefs"], path), "{path}");
    }
}

#[test]
fn the_page_to_go_back_to_is_the_configured_one() {
    let rule = rule(&["/h/prefs", "/zimbraAdmin/"], &[]);
    assert_eq!(guard(&rule, "/ZIMBRAADMIN/x%3b").map(GuardedPath::as_str), Some("/zimbraAdmin/"));
}

/// How a path may be spelled without leading elsewhere.
fn disguised(path: &'static str) -> impl Strategy<Value = String> {
    let one = |c: char| {
        let hex = format!("%{:02x}", c as u32);
        let twice = format!("%25{:02X}", c as u32);
        let mut choices = vec![c.to_string(), c.to_ascii_uppercase().to_string(), c.to_ascii_lowercase().to_string()];
        choices.extend([hex, twice]);
        if c == '/' {
            choices.extend(["//", "/./", "/;a/", ";x=%2f/", "/%2e/", "/;b%2fc/"].map(str::to_owned));
        }
        proptest::sample::select(choices)
    };
    path.chars().map(one).collect::<Vec<_>>().prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_disguise_leads_past_the_guard(path in disguised("/zimbraAdmin/public/")) {
        prop_assert!(guards(&["/zimbraAdmin/"], &path), "{path}");
    }

    #[test]
    fn no_disguise_leads_past_a_deeper_guard(path in disguised("/h/prefs")) {
        prop_assert!(guards(&["/h/prefs"], &path), "{path}");
    }

    #[test]
    fn any_text_has_an_answer(path in "(%|2|5|f|/|;|\\.|a|\\PC){0,60}") {
        let _ = guards(&["/a/b"], &path);
    }
}
