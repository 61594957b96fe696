//! Client certificates that mail listeners ask for: whose signature counts, and who holds one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use guichet_auth::{
    WallTime,
    certificate::{self, CertificateRefusal},
};
use guichet_config::{Address, Config, ListenerId, ListenerKind, MailProtocol};
use rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::{CertificateProblem, client::root_store, policy::PROVIDER};
use crate::telemetry::chain;

/// What one listener asks of its clients.
#[derive(Debug)]
pub struct ClientCa {
    pub(super) protocol: MailProtocol,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    rules: guichet_config::ClientCa,
}

/// By listener.
pub type ClientCas = HashMap<ListenerId, ClientCa>;

/// Reads the authorities of every listener that asks for certificates. Each problem comes with its key.
///
/// # Errors
/// All files that cannot be used.
pub fn load(config: &Config) -> Result<ClientCas, Vec<(String, CertificateProblem)>> {
    let mut all = ClientCas::new();
    let mut problems = Vec::new();
    for listener in &config.listeners {
        let ListenerKind::Mail { protocol, client_ca: Some(rules), .. } = &listener.kind else { continue };
        match verifier(rules) {
            Ok(verifier) => {
                let one = ClientCa { protocol: *protocol, verifier, rules: rules.clone() };
                all.insert(listener.id.clone(), one);
            }
            Err(problem) => {
                problems.push((format!("listener.{}.{}.client_ca.file", protocol.as_str(), listener.id), problem));
            }
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

fn verifier(rules: &guichet_config::ClientCa) -> Result<Arc<dyn ClientCertVerifier>, CertificateProblem> {
    let roots = Arc::new(root_store(&rules.file)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, PROVIDER.clone());
    let builder = if rules.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| CertificateProblem { file: rules.file.clone(), message: chain(&error) })
}

impl ClientCa {
    /// Who holds the certificate that a client showed (the chain, leaf first).
    ///
    /// It is verified here once more: a resumed session brings the certificate of its first handshake along, which may be
    /// out of date by now, and which no handshake of this listener need have seen.
    ///
    /// # Errors
    /// Not trusted here and now, or nobody's who can log in.
    pub fn holder(
        &self,
        shown: &[CertificateDer<'_>],
        config: &Config,
        now: WallTime,
    ) -> Result<Address, CertificateRefusal> {
        let (leaf, intermediates) = shown.split_first().ok_or(CertificateRefusal::Unreadable)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        self.verifier.verify_client_cert(leaf, intermediates, now).map_err(|_| CertificateRefusal::Untrusted)?;
        certificate::holder(leaf, &self.rules, config)
    }
}
