//! Each request's way: our own pages, a login, or the user's cell.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use guichet_auth::{Identity, UnavailableReason};
use guichet_config::{Cell, CellTls, CellWeb, WebEntry};
use http::{Method, StatusCode, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    connectors::http::v1::Connector,
    http::{RequestHeader, ResponseHeader},
    protocols::l4::socket::SocketAddr as PeerAddress,
    proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session},
    upstreams::peer::HttpPeer,
    utils::tls::WrappedX509,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    event::RequestEnded,
    header as fields,
    identity::{self, Sender},
    lang::Lang,
    login,
    page::{Answer, wants_html},
    target, token,
};
use crate::{
    app::{App, Snapshot},
    cell::{Chosen, Service},
    placement::Placed,
    telemetry::{
        METRICS,
        event::{CellLoginFailed, LoginHeld},
    },
    zimbra::Token,
};

/// The gateway's behaviour inside the engine.
pub(crate) struct Web {
    app: Weak<App>,
    /// Roots of cells by file, read once per reload.
    roots: Mutex<RootsByFile>,
    /// Makes the connections of tunnels; the engine has its own.
    pub(super) connector: Connector,
    tokens: token::Tokens,
}

type Roots = Arc<[WrappedX509]>;
type RootsByFile = (u64, HashMap<PathBuf, Roots>);

/// What is known of one request.
pub(crate) struct Ctx {
    app: Option<(Arc<App>, Arc<Snapshot>)>,
    started: Instant,
    route: Option<Route>,
    renewed: Option<String>,
    body_bytes: u64,
    tries: u8,
    error: Option<String>,
}

/// Where a request goes.
struct Route {
    identity: Identity,
    cell: Arc<Cell>,
    chosen: Chosen,
    /// What opens a Zimbra cell.
    token: Option<Arc<Token>>,
    /// First use of `chosen` is still to come.
    fresh: bool,
}

impl Web {
    /// The app owns the engine that owns this.
    pub(crate) fn new(app: Weak<App>) -> Self {
        Self { app, roots: Mutex::default(), connector: Connector::new(None), tokens: token::Tokens::new() }
    }

