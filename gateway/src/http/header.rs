//! Header fields between the two sides: hop-by-hop and spoofed ones out, ours in.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora::{
    Result,
    http::{RequestHeader, ResponseHeader},
};

use super::cookie;

/// What we tell the cell about a request.
pub(crate) struct Told<'a> {
    /// The client.
    pub(crate) client: IpAddr,
    /// The name of ours that the client used, with its port when it is not 443.
    pub(crate) host: &'a str,
    /// Who the user is.
    pub(crate) word: Word<'a>,
}

/// How a cell is told who the user is.
pub(crate) enum Word<'a> {
    /// `Remote-User` and `Guichet-Identity`.
    Signed {
        /// The user's address.
        user: &'a str,
        /// The signed word about the user.
        token: HeaderValue,
    },
    /// A Zimbra's auth token, in its cookie.
    Zimbra(&'a str),
}

/// The head the cell gets for a client's: what a client may not say is left out, what we know is set. `upgrade`: the
/// request may switch protocols. The framing fields (`Transfer-Encoding`, `Content-Length`) pass.
///
/// # Errors
/// A target the engine cannot write.
pub(crate) fn for_cell(head: &RequestHeader, told: &Told<'_>, upgrade: bool) -> Result<RequestHeader> {
    let nominated = nominated(&head.headers);
    // The password was for us; the cell gets the signed word instead.
    let basic = is_basic(&head.headers);
    let doomed = |name: &HeaderName| {
        name == header::HOST
            || name == header::COOKIE
            || is_spoofable(name.as_str())
            || is_hop_by_hop(name, upgrade)
            || (basic && name == header::AUTHORIZATION)
            || (nominated.contains(name) && !(upgrade && name == header::UPGRADE))
    };
    let fields = head.headers.len() + OURS_MAX;
    let mut cells = RequestHeader::build_no_case(head.method.clone(), head.raw_path(), Some(fields))?;
    for (name, value) in head.headers.iter().filter(|(name, _)| !doomed(name)) {
        cells.append_header(name.clone(), value.clone())?;
    }
    if upgrade {
        set(&mut cells, header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    if let Some(cookies) = cookies(&head.headers, &told.word) {
        set(&mut cells, header::COOKIE, cookies);
    }
    set(&mut cells, header::HOST, told.host);
    set(&mut cells, X_FORWARDED_FOR, told.client.to_string());
    set(&mut cells, X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    set(&mut cells, X_FORWARDED_HOST, told.host);
    if let Word::Signed { user, token } = &told.word {
        set(&mut cells, REMOTE_USER, *user);
        set(&mut cells, GUICHET_IDENTITY, token.clone());
    }
    Ok(cells)
}

/// Makes a cell's response head the client's. `upgrade`: the response switches protocols. `zimbra`: the cell is entered by
/// token, and its cookie goes no further.
pub(crate) fn clean_response(head: &mut ResponseHeader, upgrade: bool, zimbra: bool) {
    let nominated = nominated(&head.headers);
    // `Connection` of an upgrade is the engine's own.
    let doomed = |name: &HeaderName| {
        TELLTALE.contains(name)
            || (is_hop_by_hop(name, upgrade) && !(upgrade && name == header::CONNECTION))
            || (nominated.contains(name) && !(upgrade && name == header::UPGRADE))
    };
    let names: Vec<HeaderName> = head.headers.keys().filter(|name| doomed(name)).cloned().collect();
    for name in &names {
        head.remove_header(name);
    }
    let ours = |name: &str| cookie::is_ours(name) || (zimbra && cookie::is_zimbra(name));
    if head.headers.get_all(header::SET_COOKIE).iter().any(|value| cookie::sets(value.as_bytes(), ours)) {
        let cookies: Vec<HeaderValue> = head.headers.get_all(header::SET_COOKIE).iter().cloned().collect();
        head.remove_header(&header::SET_COOKIE);
        for value in cookies.into_iter().filter(|value| !cookie::sets(value.as_bytes(), ours)) {
            // Appending what was there before cannot fail.
            let _ = head.append_header(header::SET_COOKIE, value);
        }
    }
    let _ = head.insert_header("strict-transport-security", HeaderValue::from_static(super::HSTS));
}

/// Fields that `Connection` names (RFC 9110 §7.6.1): they end here.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| *name != header::TRANSFER_ENCODING && *name != header::CONTENT_LENGTH && *name != header::HOST)
        .collect()
}

/// Whether only we may say this to a cell. Underscores count as hyphens, as a CGI variable would make them.
fn is_spoofable(name: &str) -> bool {
    let hyphened;
    let name = if name.contains('_') {
        hyphened = name.replace('_', "-");
        hyphened.as_str()
    } else {
        name
    };
    SPOOFABLE.contains(&name) || SPOOFABLE_STARTS.iter().any(|start| name.starts_with(start))
}

/// Whether the request carries Basic credentials.
pub(crate) fn is_basic(headers: &HeaderMap) -> bool {
    headers.get_all(header::AUTHORIZATION).iter().any(|value| {
        value.as_bytes().get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"basic "))
            || value.as_bytes().eq_ignore_ascii_case(b"basic")
    })
}

/// Whether the cell ends the token it was entered with: it takes the cookie away, or wants another login.
pub(crate) fn ends_token(head: &ResponseHeader) -> bool {
    let mut cookies = head.headers.get_all(header::SET_COOKIE).iter().map(HeaderValue::as_bytes);
    head.status == StatusCode::UNAUTHORIZED
        || cookies.any(|field| cookie::sets(field, cookie::is_zimbra) && cookie::clears(field))
}

