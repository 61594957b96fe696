//! How well, and when, a user proved who they are: what an IdP said of a login, kept in the session.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::WallTime;

/// What an IdP said of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assurance {
    /// How the user logged in; absent: the IdP did not say.
    pub context: Option<Context>,
    /// When the user logged in there (AuthnInstant), never in our future.
    pub at: WallTime,
    /// How well the institution knows who the person is (eduPersonAssurance); absent: it does not say.
    pub level: Option<Level>,
}

/// An authentication context (AuthnContextClassRef), in a form that fits a cookie: one of those in common use, or the
/// fingerprint of another. Two others are equal when their first 64 bits of SHA-256 are; an IdP that would look for such
/// a pair could name the wanted context in the first place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context(Form);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Known(&'static str, &'static str),
    Other([u8; 8]),
}

impl Context {
    /// Of a URI, compared exactly.
    pub fn of(uri: &str) -> Self {
        let known = KNOWN.iter().find(|(_, known)| *known == uri);
        Self(known.map_or_else(|| Form::Other(fingerprint(uri)), |(name, uri)| Form::Known(name, uri)))
    }

    /// The URI; `other` when it is none in common use.
    pub fn as_str(&self) -> &'static str {
        match self.0 {
            Form::Known(_, uri) => uri,
            Form::Other(_) => "other",
        }
    }

    /// Whether it is one of `wanted`; of none wanted, each is.
    pub fn is_one_of(context: Option<Self>, wanted: &[String]) -> bool {
        wanted.is_empty() || context.is_some_and(|context| wanted.iter().any(|uri| Self::of(uri) == context))
    }

    /// Short text for a cookie; [`Context::read`] reads it.
    pub(crate) fn write(self) -> String {
        match self.0 {
            Form::Known(name, _) => name.to_owned(),
            Form::Other(bytes) => format!("~{}", URL_SAFE_NO_PAD.encode(bytes)),
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        if let Some(encoded) = text.strip_prefix('~') {
            let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
            return Some(Self(Form::Other(bytes.try_into().ok()?)));
        }
        KNOWN.iter().find(|(name, _)| *name == text).map(|(name, uri)| Self(Form::Known(name, uri)))
    }
}

fn fingerprint(uri: &str) -> [u8; 8] {
    let digest = digest::digest(&digest::SHA256, uri.as_bytes());
    let mut short = [0; 8];
    short.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    short
}

/// How well an institution knows who a person is (REFEDS Assurance Framework, Identity Assurance Profile).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Self-asserted, confirmed e-mail.
    Low,
    /// An official document was seen.
    Medium,
    /// Seen face to face, or as well as that.
    High,
}

impl Level {
    const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// `low`, `medium` or `high`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Of a value of eduPersonAssurance; most values say something else.
    pub(crate) fn of(value: &str) -> Option<Self> {
        Self::named(value.strip_prefix("https://refeds.org/assurance/IAP/")?)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

/// Name in cookies, URI. Names stay as they are: cookies hold them.
const KNOWN: [(&str, &str); 13] = [
    ("mfa", "https://refeds.org/profile/mfa"),
    ("sfa", "https://refeds.org/profile/sfa"),
    ("ppt", "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"),
    ("pw", "urn:oasis:names:tc:SAML:2.0:ac:classes:Password"),
    ("none", "urn:oasis:names:tc:SAML:2.0:ac:classes:unspecified"),
    ("prev", "urn:oasis:names:tc:SAML:2.0:ac:classes:PreviousSession"),
    ("krb", "urn:oasis:names:tc:SAML:2.0:ac:classes:Kerberos"),
    ("x509", "urn:oasis:names:tc:SAML:2.0:ac:classes:X509"),
    ("tls", "urn:oasis:names:tc:SAML:2.0:ac:classes:TLSClient"),
    ("card", "urn:oasis:names:tc:SAML:2.0:ac:classes:SmartcardPKI"),
    ("token", "urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken"),
    ("mobile", "urn:oasis:names:tc:SAML:2.0:ac:classes:MobileTwoFactorContract"),
    ("msmfa", "http://schemas.microsoft.com/claims/multipleauthn"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_itself_after_a_cookie_and_no_other() {
        let uris: Vec<&str> = KNOWN.iter().map(|(_, uri)| *uri).chain(["https://idp.example/ac/mfa", ""]).collect();
        for (at, uri) in uris.iter().enumerate() {
            let context = Context::of(uri);
            assert_eq!(Context::read(&context.write()), Some(context), "{uri}");
            for (other_at, other) in uris.iter().enumerate() {
                assert_eq!(Context::of(other) == context, at == other_at, "{uri} {other}");
            }
        }
        for text in ["", "MFA", "~", "~AAAA", "~AAAAAAAAAAAA", "https://refeds.org/profile/mfa"] {
            assert_eq!(Context::read(text), None, "{text}");
        }
    }

    #[test]
    fn contexts_are_compared_exactly() {
        let wanted = ["https://refeds.org/profile/mfa".to_owned(), "urn:x:own".to_owned()];
        let is = |uri: &str| Context::is_one_of(Some(Context::of(uri)), &wanted);
        assert!(is("https://refeds.org/profile/mfa") && is("urn:x:own"));
        for weaker in
            ["https://refeds.org/profile/sfa", "https://refeds.org/profile/mfa/", "HTTPS://refeds.org/profile/mfa"]
        {
            assert!(!is(weaker), "{weaker}");
        }
        assert!(!Context::is_one_of(None, &wanted));
        assert!(Context::is_one_of(None, &[]) && Context::is_one_of(Some(Context::of("urn:x")), &[]));
    }

    #[test]
    fn levels_are_those_of_refeds() {
        assert_eq!(Level::of("https://refeds.org/assurance/IAP/high"), Some(Level::High));
        for value in
            ["high", "https://refeds.org/assurance/IAP/local-enterprise", "https://refeds.org/assurance/ATP/ePA-1m"]
        {
            assert_eq!(Level::of(value), None, "{value}");
        }
        assert!(Level::High > Level::Medium && Level::Medium > Level::Low);
    }
}
