//! The mail way: the driver of the dialogues, our login at the cell, the relay.
//!
//! [`driver`] is the only place where a dialogue meets a socket. [`login`] turns what the client asked into an answer: the
//! decision (on what was shown: [`proof`]), the placement, and a connection of the cell that is already logged in ([`cell`]). [`relay`] is what is left
//! afterwards: two sockets and a TLS state ([`leg`]). [`submission`] is what is left of SMTP, where every line is still read.
//! [`plain`] leads to the same relay without a login. Who is relayed now is in [`live`], and what a relay is told of the world
//! in [`orders`].

mod cell;
mod driver;
mod leg;
mod live;
mod login;
mod offer;
mod orders;
mod plain;
mod proof;
mod relay;
mod submission;

pub(crate) use driver::serve;
pub(crate) use live::{Drain, Tunnel};
pub use live::{RelayStatus, Relays, Selector, Traffic};
pub(crate) use offer::{Offer, refusal};
pub(crate) use plain::serve_relay;
