//! What FETCH tells of a message.

use bytes::Bytes;

use crate::world::message::Message;

/// Adds one item that FETCH asks for.
pub(super) fn fetch_item(item: &str, message: &Message, reply: &mut Vec<Bytes>) {
    let upper = item.to_ascii_uppercase();
    let size = message.bytes.len();
    let said = match upper.as_str() {
        "UID" => format!("UID {}", message.uid),
        "FLAGS" => "FLAGS ()".to_owned(),
        "INTERNALDATE" => format!("INTERNALDATE \"{}\"", message.arrived),
        "RFC822.SIZE" => format!("RFC822.SIZE {size}"),
        "ENVELOPE" => {
            let Message { uid, subject, date, .. } = message;
            let (from, to) = (envelope_address(&message.from), envelope_address(&message.to));
            format!("ENVELOPE (\"{date}\" \"{subject}\" {from} {from} {from} {to} NIL NIL NIL \"<{uid}@example>\")")
        }
        "BODY" | "BODYSTRUCTURE" => {
            let (bytes, lines) = (size - message.body, message.lines());
            format!("{upper} (\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" {bytes} {lines})")
        }
        "RFC822" => return literal("RFC822", message.bytes.clone(), None, reply),
        "RFC822.HEADER" => return literal("RFC822.HEADER", message.bytes.slice(..message.body), None, reply),
        "RFC822.TEXT" => return literal("RFC822.TEXT", message.bytes.slice(message.body..), None, reply),
        _ if upper.starts_with("BODY[") || upper.starts_with("BODY.PEEK[") => return fetch_body(item, message, reply),
        _ => return,
    };
    reply.push(Bytes::from(said));
}

fn envelope_address(address: &str) -> String {
    let (mailbox, host) = address.rsplit_once('@').unwrap_or((address, ""));
    format!("((NIL NIL \"{mailbox}\" \"{host}\"))")
}

fn fetch_body(item: &str, message: &Message, reply: &mut Vec<Bytes>) {
    let (Some(open), Some(close)) = (item.find('['), item.rfind(']')) else { return };
    let section = item.get(open + 1..close).unwrap_or_default();
    let upper = section.to_ascii_uppercase();
    let bytes = if upper.is_empty() {
        message.bytes.clone()
    } else if upper == "TEXT" || upper == "1" {
        message.bytes.slice(message.body..)
    } else if let Some(names) = upper.strip_prefix("HEADER.FIELDS (") {
        header_fields(message, names.trim_end_matches(')'))
    } else {
        message.bytes.slice(..message.body)
    };
    let partial = item.get(close + 1..).and_then(|tail| tail.strip_prefix('<')).and_then(|tail| tail.strip_suffix('>'));
    let partial = partial
        .and_then(|range| range.split_once('.'))
        .and_then(|(from, length)| Some((from.parse().ok()?, length.parse().ok()?)));
    literal(&format!("BODY[{section}]"), bytes, partial, reply);
}

fn header_fields(message: &Message, names: &str) -> Bytes {
    let header = String::from_utf8_lossy(message.bytes.get(..message.body).unwrap_or_default()).into_owned();
    let wanted: Vec<&str> = names.split(' ').collect();
    let mut kept: String = header
        .split_inclusive("\r\n")
        .filter(|line| {
            line.split_once(':').is_some_and(|(name, _)| wanted.contains(&name.to_ascii_uppercase().as_str()))
        })
        .collect();
    kept.push_str("\r\n");
    Bytes::from(kept)
}

fn literal(name: &str, bytes: Bytes, partial: Option<(usize, usize)>, reply: &mut Vec<Bytes>) {
    let (name, bytes) = match partial {
        Some((from, length)) => {
            let start = from.min(bytes.len());
            let end = start.saturating_add(length).min(bytes.len());
            (format!("{name}<{from}>"), bytes.slice(start..end))
        }
        None => (name.to_owned(), bytes),
    };
    reply.push(Bytes::from(format!("{name} {{{}}}\r\n", bytes.len())));
    reply.push(bytes);
}
