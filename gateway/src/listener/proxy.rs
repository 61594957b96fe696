//! The PROXY header in front of everything else, from trusted networks only, read to its last byte and no further.

use std::{net::SocketAddr, time::Duration};

use guichet_config::Listener;
use guichet_proto::proxy_header::{self, Header, LENGTH_MAX, Read};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// Why a connection ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// `untrusted`, `broken`, `deadline` or `gone`.
    pub(super) reason: &'static str,
    /// A fixed sentence.
    pub(super) detail: &'static str,
}

/// Reads the header that this listener requires. `None`: the proxy speaks for itself (a health check).
pub(super) async fn read(
    stream: &mut TcpStream,
    listener: &Listener,
    peer: SocketAddr,
) -> Result<Option<(SocketAddr, SocketAddr)>, Refused> {
    if !listener.proxy_from.iter().any(|net| net.contains(&peer.ip())) {
        return Err(Refused { reason: "untrusted", detail: "the sender is not in a trusted network" });
    }
    match timeout(DEADLINE, header(stream)).await {
        Ok(Ok(Header::Proxied { source, destination })) => Ok(Some((source, destination))),
        Ok(Ok(Header::Local)) => Ok(None),
        Ok(Err(refused)) => Err(refused),
        Err(_) => Err(Refused { reason: "deadline", detail: "no whole header in time" }),
    }
}

/// Peeks, and takes out of the socket only what belongs to the header: what follows is TLS.
async fn header(stream: &mut TcpStream) -> Result<Header, Refused> {
    const GONE: Refused = Refused { reason: "gone", detail: "the connection ended within the header" };
    let mut bytes = [0; LENGTH_MAX];
    let mut taken = 0;
    loop {
        let (_, room) = bytes.split_at_mut_checked(taken).ok_or(GONE)?;
        if room.is_empty() {
            return Err(Refused { reason: "broken", detail: "the header is too long" });
        }
        let seen = match stream.peek(room).await {
            Ok(0) | Err(_) => return Err(GONE),
            Ok(seen) => taken + seen,
        };
        let read = proxy_header::read(bytes.get(..seen).unwrap_or_default());
        let upto = match &read {
            Ok(Read::More) => seen,
            Ok(Read::Done { length, .. }) => *length,
            Err(error) => return Err(Refused { reason: "broken", detail: error.0 }),
        };
        let take = bytes.get_mut(taken..upto).ok_or(GONE)?;
        stream.read_exact(take).await.map_err(|_| GONE)?;
        taken = upto;
        if let Ok(Read::Done { header, .. }) = read {
            return Ok(header);
        }
    }
}

const DEADLINE: Duration = Duration::from_secs(5);