    /// Decides a request; an answer when it is ours to give.
    async fn decide(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Option<Answer>> {
        let Some((app, snapshot)) = ctx.app.clone() else {
            return Ok(Some(Answer::text(StatusCode::SERVICE_UNAVAILABLE, "The service is stopping.")));
        };
        let head = session.req_header();
        let page = |make: fn(Lang, bool) -> Answer| Ok(Some(make(lang_of(head), wants_html(&head.headers))));
        if !is_our_host(head, &snapshot.config.public.hostname) {
            return page(login::view::misdirected);
        }
        if head.method == Method::TRACE || head.method == Method::CONNECT {
            return Ok(Some(Answer::text(StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed.")));
        }
        let Some(client) = client_of(session) else {
            return Ok(Some(Answer::text(StatusCode::BAD_REQUEST, "No client address.")));
        };
        if login::is_own(head.uri.path()) {
            return login::answer(session, client, &app, &snapshot).await.map(Some);
        }
        let declared = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: u64| length > snapshot.config.limits.body_bytes_max) {
            return page(login::view::too_large);
        }
        let html = || wants_html(&head.headers);
        let (identity, renewed) = match identity::sender(&head.headers, client, &app, &snapshot).await {
            Sender::Known { identity, renewed } => (identity, renewed),
            Sender::Unknown if html() && matches!(head.method, Method::GET | Method::HEAD) => {
                let wanted = head.uri.path_and_query().map_or(target::HOME, |path| path.as_str());
                let next = target::encode(target::safe(wanted));
                return Ok(Some(Answer::found(format!("/login?next={next}"))));
            }
            // A form sent after the session's end: its content is lost, the way back is not.
            Sender::Unknown if html() => return Ok(Some(Answer::see_other("/login"))),
            Sender::Unknown if is_script(&head.headers) => return Ok(Some(unauthorised("Session realm=\"Mail\""))),
            Sender::Unknown | Sender::Denied => {
                return Ok(Some(unauthorised("Basic realm=\"Mail\", charset=\"UTF-8\"")));
            }
            Sender::Unavailable(reason) => return Ok(Some(unavailable(reason))),
        };
        let cell = match app.place(&identity, &snapshot.config) {
            Placed::Cell(id) => snapshot.config.cells.get(&id),
            Placed::Nowhere => None,
            Placed::Held(_) => {
                LoginHeld { session: "", identity: &identity, result: "web", waited: Duration::ZERO }.emit();
                ctx.error = Some("the user is being moved".to_owned());
                return page(login::view::held);
            }
        };
        let Some(cell) = cell.filter(|cell| cell.web.is_some()).cloned() else {
            ctx.error = Some("the user's cell has no web side".to_owned());
            return page(login::view::no_cell);
        };
        let Some(chosen) = app.cells.choose(&cell.id, Service::Web).await else {
            ctx.error = Some("no healthy endpoint".to_owned());
            return page(login::view::no_cell);
        };
        let token = match cell.web.as_ref().map(|web| &web.entry) {
            Some(WebEntry::ZimbraPreauth) => {
                match app.tokens.of(&app, &snapshot, &cell.id, &identity.address).await {
                    Ok(token) => Some(token),
                    Err(error) => {
                        let (reason, detail) = (error.reason(), &error.to_string());
                        CellLoginFailed { session: "", identity: &identity, cell: &cell.id, reason, detail }.emit();
                        ctx.error = Some(error.to_string());
                        return page(login::view::no_cell);
                    }
                }
            }
            _ => None,
        };
        ctx.renewed = renewed;
        ctx.route = Some(Route { identity, cell, chosen, token, fresh: true });
        if session.is_upgrade_req() {
            // A WebSocket may be silent for as long as it likes.
            session.set_read_timeout(None);
        }
        Ok(None)
    }

    fn peer(&self, route: &Route, path: &str, upgrade: bool, generation: u64) -> Result<HttpPeer> {
        let tls = route.cell.web.as_ref().and_then(|web| web.tls.as_ref());
        let name = match tls {
            Some(CellTls { name: Some(name), .. }) => name.clone(),
            Some(_) => route.chosen.endpoint.host.clone(),
            None => String::new(),
        };
        let mut peer = HttpPeer::new(route.chosen.address, tls.is_some(), name);
        // Connections of one cell are never used for another, even at the same address.
        peer.group_key = fnv(route.cell.id.as_str());
        let options = &mut peer.options;
        options.bind_to = route.chosen.bind_to();
        options.connection_timeout = Some(CONNECT);
        options.total_connection_timeout = Some(CONNECT + Duration::from_secs(2));
        options.write_timeout = Some(Duration::from_secs(60));
        options.idle_timeout = Some(CELL_IDLE);
        options.read_timeout = (!upgrade && !is_long_poll(path)).then_some(CELL_READ);
        if let Some(file) = tls.and_then(|tls| tls.ca.as_ref()) {
            options.ca = Some(self.roots(file, generation)?);
        }
        Ok(peer)
    }

    fn roots(&self, file: &PathBuf, generation: u64) -> Result<Roots> {
        let mut cache = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.0 != generation {
            *cache = (generation, HashMap::new());
        }
        if let Some(roots) = cache.1.get(file) {
            return Ok(Arc::clone(roots));
        }
        let unusable = |what: String| Error::explain(ErrorType::InvalidCert, what);
        let ders = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable(error.to_string()))?;
        let mut roots = Vec::new();
        for der in ders {
            // The engine's own parser panics on what is no certificate.
            x509_parser::parse_x509_certificate(&der).map_err(|error| unusable(error.to_string()))?;
            roots.push(wrapped(der.to_vec()));
        }
        let roots: Roots = roots.into();
        cache.1.insert(file.clone(), Arc::clone(&roots));
        Ok(roots)
    }
}

fn wrapped(der: Vec<u8>) -> WrappedX509 {
    WrappedX509::new(der, pingora::utils::tls::parse_x509)
}

#[async_trait]
impl ProxyHttp for Web {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        METRICS.http_requests_open.inc();
        let app = self.app.upgrade().map(|app| {
            let snapshot = app.snapshot.load_full();
            (app, snapshot)
        });
        Ctx { app, started: Instant::now(), route: None, renewed: None, body_bytes: 0, tries: 0, error: None }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        match self.decide(session, ctx).await? {
            Some(answer) => {
                answer.send(session).await?;
                Ok(true)
            }
            None if session.is_upgrade_req() && session.as_downstream_mut().is_body_empty() => {
                self.tunnel(session, ctx).await?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let (Some((app, snapshot)), Some(route)) = (&ctx.app, &mut ctx.route) else {
            return Err(Error::explain(ErrorType::InternalError, "no route"));
        };
        if !std::mem::take(&mut route.fresh) {
            let (cell, failed) = (&route.cell.id, &route.chosen.endpoint);
            let chosen = match app.cells.choose_other(cell, Service::Web, Some(failed)).await {
                Some(other) => Some(other),
                None => app.cells.choose(cell, Service::Web).await,
            };
            route.chosen = chosen.ok_or_else(|| Error::explain(ErrorType::HTTPStatus(503), "no healthy endpoint"))?;
        }
        let path = session.req_header().uri.path();
        self.peer(route, path, session.is_upgrade_req(), snapshot.generation).map(Box::new)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let (Some((app, snapshot)), Some(route)) = (&ctx.app, &ctx.route) else {
            return Err(Error::explain(ErrorType::InternalError, "no route"));
        };
        let Some(client) = client_of(session) else {
            return Err(Error::explain(ErrorType::InternalError, "no client address"));
        };
        let (generation, now) = (snapshot.generation, app.clock.now());
        let word = match (&route.cell.web, &route.token) {
            (Some(CellWeb { entry: WebEntry::IdentityHeaders { key }, .. }), _) => {
                let token = self.tokens.of(&route.identity, &route.cell.id, key.expose(), generation, now);
                token.map(|token| fields::Word::Signed { user: route.identity.address.as_str(), token })
            }
            (_, Some(token)) => Some(fields::Word::Zimbra(token.secret.expose())),
            _ => None,
        };
        let Some(word) = word else {
            return Err(Error::explain(ErrorType::InternalError, "no word on the user"));
        };
        let origin = &snapshot.config.public.origin;
        let told = fields::Told {
            client: client.ip(),
            host: origin.strip_prefix("https://").unwrap_or(origin),
            word,
        };
        fields::clean_request(head, &told, session.is_upgrade_req());
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if session.was_upgraded() {
            return Ok(());
        }
        ctx.body_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
        let max = ctx.app.as_ref().map_or(0, |(_, snapshot)| snapshot.config.limits.body_bytes_max);
        if ctx.body_bytes > max {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "the body is over the limit"));
        }
        Ok(())
    }

    async fn response_filter(&self, _session: &mut Session, head: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        let entered = ctx.route.as_ref().and_then(|route| Some((route, route.token.as_ref()?)));
        if let (Some((route, token)), Some((app, _))) = (entered, &ctx.app)
            && fields::ends_token(head)
        {
            app.tokens.forget(&route.cell.id, &route.identity.address, token).await;
        }
        fields::clean_response(head, head.status == StatusCode::SWITCHING_PROTOCOLS, entered.is_some());
        if let Some(set_cookie) = ctx.renewed.take() {
            head.append_header(header::SET_COOKIE, set_cookie)?;
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.tries += 1;
        // Nothing was sent: another endpoint may take it, whatever the method.
        let mut retry = ctx.tries < 2;
        if let (Some((app, _)), Some(route)) = (&ctx.app, &ctx.route) {
            if *error.etype() == ErrorType::InternalError {
                // The engine's word for a source address without a port: our own lack, not the endpoint's.
                retry = route.chosen.source_exhausted(ctx.tries.into());
            } else {
                app.cells.on_failure(&route.cell.id, Service::Web, &route.chosen.endpoint, error.etype().as_str());
            }
        }
        error.set_retry(retry);
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        ctx.tries += 1;
        let downstream = session.as_ref();
        let replayable = is_repeatable(&downstream.req_header().method)
            && !downstream.retry_buffer_truncated()
            && downstream.response_written().is_none();
        // A cell that takes a connection and drops it has failed as much as one that takes none. On a reused connection
        // it only closed what was idle.
        let dropped = !reused && is_dropped(&error);
        if let (true, Some((app, _)), Some(route)) = (dropped, &ctx.app, &ctx.route) {
            app.cells.on_failure(&route.cell.id, Service::Web, &route.chosen.endpoint, error.etype().as_str());
        }
        error.retry.decide_reuse(reused);
        let again = ctx.tries < 2 && replayable && (dropped || error.retry());
        error.set_retry(again);
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        let mut status = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(status), _) => *status,
            (
                ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
                ErrorSource::Upstream,
            ) => 504,
            (_, ErrorSource::Upstream) => 502,
            (ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed, ErrorSource::Downstream) => 0,
            (_, ErrorSource::Downstream) => 400,
            _ => 500,
        };
        // Nothing reached the cell: to the user the cell is away, not broken.
        if status == 502 && is_connect_failure(error.etype())
            || status == 504 && *error.etype() == ErrorType::ConnectTimedout
        {
            status = 503;
        }
        ctx.error = Some(error.to_string());
        if status > 0 && session.response_written().is_none() {
            let lang = lang_of(session.req_header());
            let html = wants_html(&session.req_header().headers);
            let answer = login::view::failure(status, lang, html);
            session.set_keepalive(None);
            if answer.send(session).await.is_err() {
                status = 0;
            }
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        // `logging` says it, once and in our words.
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Ctx, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        let status = session.response_written().map_or(0, |head| head.status.as_u16());
        RequestEnded {
            client: client_of(session).map(|client| client.ip()),
            version: if session.as_downstream().is_http2() { "2" } else { "1.1" },
            method: session.req_header().method.as_str(),
            cell: ctx.route.as_ref().map(|route| &route.cell.id),
            status,
            took: ctx.started.elapsed(),
            error: ctx.error.take().or_else(|| error.map(ToString::to_string)),
        }
        .emit();
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        METRICS.http_requests_open.dec();
    }
}

/// The client's address, from the connection (and its PROXY header), never from a field.
fn client_of(session: &Session) -> Option<SocketAddr> {
    match session.as_downstream().client_addr() {
        Some(PeerAddress::Inet(address)) => Some(*address),
        _ => None,
    }
}

/// The language of the pages for a request.
pub(crate) fn lang_of(head: &RequestHeader) -> Lang {
    let query = super::form::Form::parse(head.uri.query().unwrap_or_default().as_bytes());
    if let Some(lang) = Lang::named(query.field("lang")).filter(|_| login::is_own(head.uri.path())) {
        return lang;
    }
    let cookies = head.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes());
    let remembered = super::cookie::pairs(cookies).find(|(name, _)| *name == super::cookie::LANG);
    remembered.and_then(|(_, value)| Lang::named(value)).unwrap_or_else(|| {
        let field = head.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Lang::accepted(field.unwrap_or_default())
    })
}

