//! Who are you: decisions are pure, wires are thin.
//!
//! Five doors lead to an [`Identity`]: a password ([`Authenticator`], against the directory or, by ECP, the institution), a [`certificate`] or a
//! [`bearer`] token (which prove an address; the directory knows the account), a SAML Response ([`saml`]), and a sealed
//! [`session`] cookie that a password or a Response earned. Every door answers with a [`Decision`] and never mixes its
//! answers: only [`Decision::Unavailable`] may lead to a fallback.

pub mod assurance;
pub mod availability;
pub mod bearer;
pub mod certificate;
mod chain;
mod clock;
mod decision;
pub mod directory;
pub mod password;
pub mod placement;
#[cfg(any(test, feature = "properties"))]
pub mod properties;
pub mod saml;
pub mod session;
pub mod step_up;
pub mod store;
mod throttle;
pub mod xml;

pub use chain::{Attempt, AuthMethod, Authenticator, Institutions, Outcome, Proven, Source, Unidentified, Word};
pub use clock::{Clock, ManualClock, SystemClock, WallTime};
pub use decision::{Decision, DenyReason, Identity, Method, Protocol, UnavailableReason};
