//! Our cookies: their names, how they are set, how they are read and kept from the cell.
//!
//! All carry the `__Host-` prefix (Secure, Path=/, no Domain): no other host of the domain can set or see them.

/// The session.
pub(crate) const SESSION: &str = "__Host-guichet";
/// Start of the name of each login under way; the rest is its handle.
pub(crate) const PENDING: &str = "__Host-guichet-login-";
/// Start of the name of each choice under way at a discovery service; the rest is its handle.
pub(crate) const DISCOVERY: &str = "__Host-guichet-discovery-";
/// The session at the IdP, as a logout has to name it.
pub(crate) const IDP_SESSION: &str = "__Host-guichet-logout";
/// Start of the name of each logout under way; the rest is its handle.
pub(crate) const PENDING_LOGOUT: &str = "__Host-guichet-logout-";
/// The institution chosen last.
pub(crate) const TENANT: &str = "__Host-guichet-tenant";
/// The language chosen by the switch.
pub(crate) const LANG: &str = "__Host-guichet-lang";

/// Who may bring a cookie back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SameSite {
    /// Requests from our pages and links from elsewhere.
    Lax,
    /// Also the IdP's page posting to us.
    None,
}

/// A `Set-Cookie` value. `max_age` in seconds; absent: until the browser closes.
pub(crate) fn set(name: &str, value: &str, same_site: SameSite, max_age: Option<u64>) -> String {
    let same_site = match same_site {
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    };
    let max_age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}{max_age}")
}

/// A `Set-Cookie` value that makes the browser forget.
pub(crate) fn clear(name: &str) -> String {
    let pending = name.starts_with(PENDING) || name.starts_with(PENDING_LOGOUT);
    let same_site = if pending { SameSite::None } else { SameSite::Lax };
    set(name, "", same_site, Some(0))
}

/// The pairs of the `Cookie` fields (RFC 6265 §5.4), at most [`PAIRS_MAX`].
pub(crate) fn pairs<'a>(fields: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = (&'a str, &'a str)> {
    fields
        .filter_map(|field| std::str::from_utf8(field).ok())
        .flat_map(|field| field.split(';'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
        .take(PAIRS_MAX)
}

/// Whether a cookie is ours, and so not the cell's business.
pub(crate) fn is_ours(name: &str) -> bool {
    let start = name.get(..SESSION.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(SESSION))
}

/// Whether a cookie opens a Zimbra cell: between that cell and us only, where we enter it by token.
pub(crate) fn is_zimbra(name: &str) -> bool {
    name.eq_ignore_ascii_case(ZIMBRA)
}

/// Appends the cookies of a `Cookie` field but those of which `out` holds, `; ` between them.
pub(crate) fn push_without(field: &[u8], kept: &mut Vec<u8>, out: impl Fn(&str) -> bool) {
    for pair in field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        if !std::str::from_utf8(name).is_ok_and(&out) {
            push(pair, kept);
        }
    }
}

/// Appends a pair, `; ` in front of it when it is not the first.
pub(crate) fn push(pair: &[u8], kept: &mut Vec<u8>) {
    if !kept.is_empty() {
        kept.extend_from_slice(b"; ");
    }
    kept.extend_from_slice(pair);
}

/// Whether a `Set-Cookie` of a cell sets a cookie of which `which` holds.
pub(crate) fn sets(field: &[u8], which: impl Fn(&str) -> bool) -> bool {
    let name = field.split(|byte| *byte == b'=' || *byte == b';').next().unwrap_or_default().trim_ascii();
    std::str::from_utf8(name).is_ok_and(which)
}

/// Whether a `Set-Cookie` only takes a cookie away: without a value, as Zimbra does, or with no time to live.
pub(crate) fn clears(field: &[u8]) -> bool {
    let mut parts = field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let value = parts.next().and_then(|pair| pair.splitn(2, |byte| *byte == b'=').nth(1)).unwrap_or_default();
    matches!(value.trim_ascii(), b"" | b"\"\"") || parts.any(|part| part.eq_ignore_ascii_case(b"max-age=0"))
}

/// What a Zimbra cell knows a logged-in browser by.
pub(crate) const ZIMBRA: &str = "ZM_AUTH_TOKEN";

/// More than any browser sends for one host.
const PAIRS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_and_trimmed() {
        let field = b"a=1; __Host-guichet=x.y==;b = 2 ;broken".as_slice();
        let pairs: Vec<_> = pairs([field].into_iter()).collect();
        assert_eq!(pairs, [("a", "1"), (SESSION, "x.y=="), ("b", "2")]);
    }

    #[test]
    fn the_cell_never_sees_our_cookies() {
        let field = b"a=1; __Host-guichet=secret; __host-guichet-login-00=s;b=2; __Host-guichet-lang=fr";
        let mut kept = Vec::new();
        push_without(field, &mut kept, is_ours);
        assert_eq!(kept, b"a=1; b=2");
        push_without(b"__Host-guichet=secret", &mut kept, is_ours);
        push_without(b"ZM_AUTH_TOKEN=1", &mut kept, is_ours);
        push_without(b"zm_auth_token=2; c=3", &mut kept, is_zimbra);
        assert_eq!(kept, b"a=1; b=2; ZM_AUTH_TOKEN=1; c=3");
    }

    #[test]
    fn the_cell_cannot_set_our_cookies() {
        assert!(sets(b"__Host-guichet=forged; Path=/", is_ours));
        assert!(sets(b" __HOST-GUICHET-login-1=forged", is_ours));
        assert!(!sets(b"JSESSIONID=__Host-guichet", is_ours));
    }

    #[test]
    fn a_cookie_is_taken_away_or_set() {
        for gone in
            ["ZM_AUTH_TOKEN=; Path=/", "ZM_AUTH_TOKEN=\"\"", "ZM_AUTH_TOKEN", "ZM_AUTH_TOKEN=x; Path=/; Max-Age=0"]
        {
            assert!(clears(gone.as_bytes()) && sets(gone.as_bytes(), is_zimbra), "{gone}");
        }
        assert!(!clears(b"ZM_AUTH_TOKEN=0_a=; Path=/; Max-Age=01"));
    }

    #[test]
    fn a_set_cookie_carries_every_guard() {
        assert_eq!(set(SESSION, "v", SameSite::Lax, None), "__Host-guichet=v; Path=/; Secure; HttpOnly; SameSite=Lax");
        assert!(clear("__Host-guichet-login-ab").ends_with("SameSite=None; Max-Age=0"));
        assert!(clear("__Host-guichet-logout-ab").ends_with("SameSite=None; Max-Age=0"));
        assert!(clear(IDP_SESSION).ends_with("SameSite=Lax; Max-Age=0"));
    }
}
