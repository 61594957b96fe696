//! Pages that want a fresher or stronger login. The login itself: see the stories against a real IdP.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use guichet_auth::{
    Clock, Identity, Method,
    assurance::{Assurance, Context},
    session::Session,
};

use crate::world::{World, alice};

const MFA: &str = "https://refeds.org/profile/mfa";
const PASSWORD: &str = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport";

const TABLES: &str = r#"
[saml]
signing = { certificate = "saml.crt", key_file = "saml.key" }
[federation.test]
source.url = "https://127.0.0.1:9/idps.xml"
signing_keys = ["saml.crt"]
[tenant.univ.idp.saml]
entity_id = "https://idp.univ.example/idp"
[tenant.univ.step_up]
paths = ["/zimbraAdmin/", "/h/prefs"]
authn_context = ["https://refeds.org/profile/mfa"]
"#;

/// A `Cookie` field with a session of alice's, who came this way, with this context, so many seconds ago.
fn session(world: &World, method: Method, login: Option<(&str, u64)>) -> String {
    let (snapshot, now) = (world.app.snapshot.load(), world.clock.now());
    let identity = Identity { method, ..alice() };
    let mut session = Session::open(&identity, &snapshot.config.session, now);
    session.assurance = login.map(|(context, ago)| Assurance {
        context: Some(Context::of(context)),
        at: guichet_auth::WallTime(now.0 - ago * 1000),
        level: None,
    });
    format!("__Host-guichet={}", snapshot.sealer.seal_session(&session))
}

async fn get(world: &World, path: &str, cookie: &str) -> (u16, String) {
    let request = world.request("GET", path).header("cookie", cookie).header("accept", "text/html");
    let answer = request.header("sec-fetch-mode", "navigate").send().await.unwrap();
    let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), location.unwrap_or_default())
}

#[tokio::test]
async fn a_page_that_wants_more_is_reached_by_a_strong_and_fresh_login_only() {
    let world = World::with_tables(TABLES).await;
    let page = "/zimbraAdmin/users?page=2";
    let asked = (302, "/login/step-up?next=%2FzimbraAdmin%2Fusers%3Fpage%3D2".to_owned());
    for weak in [Some((PASSWORD, 5)), Some(("https://idp.example/other", 5)), Some((MFA, 15 * 60)), None] {
        let cookie = session(&world, Method::Saml, weak);
        assert_eq!(get(&world, page, &cookie).await, asked, "{weak:?}");
        assert_eq!(world.cell.count(), 0);
        assert_eq!(get(&world, "/login/step-up?next=/mail", &cookie).await, (303, "/mail".to_owned()));
    }
    let strong = session(&world, Method::Saml, Some((MFA, 14 * 60)));
    assert_eq!(get(&world, page, &strong).await.0, 200);
    // Nothing to do: straight on.
    assert_eq!(get(&world, "/login/step-up?next=/h/prefs", &strong).await, (303, "/h/prefs".to_owned()));
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(get(&world, page, &strong).await, asked);
    assert_eq!(get(&world, "/mail", &strong).await.0, 200, "the rest of the mail is as it was");
}

#[tokio::test]
async fn the_cell_is_told_how_the_user_logged_in() {
    let world = World::with_tables(TABLES).await;
    let claims = async |cookie: String| {
        world.request("GET", "/mail").header("cookie", cookie).send().await.unwrap();
        let token = world.cell.last().headers["guichet-identity"].to_str().unwrap().to_owned();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&claims).unwrap()
    };
    let told = claims(session(&world, Method::Saml, Some((MFA, 40)))).await;
    let at = (world.clock.now().0 - 40_000) / 1000;
    assert_eq!((&told["acr"], &told["auth_time"]), (&MFA.into(), &at.into()));
    let told = claims(session(&world, Method::Fallback, None)).await;
    assert!(told.get("acr").is_none() && told.get("auth_time").is_none(), "{told}");
}

