//! Requests of a user who is being moved.

use std::time::Duration;

use guichet_auth::placement::{Known, Listing, Rule, Step};

use crate::world::World;

#[tokio::test]
async fn requests_of_a_held_user_are_told_when_to_come_back_in_the_users_language() {
    let world = World::new().await;
    let (name, cell) = ("spring".parse().unwrap(), "main".parse().unwrap());
    let known = Known { domain: &|_| true, cell: &|_| true };
    let users = Listing::read(b"alice@univ.example\n", Rule::CellDefault(&cell), &known).unwrap();
    let now = world.app.clock.now();
    world.app.store.plan_wave(&name, &users, "ops", now, false).unwrap();
    let hold = Step::Hold { until: now.plus(Duration::from_secs(30)) };
    world.app.store.step_wave(&name, hold, "ops", now).unwrap();

    let get = |language: &str| {
        let request = world.request("GET", "/mail").header("cookie", world.session());
        request.header("accept", "text/html").header("accept-language", language).send()
    };
    for (language, words) in [("fr", "en cours de déplacement"), ("en", "is being moved")] {
        let answer = get(language).await.unwrap();
        assert_eq!(answer.status(), 503);
        let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((30..=120).contains(&seconds), "{seconds}");
        let page = answer.text().await.unwrap();
        assert!(page.contains(words), "{page}");
    }
    // A phone is told in short, and keeps its password.
    let answer = world.request("PROPFIND", "/dav/").basic_auth("alice@univ.example", Some("correct horse"));
    let answer = answer.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (503, true));
    assert_eq!(world.cell.count(), 0);

    world.clock.advance(Duration::from_secs(30));
    assert_eq!(get("en").await.unwrap().status(), 200, "the hold ended by itself");
}
