//! Names in their one canonical form: domains, addresses and the ids an operator gives.
//!
//! A user name is split at its last `@`; the domain becomes a lower-case A-label without trailing dot (IDNA 2008),
//! the local part lower-case NFC. Everything that keys a cache, a limit or a placement holds these types, never text.

use std::{fmt, str::FromStr, sync::Arc};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

/// Why a name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub &'static str);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                if text.is_empty() || text.len() > 64 || !text.chars().all(legal) {
                    return Err(NameError("1 to 64 lower-case letters, digits and hyphens are expected"));
                }
                Ok(Self(text.into()))
            }
        }
    };
}

id!(
    /// Names a tenant (an institution).
    TenantId
);
id!(
    /// Names a cell (a back end group holding mailboxes).
    CellId
);
id!(
    /// Names a listener.
    ListenerId
);

/// A mail domain: lower-case A-labels, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

impl Domain {
    /// The domain as A-labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        domain(text).map(|text| Self(text.into()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's address in canonical form: what every cache, limit and placement is keyed by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Arc<str>,
    at: usize,
}

impl Address {
    /// `local@domain`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the last `@`.
    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The domain part, as A-labels.
    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }
}

impl FromStr for Address {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some((before, after)) = text.rsplit_once('@') else {
            return Err(NameError("an address with an `@` is expected"));
        };
        let mut text = local(before)?;
        let at = text.len();
        text.push('@');
        text.push_str(&domain(after)?);
        Ok(Self { text: text.into(), at })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.text)
    }
}

/// Lower-case A-labels without trailing dot. UTS 46 maps and checks as IDNA 2008 wants, underscores and other
/// ASCII punctuation are refused.
fn domain(text: &str) -> Result<String, NameError> {
    if text.len() > INPUT_BYTES_MAX {
        return Err(NameError("a domain is at most 253 bytes long"));
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(NameError("the domain is empty"));
    }
    Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| NameError("the domain is not a valid internet name"))
}

/// Lower-case NFC. What a quoted local part would allow is refused (and so is a second `@`): whoever splits or
/// quotes an address behind us cannot come to another opinion.
fn local(text: &str) -> Result<String, NameError> {
    if text.is_empty() {
        return Err(NameError("the part before the `@` is empty"));
    }
    if text.len() > INPUT_BYTES_MAX {
        return Err(NameError("the part before the `@` is at most 64 bytes long"));
    }
    // Lower case can take a text out of NFC, and NFC makes letters that have a lower case.
    let text: String = match text.is_ascii() {
        // Its own NFC. Nearly all are, and files of millions of them are read.
        true => text.to_ascii_lowercase(),
        false => text.nfc().collect::<String>().to_lowercase().nfc().collect(),
    };
    if text.len() > LOCAL_BYTES_MAX {
        return Err(NameError("the part before the `@` is at most 64 bytes long"));
    }
    if !text.chars().all(legal_in_local) {
        return Err(NameError(
            "the part before the `@` holds a space, a control character or a character that needs quotes",
        ));
    }
    Ok(text)
}

/// RFC 5322 §3.2.3 `dot-atom` characters, and beyond ASCII (RFC 6532) everything that can be seen.
fn legal_in_local(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    }
    let invisible = matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}');
    !(c.is_control() || c.is_whitespace() || invisible)
}

/// Longest local part, RFC 5321 §4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;

/// Longest text looked at: beyond it no mapping leads to a legal name, and normalising would only cost.
const INPUT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<String, NameError> {
        text.parse::<Address>().map(|a| a.to_string())
    }

    #[test]
    fn addresses_have_one_canonical_form() {
        for (typed, canonical) in [
            ("alice@univ-a.example", "alice@univ-a.example"),
            ("Alice.MARTIN@Univ-A.Example", "alice.martin@univ-a.example"),
            ("alice@univ-a.example.", "alice@univ-a.example"),
            ("o'brien+list@univ-a.example", "o'brien+list@univ-a.example"),
            // Composed and decomposed É.
            ("\u{c9}lodie@univ-a.example", "\u{e9}lodie@univ-a.example"),
            ("E\u{301}lodie@univ-a.example", "\u{e9}lodie@univ-a.example"),
            ("a@b\u{fc}cher.example", "a@xn--bcher-kva.example"),
            ("a@B\u{dc}CHER.example", "a@xn--bcher-kva.example"),
            ("a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example"),
            // An ideographic full stop and full-width letters.
            ("a@\u{ff55}niv\u{3002}example", "a@univ.example"),
            ("root@localhost", "root@localhost"),
        ] {
            assert_eq!(address(typed).as_deref(), Ok(canonical), "{typed:?}");
            assert_eq!(address(canonical).as_deref(), Ok(canonical), "{canonical:?} is not stable");
        }
    }

    #[test]
    fn parts_of_an_address_can_be_asked() {
        let address: Address = "Alice@Univ-A.example".parse().unwrap();
        assert_eq!((address.local(), address.domain()), ("alice", "univ-a.example"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long_local = format!("{}@a.example", "x".repeat(65));
        let long_label = format!("a@{}.example", "x".repeat(64));
        let long_domain = format!("a@{}example", "abcdefghi.".repeat(25));
        let huge = format!("a@{}", "x".repeat(1 << 20));
        for typed in [
            "",
            "@",
            "alice",
            "alice@",
            "@a.example",
            "alice@.",
            "alice@a..example",
            "alice@a.example..",
            "a b@a.example",
            "a\0b@a.example",
            "a\tb@a.example",
            "a\u{7f}@a.example",
            "\"a\"@a.example",
            "a\\b@a.example",
            "a<b@a.example",
            "a\u{a0}b@a.example",
            "a\u{200b}b@a.example",
            "a\u{202e}b@a.example",
            "alice@a.example@b.example",
            "alice@a_b.example",
            "alice@a b.example",
            "alice@a.example\0",
            "alice@a.example\r\n",
            "alice@-a.example",
            "alice@[127.0.0.1]",
            "alice@xn--a.example",
            "alice@a/b.example",
            &long_local,
            &long_label,
            &long_domain,
            &huge,
        ] {
            assert!(address(typed).is_err(), "{typed:?} was taken");
        }
    }

    #[test]
    fn limits_are_reached_and_not_passed() {
        let local = "x".repeat(64);
        assert!(address(&format!("{local}@a.example")).is_ok());
        let domain = format!("{}abc", "abcdefghi.".repeat(25));
        assert_eq!(domain.len(), 253);
        assert!(domain.parse::<Domain>().is_ok());
    }

    #[test]
    fn domains_are_folded_like_addresses() {
        assert_eq!("Universit\u{e9}.example.".parse::<Domain>().unwrap().as_str(), "xn--universit-j4a.example");
        for text in ["", ".", "a b", "a@b", "*.example", "a..b"] {
            assert!(text.parse::<Domain>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn ids_are_lower_case_words() {
        assert!("univ-rennes1".parse::<TenantId>().is_ok());
        for text in ["", "Univ", "a b", "a_b", "\u{e9}", &"x".repeat(65)] {
            assert!(text.parse::<TenantId>().is_err(), "{text:?} was taken");
        }
    }
}