/// Whether the request names our host (any port), in every place it names one.
fn is_our_host(head: &RequestHeader, hostname: &str) -> bool {
    let host = head.headers.get(header::HOST).map(|value| value.to_str().unwrap_or_default());
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let named = |text: &str| {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((name, rest)) => (name, rest.strip_prefix(':').or(rest.is_empty().then_some(""))),
                None => return false,
            },
            None => text.split_once(':').map_or((text, Some("")), |(name, port)| (name, Some(port))),
        };
        name.eq_ignore_ascii_case(hostname) && port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    (host.is_some() || authority.is_some()) && host.is_none_or(named) && authority.is_none_or(named)
}

/// Requests that a cell may leave unanswered for long (push, Autodiscover aside).
fn is_long_poll(path: &str) -> bool {
    LONG_POLL.iter().any(|start| path.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start)))
}

/// Methods that may be sent twice (RFC 9110 §9.2.2; RFC 4918, 3253, 5323: these only read).
fn is_repeatable(method: &Method) -> bool {
    method.is_idempotent() || matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH")
}

/// Whether the cell ended the connection, rather than being slow or answering what is none.
fn is_dropped(error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream
        && matches!(error.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError)
}

fn is_connect_failure(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert
    )
}

/// Whether a page's script asks: a Basic challenge would open the browser's own password window over our page.
fn is_script(headers: &http::HeaderMap) -> bool {
    headers.contains_key("sec-fetch-mode") || headers.contains_key("x-requested-with")
}

