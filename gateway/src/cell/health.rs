//! Checks of endpoints: connect, TLS where the cell has it, then the first words of the protocol.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use guichet_config::{
    CellMail, CellMailTls, CellRelay, CellTls, CellWeb, CellZimbra, ClientAddress, Health, MailProtocol,
};
use guichet_proto::proxy_header;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Cells, DialError, Learnt, Member, Sources};
use crate::tls::{ClientTls, client};

/// What a good endpoint does.
#[derive(Clone, Debug)]
pub(super) struct Check {
    tls: Option<(CellTls, Option<Arc<ClientConfig>>)>,
    proxy_header: bool,
    talk: Talk,
}

#[derive(Clone, Debug)]
enum Talk {
    /// Takes connections.
    Connect,
    /// Greets. Our name is for those that want one.
    Mail(MailProtocol, Arc<str>),
    /// Answers a GET below 500.
    Http { path: String },
}

impl Check {
    pub(super) fn web(web: &CellWeb, tls: &ClientTls) -> Self {
        let talk = web.health_path.clone().map_or(Talk::Connect, |path| Talk::Http { path });
        let tls = web.tls.as_ref().map(|one| (one.clone(), tls.of(one)));
        Self { tls, proxy_header: false, talk }
    }

    pub(super) fn mail(protocol: MailProtocol, mail: &CellMail, tls: &ClientTls, hostname: &str) -> Self {
        let tls = match &mail.tls {
            CellMailTls::Implicit(one) => Some((one.clone(), tls.of(one))),
            CellMailTls::Plain | CellMailTls::StartTls(_) => None,
        };
        Self {
            tls,
            proxy_header: mail.client_address == ClientAddress::ProxyV2,
            talk: Talk::Mail(protocol, hostname.into()),
        }
    }

    pub(super) fn zimbra(zimbra: &CellZimbra, tls: &ClientTls) -> Self {
        let tls = zimbra.tls.as_ref().map(|one| (one.clone(), tls.of(one)));
        Self { tls, proxy_header: false, talk: Talk::Connect }
    }

    pub(super) fn relay(relay: &CellRelay, tls: &ClientTls) -> Self {
        let tls = relay.tls.as_ref().map(|one| (one.clone(), tls.of(one)));
        Self { tls, proxy_header: relay.proxy_v2, talk: Talk::Connect }
    }
}

/// What is checked, and how.
pub(super) struct Target {
    pub(super) member: Arc<Member>,
    pub(super) sources: Arc<Sources>,
    pub(super) check: Check,
}

/// Checks one endpoint until the pool is replaced.
pub(super) async fn run(cells: Arc<Cells>, target: Target, health: Health, stop: CancellationToken) {
    let member = &target.member;
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return,
            result = timeout(health.timeout, once(&cells, &target)) => result,
        };
        match result {
            Ok(Ok(true)) => member.on_check_passed(),
            // Our own lack tells nothing of the endpoint.
            Ok(Ok(false)) => {}
            Ok(Err(error)) => member.on_failure(&error),
            Err(_) => member.on_failure("no answer in time"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(health.interval.max(INTERVAL_MIN)) => {}
        }
    }
}

/// Whether it is good; `false` when nobody can tell.
async fn once(cells: &Cells, target: &Target) -> Result<bool, String> {
    let Target { member, sources, check } = target;
    let address = cells.address(&member.endpoint).await?;
    let mut stream = match sources.dial(address).await {
        Ok(stream) => stream,
        Err(DialError::NoSource) => return Ok(false),
        Err(error) => return Err(format!("no connection: {error}")),
    };
    if check.proxy_header {
        let local = stream.local_addr().map_err(|e| e.to_string())?;
        stream.write_all(&proxy_header::write_v2(local, address)).await.map_err(|e| e.to_string())?;
    }
    match &check.tls {
        None => talk(stream, &check.talk, address, member).await?,
        Some((tls, config)) => {
            let config = config.clone().ok_or("its root certificates are not loaded")?;
            let name = client::server_name(tls, &member.endpoint)?;
            let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
            talk(stream, &check.talk, address, member).await?;
        }
    }
    Ok(true)
}

