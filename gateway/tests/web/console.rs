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
