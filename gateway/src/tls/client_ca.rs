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
    /// # Errors
    /// Not trusted here and now, or nobody's who can log in.
    pub fn holder(
        &self,
        shown: &[CertificateDer<'_>],
        config: &Config,
        now: WallTime,
    ) -> Result<Address, CertificateRefusal> {
        certificate::holder(self.trusted(shown, now)?, &self.rules, config)
    }

    /// Whether a client whose certificate is refused for this may go on without it.
    pub fn tolerates(&self, refusal: CertificateRefusal) -> bool {
        // One that is genuine opens the door, whomever it names.
        !self.rules.required || refusal != CertificateRefusal::Untrusted
    }

    /// The leaf. It is verified once more: a resumed session brings the certificate of its first handshake along, which may
    /// be out of date by now, and which no handshake of this listener need have seen.
    fn trusted<'a>(
        &self,
        shown: &'a [CertificateDer<'_>],
        now: WallTime,
    ) -> Result<&'a CertificateDer<'a>, CertificateRefusal> {
        let (leaf, intermediates) = shown.split_first().ok_or(CertificateRefusal::Untrusted)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        let verified = self.verifier.verify_client_cert(leaf, intermediates, now);
        verified.map(|_| leaf).map_err(|_| CertificateRefusal::Untrusted)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    /// An authority with its file, and a leaf of its that lives through 2026.
    fn authority(dir: &std::path::Path, name: &str) -> (std::path::PathBuf, CertificateDer<'static>) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = dir.join(name);
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        let mut leaf = CertificateParams::default();
        leaf.not_before = rcgen::date_time_ymd(2026, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2027, 1, 1);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(params, key)).unwrap();
        (file, leaf.der().clone())
    }

    #[test]
    fn what_a_resumed_session_brings_along_is_verified_for_this_listener_and_this_moment() {
        let dir = tempfile::tempdir().unwrap();
        let (file, leaf) = authority(dir.path(), "ours");
        let (_, foreign) = authority(dir.path(), "theirs");
        let of = |required: bool| {
            let rules = guichet_config::ClientCa {
                file: file.clone(),
                required,
                subject_attribute: None,
                tenants: Default::default(),
            };
            ClientCa { protocol: MailProtocol::Imap, verifier: verifier(&rules).unwrap(), rules }
        };
        let ca = of(false);
        let at = |seconds: u64| WallTime(seconds * 1000);
        let (before, within, after) = (at(1_760_000_000), at(1_780_000_000), at(1_800_000_000));
        assert_eq!(ca.trusted(std::slice::from_ref(&leaf), within), Ok(&leaf));
        for (shown, now) in
            [(vec![foreign], within), (vec![leaf.clone()], before), (vec![leaf], after), (vec![], within)]
        {
            assert_eq!(ca.trusted(&shown, now), Err(CertificateRefusal::Untrusted));
        }
        assert!(ca.tolerates(CertificateRefusal::Untrusted));
        assert!(of(true).tolerates(CertificateRefusal::NoAddress));
        assert!(!of(true).tolerates(CertificateRefusal::Untrusted), "the door that it opened is shut again");
    }
}