#[tokio::test]
async fn no_spelling_of_a_guarded_path_reaches_the_cell() {
    let world = World::with_tables(TABLES).await;
    let cookie = session(&world, Method::Saml, Some((PASSWORD, 5)));
    for path in [
        "/zimbraAdmin",
        "/ZimbraADMIN/x",
        "//zimbraAdmin/",
        "/./zimbraAdmin/",
        "/mail/../zimbraAdmin/",
        "/mail/..;/zimbraAdmin/",
        "/mail/%2e%2e/zimbraAdmin/",
        "/%7aimbraAdmin/",
        "/%257aimbraAdmin/",
        "/zimbraAdmin%2fx",
        "/%2fzimbraAdmin",
        "/zimbraAdmin;jsessionid=1/",
        "/;a%2fb/zimbraAdmin/",
        "/zimbraAdmin%3b/x",
        "/zimbraAdmin?x=/mail",
        "/h//prefs",
        "/h%2Fprefs",
        "https://localhost/zimbraAdmin/",
        "https://localhost//h/%70refs",
        "HTTPS://localhost/mail/../h/prefs",
    ] {
        for accept in ["text/html", "*/*"] {
            let answer = world
                .exchange(
                    format!(
                        "GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nAccept: {accept}\r\n\
                         Connection: close\r\n\r\n"
                    )
                    .as_bytes(),
                )
                .await;
            let line = answer.lines().next().unwrap_or_default();
            // The strict gate refuses some of them before.
            assert!(["302", "400", "403"].iter().any(|code| line.contains(code)), "{path}: {line}");
        }
        assert_eq!(world.cell.count(), 0, "{path}");
    }
    assert_eq!(get(&world, "/h/prefsearch", &cookie).await.0, 200);
}

#[tokio::test]
async fn forms_scripts_and_programs_are_told_and_not_sent_away() {
    let world = World::with_tables(TABLES).await;
    let cookie = session(&world, Method::Saml, Some((PASSWORD, 5)));
    let form = world.request("POST", "/h/prefs").header("cookie", &cookie).header("accept", "text/html");
    let form = form.header("accept-language", "en").form(&[("signature", "x")]).send().await.unwrap();
    assert_eq!((form.status().as_u16(), &form.headers()["guichet-step-up"]), (403, &"required".parse().unwrap()));
    let page = form.text().await.unwrap();
    assert!(page.contains("href=\"/login/step-up?next=%2Fh%2Fprefs\""), "{page}");
    for (name, value, accept) in [
        ("sec-fetch-mode", "cors", "text/html"),
        ("x-requested-with", "XMLHttpRequest", "text/html"),
        ("x", "y", "*/*"),
    ] {
        let request = world.request("GET", "/h/prefs").header("cookie", &cookie).header("accept", accept);
        let told = request.header(name, value).send().await.unwrap();
        assert_eq!(told.status(), 403, "{name}");
        assert_eq!(told.headers()["guichet-step-up"], "required");
        assert_eq!(told.headers()["content-type"], "text/plain; charset=utf-8");
    }
    let program = world.request("PROPFIND", "/h/prefs").basic_auth("alice@univ.example", Some("correct horse"));
    let program = program.send().await.unwrap();
    assert_eq!(
        (program.status().as_u16(), &program.headers()["guichet-step-up"]),
        (403, &"impossible".parse().unwrap())
    );
    assert_eq!(world.cell.count(), 0);
    // Elsewhere the same credentials are good.
    let dav = world.request("PROPFIND", "/dav/").basic_auth("alice@univ.example", Some("correct horse"));
    assert_eq!(dav.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn who_came_by_a_password_is_led_to_the_institution() {
    let world = World::with_tables(TABLES).await;
    for method in [Method::Fallback, Method::Password] {
        let cookie = session(&world, method, None);
        for path in ["/zimbraAdmin/", "/login/step-up?next=/zimbraAdmin/x"] {
            let request = world.request("GET", path).header("cookie", &cookie).header("accept", "text/html");
            let answer = request.header("accept-language", "fr").send().await.unwrap();
            assert_eq!(answer.status(), 403, "{path}");
            let page = answer.text().await.unwrap();
            assert!(page.contains("<html lang=\"fr\">") && page.contains("mot de passe de messagerie"), "{page}");
            assert!(page.contains("/login/start?tenant=univ&#38;force=idp&#38;next=%2FzimbraAdmin%2F"), "{page}");
        }
    }
    assert_eq!(world.cell.count(), 0);
}

#[tokio::test]
async fn without_a_session_a_guarded_page_begins_with_the_login() {
    let world = World::with_tables(TABLES).await;
    assert_eq!(get(&world, "/h/prefs", "a=b").await, (302, "/login?next=%2Fh%2Fprefs".to_owned()));
    assert_eq!(get(&world, "/login/step-up?next=/h/prefs", "a=b").await, (303, "/login?next=%2Fh%2Fprefs".to_owned()));
    // The page of another site is none.
    let weak = session(&world, Method::Saml, Some((PASSWORD, 5)));
    for next in ["//evil.example", "https://evil.example/zimbraAdmin", ""] {
        assert_eq!(get(&world, &format!("/login/step-up?next={next}"), &weak).await, (303, "/".to_owned()), "{next}");
    }
}
