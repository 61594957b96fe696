//! Who a cell lets in, whatever the protocol.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Cell, CellLogin, people};

/// What a login came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// This user is in.
    User(String),
    /// Nobody is.
    Refused,
    /// It was no login at all.
    Malformed,
}

impl Cell {
    /// The user's own name and password, by a command of the protocol.
    pub(super) fn enter_by_password(&self, user: &str, password: &str) -> Entry {
        let allowed = matches!(self.login, CellLogin::Password) && self.knows(user, password);
        if allowed { Entry::User(user.to_owned()) } else { Entry::Refused }
    }

    /// SASL PLAIN in base64 (RFC 4616): authzid NUL authcid NUL passwd.
    pub(super) fn enter_by_plain(&self, data: &str) -> Entry {
        let decoded = STANDARD.decode(data.trim()).unwrap_or_default();
        let parts: Vec<String> =
            decoded.split(|&byte| byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let [authzid, authcid, password] = parts.as_slice() else { return Entry::Malformed };
        let (user, allowed) = match &self.login {
            CellLogin::Password => {
                let same = authzid.is_empty() || authzid.eq_ignore_ascii_case(authcid);
                (authcid, same && self.knows(authcid, password))
            }
            CellLogin::Master { username, password: master } => {
                let known = people::find(&self.institutions, authzid).is_some();
                (authzid, known && authcid == username && password == master)
            }
        };
        if allowed { Entry::User(user.clone()) } else { Entry::Refused }
    }

    fn knows(&self, user: &str, password: &str) -> bool {
        people::find(&self.institutions, user).is_some_and(|(_, person)| person.password == password)
    }
}
