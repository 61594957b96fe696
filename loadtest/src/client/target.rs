//! What is loaded: a running demo, on loopback only.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject};

use crate::demo::DemoInfo;

/// A gateway under load.
#[derive(Clone, Debug)]
pub struct Target {
    /// The demo.
    pub demo: Arc<DemoInfo>,
    /// TLS that trusts the demo's CA; HTTP/2 and HTTP/1.1 offered.
    pub web_tls: ClientConfig,
    /// TLS for mail.
    pub mail_tls: Arc<ClientConfig>,
    /// Where `imaps` is.
    pub imaps: SocketAddr,
    /// Where `pop3s` is.
    pub pop3s: SocketAddr,
    /// Where `submissions` is.
    pub submissions: SocketAddr,
    /// Where `sieve` is.
    pub sieve: SocketAddr,
}

/// Why there is nothing to load.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No demo there.
    #[error("the target cannot be reached: {0}")]
    Unreachable(String),
    /// Load is only for one's own machine.
    #[error("{0} is not on this machine: only loopback targets are loaded")]
    NotLoopback(String),
}

impl Target {
    /// The demo that `demo.json` describes.
    ///
    /// # Errors
    /// No such file, an address elsewhere, or nobody listening.
    pub async fn open(demo_json: &Path) -> Result<Self, TargetError> {
        let demo = DemoInfo::read(demo_json).map_err(|error| TargetError::Unreachable(format!("{error:#}")))?;
        let web = demo.web.strip_prefix("https://").unwrap_or(&demo.web);
        for place in [web, &demo.imap, &demo.pop3, &demo.submission] {
            loopback(place)?;
        }
        for url in demo
            .tenants
            .iter()
            .map(|tenant| tenant.idp.as_str())
            .chain([demo.management.as_str(), demo.idp_control.as_str()])
        {
            let parsed = url::Url::parse(url).map_err(|error| TargetError::Unreachable(format!("{url}: {error}")))?;
            let (Some(host), Some(port)) = (parsed.host_str(), parsed.port_or_known_default()) else {
                return Err(TargetError::Unreachable(format!("{url} has no host")));
            };
            loopback(&format!("{host}:{port}"))?;
        }
        let imaps = loopback(&demo.imaps)?;
        let (pop3s, submissions, sieve) =
            (loopback(&demo.pop3s)?, loopback(&demo.submissions)?, loopback(&demo.sieve)?);
        for address in [loopback(web)?, imaps] {
            tokio::net::TcpStream::connect(address)
                .await
                .map_err(|error| TargetError::Unreachable(format!("{address}: {error}")))?;
        }
        let roots = roots(&demo.ca)?;
        let mail_tls = tls(roots.clone(), &[]);
        let web_tls = tls(roots, &[b"h2", b"http/1.1"]);
        let mail_tls = Arc::new(mail_tls);
        Ok(Self { demo: Arc::new(demo), web_tls, mail_tls, imaps, pop3s, submissions, sieve })
    }
}

/// The first address of `host:port`; every one must be loopback.
///
/// # Errors
/// It is elsewhere or nowhere.
pub fn loopback(place: &str) -> Result<SocketAddr, TargetError> {
    let unreachable = |error: String| TargetError::Unreachable(format!("{place}: {error}"));
    let all: Vec<SocketAddr> = place.to_socket_addrs().map_err(|error| unreachable(error.to_string()))?.collect();
    if all.iter().any(|address| !address.ip().is_loopback()) {
        return Err(TargetError::NotLoopback(place.to_owned()));
    }
    // The demo listens on IPv4.
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first.copied().ok_or_else(|| unreachable("no address".to_owned()))
}

/// The certificates of a PEM file.
fn roots(file: &Path) -> Result<RootCertStore, TargetError> {
    let unreadable = |error: String| TargetError::Unreachable(format!("{}: {error}", file.display()));
    let mut roots = RootCertStore::empty();
    let certificates =
        rustls::pki_types::CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    Ok(roots)
}

/// A client's TLS that trusts the certificates of a PEM file.
///
/// # Errors
/// It cannot be read.
pub fn tls_of(file: &Path) -> Result<ClientConfig, TargetError> {
    Ok(tls(roots(file)?, &[]))
}

/// A client's TLS with these roots.
fn tls(roots: RootCertStore, alpn: &[&[u8]]) -> ClientConfig {
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loaded() {
        assert!(loopback("127.0.0.1:1").is_ok());
        assert!(loopback("[::1]:1").is_ok());
        assert!(matches!(loopback("192.0.2.1:443"), Err(TargetError::NotLoopback(_))));
        assert!(matches!(loopback("nonsense"), Err(TargetError::Unreachable(_))));
    }
}
