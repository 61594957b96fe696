//! The relay between a client that says anything and a simulated cell.

use std::sync::Arc;

use crate::smtp::{Extensions, LineEnds, RelayEnd, RelayEvent, RelayProfile, SubmissionRelay, Verdict};

use super::{Cuts, next_cut};

/// Two outboxes' worth and what a scanner may add: more never waits.
const WAITING_BYTES_MAX: usize = 192 * 1024;

/// A cell that takes every message and skips white space in front of a verb, as some do.
#[derive(Default)]
struct Cell {
    got: Vec<u8>,
    line: Vec<u8>,
    in_data: bool,
    mail: bool,
}

impl Cell {
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut replies = Vec::new();
        for byte in bytes {
            self.got.push(*byte);
            self.line.push(*byte);
            if !self.line.ends_with(b"\r\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line).to_ascii_uppercase();
            if self.in_data {
                if line == b".\r\n" {
                    self.in_data = false;
                    self.mail = false;
                    replies.extend_from_slice(b"250 queued\r\n");
                }
                continue;
            }
            let verb = line.trim_ascii_start().get(..4).unwrap_or_default().to_vec();
            let known: [&[u8]; 6] = [b"MAIL", b"RCPT", b"DATA", b"RSET", b"NOOP", b"QUIT"];
            assert!(known.contains(&verb.as_slice()), "{} reached the cell", line.escape_ascii());
            let text = line.strip_suffix(b"\r\n").unwrap_or_default();
            assert!(!text.iter().any(u8::is_ascii_control), "a control character in a command");
            replies.extend_from_slice(match verb.as_slice() {
                b"DATA" if self.mail => {
                    self.in_data = true;
                    b"354 go\r\n"
                }
                b"DATA" => b"503 no\r\n",
                b"QUIT" => b"221 bye\r\n",
                _ => {
                    self.mail = (self.mail || verb == b"MAIL") && verb != b"RSET";
                    b"250 ok\r\n"
                }
            });
        }
        replies
    }
}

/// Commands that are not the client's never reach the cell, nothing piles up, and any cutting leads to the same.
///
/// # Panics
/// When a property does not hold.
pub fn smtp_relay(bytes: &[u8], cuts: &[usize], line_ends: LineEnds, pipelining: bool) {
    let whole = run(bytes, &[], line_ends, pipelining);
    for cuts in [&[1][..], cuts] {
        let cut = run(bytes, cuts, line_ends, pipelining);
        // Whether text came ahead of its 354 is a matter of time, not of cutting.
        let ahead = |end: Option<RelayEnd>| end == Some(RelayEnd::FramingLost);
        if !ahead(whole.2) && !ahead(cut.2) {
            assert_eq!(cut, whole, "cut at {cuts:?}");
        }
    }
}

type Outcome = (Vec<u8>, Vec<u8>, Option<RelayEnd>);

fn run(bytes: &[u8], cuts: Cuts<'_>, line_ends: LineEnds, pipelining: bool) -> Outcome {
    let offered = Extensions::read("SIZE 1000000\n8BITMIME\nDSN");
    let profile =
        RelayProfile { hostname: Arc::from("h"), offered, cell: Extensions { pipelining, ..offered }, line_ends };
    let mut relay = SubmissionRelay::new(profile);
    let (mut cell, mut said, mut round) = (Cell::default(), Vec::new(), 0);
    let mut unsent = bytes;
    while !unsent.is_empty() && relay.end().is_none() {
        let (mut piece, rest) = unsent.split_at(next_cut(cuts, round).min(unsent.len()));
        (unsent, round) = (rest, round + 1);
        loop {
            let taken = relay.on_client(piece);
            piece = piece.get(taken..).unwrap_or_default();
            let mut moved = taken > 0;
            assert!(relay.to_cell().len() <= WAITING_BYTES_MAX && relay.to_client().len() <= WAITING_BYTES_MAX);
            while let Some(event) = relay.poll_event() {
                moved = true;
                if let RelayEvent::Ask(_) = event {
                    relay.on_verdict(Verdict::Go);
                }
            }
            let replies = cell.take(relay.to_cell());
            relay.sent_to_cell(relay.to_cell().len());
            let mut replies = replies.as_slice();
            while !replies.is_empty() && relay.end().is_none() {
                moved = true;
                let taken = relay.on_cell(replies);
                replies = replies.get(taken..).unwrap_or_default();
                relay.poll_event();
                said.extend_from_slice(relay.to_client());
                relay.sent_to_client(relay.to_client().len());
            }
            said.extend_from_slice(relay.to_client());
            relay.sent_to_client(relay.to_client().len());
            if !moved || relay.end().is_some() {
                break;
            }
        }
        assert!(piece.is_empty() || relay.end().is_some(), "with a cell that answers, everything is taken");
    }
    let got = if matches!(relay.end(), None | Some(RelayEnd::Quit)) { cell.got } else { Vec::new() };
    (got, said, relay.end())
}
