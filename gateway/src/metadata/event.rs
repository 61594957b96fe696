//! What is said of the metadata: refreshes, ends that come near, and the gauges of what is in use.

use std::time::Duration;

use guichet_auth::{
    WallTime,
    saml::metadata::{Held, Reader},
};
use tracing::{error, warn};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{app::Snapshot, telemetry::METRICS};

/// A document was looked at again.
#[derive(Debug)]
pub(super) struct Refreshed<'a> {
    /// Of this federation.
    pub(super) federation: &'a str,
    /// `new` or `unchanged`, or why it changed nothing.
    pub(super) result: Result<&'static str, &'a str>,
}

impl Refreshed<'_> {
    /// Logs and counts.
    pub(super) fn emit(&self) {
        let federation = self.federation;
        let result = self.result.unwrap_or("failed");
        METRICS.saml_metadata_refreshes.with_label_values(&[federation, result]).inc();
        match self.result {
            Ok(result) => tracing::debug!(federation, result, "Metadata was refreshed."),
            Err(error) => warn!(federation, error, "Metadata was not refreshed; what is in use stays."),
        }
    }
}

/// A new document takes IdPs of tenants away.
#[derive(Debug)]
pub(super) struct Dropped<'a> {
    /// Of this federation.
    pub(super) federation: &'a str,
    /// The IdPs.
    pub(super) entity_ids: &'a [&'a str],
    /// Whether the document is used, or too many they are.
    pub(super) taken: bool,
}

impl Dropped<'_> {
    /// Logs and counts each.
    pub(super) fn emit(&self) {
        let federation = self.federation;
        let result = if self.taken { "taken" } else { "refused" };
        METRICS
            .saml_metadata_idps_dropped
            .with_label_values(&[federation, result])
            .inc_by(self.entity_ids.len() as u64);
        for entity_id in self.entity_ids {
            warn!(federation, entity_id, result, "New metadata drops the IdP of a tenant.");
        }
    }
}

/// An IdP was taken out at the end of its metadata.
pub(super) fn ended() {
    error!("Metadata has come to its end (validUntil): its IdPs take no logins until it is refreshed.");
}

/// The copy on disk is older than what is in use.
pub(super) fn not_kept(federation: &str, error: &std::io::Error) {
    error!(federation, %error, "The copy of the metadata was not written; a restart begins with an older one.");
}

/// Forgets the gauges of federations that may be gone.
pub(super) fn forget_all() {
    METRICS.saml_metadata_idps.reset();
    METRICS.saml_metadata_refreshed.reset();
    METRICS.saml_metadata_not_after.reset();
    METRICS.saml_metadata_certificate_not_after.reset();
}

/// Sets the gauges of what is in use. Of several documents the oldest and the first to end count.
pub(super) fn show(snapshot: &Snapshot) {
    for federation in &snapshot.config.federations {
        let name = federation.name.as_str();
        let held = || snapshot.idps.held_of(name);
        let idps: usize = held().map(|held| held.verified.idps.len()).sum();
        METRICS.saml_metadata_idps.with_label_values(&[name]).set(i64::try_from(idps).unwrap_or(i64::MAX));
        if let Some(since) = held().map(|held| held.since).min() {
            METRICS.saml_metadata_refreshed.with_label_values(&[name]).set(unix(since));
        }
        if let Some(end) = first_end(held()) {
            METRICS.saml_metadata_not_after.with_label_values(&[name]).set(unix(end));
        }
    }
}

/// Sets the gauge of the certificates of a federation's IdPs.
pub(super) fn show_certificates(snapshot: &Snapshot, federation: &str) {
    set_first_end(federation, "idp", certificates_of_idps(snapshot, federation).map(|(_, end)| end));
}

/// Warns of what ends soon: documents, pinned certificates, certificates of IdPs. Dates of certificates do not count when
/// a signature is verified, but an end announces a rollover.
pub(super) fn alarms(snapshot: &Snapshot, now: WallTime) {
    for federation in &snapshot.config.federations {
        let name = federation.name.as_str();
        if let Some(end) = first_end(snapshot.idps.held_of(name))
            && end < now.plus(DOCUMENT_WARNED)
        {
            let hours = end.since(now).as_secs() / 3600;
            warn!(federation = name, hours, "Metadata ends soon (validUntil); its IdPs take no logins after that.");
        }
        let soon =
            |end: WallTime| (now < end && end < now.plus(CERTIFICATE_WARNED)).then(|| end.since(now).as_secs() / 86400);
        for (entity_id, end) in certificates_of_idps(snapshot, name) {
            if let Some(days) = soon(end) {
                warn!(federation = name, entity_id, days, "A certificate of an IdP ends soon: expect another key.");
            }
        }
        show_certificates(snapshot, name);
        let reader = match Reader::new(&snapshot.config, federation) {
            Ok(reader) => reader,
            Err(error) => {
                warn!(federation = name, %error, "The pinned keys of a federation cannot be read any more.");
                continue;
            }
        };
        // A bare key has no end.
        let pinned: Vec<WallTime> = reader.keys().iter().filter_map(|der| not_after(der)).collect();
        if let Some(days) = pinned.iter().copied().max().and_then(soon) {
            warn!(federation = name, days, "The last of the pinned certificates ends soon: pin the next one.");
        }
        set_first_end(name, "pinned", pinned.into_iter());
    }
}

fn certificates_of_idps<'a>(
    snapshot: &'a Snapshot,
    federation: &'a str,
) -> impl Iterator<Item = (&'a str, WallTime)> + 'a {
    let idps = snapshot.idps.held_of(federation).flat_map(|held| held.verified.idps.values());
    idps.flat_map(|idp| {
        let ends = idp.signing_certificates.iter().filter_map(|der| not_after(der));
        ends.map(|end| (idp.entity_id.as_str(), end))
    })
}

fn set_first_end(federation: &str, owner: &str, ends: impl Iterator<Item = WallTime>) {
    if let Some(first) = ends.min() {
        METRICS.saml_metadata_certificate_not_after.with_label_values(&[federation, owner]).set(unix(first));
    }
}

fn not_after(der: &[u8]) -> Option<WallTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok().map(|seconds| WallTime(seconds * 1000))
}

fn first_end<'a>(held: impl Iterator<Item = &'a Held>) -> Option<WallTime> {
    held.filter_map(|held| held.verified.valid_until).min()
}

fn unix(time: WallTime) -> i64 {
    i64::try_from(time.seconds()).unwrap_or(i64::MAX)
}

/// Federations sign every day for a week or two.
const DOCUMENT_WARNED: Duration = Duration::from_secs(3 * 86400);
const CERTIFICATE_WARNED: Duration = Duration::from_secs(30 * 86400);
