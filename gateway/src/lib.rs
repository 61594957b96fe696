//! The gateway: listeners, TLS, the mail and web ways to a cell, and what operators see and steer.

pub mod app;
pub mod cell;
pub mod check;
pub mod console;
pub mod ctl;
pub mod drain;
mod ecp;
pub mod http;
pub mod limit;
pub mod listener;
pub mod mail;
pub mod maintenance;
mod metadata;
pub mod placement;
pub mod probe;
pub mod reload;
pub mod saml;
pub mod setup;
pub mod telemetry;
pub mod tls;
mod zimbra;
