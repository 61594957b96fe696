//! What mail programs are told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Text;

/// What mail programs are told about the service.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Setup {
    /// Answer mail programs that ask for their settings, and serve the page `/setup`.
    pub(crate) enabled: bool,
    /// Name of the service in mail programs; by default the institution's.
    pub(crate) name: Option<Text>,
    /// Path of calendars and contacts (CalDAV, CardDAV) at the cells, such as `/dav/`; by default nobody is told of any.
    pub(crate) dav_path: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { enabled: true, name: None, dav_path: None }
    }
}
