//! Microsoft's autodiscover: POX ([MS-OXDSCLI]) and the JSON answer that leads to it.
//!
//! Programs for mail protocols get their settings without a login. A program for ActiveSync goes on to the user's cell,
//! with the body that was read.

use http::StatusCode;

use super::{
    Visit,
    request::{self, Request, Schema},
};
use crate::http::{
    Session,
    form::{self, BodyError},
    page::Answer,
};

impl Visit<'_> {
    /// POX: settings, an error document, or none for the cell's answer.
    pub(super) async fn autodiscover(&self, session: &mut Session) -> Option<Answer> {
        // What was read can be sent on.
        session.enable_retry_buffering();
        let request = match form::body(session, BODY_BYTES_MAX).await {
            Ok(body) => request::read(&body),
            Err(BodyError::TooLarge) => return Some(refusal(StatusCode::PAYLOAD_TOO_LARGE, INVALID)),
            Err(_) => return Some(refusal(StatusCode::BAD_REQUEST, INVALID)),
        };
        match request {
            Ok(Request { schema: Schema::MobileSync, .. }) => None,
            Ok(Request { schema: Schema::Outlook, address: Some(address) }) => Some(self.settings(&address)),
            Ok(Request { schema: Schema::Other, .. }) => Some(refusal(StatusCode::BAD_REQUEST, NO_PROVIDER)),
            Ok(Request { address: None, .. }) | Err(request::Malformed) => {
                Some(refusal(StatusCode::BAD_REQUEST, INVALID))
            }
        }
    }

    fn settings(&self, address: &str) -> Answer {
        let Some((address, _)) = self.known(address) else { return refusal(StatusCode::NOT_FOUND, NO_ADDRESS) };
        match self.autodiscover_document(&address) {
            Some(document) => xml(StatusCode::OK, document),
            None => refusal(StatusCode::NOT_FOUND, NO_PROVIDER),
        }
    }

    /// JSON (version 2): where POX is.
    pub(super) fn autodiscover_json(&self) -> Answer {
        let json = |status, value: serde_json::Value| {
            Answer::new(status, "application/json; charset=utf-8", value.to_string())
        };
        let error = |status, code: &str, message: &str| {
            json(status, serde_json::json!({"ErrorCode": code, "ErrorMessage": message}))
        };
        let protocol = self.query.field_any_case("protocol");
        if protocol.is_empty() {
            let said = "A valid value must be provided for the query parameter 'Protocol'";
            return error(StatusCode::BAD_REQUEST, "MandatoryParameterMissing", said);
        }
        if !protocol.eq_ignore_ascii_case(POX) {
            let said = "The given protocol value is invalid. Supported values are 'AutodiscoverV1'";
            return error(StatusCode::BAD_REQUEST, "InvalidProtocol", said);
        }
        let known = match self.json_address() {
            Some(address) => self.known(&address).is_some(),
            None => self.domain.is_some(),
        };
        if !known {
            return error(StatusCode::NOT_FOUND, "UserNotFound", "The email address cannot be found.");
        }
        let url = format!("{}{PATH}", self.offer.origin);
        json(StatusCode::OK, serde_json::json!({"Protocol": POX, "Url": url})).with_cache("public")
    }

    /// In the query or, as newer programs write it, in the path.
    fn json_address(&self) -> Option<String> {
        let written = self.query.field_any_case("email");
        if !written.is_empty() {
            return Some(written.to_owned());
        }
        let segment = self.path.get(JSON_PATH.len() + JSON_VERSION.len()..).filter(|segment| !segment.is_empty())?;
        // A `+` in a path is a plus.
        let segment = segment.replace('+', "%2B");
        url::form_urlencoded::parse(segment.as_bytes()).next().map(|(name, _)| name.into_owned())
    }
}

/// Whether a path is that of the JSON answer, with or without an address behind it.
pub(super) fn is_json(path: &str) -> bool {
    let Some((start, rest)) = path.split_at_checked(JSON_PATH.len()) else { return false };
    let version = || rest.get(..JSON_VERSION.len()).is_some_and(|found| found.eq_ignore_ascii_case(JSON_VERSION));
    start.eq_ignore_ascii_case(JSON_PATH) && (rest.is_empty() || version())
}

/// The error document. Programs take any status but 200 for "not here" and ask elsewhere.
fn refusal(status: StatusCode, (code, message): (u16, &str)) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">\n\
         <Response>\n<Error Time=\"00:00:00.0000000\" Id=\"0\">\n<ErrorCode>{code}</ErrorCode>\n\
         <Message>{message}</Message>\n<DebugData/>\n</Error>\n</Response>\n</Autodiscover>\n"
    );
    xml(status, body)
}

fn xml(status: StatusCode, body: String) -> Answer {
    Answer::new(status, "text/xml; charset=utf-8", body)
}

/// Of POX, in the letters that documents use.
pub(super) const PATH: &str = "/autodiscover/autodiscover.xml";
const JSON_PATH: &str = "/autodiscover/autodiscover.json";
/// Behind it stands an address.
const JSON_VERSION: &str = "/v1.0/";
const POX: &str = "AutodiscoverV1";

/// Codes and words as Exchange has them.
const INVALID: (u16, &str) = (600, "Invalid Request");
const NO_PROVIDER: (u16, &str) = (601, "Provider is not available");
const NO_ADDRESS: (u16, &str) = (500, "The email address can't be found.");

/// Requests are below 1 KiB; the engine keeps 64 KiB to send on.
const BODY_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_with_the_address_in_the_query_or_in_the_path() {
        for path in [JSON_PATH, "/Autodiscover/Autodiscover.json", "/autodiscover/autodiscover.json/V1.0/a@b.example"] {
            assert!(is_json(path), "{path}");
        }
        for path in [
            "/autodiscover/autodiscover.jso",
            "/autodiscover/autodiscover.json/",
            "/autodiscover/autodiscover.jsonp",
            "/",
        ] {
            assert!(!is_json(path), "{path}");
        }
    }
}
