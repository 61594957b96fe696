//! Scripted dialogues, and the table of every state × command.

mod backend;
mod client;
