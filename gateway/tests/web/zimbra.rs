//! The web side of a Zimbra cell: entered by a token that the browser never sees.

use std::sync::atomic::Ordering;

use crate::world::World;

/// The answer's cookies, and the `Cookie` field as the cell saw it.
async fn get(world: &World, path: &str) -> (u16, Vec<String>, String) {
    let cookie = format!("CELL=1; ZM_AUTH_TOKEN=forged; {}", world.session());
    let answer = world.request("GET", path).header("cookie", cookie).send().await.unwrap();
    let cookies = answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned());
    let (status, cookies) = (answer.status().as_u16(), cookies.collect());
    let seen = world.cell.last();
    assert_eq!(seen.path, path);
    for name in ["remote-user", "guichet-identity"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    (status, cookies, seen.headers["cookie"].to_str().unwrap().to_owned())
}

fn questions(world: &World) -> usize {
    world.cell.seen.lock().unwrap().iter().filter(|seen| seen.path == "/service/soap/AuthRequest").count()
}

#[tokio::test]
async fn the_cell_is_entered_by_one_token_and_what_the_browser_says_of_it_is_nothing() {
    let world = World::zimbra().await;
    for _ in 0..3 {
        assert_eq!(get(&world, "/mail").await, (200, Vec::new(), "CELL=1; ZM_AUTH_TOKEN=0_1".to_owned()));
    }
    // Nor does it hear of a token.
    assert_eq!(get(&world, "/other-login").await.1, Vec::<String>::new());
    assert_eq!(questions(&world), 1);
}

#[tokio::test]
async fn a_token_that_the_cell_ends_is_replaced_at_the_next_request() {
    let world = World::zimbra().await;
    get(&world, "/mail").await;
    let (status, cookies, _) = get(&world, "/logout-there").await;
    assert_eq!((status, cookies), (200, vec!["CELL=1; Path=/".to_owned()]));
    assert_eq!(questions(&world), 1);
    let (_, _, before) = get(&world, "/mail").await;
    assert_eq!(questions(&world), 2);
    assert_eq!(get(&world, "/denied").await.0, 401);
    let (_, _, after) = get(&world, "/mail").await;
    assert_eq!(questions(&world), 3);
    assert_ne!(before, after);
}

#[tokio::test]
async fn a_logout_leaves_no_token_of_the_user_behind() {
    let world = World::zimbra().await;
    get(&world, "/mail").await;
    let answer = world.request("POST", "/logout").header("cookie", world.session()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    get(&world, "/mail").await;
    assert_eq!(questions(&world), 2);
}

#[tokio::test]
async fn without_a_token_the_cell_is_away() {
    let world = World::zimbra().await;
    world.cell.refuses_tokens.store(true, Ordering::SeqCst);
    let answer = world.request("GET", "/mail").header("cookie", world.session()).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(world.cell.seen.lock().unwrap().iter().all(|seen| seen.path != "/mail"));
}