fn unauthorised(challenge: &str) -> Answer {
    let said = "Please log in with your address and password.";
    Answer::text(StatusCode::UNAUTHORIZED, said).with("www-authenticate", challenge)
}

/// Never 401: a mail or calendar program would throw a good password away.
fn unavailable(reason: UnavailableReason) -> Answer {
    let status = match reason {
        UnavailableReason::Throttled => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Answer::text(status, "Please try again later.").with_retry_after()
}

/// FNV-1a: names to pool keys.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

const CONNECT: Duration = Duration::from_secs(3);
/// Below what back ends keep (Jetty: 30 s), so that a request rarely meets a connection just closed.
const CELL_IDLE: Duration = Duration::from_secs(20);
const CELL_READ: Duration = Duration::from_secs(300);
const LONG_POLL: [&str; 4] = ["/microsoft-server-activesync", "/mapi/", "/ews/", "/service/soap/waitset"];

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &[u8], host: Option<&str>) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target, None).unwrap();
        if let Some(host) = host {
            head.insert_header("host", host).unwrap();
        }
        head
    }

    #[test]
    fn only_our_own_name_is_our_host() {
        for host in ["mail.example", "MAIL.example", "mail.example:8443", "mail.example:"] {
            assert!(is_our_host(&request(b"/", Some(host)), "mail.example"), "{host}");
        }
        for host in
            ["", "evil.example", "mail.example.evil", "mail.example@evil", "mail.example:8443@evil", "[mail.example"]
        {
            assert!(!is_our_host(&request(b"/", Some(host)), "mail.example"), "{host}");
        }
        assert!(!is_our_host(&request(b"/", None), "mail.example"));
    }

    #[test]
    fn push_connections_may_be_silent() {
        assert!(is_long_poll("/Microsoft-Server-ActiveSync?Cmd=Ping"));
        assert!(!is_long_poll("/mail"));
        assert!(!is_long_poll("/m\u{e9}"));
    }

    #[test]
    fn reading_methods_may_be_sent_twice_and_writing_ones_not() {
        for method in ["GET", "PROPFIND", "REPORT", "PUT"] {
            assert!(is_repeatable(&Method::from_bytes(method.as_bytes()).unwrap()), "{method}");
        }
        for method in ["POST", "MKCALENDAR", "LOCK", "PATCH"] {
            assert!(!is_repeatable(&Method::from_bytes(method.as_bytes()).unwrap()), "{method}");
        }
    }
}
