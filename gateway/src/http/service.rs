//! Each request's way: our own pages, a login, or the user's cell.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use guichet_auth::{Identity, UnavailableReason, assurance::Assurance};
use guichet_config::{Cell, CellId, CellTls, CellWeb, Host, WebEntry};
use http::{Method, StatusCode, header};
use pingora::{
    Error, ErrorType, Result,
    apps::HttpServerOptions,
    connectors::TransportConnector,
    http::{RequestHeader, ResponseHeader},
    protocols::{Stream, l4::socket::SocketAddr as PeerAddress},
    upstreams::peer::HttpPeer,
    utils::tls::WrappedX509,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    Session,
    event::RequestEnded,
    header::{Told, Word, ends_token},
    identity::{self, Sender},
    lang::Lang,
    login,
    page::{Answer, wants_html},
    pool::{Key, Pool},
    setup, step_up, target, token,
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
    connector: TransportConnector,
    /// Connections to cells that wait for a request.
    pub(super) pool: Pool,
    tokens: token::Tokens,
    pub(super) options: HttpServerOptions,
}

type Roots = Arc<[WrappedX509]>;
type RootsByFile = (u64, HashMap<PathBuf, Roots>);

/// What is known of one request.
pub(crate) struct Ctx {
    app: Option<(Arc<App>, Arc<Snapshot>)>,
    started: Instant,
    /// By which of our names it came.
    host: Option<Arc<Host>>,
    route: Option<Route>,
    /// The session's cookie, sealed again.
    pub(super) renewed: Option<String>,
    body_bytes: u64,
    /// Attempts that failed.
    pub(super) tries: u8,
    pub(super) error: Option<String>,
}

