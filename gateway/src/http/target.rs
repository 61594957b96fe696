//! Where a browser goes after a login: a path on our own host, and nothing else (open redirects are refused).

/// The target as given when it is a safe path, else the home page.
///
/// Safe: starts with one `/` that neither `/` nor `\` follows, holds only visible ASCII without `\`, is at most
/// [`LENGTH_MAX`] bytes, and does not lead back into the login pages.
pub(crate) fn safe(target: &str) -> &str {
    if is_safe(target) { target } else { HOME }
}

/// The page of ours that an absolute address names: what stands behind our `origin`. Another address stays as it is, and is
/// not [`safe`] then.
pub(crate) fn behind<'a>(address: &'a str, origin: &str) -> &'a str {
    match address.strip_prefix(origin) {
        Some("") => HOME,
        Some(rest) if rest.starts_with('/') => rest,
        _ => address,
    }
}

fn is_safe(target: &str) -> bool {
    let mut bytes = target.bytes();
    bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && target.len() <= LENGTH_MAX
        && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !super::login::is_own(target.split(['?', '#']).next().unwrap_or_default())
}

/// `value` as one query value or form field.
pub(crate) fn encode(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

/// The home page.
pub(crate) const HOME: &str = "/";
/// Keeps the sealed cookie that remembers a target under browsers' 4 KiB.
pub(crate) const LENGTH_MAX: usize = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_our_host_is_kept() {
        for target in ["/", "/mail", "/mail?id=3&x=%2F", "/a//b", "/calendar/#today"] {
            assert_eq!(safe(target), target);
        }
    }

    #[test]
    fn anything_that_leaves_our_host_leads_home() {
        let long = format!("/{}", "a".repeat(LENGTH_MAX));
        for target in [
            "",
            "mail",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/mail\r\nSet-Cookie: a=b",
            "/a\\b",
            "/a b",
            "/\u{e9}",
            "/\t/evil.example",
            &long,
        ] {
            assert_eq!(safe(target), HOME, "{target:?}");
        }
    }

    #[test]
    fn an_address_of_ours_is_a_page_of_ours() {
        let origin = "https://mail.example";
        for (address, page) in [
            ("https://mail.example", HOME),
            ("https://mail.example/", "/"),
            ("https://mail.example/mail?a=b", "/mail?a=b"),
            ("/mail", "/mail"),
            ("https://mail.example:8443/mail", HOME),
            ("https://mail.example.evil/mail", HOME),
            ("https://mail.example@evil.example/", HOME),
            ("https://mail.example//evil.example/", HOME),
            ("http://mail.example/mail", HOME),
            ("", HOME),
        ] {
            assert_eq!(safe(behind(address, origin)), page, "{address}");
        }
    }

    #[test]
    fn the_login_pages_are_no_target() {
        assert_eq!(safe("/login?next=/login"), HOME);
        assert_eq!(safe("/logout"), HOME);
        assert_eq!(safe("/saml/acs"), HOME);
    }
}
