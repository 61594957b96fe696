//! Scripted dialogues, tables, and the odd input of the world.

mod backend;
mod client;
mod relay;
mod scan;
