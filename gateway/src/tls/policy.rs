//! Which TLS we speak (ANSSI TLS guide, SDE-NT-35): 1.3 and 1.2 with ECDHE, AEAD and extended master secret, or 1.3
//! only; hybrid key exchange first; the server's order counts; no early data.
//!
//! rustls knows no CBC, no RSA key exchange, no compression and no renegotiation: what is left out here is the rest.

use std::sync::{Arc, LazyLock};

use guichet_config::TlsProfile;
use rustls::{
    CommonState, NamedGroup, ProtocolVersion, ServerConfig, SupportedCipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    version::{TLS12, TLS13},
};

/// Suites and groups of the profile, in the order we prefer. AES-128 stands before AES-256: the guide takes both, the
/// certificates and groups give 128 bits anyway, and processors compute its SHA-256 in hardware, SHA-384 mostly not (a
/// tenth of a handshake).
pub static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::{cipher_suite as suite, kx_group as group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![group::X25519MLKEM768, group::X25519, group::SECP256R1, group::SECP384R1],
        ..aws_lc_rs::default_provider()
    })
});

/// A server configuration under the policy. `clients`: asks for client certificates.
pub fn server_config(
    profile: TlsProfile,
    certificates: Arc<dyn ResolvesServerCert>,
    tickets: Arc<dyn ProducesTickets>,
    alpn: &[&[u8]],
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Arc<ServerConfig> {
    let versions: &[_] = match profile {
        TlsProfile::Anssi => &[&TLS13, &TLS12],
        TlsProfile::Strict => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(versions)
        .expect("the provider has suites for both versions")
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_cert_resolver(certificates);
    config.ignore_client_order = true;
    config.require_ems = true;
    config.max_early_data_size = 0;
    // Resumption is by tickets only: nothing to keep per client.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Session tickets under keys of this process, rotated every six hours.
///
/// # Errors
/// The system has no randomness.
pub fn tickets() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    aws_lc_rs::Ticketer::new()
}

/// What a handshake came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Negotiated {
    version: Option<ProtocolVersion>,
    suite: Option<SupportedCipherSuite>,
}

impl Negotiated {
    /// Of a connection whose handshake is through.
    pub fn of(tls: &CommonState) -> Self {
        Self { version: tls.protocol_version(), suite: tls.negotiated_cipher_suite() }
    }
}

/// For logs: `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
impl std::fmt::Display for Negotiated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let version = self.version.and_then(|version| version.as_str()).unwrap_or("none");
        let suite = self.suite.and_then(|suite| suite.suite().as_str()).unwrap_or("none");
        write!(f, "{version} {suite}")
    }
}

/// Names of the key exchange groups offered, for `guichet check`.
pub fn groups() -> Vec<NamedGroup> {
    PROVIDER.kx_groups.iter().map(|group| group.name()).collect()
}
