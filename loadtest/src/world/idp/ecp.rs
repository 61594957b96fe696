//! Enhanced Client or Proxy (saml-ecp v2.0 §2.3): a password instead of a form, an envelope instead of a browser.

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Idp, sso};
use crate::world::{
    saml::{self, Login},
    web::escape,
};

/// The Response for the owner of the credentials.
pub(super) async fn answer(
    State(idp): State<Idp>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let Some((this, institution)) = idp.idp(&tenant).filter(|(_, institution)| institution.one_password) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let request = saml::read_request(&body).and_then(|request| sso::known(&idp.sp, &request).map(|()| request));
    let request = match request {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let person = credentials(&headers).and_then(|(login, password)| {
        institution.people.iter().find(|person| person.idp_login == login && person.idp_password == password)
    });
    let Some(person) = person else {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"IdP\"")]).into_response();
    };
    let response = idp.sessions.open(&tenant, &person.idp_login, sso::PASSWORD).and_then(|(_, session)| {
        let now = jiff::Timestamp::now();
        let issuer = &this.entity_id;
        let login = Login { person, institution, issuer, request: &request, session: &session, now };
        saml::response(&login, &idp.sp, &this.signing)
    });
    match response {
        Ok(response) => {
            ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], envelope(&request.acs, &response)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    text.split_once(':').map(|(login, password)| (login.to_owned(), password.to_owned()))
}

fn envelope(acs: &str, response: &str) -> String {
    format!(
        "<S:Envelope xmlns:S=\"http://schemas.xmlsoap.org/soap/envelope/\"><S:Header><ecp:Response \
         xmlns:ecp=\"urn:oasis:names:tc:SAML:2.0:profiles:SSO:ecp\" S:mustUnderstand=\"1\" \
         S:actor=\"http://schemas.xmlsoap.org/soap/actor/next\" AssertionConsumerServiceURL=\"{}\"/></S:Header>\
         <S:Body>{response}</S:Body></S:Envelope>",
        escape(acs)
    )
}
