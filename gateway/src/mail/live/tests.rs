use guichet_auth::{Identity, Method, store::DrainTarget};
use guichet_config::{Category, MailProtocol};

use super::*;
use crate::{limit::tests::limits, listener::Peer};

fn about(conn: u64, user: &str, cell: &str, protocol: MailProtocol) -> About {
    About {
        protocol: Traffic::Mail(protocol),
        conn,
        listener: "imaps".parse().unwrap(),
        client: SocketAddr::from(([10, 0, 0, 1], 4711)),
        tls: Negotiated::default(),
        user: Some((user.parse().unwrap(), "example".parse().unwrap())),
        cell: cell.parse().unwrap(),
        endpoint: "127.0.0.1:143".into(),
        inactivity: Duration::from_secs(1),
    }
}

fn many() -> Limits {
    Limits { sessions_per_user: 9, sessions_per_user_source: 9, ..limits(9, 9, 9) }
}

fn of_cell(cell: &str) -> Selector {
    Selector { cell: Some(cell.parse().unwrap()), ..Selector::default() }
}

fn of_user(user: &str) -> Selector {
    Selector { user: Some(user.parse().unwrap()), ..Selector::default() }
}

fn word(reason: &str) -> DrainOverride {
    let (target, reason) = (DrainTarget::Cell("alpha".to_owned()), reason.to_owned());
    DrainOverride { target, done: 0, until: 0, reason, actor: "ops".to_owned(), since: 0 }
}

fn ordered(why: Why, at: Instant) -> Orders {
    let of = |one| (why == one).then_some(at);
    Orders { node: Node::Runs, kicked: of(Why::Kicked), drained: of(Why::Drained) }
}

fn whys(place: &Place) -> Option<Why> {
    place.orders().end().map(|(_, why)| why)
}

#[test]
fn all_given_parts_must_match_and_who_leaves_is_gone() {
    let relays = Arc::new(Relays::new(255));
    let enter = |conn, user, cell, protocol| relays.enter(about(conn, user, cell, protocol), &many()).unwrap();
    let one = enter(1, "a@univ.example", "alpha", MailProtocol::Imap);
    let _two = enter(2, "a@univ.example", "beta", MailProtocol::Imap);
    let _three = enter(3, "b@univ.example", "alpha", MailProtocol::Pop3);
    assert_eq!(relays.count(&Selector::default()), 3);
    assert_eq!(relays.count(&of_cell("alpha")), 2);
    assert_eq!(relays.count(&of_user("a@univ.example")), 2);
    let imap_in_alpha = Selector { protocol: Some(Traffic::Mail(MailProtocol::Imap)), ..of_cell("alpha") };
    assert_eq!(relays.count(&imap_in_alpha), 1);
    let other_tenant = Selector { tenant: Some("other".parse().unwrap()), ..of_cell("alpha") };
    assert_eq!(relays.count(&other_tenant), 0);
    let listed = relays.list(&Selector::default(), 2);
    assert_eq!(listed.len(), 2, "as many as asked for");
    let listed = relays.list(&of_user("a@univ.example"), 9);
    assert_eq!(listed.iter().map(|one| one.session.as_str()).collect::<Vec<_>>(), ["ff-1", "ff-2"]);
    drop(one);
    assert_eq!(relays.count(&of_user("a@univ.example")), 1);
}

#[test]
fn a_kick_reaches_those_it_means_each_at_its_own_moment_within_the_time() {
    let relays = Arc::new(Relays::new(1));
    let places: Vec<_> = (0..200)
        .map(|conn| {
            let cell = if conn % 2 == 0 { "alpha" } else { "beta" };
            relays.enter(about(conn, &format!("u{conn}@univ.example"), cell, MailProtocol::Imap), &many()).unwrap()
        })
        .collect();
    let now = Instant::now();
    assert_eq!(relays.kick(&of_cell("alpha"), Duration::from_secs(100)), 100);
    let mut moments = Vec::new();
    for place in &places {
        match place.orders().end() {
            Some((at, why)) => {
                assert_eq!((place.about().cell.as_str(), why), ("alpha", Why::Kicked));
                moments.push(at.saturating_duration_since(now).as_secs());
            }
            None => assert_eq!(place.about().cell.as_str(), "beta"),
        }
    }
    assert!(moments.iter().all(|at| *at <= 100), "{moments:?}");
    // A hundred throws leave one of five boxes empty once in a billion times.
    let boxes: std::collections::BTreeSet<u64> = moments.iter().map(|at| (at / 20).min(4)).collect();
    assert_eq!(boxes.len(), 5, "{moments:?}");

    // The earlier of two orders holds.
    assert_eq!(relays.kick(&of_cell("alpha"), Duration::ZERO), 100);
    let due = places.iter().filter_map(|place| place.orders().end()).all(|(at, _)| at <= Instant::now());
    assert!(due);
}

