//! Our login at the cell: choose, connect, tell it the client's address, TLS, log in. Ends with a connection that belongs
//! to the user.

use std::{sync::Arc, time::Duration};

use guichet_auth::Identity;
use guichet_config::{CellId, CellMail, CellMailTls, CellTls, ClientAddress, Endpoint, MailLogin, MailProtocol};
use guichet_proto::{
    InputBuf, SecretText,
    cell::{CellAccount, CellFailure, CellMechanism, CellStep, EnterCell, Xclient},
    imap, pop3, proxy_header, sieve, smtp,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{driver::Visit, leg::Leg};
use crate::{
    cell::{Chosen, DialError, Service},
    listener::Peer,
    telemetry::chain,
    tls::{ClientTls, client, stream::TlsStream},
    zimbra::TokenError,
};

/// A connection of the cell, logged in as the user.
pub(super) struct OpenCell {
    pub(super) id: CellId,
    /// `host:port`.
    pub(super) endpoint: Arc<str>,
    pub(super) leg: Leg,
    /// What the cell said behind its welcome: it belongs to the client.
    pub(super) pending: Vec<u8>,
    /// Its capability list, when it gave one.
    pub(super) capability: Option<String>,
}

/// Why the cell is not open.
#[derive(Debug)]
pub(super) struct Failure {
    /// For the metric.
    pub(super) reason: &'static str,
    /// For the log.
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    fn password_needed() -> Self {
        Self::new(PASSWORD_NEEDED, "the cell opens to the user's password only, and the user gave none")
    }

    /// Whether another endpoint may do better: nothing of the user was judged yet.
    fn elsewhere(&self) -> bool {
        !matches!(self.reason, "refused")
    }

    /// Whether the endpoint is to blame, and may leave the rotation for it.
    pub(super) fn of_endpoint(&self) -> bool {
        matches!(self.reason, "connect" | "deadline")
    }

    /// Whether the cell itself turned the user away, which it may do because the mailbox is not there any more.
    pub(super) fn by_cell(&self) -> bool {
        matches!(self.reason, "temporary" | "elsewhere" | "refused" | "bye" | "token_refused" | "token_held")
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<CellFailure> for Failure {
    fn from(failure: CellFailure) -> Self {
        let reason = match &failure {
            CellFailure::Temporary => "temporary",
            CellFailure::Elsewhere => "elsewhere",
            CellFailure::Refused => "refused",
            CellFailure::Bye => "bye",
            _ => "protocol",
        };
        Self::new(reason, chain(&failure))
    }
}

/// Opens the user's cell. Without a password only some cells open.
pub(super) async fn open(
    visit: &Visit,
    identity: &Identity,
    id: &CellId,
    password: Option<&SecretText>,
    helo: Option<&str>,
) -> Result<OpenCell, Failure> {
    let protocol = visit.offer.protocol;
    let config = visit.snapshot.config.cells.get(id).and_then(|cell| cell.mail.get(&protocol));
    let mail =
        config.ok_or_else(|| Failure::new("no_endpoint", format!("the cell does not speak {}", protocol.title())))?;
    if !matches!(mail.login, MailLogin::ZimbraToken) {
        return at_endpoints(visit, id, mail, &account(identity, mail, password)?, helo).await;
    }
    let (app, user, began) = (&visit.app, &identity.address, Instant::now());
    loop {
        let token = app.tokens.of(app, &visit.snapshot, id, user).await?;
        match at_endpoints(visit, id, mail, &account(identity, mail, Some(&token.secret))?, helo).await {
            Err(failure) if failure.reason == "refused" => {
                // It may have ended before its time. One that was given just now did not.
                app.tokens.forget(id, user, &token).await;
                if token.asked >= began {
                    return Err(failure);
                }
            }
            opened => return opened,
        }
    }
}

/// Logs in at an endpoint of the cell; when one cannot, one other is tried.
async fn at_endpoints(
    visit: &Visit,
    id: &CellId,
    mail: &CellMail,
    account: &CellAccount,
    helo: Option<&str>,
) -> Result<OpenCell, Failure> {
    let service = Service::Mail(visit.offer.protocol);
    let cells = &visit.app.cells;
    let mut last: Option<(Endpoint, Failure)> = None;
    for _ in 0..ENDPOINTS_MAX {
        let before = last.as_ref().map(|(endpoint, _)| endpoint);
        let Some(chosen) = cells.choose_other(id, service, before).await else { break };
        let failure = match timeout(OPEN_TIMEOUT, enter(visit, mail, &chosen, account.clone(), helo)).await {
            Ok(Ok((leg, pending, capability))) => {
                cells.on_success(id, service, &chosen.endpoint);
                return Ok(OpenCell { id: id.clone(), endpoint: chosen.label, leg, pending, capability });
            }
            Ok(Err(failure)) => {
                if failure.of_endpoint() {
                    cells.on_failure(id, service, &chosen.endpoint, &failure.detail);
                }
                if !failure.elsewhere() {
                    return Err(failure);
                }
                failure
            }
            Err(_) => {
                cells.on_failure(id, service, &chosen.endpoint, "no login in time");
                Failure::new("deadline", "no login in time")
            }
        };
        // What an endpoint said of the user counts more than that another does not answer.
        let said = last.map(|(_, failure)| failure).filter(Failure::by_cell);
        last = Some((chosen.endpoint, said.unwrap_or(failure)));
    }
    Err(match last {
        Some((_, failure)) => failure,
        None if cells.drained(id, service) => Failure::new("drained", "an operator drains it"),
        None => Failure::new("no_endpoint", "no endpoint is in rotation"),
    })
}

type Entered = (Leg, Vec<u8>, Option<String>);

async fn enter(
    visit: &Visit,
    mail: &CellMail,
    chosen: &Chosen,
    account: CellAccount,
    helo: Option<&str>,
) -> Result<Entered, Failure> {
    let mut stream = connect(chosen).await?;
    if mail.client_address == ClientAddress::ProxyV2 {
        announce(&mut stream, &visit.peer).await?;
    }
    let starttls = matches!(mail.tls, CellMailTls::StartTls(_));
    let xclient = || Xclient { client: visit.peer.client, session: visit.name.clone(), ttl: XCLIENT_TTL };
    match visit.offer.protocol {
        MailProtocol::Imap => {
            let profile = imap::CellProfile { starttls, id_fields: id_fields(visit, mail), account };
            through(visit, mail, chosen, stream, imap::CellLogin::new(profile)).await
        }
        MailProtocol::Pop3 => {
            let introduction = match mail.client_address {
                ClientAddress::Xclient => Some(pop3::Introduction::Xclient(xclient())),
                ClientAddress::Xoip => Some(pop3::Introduction::Xoip(visit.peer.client.ip())),
                ClientAddress::None | ClientAddress::Id | ClientAddress::ProxyV2 => None,
            };
            let profile = pop3::CellProfile { starttls, introduction, account };
            through(visit, mail, chosen, stream, pop3::CellLogin::new(profile)).await
        }
        MailProtocol::Sieve => {
            let xclient = (mail.client_address == ClientAddress::Xclient).then(xclient);
            let profile = sieve::CellProfile { starttls, xclient, account };
            through(visit, mail, chosen, stream, sieve::CellLogin::new(profile)).await
        }
        MailProtocol::Submission => {
            let client = (mail.client_address == ClientAddress::Xclient).then(|| smtp::ClientFacts {
                address: visit.peer.client,
                helo: helo.map(str::to_owned),
                login: None,
            });
            let CellAccount { username, secret: password, authzid, .. } = account;
            let hostname = visit.snapshot.config.public.hostname.as_str().to_owned();
            let profile = smtp::CellProfile { starttls, hostname, client, username, password, authzid };
            through(visit, mail, chosen, stream, smtp::CellLogin::new(profile)).await
        }
    }
}

/// TLS as the cell wants it, and the login.
async fn through<L: EnterCell>(
    visit: &Visit,
    mail: &CellMail,
    chosen: &Chosen,
    mut stream: TcpStream,
    login: L,
) -> Result<Entered, Failure> {
    let client_tls = &visit.snapshot.client_tls;
    let mut input = InputBuf::new();
    match &mail.tls {
        CellMailTls::Plain => {
            let Talked::Ready(capability) = talk(&mut stream, login, None, &mut input).await? else {
                return Err(Failure::new("protocol", "TLS was not asked for"));
            };
            Ok((Leg::plain(stream), input.as_slice().to_vec(), capability))
        }
        CellMailTls::Implicit(tls) => {
            let stream = start_tls(client_tls, tls, &chosen.endpoint, stream).await?;
            over_tls(stream, login, None, input).await
        }
        CellMailTls::StartTls(tls) => {
            let Talked::Upgrade(login) = talk(&mut stream, login, None, &mut input).await? else {
                return Err(Failure::new("protocol", "STARTTLS did not come first"));
            };
            let stream = start_tls(client_tls, tls, &chosen.endpoint, stream).await?;
            match login.after_starttls() {
                CellStep::Send { next, bytes } => over_tls(stream, next, Some(bytes.to_vec()), InputBuf::new()).await,
                CellStep::Failed(failure) => Err(failure.into()),
                CellStep::Upgrade { .. } | CellStep::Ready { .. } => {
                    Err(Failure::new("protocol", "no login followed STARTTLS"))
                }
            }
        }
    }
}

async fn over_tls<L: EnterCell>(
    mut stream: TlsStream,
    login: L,
    opening: Option<Vec<u8>>,
    mut input: InputBuf,
) -> Result<Entered, Failure> {
    let Talked::Ready(capability) = talk(&mut stream, login, opening, &mut input).await? else {
        return Err(Failure::new("protocol", "TLS is up already"));
    };
    Ok((Leg::tls(stream), input.as_slice().to_vec(), capability))
}

/// The client's address, before anything.
pub(super) async fn announce(stream: &mut TcpStream, peer: &Peer) -> Result<(), Failure> {
    let header = proxy_header::write_v2(peer.client, peer.local);
    stream.write_all(&header).await.map_err(|e| Failure::new("connect", e.to_string()))
}

pub(super) async fn connect(chosen: &Chosen) -> Result<TcpStream, Failure> {
    let address = chosen.address;
    match timeout(CONNECT_TIMEOUT, chosen.connect()).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error @ DialError::NoSource)) => Err(Failure::new("no_source", error.to_string())),
        Ok(Err(error)) => Err(Failure::new("connect", format!("no connection to {address}: {error}"))),
        Err(_) => Err(Failure::new("connect", format!("no connection to {address} in time"))),
    }
}

