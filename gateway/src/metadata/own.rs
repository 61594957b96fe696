//! Our own certificates in our own metadata: when they end.

use guichet_auth::{WallTime, saml::ServiceProvider};
use tracing::warn;

use crate::{app::Snapshot, check::CERTIFICATE_WARNED, telemetry::METRICS};

/// Sets the gauges and warns of what ends soon or has ended. The first end of each kind of key counts.
pub(super) fn alarms(snapshot: &Snapshot, now: WallTime) {
    let certificates = snapshot.sp.as_deref().map(ServiceProvider::certificates).unwrap_or_default();
    for certificate in certificates {
        let role = certificate.role;
        let first = certificates.iter().filter(|one| one.role == role).map(|one| one.not_after).min();
        if let Some(first) = first {
            // No federation's: the label is empty.
            let seconds = i64::try_from(first.seconds()).unwrap_or(i64::MAX);
            METRICS.saml_metadata_certificate_not_after.with_label_values(&["", role]).set(seconds);
        }
        let key = certificate.key.as_str();
        if certificate.not_after <= now {
            warn!(key, "A certificate of ours has ended, and some identity providers mind: replace the pair.");
        } else if certificate.not_after < now.plus(CERTIFICATE_WARNED) {
            let days = certificate.not_after.since(now).as_secs() / 86400;
            warn!(key, days, "A certificate of ours in the SAML metadata ends soon: replace the pair.");
        }
    }
}
