//! Our login at the cell: choose, connect, tell it the client's address, TLS, log in. Ends with a connection that belongs
//! to the user.

use std::{net::SocketAddr, time::Duration};

use guichet_auth::Identity;
use guichet_config::{CellId, CellImap, CellMailTls, CellTls, ClientAddress, Endpoint, MailLogin};
use guichet_proto::{
    InputBuf, SecretText,
    cell::{CellAccount, CellFailure, CellMechanism, CellStep, EnterCell},
    imap::{CellLogin, CellProfile},
    proxy_header,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{driver::Visit, relay::Leg};
use crate::{
    cell::{Chosen, Service},
    telemetry::chain,
    tls::client,
};

/// A connection of the cell, logged in as the user.
pub(super) struct OpenCell {
    pub(super) id: CellId,
    pub(super) endpoint: Endpoint,
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
    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Whether another endpoint may do better: nothing of the user was judged yet.
    fn elsewhere(&self) -> bool {
        !matches!(self.reason, "refused")
    }
}

impl From<CellFailure> for Failure {
    fn from(failure: CellFailure) -> Self {
        let reason = match &failure {
            CellFailure::Temporary => "temporary",
            CellFailure::Refused => "refused",
            CellFailure::Bye => "bye",
            _ => "protocol",
        };
        Self::new(reason, chain(&failure))
    }
}

/// Opens the user's cell; when one endpoint cannot, one other is tried.
pub(super) async fn open(
    visit: &Visit,
    identity: &Identity,
    id: &CellId,
    password: &SecretText,
) -> Result<OpenCell, Failure> {
    let config = visit.snapshot.config.cells.get(id).and_then(|cell| cell.imap.as_ref());
    let imap = config.ok_or_else(|| Failure::new("no_endpoint", "the cell has no IMAP side"))?;
    let cells = &visit.app.cells;
    let mut last = None;
    for _ in 0..ENDPOINTS_MAX {
        let failed: Option<&(Endpoint, Failure)> = last.as_ref();
        let chosen = match cells.choose_other(id, Service::Imap, failed.map(|(endpoint, _)| endpoint)).await {
            Some(chosen) => chosen,
            None => break,
        };
        match timeout(OPEN_TIMEOUT, enter(visit, identity, imap, &chosen, password)).await {
            Ok(Ok((leg, pending, capability))) => {
                cells.on_success(id, Service::Imap, &chosen.endpoint);
                return Ok(OpenCell { id: id.clone(), endpoint: chosen.endpoint, leg, pending, capability });
            }
            Ok(Err(failure)) => {
                if failure.reason == "connect" {
                    cells.on_failure(id, Service::Imap, &chosen.endpoint, &failure.detail);
                }
                if !failure.elsewhere() {
                    return Err(failure);
                }
                last = Some((chosen.endpoint, failure));
            }
            Err(_) => {
                cells.on_failure(id, Service::Imap, &chosen.endpoint, "no login in time");
                last = Some((chosen.endpoint, Failure::new("deadline", "no login in time")));
            }
        }
    }
    Err(last.map_or_else(|| Failure::new("no_endpoint", "no endpoint is in rotation"), |(_, failure)| failure))
}

type Entered = (Leg, Vec<u8>, Option<String>);

async fn enter(
    visit: &Visit,
    identity: &Identity,
    imap: &CellImap,
    chosen: &Chosen,
    password: &SecretText,
) -> Result<Entered, Failure> {
    let mut stream = connect(chosen.address).await?;
    if imap.client_address == ClientAddress::ProxyV2 {
        let header = proxy_header::write_v2(visit.peer.client, visit.peer.local);
        stream.write_all(&header).await.map_err(|e| Failure::new("connect", e.to_string()))?;
    }
    let login = CellLogin::new(profile(visit, identity, imap, password));
    let mut input = InputBuf::new();
    match &imap.tls {
        CellMailTls::Plain => {
            let Talked::Ready(capability) = talk(&mut stream, login, None, &mut input).await? else {
                return Err(Failure::new("protocol", "TLS was not asked for"));
            };
            Ok((Leg::new(stream, None), input.as_slice().to_vec(), capability))
        }
        CellMailTls::Implicit(tls) => {
            let stream = start_tls(visit, tls, &chosen.endpoint, stream).await?;
            over_tls(stream, login, None, input).await
        }
        CellMailTls::StartTls(tls) => {
            let Talked::Upgrade(login) = talk(&mut stream, login, None, &mut input).await? else {
                return Err(Failure::new("protocol", "STARTTLS did not come first"));
            };
            let stream = start_tls(visit, tls, &chosen.endpoint, stream).await?;
            let CellStep::Send { next, bytes } = login.after_starttls() else {
                return Err(Failure::new("protocol", "nothing to say after STARTTLS"));
            };
            over_tls(stream, next, Some(bytes.to_vec()), InputBuf::new()).await
        }
    }
}

async fn over_tls(
    mut stream: TlsStream<TcpStream>,
    login: CellLogin,
    opening: Option<Vec<u8>>,
    mut input: InputBuf,
) -> Result<Entered, Failure> {
    let Talked::Ready(capability) = talk(&mut stream, login, opening, &mut input).await? else {
        return Err(Failure::new("protocol", "TLS is up already"));
    };
    let (tcp, tls) = stream.into_inner();
    Ok((Leg::new(tcp, Some(tls.into())), input.as_slice().to_vec(), capability))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(Failure::new("connect", format!("no connection to {address}: {error}"))),
        Err(_) => Err(Failure::new("connect", format!("no connection to {address} in time"))),
    }
}

async fn start_tls(
    visit: &Visit,
    tls: &CellTls,
    endpoint: &Endpoint,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Failure> {
    let config = visit.snapshot.client_tls.of(tls).ok_or_else(|| Failure::new("connect", "no TLS roots are loaded"))?;
    let name = client::server_name(tls, endpoint).map_err(|e| Failure::new("connect", e))?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map_err(|error| Failure::new("connect", format!("TLS with the cell: {}", chain(&error))))
}

fn profile(visit: &Visit, identity: &Identity, imap: &CellImap, password: &SecretText) -> CellProfile {
    let user = identity.address.to_string();
    let (username, secret, authzid) = match &imap.login {
        MailLogin::Password => (user, password.clone(), None),
        MailLogin::Master { username, password } => {
            (username.clone(), SecretText::new(password.expose().clone()), Some(user))
        }
    };
    let id_fields = match imap.client_address {
        ClientAddress::Id => {
            let peer = &visit.peer;
            let field = |key: &str, value: String| (key.to_owned(), value);
            vec![
                field("x-originating-ip", peer.client.ip().to_string()),
                field("x-originating-port", peer.client.port().to_string()),
                field("x-connected-ip", peer.local.ip().to_string()),
                field("x-session-id", visit.name.clone()),
            ]
        }
        ClientAddress::None | ClientAddress::ProxyV2 => Vec::new(),
    };
    let account = CellAccount { mechanism: CellMechanism::Plain, username, secret, authzid };
    CellProfile { starttls: matches!(imap.tls, CellMailTls::StartTls(_)), id_fields, account }
}

enum Talked {
    Upgrade(CellLogin),
    Ready(Option<String>),
}

/// Drives our login until TLS is wanted or it is through.
async fn talk<S>(
    stream: &mut S,
    login: CellLogin,
    opening: Option<Vec<u8>>,
    input: &mut InputBuf,
) -> Result<Talked, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
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

/// The one chosen and one other.
const ENDPOINTS_MAX: usize = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Connect, TLS and login at one endpoint.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 4096;
