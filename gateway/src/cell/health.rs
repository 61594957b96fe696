//! Checks of endpoints: connect, TLS where the cell has it, then the first words of the protocol.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use guichet_config::{CellImap, CellMailTls, CellTls, CellWeb, ClientAddress, Health};
use guichet_proto::proxy_header;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{Cells, Member};
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
    /// Greets.
    Imap,
    /// Answers a GET below 500.
    Http { path: String },
}

impl Check {
    pub(super) fn web(web: &CellWeb, tls: &ClientTls) -> Self {
        let talk = web.health_path.clone().map_or(Talk::Connect, |path| Talk::Http { path });
        let tls = web.tls.as_ref().map(|one| (one.clone(), tls.of(one)));
        Self { tls, proxy_header: false, talk }
    }

    pub(super) fn imap(imap: &CellImap, tls: &ClientTls) -> Self {
        let tls = match &imap.tls {
            CellMailTls::Implicit(one) => Some((one.clone(), tls.of(one))),
            CellMailTls::Plain | CellMailTls::StartTls(_) => None,
        };
        Self { tls, proxy_header: imap.client_address == ClientAddress::ProxyV2, talk: Talk::Imap }
    }
}

/// Checks one endpoint until the pool is replaced.
pub(super) async fn run(cells: Arc<Cells>, member: Arc<Member>, check: Check, health: Health, stop: CancellationToken) {
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return,
            result = timeout(health.timeout, once(&cells, &member, &check)) => result,
        };
        match result {
            Ok(Ok(())) => member.on_check_passed(),
            Ok(Err(error)) => member.on_failure(&error),
            Err(_) => member.on_failure("no answer in time"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(health.interval.max(INTERVAL_MIN)) => {}
        }
    }
}

async fn once(cells: &Cells, member: &Member, check: &Check) -> Result<(), String> {
    let address = cells.address(&member.endpoint).await?;
    let mut stream = TcpStream::connect(address).await.map_err(|e| format!("no connection: {e}"))?;
    if check.proxy_header {
        let local = stream.local_addr().map_err(|e| e.to_string())?;
        stream.write_all(&proxy_header::write_v2(local, address)).await.map_err(|e| e.to_string())?;
    }
    match &check.tls {
        None => talk(stream, &check.talk, address, member).await,
        Some((tls, config)) => {
            let config = config.clone().ok_or("its root certificates are not loaded")?;
            let name = client::server_name(tls, &member.endpoint)?;
            let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|e| format!("TLS: {e}"))?;
            talk(stream, &check.talk, address, member).await
        }
    }
}

async fn talk<S>(mut stream: S, talk: &Talk, address: SocketAddr, member: &Member) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match talk {
        Talk::Connect => {}
        Talk::Imap => {
            let line = String::from_utf8_lossy(&first_line(&mut stream).await?).to_ascii_uppercase();
            if !line.starts_with("* OK") {
                return Err("it does not greet as an IMAP server that takes logins".to_owned());
            }
            member.on_greeting(&line);
            // Polite, so that the cell logs no broken connection. Whether it hears us is no matter.
            let _ = stream.write_all(b"G0 LOGOUT\r\n").await;
        }
        Talk::Http { path } => {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: guichet-health\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
            let line = first_line(&mut stream).await?;
            let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
            match status
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| digits.parse::<u16>().ok())
            {
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

async fn first_line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        if line.len() > LINE_MAX {
            return Err("its first line is too long".to_owned());
        }
        let read = stream.read_buf(&mut line).await.map_err(|e| e.to_string())?;
        if read == 0 {
            return Err("it closes the connection".to_owned());
        }
    }
    Ok(line)
}

const LINE_MAX: usize = 8 * 1024;
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const GOODBYE: Duration = Duration::from_secs(1);
