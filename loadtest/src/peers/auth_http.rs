//! What nginx asks at each login: whether the password is good, and where the cell is.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName},
    routing::get,
};
use tokio::net::TcpListener;

use crate::world::{Institution, people};

/// What there is to know.
struct Knowledge {
    institutions: Arc<Vec<Institution>>,
    cell_port: u16,
}

/// Answers until the task ends.
pub(super) async fn serve(listener: TcpListener, institutions: Arc<Vec<Institution>>, cell_port: u16) {
    let knowledge = Arc::new(Knowledge { institutions, cell_port });
    let router = Router::new().route("/", get(answer)).with_state(knowledge);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "The auth_http server stopped.");
    }
}

async fn answer(State(knowledge): State<Arc<Knowledge>>, headers: HeaderMap) -> [(HeaderName, String); 3] {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let person = people::find(&knowledge.institutions, header("auth-user"));
    let good = person.is_some_and(|(_, person)| person.password == header("auth-pass"));
    let status = if good { "OK" } else { "Invalid login or password" };
    [
        (HeaderName::from_static("auth-status"), status.to_owned()),
        (HeaderName::from_static("auth-server"), "127.0.0.1".to_owned()),
        (HeaderName::from_static("auth-port"), knowledge.cell_port.to_string()),
    ]
}
