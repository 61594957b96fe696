//! The management listener.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::{TOKEN, World};

async fn origin(world: &World) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(guichet::console::serve_on(listener, world.app.clone()));
    format!("http://{address}")
}

#[tokio::test]
async fn metrics_and_health_are_open_and_the_api_wants_the_token() {
    let world = World::new().await;
    let origin = origin(&world).await;
    let get = |path: &str| world.client.get(format!("{origin}{path}"));
    assert_eq!(get("/healthz").send().await.unwrap().status(), 200);
    // Nothing listens in this test: alive, but not ready.
    assert_eq!(get("/readyz").send().await.unwrap().status(), 503);
    let metrics = get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("guichet_build_info"), "{metrics}");
    for token in ["", "x", &TOKEN[1..]] {
        let answer = get("/api/v1/status").bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["kind"], "unauthorised");
    }
    let status: Value = get("/api/v1/status").bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
    assert_eq!(status["node"], "test");
    assert_eq!(status["generation"], 1);
    let cells: Value = get("/api/v1/cells").bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
    assert_eq!(cells[0]["cell"], "main");
}

#[tokio::test]
async fn bad_orders_are_refused_in_words() {
    let world = World::new().await;
    let origin = origin(&world).await;
    let post = |path: &str, body: Value| {
        world.client.post(format!("{origin}/api/v1{path}")).bearer_auth(TOKEN).json(&body).send()
    };
    let order = json!({"state": "down", "for": "10m", "reason": "test"});
    for path in ["/idps/nobody/force", "/idps/univ/force", "/idps/UNIV/force"] {
        assert_eq!(post(path, order.clone()).await.unwrap().status(), 404, "{path}");
    }
    let large = post("/idps/univ/force", json!({"reason": "x".repeat(20_000)})).await.unwrap();
    assert_eq!(large.status(), 413);
    let reloaded: Value = post("/reload", json!({})).await.unwrap().json().await.unwrap();
    assert_eq!(reloaded["generation"], 2);
}

#[tokio::test]
async fn live_relays_are_ended_only_when_it_is_said_whose_and_why() {
    let world = World::new().await;
    let origin = origin(&world).await;
    let post = async |path: &str, body: Value| {
        let request = world.client.post(format!("{origin}/api/v1{path}")).bearer_auth(TOKEN).json(&body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let why = "stolen phone";
    for (body, status) in [
        (json!({"reason": why}), 400),
        (json!({"reason": "", "cell": "main"}), 400),
        (json!({"reason": why, "cell": "main", "over": "soon"}), 400),
        (json!({"reason": why, "cell": "main", "over": "2d"}), 400),
        (json!({"reason": why, "cell": "main", "colour": "red"}), 400),
        (json!({"reason": why, "cell": "omega"}), 404),
        (json!({"reason": why, "tenant": "nobody"}), 404),
        (json!({"reason": why, "protocol": "smtp"}), 404),
        (json!({"reason": why, "cell": "main", "protocol": "imap", "over": "30s"}), 200),
    ] {
        assert_eq!(post("/relays/kick", body.clone()).await.0, status, "{body}");
    }
    let order = json!({"over": "10m", "for": "2h", "reason": "new disks", "dry_run": true});
    let (status, told) = post("/cells/main/drain", order.clone()).await;
    assert_eq!((status, &told["relays"], &told["dry_run"]), (200, &json!(0), &json!(true)), "{told}");
    assert_eq!(post("/cells/omega/drain", order.clone()).await.0, 404);
    assert_eq!(post("/cells/main/resume", json!({})).await.0, 404, "a dry run drains nothing");
    assert_eq!(post("/listeners/omega/drain", order).await.0, 404);
    for order in [
        json!({"over": "3h", "for": "2h", "reason": "new disks"}),
        json!({"over": "10m", "for": "32d", "reason": "new disks"}),
        json!({"over": "10m", "for": "2h", "reason": " "}),
        json!({"for": "2h", "reason": "new disks"}),
        json!({"over": "10m", "for": "2h", "reason": "new disks", "endpoint": "127.0.0.1:1"}),
    ] {
        let (status, told) = post("/cells/main/drain", order.clone()).await;
        assert!(matches!(status, 400 | 404), "{order} {told}");
    }
    let (status, _) = post("/cells/main/drain", json!({"over": "10m", "for": "2h", "reason": "new disks"})).await;
    assert_eq!(status, 200);
    let get = |path: &str| world.client.get(format!("{origin}/api/v1{path}")).bearer_auth(TOKEN).send();
    let drains: Value = get("/drains").await.unwrap().json().await.unwrap();
    assert_eq!(
        (&drains[0]["kind"], &drains[0]["name"], &drains[0]["actor"]),
        (&json!("cell"), &json!("main"), &json!("token"))
    );
    let status: Value = get("/status").await.unwrap().json().await.unwrap();
    assert!(status["drains"][0].as_str().unwrap().contains("new disks"), "{status}");
    assert_eq!(post("/cells/main/resume", json!({})).await.1[0]["name"], "main");
    assert_eq!(get("/relays?colour=red").await.unwrap().status(), 400);
    let listed: Value = get("/relays?cell=main").await.unwrap().json().await.unwrap();
    assert_eq!(listed, json!({"total": 0, "relays": []}));
}
