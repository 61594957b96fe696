//! Which cell serves a user.

use guichet::placement::{Placed, place};
use guichet_auth::{Identity, Method, store::PlacementOverride};
use guichet_config::{Category, CellId};

use crate::world::{USER, World};

const BETA: &str = "[cell.beta.imap]\nendpoints = [\"127.0.0.1:9\"]\n";

fn cell(name: &str) -> CellId {
    name.parse().unwrap()
}

fn alice(cell: Option<&str>) -> Identity {
    Identity {
        address: USER.parse().unwrap(),
        tenant: "example".parse().unwrap(),
        category: Category::Staff,
        cell: cell.map(|name| name.parse().unwrap()),
        method: Method::Password,
    }
}

#[tokio::test]
async fn the_operator_comes_before_the_directory_and_that_before_the_tenant() {
    let world = World::start(BETA).await;
    let config = world.app.snapshot.load().config.clone();
    assert_eq!(place(&alice(None), None, &config), Some(cell("main")));
    assert_eq!(place(&alice(Some("beta")), None, &config), Some(cell("beta")));
    assert_eq!(place(&alice(Some("beta")), Some(&cell("main")), &config), Some(cell("main")));
    assert_eq!(place(&alice(Some("gone")), None, &config), None);
    assert_eq!(place(&alice(None), Some(&cell("gone")), &config), None);
}

#[tokio::test]
async fn a_word_counts_from_the_next_login_on_and_until_it_is_taken_back() {
    let world = World::start(BETA).await;
    let now = world.app.clock.now();
    let config = world.app.snapshot.load().config.clone();
    let word = PlacementOverride {
        cell: "beta".to_owned(),
        until: now.0 + 60_000,
        reason: "wave 3".to_owned(),
        actor: "ops".to_owned(),
        since: now.0,
    };
    let user = USER.parse().unwrap();
    world.app.store.place_user(&user, Some(&word)).unwrap();
    // The table gives way to a word, and goes before the directory.
    world.app.store.set_placement(&user, Some(&cell("main"))).unwrap();
    assert_eq!(world.app.place(&alice(None), &config), Placed::Cell(cell("beta")));
    world.app.store.place_user(&user, None).unwrap();
    assert_eq!(world.app.place(&alice(Some("beta")), &config), Placed::Cell(cell("main")));
    world.app.store.set_placement(&user, Some(&cell("gone"))).unwrap();
    assert_eq!(world.app.place(&alice(None), &config), Placed::Nowhere);
    world.app.store.set_placement(&user, None).unwrap();
    assert_eq!(world.app.place(&alice(None), &config), Placed::Cell(cell("main")));
    // And the way through the front door still leads there.
    drop(world.session().await);
}