pub(super) async fn start_tls(
    client_tls: &ClientTls,
    tls: &CellTls,
    endpoint: &Endpoint,
    stream: TcpStream,
) -> Result<TlsStream, Failure> {
    let config = client_tls.of(tls).ok_or_else(|| Failure::new("connect", "no TLS roots are loaded"))?;
    let name = client::server_name(tls, endpoint).map_err(|e| Failure::new("connect", e))?;
    let connected = TlsStream::connect(stream, config, name).await;
    connected.map_err(|error| Failure::new("connect", format!("TLS with the cell: {}", chain(&error))))
}

/// Who we are to the cell. `secret`: the user's password, or the token that stands for it.
fn account(identity: &Identity, mail: &CellMail, secret: Option<&SecretText>) -> Result<CellAccount, Failure> {
    let user = identity.address.to_string();
    let given = || secret.cloned().ok_or_else(Failure::password_needed);
    let (mechanism, username, secret, authzid) = match &mail.login {
        MailLogin::Password => (CellMechanism::Plain, user, given()?, None),
        MailLogin::Master { username, password } => {
            let secret = SecretText::new(password.expose().clone());
            (CellMechanism::Plain, username.clone(), secret, Some(user))
        }
        MailLogin::ZimbraToken => (CellMechanism::ZimbraToken, user, given()?, None),
    };
    Ok(CellAccount { mechanism, username, secret, authzid })
}

