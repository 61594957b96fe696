//! Guichet rehearsed: a simulated world, the demo made of it, and load to put on the gateway in front of it.
//!
//! [`world`] is cells and an identity provider on loopback ports; [`demo`] runs the real gateway in front of them. [`scenario`] is what
//! users do on some day, by [`client`]s as they have them, begun by the [`engine`] when they are due; [`record`] keeps what happened
//! and [`report`] shows it. [`measure`] holds plain measurements, [`peers`] sets the gateway beside
//! HAProxy and nginx.

pub mod client;
pub mod demo;
pub mod engine;
pub mod measure;
pub mod peers;
pub mod record;
pub mod report;
pub mod scenario;
pub mod world;
