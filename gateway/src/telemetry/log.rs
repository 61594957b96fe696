//! Log output: lines for people or one JSON object a line, to standard error, under a filter that a reload may change.

use std::sync::OnceLock;

use guichet_config::{Log, LogFormat};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

type Filter = reload::Handle<EnvFilter, Registry>;

static FILTER: OnceLock<Filter> = OnceLock::new();

/// Starts logging. Only the first call counts.
pub fn init(log: &Log) {
    let (filter, handle) = reload::Layer::new(filter(&log.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// Changes the filter, at a reload.
pub fn set_level(level: &str) {
    if let Some(handle) = FILTER.get() {
        let _ = handle.reload(filter(level));
    }
}

/// Whether a text is a filter.
///
/// # Errors
/// What is wrong with it.
pub fn check(level: &str) -> Result<(), String> {
    EnvFilter::try_new(level).map(drop).map_err(|e| e.to_string())
}

/// What others' crates say below `warn` stays out unless the filter names them: it is noise, and not ours to vouch for.
/// The HTTP engine reports every client that goes away as an error; ours tell the ones that matter.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(format!("{QUIET},{level}")).unwrap_or_else(|_| EnvFilter::new("info"))
}

const QUIET: &str = "pingora_core=off,pingora_proxy=off,hickory_proto=warn,hickory_resolver=warn,hickory_net=warn,\
                     rustls=warn,h2=warn,hyper=warn,ldap3=warn";