fn id_fields(visit: &Visit, mail: &CellMail) -> Vec<(String, String)> {
    if mail.client_address != ClientAddress::Id {
        return Vec::new();
    }
    let peer = &visit.peer;
    let field = |key: &str, value: String| (key.to_owned(), value);
    vec![
        field("x-originating-ip", peer.client.ip().to_string()),
        field("x-originating-port", peer.client.port().to_string()),
        field("x-connected-ip", peer.local.ip().to_string()),
        field("x-session-id", visit.name.clone()),
    ]
}

enum Talked<L> {
    Upgrade(L),
    Ready(Option<String>),
}

/// Drives our login until TLS is wanted or it is through.
async fn talk<S, L>(
    stream: &mut S,
    login: L,
    opening: Option<Vec<u8>>,
    input: &mut InputBuf,
) -> Result<Talked<L>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
    L: EnterCell,
{
    let broken = |error: std::io::Error| Failure::new("connect", format!("the connection broke: {error}"));
    if let Some(bytes) = opening {
        let bytes = zeroize::Zeroizing::new(bytes);
        stream.write_all(&bytes).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
    }
    let mut login = login;
    let mut chunk = [0; READ_BYTES];
    loop {
        let room = chunk.get_mut(..input.room().min(READ_BYTES)).unwrap_or_default();
        let read = stream.read(room).await.map_err(broken)?;
        if read == 0 {
            return Err(Failure::new("connect", "the cell closed the connection"));
        }
        input.extend(chunk.get(..read).unwrap_or_default());
        login = match login.on_bytes(input) {
            CellStep::Send { next, bytes } => {
                stream.write_all(&bytes).await.map_err(broken)?;
                stream.flush().await.map_err(broken)?;
                next
            }
            CellStep::Upgrade { next } => return Ok(Talked::Upgrade(next)),
            CellStep::Ready { capability } => return Ok(Talked::Ready(capability)),
            CellStep::Failed(failure) => return Err(failure.into()),
        };
    }
}

/// A reason: the user came by a certificate or a token.
pub(super) const PASSWORD_NEEDED: &str = "password_needed";
/// The one chosen and one other.
const ENDPOINTS_MAX: usize = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Connect, TLS and login at one endpoint.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 4096;
/// We, and a proxy or two of the cell's own.
const XCLIENT_TTL: u8 = 4;