/// Where a request goes.
struct Route {
    identity: Identity,
    /// How a browser's user logged in at the IdP.
    assurance: Option<Assurance>,
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
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(H2_IDLE);
        Self {
            app,
            roots: Mutex::default(),
            connector: TransportConnector::new(None),
            pool: Pool::new(),
            tokens: token::Tokens::new(),
            options,
        }
    }

    /// Decides a request; an answer when it is ours to give.
    pub(super) async fn decide(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Option<Answer>> {
        let Some((app, snapshot)) = ctx.app.clone() else {
            return Ok(Some(Answer::text(StatusCode::SERVICE_UNAVAILABLE, "The service is stopping.")));
        };
        let head = session.req_header();
        let page = |head: &RequestHeader, make: fn(Lang, bool) -> Answer| {
            Ok(Some(make(lang_of(head), wants_html(&head.headers))))
        };
        let own = named_host(head).and_then(|name| snapshot.config.hosts.named(name)).cloned();
        // Asked before the host is refused: mail programs also come by names of the mail domains.
        let setup = setup::wanted(head, &snapshot.config, own.is_some());
        if own.is_none() && setup.is_none() {
            return page(head, login::view::misdirected);
        }
        let host = own.unwrap_or_else(|| Arc::clone(snapshot.config.hosts.public()));
        ctx.host = Some(Arc::clone(&host));
        if head.method == Method::TRACE || head.method == Method::CONNECT {
            return Ok(Some(Answer::text(StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed.")));
        }
        let Some(client) = client_of(session) else {
            return Ok(Some(Answer::text(StatusCode::BAD_REQUEST, "No client address.")));
        };
        if let Some(wanted) = setup {
            if let Some(answer) = setup::answer(session, wanted, &snapshot.config, &host).await {
                return Ok(Some(answer));
            }
        } else if login::is_own(head.uri.path()) {
            return login::answer(session, client, &app, &snapshot, &host).await.map(Some);
        }
        let head = session.req_header();
        let declared = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|length: u64| length > snapshot.config.limits.body_bytes_max) {
            return page(head, login::view::too_large);
        }
        let html = || wants_html(&head.headers);
        let (identity, known, renewed) = match identity::sender(&head.headers, client, &app, &snapshot).await {
            Sender::Known { identity, session, renewed } => (identity, session, renewed),
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
        if let Some(answer) = step_up::refuse(head, &identity, known.as_deref(), &app, &snapshot) {
            return Ok(Some(answer));
        }
        let assurance = known.and_then(|session| session.assurance);
        let cell = match app.place(&identity, &snapshot.config) {
            Placed::Cell(id) => snapshot.config.cells.get(&id),
            Placed::Nowhere => None,
            Placed::Held(_) => {
                LoginHeld { session: "", identity: &identity, result: "web", waited: Duration::ZERO }.emit();
                ctx.error = Some("the user is being moved".to_owned());
                return page(head, login::view::held);
            }
        };
        let Some(cell) = cell.filter(|cell| cell.web.is_some()).cloned() else {
            ctx.error = Some("the user's cell has no web side".to_owned());
            return page(head, login::view::no_cell);
        };
        let Some(chosen) = app.cells.choose(&cell.id, Service::Web).await else {
            ctx.error = Some("no healthy endpoint".to_owned());
            return page(head, login::view::no_cell);
        };
        let token = match cell.web.as_ref().map(|web| &web.entry) {
            Some(WebEntry::ZimbraPreauth) => match app.tokens.of(&app, &snapshot, &cell.id, &identity.address).await {
                Ok(token) => Some(token),
                Err(error) => {
                    let (reason, detail) = (error.reason(), &error.to_string());
                    CellLoginFailed { session: "", identity: &identity, cell: &cell.id, reason, detail }.emit();
                    ctx.error = Some(error.to_string());
                    return page(session.req_header(), login::view::no_cell);
                }
            },
            _ => None,
        };
        ctx.renewed = renewed;
        ctx.route = Some(Route { identity, assurance, cell, chosen, token, fresh: true });
        if session.is_upgrade_req() {
            // A WebSocket may be silent for as long as it likes.
            session.set_read_timeout(None);
        }
        Ok(None)
    }

    /// The endpoint for the next attempt: the one chosen with the route, then another.
    pub(super) async fn endpoint(&self, ctx: &mut Ctx) -> Result<Key> {
        let (Some((app, snapshot)), Some(route)) = (&ctx.app, &mut ctx.route) else { return Err(internal("no route")) };
        if !std::mem::take(&mut route.fresh) {
            let (cell, failed) = (&route.cell.id, &route.chosen.endpoint);
            let chosen = match app.cells.choose_other(cell, Service::Web, Some(failed)).await {
                Some(other) => Some(other),
                None => app.cells.choose(cell, Service::Web).await,
            };
            route.chosen = chosen.ok_or_else(|| Error::explain(ErrorType::HTTPStatus(503), "no healthy endpoint"))?;
        }
        let (cell, address) = (fnv(route.cell.id.as_str()), route.chosen.address);
        Ok(Key { cell, address, generation: snapshot.generation })
    }

    /// A new connection to the endpoint, TLS included where the cell has it.
    pub(super) async fn connect(&self, ctx: &Ctx) -> Result<Stream> {
        let (Some((_, snapshot)), Some(route)) = (&ctx.app, &ctx.route) else { return Err(internal("no route")) };
        let tls = route.cell.web.as_ref().and_then(|web| web.tls.as_ref());
        let name = match tls {
            Some(CellTls { name: Some(name), .. }) => name.clone(),
            Some(_) => route.chosen.endpoint.host.clone(),
            None => String::new(),
        };
        let mut peer = HttpPeer::new(route.chosen.address, tls.is_some(), name);
        peer.options.connection_timeout = Some(CONNECT);
        peer.options.total_connection_timeout = Some(CONNECT + Duration::from_secs(2));
        if let Some(file) = tls.and_then(|tls| tls.ca.as_ref()) {
            peer.options.ca = Some(self.roots(file, snapshot.generation)?);
        }
        for way in route.chosen.ways() {
            peer.options.bind_to = way;
            match self.connector.new_stream(&peer).await {
                // The engine's word for an address that has no port left.
                Err(error) if *error.etype() == ErrorType::InternalError => route.chosen.source_exhausted(),
                connected => return connected.map_err(Error::into_up),
            }
        }
        Err(Error::explain(ErrorType::HTTPStatus(503), "no source address has a port left"))
    }

    /// What the cell is told of a request.
    pub(super) fn told<'a>(&self, ctx: &'a Ctx, client: IpAddr) -> Result<Told<'a>> {
        let (Some((app, snapshot)), Some(route)) = (&ctx.app, &ctx.route) else { return Err(internal("no route")) };
        let (generation, now) = (snapshot.generation, app.clock.now());
        let word = match (&route.cell.web, &route.token) {
            (Some(CellWeb { entry: WebEntry::IdentityHeaders { key }, .. }), _) => {
                let who = (&route.identity, route.assurance.as_ref());
                let token = self.tokens.of(who, &route.cell.id, key.expose(), generation, now);
                token.map(|token| Word::Signed { user: route.identity.address.as_str(), token })
            }
            (_, Some(token)) => Some(Word::Zimbra(token.secret.expose())),
            _ => None,
        };
        let word = word.ok_or_else(|| internal("no word on the user"))?;
        let host = ctx.host.as_ref().ok_or_else(|| internal("no host"))?;
        Ok(Told { client, host: host.authority(), word })
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

impl Ctx {
    pub(super) fn new(web: &Web) -> Self {
        METRICS.http_requests_open.inc();
        let app = web.app.upgrade().map(|app| {
            let snapshot = app.snapshot.load_full();
            (app, snapshot)
        });
        Self {
            app,
            started: Instant::now(),
            host: None,
            route: None,
            renewed: None,
            body_bytes: 0,
            tries: 0,
            error: None,
        }
    }

    /// An endpoint failed an attempt, or we did: a status is ours.
    pub(super) fn failed(&mut self, error: &Error) {
        if let (Some((app, _)), Some(route)) = (&self.app, &self.route)
            && !matches!(error.etype(), ErrorType::HTTPStatus(_))
        {
            app.cells.on_failure(&route.cell.id, Service::Web, &route.chosen.endpoint, error.etype().as_str());
        }
        self.tries += 1;
    }

    /// Whose request it is, and where it went.
    pub(super) fn way(&self) -> Option<(&Arc<App>, &Identity, &CellId, &Arc<str>)> {
        let (app, _) = self.app.as_ref()?;
        let Route { identity, cell, chosen, .. } = self.route.as_ref()?;
        Some((app, identity, &cell.id, &chosen.label))
    }

    /// Whether the cell was entered by token.
    pub(super) fn by_token(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.token.is_some())
    }

    /// Hears what the cell says of the token it was entered with.
    pub(super) async fn hear(&self, head: &ResponseHeader) {
        let entered = self.route.as_ref().and_then(|route| Some((route, route.token.as_ref()?)));
        if let (Some((route, token)), Some((app, _))) = (entered, &self.app)
            && ends_token(head)
        {
            app.tokens.forget(&route.cell.id, &route.identity.address, token).await;
        }
    }

    /// How long the cell may be silent.
    pub(super) fn read_timeout(session: &Session) -> Option<Duration> {
        let silent = if is_long_poll(session.req_header().uri.path()) { CELL_LONG_POLL } else { CELL_READ };
        (!session.is_upgrade_req()).then_some(silent)
    }

    /// Counts a piece of the request's body.
    ///
    /// # Errors
    /// 413 beyond the limit.
    pub(super) fn count_body(&mut self, bytes: usize) -> Result<()> {
        self.body_bytes += bytes as u64;
        let max = self.app.as_ref().map_or(0, |(_, snapshot)| snapshot.config.limits.body_bytes_max);
        if self.body_bytes > max {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "the body is over the limit"));
        }
        Ok(())
    }

    /// Tells the log and the metrics.
    pub(super) fn ended(&mut self, session: &Session) {
        RequestEnded {
            client: client_of(session).map(|client| client.ip()),
            version: if session.is_http2() { "2" } else { "1.1" },
            method: session.req_header().method.as_str(),
            cell: self.route.as_ref().map(|route| &route.cell.id),
            status: session.response_written().map_or(0, |head| head.status.as_u16()),
            took: self.started.elapsed(),
            error: self.error.take(),
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
pub(super) fn client_of(session: &Session) -> Option<SocketAddr> {
    match session.client_addr() {
        Some(PeerAddress::Inet(address)) => Some(*address),
        _ => None,
    }
}

/// The language of the pages for a request.
pub(crate) fn lang_of(head: &RequestHeader) -> Lang {
    let query = super::form::Form::parse(head.uri.query().unwrap_or_default().as_bytes());
    if let Some(lang) = Lang::named(query.field("lang")).filter(|_| has_switch(head.uri.path())) {
        return lang;
    }
    let cookies = head.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes());
    let remembered = super::cookie::pairs(cookies).find(|(name, _)| *name == super::cookie::LANG);
    remembered.and_then(|(_, value)| Lang::named(value)).unwrap_or_else(|| {
        let field = head.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Lang::accepted(field.unwrap_or_default())
    })
}

/// Whether the pages of a path have the language switch.
fn has_switch(path: &str) -> bool {
    login::is_own(path) || path == setup::PAGE
}

/// The host that the request names (at any port); none when it names several.
pub(crate) fn named_host(head: &RequestHeader) -> Option<&str> {
    let host = head.headers.get(header::HOST).map(|value| host_of(value.to_str().unwrap_or_default()));
    let authority = head.uri.authority().map(|authority| host_of(authority.as_str()));
    match (host, authority) {
        (Some(host), Some(authority)) => host.filter(|host| authority.is_some_and(|a| a.eq_ignore_ascii_case(host))),
        (named, None) | (None, named) => named.flatten(),
    }
}

/// The host of `HOST` or `HOST:PORT`.
pub(super) fn host_of(text: &str) -> Option<&str> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']')?;
            (name, rest.strip_prefix(':').or(rest.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

/// Requests that a cell may leave unanswered for long (push, Autodiscover aside).
fn is_long_poll(path: &str) -> bool {
    LONG_POLL.iter().any(|start| path.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start)))
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

fn internal(what: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InternalError, what)
}

const CONNECT: Duration = Duration::from_secs(3);
/// An HTTP/2 connection without requests.
const H2_IDLE: Duration = Duration::from_secs(180);
const CELL_READ: Duration = Duration::from_secs(300);
/// The longest poll in use, Ping of Exchange ActiveSync, waits up to 59 minutes. Longer, and a user who was moved would be
/// at the old cell for ever.
const CELL_LONG_POLL: Duration = Duration::from_secs(65 * 60);
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

    fn is_our_host(head: &RequestHeader, hostname: &str) -> bool {
        named_host(head).is_some_and(|host| host.eq_ignore_ascii_case(hostname))
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
        for (authority, host, expected) in [
            ("mail.example", "mail.example:443", true),
            ("mail.example", "evil.example", false),
            ("evil.example", "mail.example", false),
            ("mail.example", "[mail.example", false),
        ] {
            let mut head = request(b"/", Some(host));
            head.set_uri(format!("https://{authority}/").parse().unwrap());
            assert_eq!(is_our_host(&head, "mail.example"), expected, "{authority} {host}");
        }
    }

    #[test]
    fn push_connections_may_be_silent() {
        assert!(is_long_poll("/Microsoft-Server-ActiveSync?Cmd=Ping"));
        assert!(!is_long_poll("/mail"));
        assert!(!is_long_poll("/m\u{e9}"));
    }
}