async fn talk<S>(mut stream: S, talk: &Talk, address: SocketAddr, member: &Member) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match talk {
        Talk::Connect => {}
        Talk::Mail(protocol, hostname) => {
            member.on_learnt(greeting(&mut stream, *protocol, hostname).await?);
        }
        Talk::Http { path } => {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: guichet-health\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
            let line = line(&mut stream, &mut Vec::new()).await?;
            let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
            match status.and_then(|digits| digits.parse::<u16>().ok()) {
                Some(status) if status < 500 => {}
                Some(status) => return Err(format!("it answers {status}")),
                None => return Err("it does not answer as an HTTP/1.1 server".to_owned()),
            }
        }
    }
    // Without close_notify a TLS server would log an error for each check.
    let _ = timeout(GOODBYE, stream.shutdown()).await;
    Ok(())
}

/// The first words of a server that takes logins, and what it says of itself. Leaves politely, so that the cell logs no
/// broken connection; whether it hears that is no matter.
async fn greeting<S>(stream: &mut S, protocol: MailProtocol, hostname: &str) -> Result<Learnt, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let other = || format!("it does not greet as a server of {} that takes logins", protocol.title());
    let mut read = Vec::new();
    let mut lines = Vec::new();
    match protocol {
        MailProtocol::Imap => {
            lines.push(line(stream, &mut read).await?);
            lines.first().filter(|line| starts(line, "* OK")).ok_or_else(other)?;
            let _ = stream.write_all(b"G0 LOGOUT\r\n").await;
        }
        MailProtocol::Submission => {
            // RFC 5321 §4.2.1: `-` behind the code of all lines of a reply but the last.
            for code in ["220", "250"] {
                if code == "250" {
                    let ehlo = format!("EHLO {hostname}\r\n");
                    stream.write_all(ehlo.as_bytes()).await.map_err(|e| e.to_string())?;
                    stream.flush().await.map_err(|e| e.to_string())?;
                }
                loop {
                    let next = line(stream, &mut read).await?;
                    if !starts(&next, code) || lines.len() >= LINES_MAX {
                        return Err(other());
                    }
                    let last = next.as_bytes().get(code.len()) != Some(&b'-');
                    lines.push(next);
                    if last {
                        break;
                    }
                }
            }
            let _ = stream.write_all(b"QUIT\r\n").await;
        }
        MailProtocol::Pop3 => {
            lines.push(line(stream, &mut read).await?);
            lines.first().filter(|line| starts(line, "+OK")).ok_or_else(other)?;
            stream.write_all(b"CAPA\r\n").await.map_err(|e| e.to_string())?;
            stream.flush().await.map_err(|e| e.to_string())?;
            // RFC 2449 §5: `-ERR`, or lines to one with a dot alone.
            while lines.len() < LINES_MAX {
                let next = line(stream, &mut read).await?;
                let last = next == "." || starts(&next, "-ERR");
                lines.push(next);
                if last {
                    break;
                }
            }
            let _ = stream.write_all(b"QUIT\r\n").await;
        }
        MailProtocol::Sieve => {
            // RFC 5804 §1.7: capabilities, then OK. Some lines hold `OK` in quotes: the word stands bare.
            while lines.len() < LINES_MAX {
                let next = line(stream, &mut read).await?;
                if starts(&next, "OK") {
                    break;
                }
                if !next.starts_with('"') {
                    return Err(other());
                }
                lines.push(next);
            }
            if lines.len() == LINES_MAX {
                return Err(other());
            }
            let _ = stream.write_all(b"LOGOUT\r\n").await;
        }
    }
    Ok(Learnt::of(protocol, &lines))
}

fn starts(line: &str, words: &str) -> bool {
    line.get(..words.len()).is_some_and(|start| start.eq_ignore_ascii_case(words))
}

/// One line without its end; what was read behind it stays in `read`.
async fn line<S: AsyncRead + Unpin>(stream: &mut S, read: &mut Vec<u8>) -> Result<String, String> {
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = read.drain(..=end).collect();
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if read.len() > LINE_MAX {
            return Err("a line of it is too long".to_owned());
        }
        if stream.read_buf(read).await.map_err(|e| e.to_string())? == 0 {
            return Err("it closes the connection".to_owned());
        }
    }
}

const LINE_MAX: usize = 8 * 1024;
/// Lines of a greeting or of CAPA.
const LINES_MAX: usize = 64;
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const GOODBYE: Duration = Duration::from_secs(1);