#[tokio::test]
async fn who_waits_hears_of_a_kick_and_of_the_nodes_end() {
    let relays = Arc::new(Relays::new(1));
    let place = relays.enter(about(1, "a@univ.example", "alpha", MailProtocol::Imap), &many()).unwrap();
    let before = place.orders();
    let ((), orders) = tokio::join!(
        async {
            tokio::task::yield_now().await;
            relays.kick(&of_user("a@univ.example"), Duration::ZERO);
        },
        place.other_orders(before),
    );
    assert_eq!(orders.end().map(|(_, why)| why), Some(Why::Kicked));
    relays.stop();
    assert_eq!(place.other_orders(orders).await.node, Node::Stops);
    let late = relays.enter(about(2, "a@univ.example", "alpha", MailProtocol::Imap), &many()).unwrap();
    assert_eq!(late.orders().node, Node::Stops, "who comes later hears it too");
}

#[test]
fn a_drain_ends_those_of_its_endpoint_and_those_that_slip_in_and_can_be_taken_back() {
    let relays = Arc::new(Relays::new(1));
    let enter = |conn, endpoint: &str| {
        let about = About { endpoint: endpoint.into(), ..about(conn, "a@univ.example", "alpha", MailProtocol::Imap) };
        relays.enter(about, &many()).unwrap()
    };
    let (here, there) = (enter(1, "one:143"), enter(2, "two:143"));
    let now = Instant::now();
    let drain = Drain {
        selector: of_cell("alpha"),
        endpoint: Some("one:143".to_owned()),
        word: word("one"),
        done: now + Duration::from_secs(10),
        until: now + Duration::from_secs(60),
    };
    relays.set_drains(vec![drain.clone()]);
    assert_eq!((whys(&here), whys(&there)), (Some(Why::Drained), None));
    let late = enter(3, "one:143");
    assert_eq!(whys(&late), Some(Why::Drained));

    relays.kick(&of_user("a@univ.example"), Duration::ZERO);
    let kicked = enter(4, "two:143");
    relays.set_drains(Vec::new());
    assert_eq!(whys(&kicked), None);
    assert_eq!(whys(&there), Some(Why::Kicked), "a kick is not taken back");

    relays.set_drains(vec![drain.clone()]);
    let again = enter(5, "one:143");
    assert_eq!(whys(&again), Some(Why::Drained));
    relays.set_drains(vec![Drain { endpoint: None, word: word("all"), ..drain }]);
    assert_eq!(whys(&again), Some(Why::Drained), "another drain still means it");
    relays.set_drains(Vec::new());
    assert_eq!(whys(&again), None);
}

#[test]
fn a_user_has_so_many_sessions_and_a_source_its_share_of_them() {
    let relays = Arc::new(Relays::new(1));
    let limits = Limits { sessions_per_user: 3, sessions_per_user_source: 2, ..limits(9, 9, 9) };
    let enter = |conn, user: &str, client: [u8; 4]| {
        let client = SocketAddr::from((client, 4711));
        relays.enter(About { client, ..about(conn, user, "alpha", MailProtocol::Imap) }, &limits)
    };
    let one = enter(1, "a@univ.example", [10, 0, 0, 1]).unwrap();
    let _two = enter(2, "a@univ.example", [10, 0, 0, 1]).unwrap();
    assert_eq!(enter(3, "a@univ.example", [10, 0, 0, 1]).unwrap_err(), Crowded::Source);
    let _four = enter(4, "a@univ.example", [10, 0, 0, 2]).unwrap();
    assert_eq!(enter(5, "a@univ.example", [10, 0, 0, 3]).unwrap_err(), Crowded::User);
    assert!(enter(6, "b@univ.example", [10, 0, 0, 1]).is_ok(), "others of the same house are not meant");
    assert!(enter(7, "a@univ.example", [192, 0, 2, 1]).is_ok(), "an exempt network is not limited");
    drop(one);
    assert!(enter(8, "a@univ.example", [10, 0, 0, 1]).is_ok(), "live ones count, not logins");
}

fn tunnel(relays: &Arc<Relays>, conn: u64, user: &str, cell: &str) -> Tunnel {
    let identity = Identity {
        address: user.parse().unwrap(),
        tenant: "example".parse().unwrap(),
        category: Category::Staff,
        cell: None,
        method: Method::Password,
    };
    let (client, local) = (SocketAddr::from(([10, 0, 0, 1], 4711)), SocketAddr::from(([10, 0, 0, 2], 443)));
    let peer = Peer { client, local, conn, listener: "https".parse().unwrap() };
    relays.enter_tunnel(&peer, Negotiated::default(), &identity, &cell.parse().unwrap(), &"mbx:443".into())
}

