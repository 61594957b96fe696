//! Request bodies read whole, with a bound: forms, and what mail programs send.

use http::header;
use zeroize::Zeroizing;

use super::Session;

/// Fields of an `application/x-www-form-urlencoded` text, first of each name first.
#[derive(Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Parses a body or a query.
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(
            url::form_urlencoded::parse(text).take(FIELDS_MAX).map(|(n, v)| (n.into_owned(), v.into_owned())).collect(),
        )
    }

    /// A field; empty when it is absent.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A field that stands once; `None` when it is absent or repeated.
    pub(crate) fn only(&self, name: &str) -> Option<&str> {
        let mut found = self.pairs().filter(|(known, _)| *known == name);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value)
    }

    /// All fields, as they came.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A field whose name may be in capitals.
    pub(crate) fn field_any_case(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Takes a field out.
    pub(crate) fn take(&mut self, name: &str) -> String {
        let found = self.0.iter_mut().find(|(known, _)| known == name);
        found.map(|(_, value)| std::mem::take(value)).unwrap_or_default()
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Over the bound.
    TooLarge,
    /// Not a form.
    WrongType,
    /// The client went away.
    Gone,
}

/// Reads a form of at most `bytes_max`.
pub(crate) async fn read(session: &mut Session, bytes_max: usize) -> Result<Form, BodyError> {
    let head = session.req_header();
    let kind = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        return Err(BodyError::WrongType);
    }
    Ok(Form::parse(&body(session, bytes_max).await?))
}

/// Reads a body of at most `bytes_max`. It may hold a password: what held it is wiped.
pub(crate) async fn body(session: &mut Session, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, BodyError> {
    let waits = session.req_header().headers.get(header::EXPECT);
    let waits = waits.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits && !session.is_http2() {
        session.write_continue_response().await.map_err(|_| BodyError::Gone)?;
    }
    let mut body = Zeroizing::new(Vec::new());
    while let Some(piece) = session.read_request_body().await.map_err(|_| BodyError::Gone)? {
        if body.len() + piece.len() > bytes_max {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

const FIELDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn the_first_field_of_a_name_counts() {
        let mut form = Form::parse(b"a=1&b=x%20y+z&a=2");
        assert_eq!(form.field("a"), "1");
        assert_eq!(form.field("absent"), "");
        assert_eq!((form.only("a"), form.only("b"), form.only("absent")), (None, Some("x y z"), None));
        assert_eq!(form.take("b"), "x y z");
        assert_eq!(form.field("b"), "");
    }
}
