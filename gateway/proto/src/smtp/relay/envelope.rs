//! MAIL and RCPT: what of them the cell gets.
//!
//! They are written anew from what was read. A parameter passes when its extension was offered; `AUTH=` (RFC 4954 §5) never
//! does, because who sends is known from the login, and a cell that trusts us would believe any other name.

use crate::smtp::{
    Extensions,
    command::{Command, Path, Verb},
};

/// A MAIL or RCPT that may go to the cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    /// For the cell, with CRLF.
    pub(super) command: Vec<u8>,
    /// Without brackets, fit to be shown.
    pub(super) address: String,
    /// SIZE, of MAIL.
    pub(super) size: Option<u64>,
}

/// Longest address that is shown, bytes: 64 of a local part, 255 of a domain and the sign between (RFC 5321 §4.5.3.1).
const ADDRESS_BYTES_MAX: usize = 320;
const UNKNOWN_PARAMETER: &str = "555 5.5.4 Parameter not recognized";
const BAD_PARAMETER: &str = "501 5.5.4 Invalid parameter";

/// Reads a MAIL or RCPT.
pub(super) fn read(command: &Command<'_>, offered: &Extensions) -> Result<Envelope, &'static str> {
    let (keyword, syntax) = match command.verb {
        Verb::Mail => ("FROM:", "501 5.1.7 Syntax: MAIL FROM:<address>"),
        _ => ("TO:", "501 5.1.3 Syntax: RCPT TO:<address>"),
    };
    let path = Path::read(command.arguments, keyword).ok_or(syntax)?;
    let address = path.address();
    if address.is_empty() && command.verb != Verb::Mail {
        return Err(syntax);
    }
    let tellable = address.is_ascii() || (offered.smtputf8 && std::str::from_utf8(address).is_ok());
    if !tellable {
        // RFC 6531 §3.5
        return Err("553 5.6.7 Only addresses in ASCII are taken");
    }
    let verb = if command.verb == Verb::Mail { "MAIL FROM:" } else { "RCPT TO:" };
    let mut envelope = Envelope { command: [verb.as_bytes(), path.path].concat(), address: shown(address), size: None };
    for (word, keyword, value) in path.parameters() {
        if keyword.eq_ignore_ascii_case(b"AUTH") && command.verb == Verb::Mail {
            continue;
        }
        let keyword = keyword.to_ascii_uppercase();
        match (command.verb, keyword.as_slice(), value) {
            (Verb::Mail, b"SIZE", Some(value)) if offered.size.is_some() => {
                envelope.size = Some(number(value).ok_or(BAD_PARAMETER)?);
            }
            // BINARYMIME (RFC 3030) wants BDAT.
            (Verb::Mail, b"BODY", Some(value)) if offered.eight_bit_mime => {
                if !(value.eq_ignore_ascii_case(b"7BIT") || value.eq_ignore_ascii_case(b"8BITMIME")) {
                    return Err(BAD_PARAMETER);
                }
            }
            (Verb::Mail, b"SMTPUTF8", None) if offered.smtputf8 => {}
            (Verb::Mail, b"RET" | b"ENVID", Some(_)) if offered.dsn => {}
            (Verb::Rcpt, b"NOTIFY" | b"ORCPT", Some(_)) if offered.dsn => {}
            _ => return Err(UNKNOWN_PARAMETER),
        }
        envelope.command.push(b' ');
        envelope.command.extend_from_slice(word);
    }
    envelope.command.extend_from_slice(b"\r\n");
    Ok(envelope)
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

fn shown(address: &[u8]) -> String {
    let text = String::from_utf8_lossy(address);
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= ADDRESS_BYTES_MAX).last();
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::command;

    fn all() -> Extensions {
        Extensions::read("SIZE 100\nPIPELINING\n8BITMIME\nSMTPUTF8\nDSN\nENHANCEDSTATUSCODES")
    }

    fn forwarded(line: &str, offered: &Extensions) -> Result<String, &'static str> {
        let envelope = read(&command::read(line.as_bytes()).unwrap(), offered)?;
        Ok(String::from_utf8(envelope.command).unwrap())
    }

    #[test]
    fn what_was_offered_passes() {
        for (line, written) in [
            ("mail from:<a@x.fr>", "MAIL FROM:<a@x.fr>\r\n"),
            ("MAIL FROM: <a@x.fr>  size=7 body=8bitmime ", "MAIL FROM:<a@x.fr> size=7 body=8bitmime\r\n"),
            ("MAIL FROM:<> RET=HDRS ENVID=x+3Dy", "MAIL FROM:<> RET=HDRS ENVID=x+3Dy\r\n"),
            ("MAIL FROM:<é@x.fr> SMTPUTF8", "MAIL FROM:<é@x.fr> SMTPUTF8\r\n"),
            (
                "RCPT TO:<b@x.fr> NOTIFY=NEVER ORCPT=rfc822;b@x.fr",
                "RCPT TO:<b@x.fr> NOTIFY=NEVER ORCPT=rfc822;b@x.fr\r\n",
            ),
        ] {
            assert_eq!(forwarded(line, &all()), Ok(written.to_owned()));
        }
    }

    #[test]
    fn auth_of_mail_never_passes() {
        for line in [
            "MAIL FROM:<a@x.fr> AUTH=boss@x.fr SIZE=7",
            "MAIL FROM:<a@x.fr> SIZE=7 auth=<>",
            "MAIL FROM:<a@x.fr> AUTH SIZE=7 AUTH=x AUTH=",
        ] {
            assert_eq!(forwarded(line, &all()), Ok("MAIL FROM:<a@x.fr> SIZE=7\r\n".to_owned()));
        }
        assert_eq!(forwarded("RCPT TO:<a@x.fr> AUTH=<>", &all()), Err(UNKNOWN_PARAMETER));
    }

    #[test]
    fn what_was_not_offered_is_refused() {
        for line in [
            "MAIL FROM:<a> SIZE=7",
            "MAIL FROM:<a> BODY=8BITMIME",
            "MAIL FROM:<a> SMTPUTF8",
            "MAIL FROM:<a> RET=FULL",
            "RCPT TO:<a> NOTIFY=NEVER",
            "MAIL FROM:<a> XVERP",
            "MAIL FROM:<a> NOTIFY=NEVER",
            "RCPT TO:<a> SIZE=7",
        ] {
            assert_eq!(forwarded(line, &Extensions::default()), Err(UNKNOWN_PARAMETER), "{line}");
        }
        for line in [
            "MAIL FROM:<a> BODY=BINARYMIME",
            "MAIL FROM:<a> SIZE=-1",
            "MAIL FROM:<a> SIZE=99999999999999999999999",
            "MAIL FROM:<a> SIZE=",
        ] {
            assert_eq!(forwarded(line, &all()), Err(BAD_PARAMETER), "{line}");
        }
        assert_eq!(forwarded("MAIL FROM:<é@x.fr>", &Extensions::default()).unwrap_err().get(..9), Some("553 5.6.7"));
        assert_eq!(forwarded("RCPT TO:<>", &all()).unwrap_err().get(..9), Some("501 5.1.3"));
        assert_eq!(forwarded("MAIL <a>", &all()).unwrap_err().get(..9), Some("501 5.1.7"));
    }

    #[test]
    fn a_shown_address_is_bounded() {
        let line = format!("MAIL FROM:<{}>", "é".repeat(200));
        let envelope = read(&command::read(line.as_bytes()).unwrap(), &all()).unwrap();
        assert_eq!(envelope.address.len(), 320);
    }
}