#[test]
fn a_tunnel_takes_no_session_from_mail_programs_and_is_found_as_web() {
    let relays = Arc::new(Relays::new(1));
    let limits = Limits { sessions_per_user: 1, sessions_per_user_source: 1, ..limits(9, 9, 9) };
    let tunnels: Vec<_> = (0..3).map(|conn| tunnel(&relays, conn, "a@univ.example", "alpha")).collect();
    let imap = relays.enter(about(7, "a@univ.example", "alpha", MailProtocol::Imap), &limits);
    assert!(imap.is_ok(), "{imap:?}");
    let web = Selector { protocol: Traffic::named("web"), ..of_user("a@univ.example") };
    assert_eq!((relays.count(&web), relays.count(&of_cell("alpha"))), (3, 4));
    drop(tunnels);
    assert_eq!(relays.count(&web), 0);
}

#[tokio::test]
async fn a_tunnel_ends_by_a_kick_a_drain_and_the_end_of_the_node() {
    let relays = Arc::new(Relays::new(1));
    let one = tunnel(&relays, 1, "a@univ.example", "alpha");
    assert!(futures::poll!(Box::pin(one.ordered())).is_pending());
    let (why, _) = tokio::join!(one.ordered(), async { relays.kick(&of_user("a@univ.example"), Duration::ZERO) });
    assert_eq!(why, "kicked");
    let other = tunnel(&relays, 2, "b@univ.example", "alpha");
    let now = Instant::now();
    let until = now + Duration::from_secs(60);
    relays.set_drains(vec![Drain { selector: of_cell("alpha"), endpoint: None, word: word("x"), done: now, until }]);
    assert_eq!(other.ordered().await, "drained");
    relays.set_drains(Vec::new());
    relays.stop();
    assert_eq!(other.ordered().await, "node_stopped");
}

#[test]
fn a_drained_relay_waits_for_quiet_but_not_for_ever_and_a_kicked_one_does_not() {
    let now = Instant::now();
    let at = now + Duration::from_secs(10);
    let due = |why, moved_at| ordered(why, at).due(moved_at);
    assert_eq!(due(Why::Kicked, at), Some((at, "kicked")));
    assert_eq!(due(Why::Drained, now), Some((at, "drained")), "it was quiet long before");
    assert_eq!(due(Why::Drained, at), Some((at + Duration::from_secs(1), "drained")));
    let busy = at + Duration::from_secs(300);
    assert_eq!(due(Why::Drained, busy), Some((at + Duration::from_secs(30), "drained")));
    let cut = Orders { node: Node::Cuts, kicked: None, drained: None };
    assert_eq!(cut.due(now), Some((now, "node_stopped")));
}

#[test]
fn the_end_of_a_message_is_waited_for_but_not_for_ever() {
    let at = Instant::now();
    assert_eq!(ordered(Why::Kicked, at).cut_at(), Some(at + Duration::from_secs(10)));
    let drained = ordered(Why::Drained, at);
    assert_eq!(drained.cut_at(), Some(at + Duration::from_secs(300)));
    let both = Orders { kicked: Some(at + Duration::from_secs(60)), ..drained };
    assert_eq!(both.cut_at(), Some(at + Duration::from_secs(70)), "a kick is the sharper one");
    assert_eq!(Orders { node: Node::Stops, kicked: None, drained: None }.cut_at(), None);
}

#[test]
fn a_drain_that_is_taken_back_leaves_a_kick_whichever_came_first_or_is_sooner() {
    let relays = Arc::new(Relays::new(1));
    let place = relays.enter(about(1, "a@univ.example", "alpha", MailProtocol::Imap), &many()).unwrap();
    let now = Instant::now();
    let drain = |over| Drain {
        selector: of_cell("alpha"),
        endpoint: None,
        word: word("disks"),
        done: now + over,
        until: now + Duration::from_secs(36_000),
    };
    // The drain is sooner than the kick behind it.
    relays.set_drains(vec![drain(Duration::ZERO)]);
    relays.kick(&of_user("a@univ.example"), Duration::from_secs(7200));
    assert_eq!(whys(&place), Some(Why::Drained));
    relays.set_drains(Vec::new());
    assert_eq!(whys(&place), Some(Why::Kicked));
    let kicked = place.orders().kicked;
    // And the other way about.
    relays.set_drains(vec![drain(Duration::ZERO)]);
    relays.set_drains(Vec::new());
    assert_eq!((place.orders().kicked, place.orders().drained), (kicked, None));
}

/// docs/performance.md says what an idle connection consists of.
#[test]
fn an_entry_is_small() {
    assert!(size_of::<Live>() <= 256, "{}", size_of::<Live>());
    assert!(size_of::<Place>() == 16);
}