/// The client's cookies but ours, and the token's. HTTP/2 may split the field (RFC 9113 §8.2.3); an HTTP/1.1 cell gets one.
fn cookies(headers: &HeaderMap, word: &Word<'_>) -> Option<HeaderValue> {
    let mut kept = Vec::new();
    let zimbra = matches!(word, Word::Zimbra(_));
    for field in headers.get_all(header::COOKIE) {
        let out = |name: &str| cookie::is_ours(name) || (zimbra && cookie::is_zimbra(name));
        cookie::push_without(field.as_bytes(), &mut kept, out);
    }
    if let Word::Zimbra(token) = word {
        cookie::push(format!("{}={token}", cookie::ZIMBRA).as_bytes(), &mut kept);
    }
    if kept.is_empty() {
        return None;
    }
    let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from(kept)).ok()?;
    // Not to be seen where somebody shows a head.
    value.set_sensitive(true);
    Some(value)
}

fn set(head: &mut RequestHeader, name: HeaderName, value: impl TryInto<HeaderValue>) {
    // Addresses and hosts are visible ASCII; were one not, the field is absent and the cell refuses.
    if let Ok(value) = value.try_into() {
        let _ = head.insert_header(name, value);
    }
}

/// Fields of one connection (RFC 9110 §7.6.1). `upgrade`: `Upgrade` is passed on.
fn is_hop_by_hop(name: &HeaderName, upgrade: bool) -> bool {
    name == header::CONNECTION || (name == header::UPGRADE && !upgrade) || HOP_BY_HOP.contains(name)
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
const GUICHET_IDENTITY: HeaderName = HeaderName::from_static("guichet-identity");
/// Fields we set, at most.
const OURS_MAX: usize = 8;

static HOP_BY_HOP: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("proxy"),
];

/// What a cell says of itself, and what is ours to say.
static TELLTALE: [HeaderName; 5] = [
    header::SERVER,
    HeaderName::from_static("x-powered-by"),
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    GUICHET_IDENTITY,
];

const SPOOFABLE: [&str; 12] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "client-ip",
    "x-originating-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
];

const SPOOFABLE_STARTS: [&str; 9] = [
    "x-forwarded",
    "remote-",
    "x-remote-",
    "guichet-",
    "x-guichet-",
    "x-auth-",
    "x-authenticated-",
    "x-webauth-",
    "ssl-client-",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told<'static> {
        Told {
            client: "192.0.2.7".parse().unwrap(),
            host: "mail.example",
            word: Word::Signed { user: "alice@univ.example", token: HeaderValue::from_static("header.claims.tag") },
        }
    }

    fn request(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn spoofed_fields_never_reach_the_cell() {
        let head = request(&[
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-For", "10.0.0.2"),
            ("Forwarded", "for=10.0.0.1"),
            ("X-Real-IP", "10.0.0.1"),
            ("Remote-User", "root@univ.example"),
            ("Remote_User", "root@univ.example"),
            ("X-Remote-User", "root@univ.example"),
            ("Guichet-Identity", "forged"),
            ("GUICHET_IDENTITY", "forged"),
            ("X-Original-URL", "/admin"),
            ("Accept", "text/html"),
        ]);
        let head = for_cell(&head, &told(), false).unwrap();
        let mut fields: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                ("accept", "text/html"),
                ("guichet-identity", "header.claims.tag"),
                ("host", "mail.example"),
                ("remote-user", "alice@univ.example"),
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-host", "mail.example"),
                ("x-forwarded-proto", "https"),
            ]
        );
    }

    #[test]
    fn fields_named_by_connection_end_here() {
        let head = request(&[("Connection", "close, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "1")]);
        let head = for_cell(&head, &told(), false).unwrap();
        for name in ["connection", "x-hop", "keep-alive"] {
            assert!(head.headers.get(name).is_none(), "{name}");
        }
    }

    #[test]
    fn our_own_fields_survive_being_named_by_connection() {
        let head = request(&[("Connection", "Remote-User, Guichet-Identity, X-Forwarded-For")]);
        let head = for_cell(&head, &told(), false).unwrap();
        assert_eq!(head.headers.get("remote-user").unwrap(), "alice@univ.example");
        assert_eq!(head.headers.get("guichet-identity").unwrap(), "header.claims.tag");
    }

    #[test]
    fn an_upgrade_keeps_its_two_fields() {
        let head = request(&[("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")]);
        let head = for_cell(&head, &told(), true).unwrap();
        assert_eq!(head.headers.get("upgrade").unwrap(), "websocket");
        assert_eq!(head.headers.get("connection").unwrap(), "Upgrade");
    }

    #[test]
    fn a_basic_password_stays_with_us_and_a_bearer_token_goes_on() {
        let head = request(&[("Authorization", "Basic YTpi")]);
        let head = for_cell(&head, &told(), false).unwrap();
        assert!(head.headers.get("authorization").is_none());
        let head = request(&[("Authorization", "Bearer t")]);
        let head = for_cell(&head, &told(), false).unwrap();
        assert!(head.headers.get("authorization").is_some());
    }

    #[test]
    fn a_response_loses_its_maker_and_cannot_set_our_cookies() {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Server", "Jetty"),
            ("X-Powered-By", "PHP"),
            ("Connection", "close"),
            ("Set-Cookie", "__Host-guichet=forged; Path=/"),
            ("Set-Cookie", "ZM=1"),
        ] {
            head.append_header(name, value).unwrap();
        }
        clean_response(&mut head, false, false);
        for name in ["server", "x-powered-by", "connection"] {
            assert!(head.headers.get(name).is_none(), "{name}");
        }
        let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["ZM=1"]);
        assert_eq!(head.headers.get("strict-transport-security").unwrap(), crate::http::HSTS);
    }
}
