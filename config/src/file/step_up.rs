//! Pages that want a fresher or stronger login than the session has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Lapse;

/// Pages of a tenant's users that want a login of their own.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepUp {
    /// Paths that want it, each with all below it, in any case of letters.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) paths: Vec<String>,
    /// Authentication contexts (AuthnContextClassRef), of which the login must have one; by default any.
    #[serde(default)]
    #[schemars(length(max = 4))]
    pub(crate) authn_context: Vec<String>,
    /// How long ago the user may have logged in.
    #[serde(default = "step_up_max_age")]
    pub(crate) max_age: Lapse,
}

fn step_up_max_age() -> Lapse {
    Lapse::new("15m")
}
