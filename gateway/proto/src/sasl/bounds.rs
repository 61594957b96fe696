//! What no account can have, whoever asks: found before anybody is asked.

use crate::{Credential, LoginRequest};

/// Longest user name, authcid and authzid alike, bytes.
pub(crate) const NAME_BYTES_MAX: usize = 256;
/// Longest password, bytes.
pub(crate) const PASSWORD_BYTES_MAX: usize = 1024;
/// Longest token, bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Why a login is not worth a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A NUL or a line end: it could become a command at the cell. The client is told of a bad command.
    Illegal,
    /// Empty or too long: answered like a wrong password.
    Hopeless,
}

/// The flaw of a login, if it has one. An empty password never leaves: to a directory it would be an unauthenticated
/// bind, which succeeds (RFC 4513 §5.1.2).
pub(crate) fn flaw(login: &LoginRequest) -> Option<Flaw> {
    let (secret, secret_bytes_max) = match &login.credential {
        Credential::Password(password) => (Some(password.expose()), PASSWORD_BYTES_MAX),
        Credential::Token(token) => (Some(token.expose()), TOKEN_BYTES_MAX),
        Credential::Certificate => (None, 0),
    };
    let names = [Some(login.username.as_str()), login.authzid.as_deref()];
    if names.iter().chain([&secret]).flatten().any(|text| text.contains(['\r', '\n', '\0'])) {
        return Some(Flaw::Illegal);
    }
    // A token or a certificate may say itself whose it is.
    let nameless = login.username.is_empty() && matches!(login.credential, Credential::Password(_));
    let long_name = names.iter().flatten().any(|name| name.len() > NAME_BYTES_MAX);
    let hopeless_secret = secret.is_some_and(|secret| secret.is_empty() || secret.len() > secret_bytes_max);
    let empty_authzid = login.authzid.as_deref() == Some("");
    (nameless || long_name || hopeless_secret || empty_authzid).then_some(Flaw::Hopeless)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mechanism, SecretText};

    fn login(username: &str, credential: Credential, authzid: Option<&str>) -> LoginRequest {
        LoginRequest {
            mechanism: Mechanism::Plain,
            username: username.into(),
            credential,
            authzid: authzid.map(str::to_owned),
        }
    }

    fn secret(length: usize) -> SecretText {
        SecretText::new("x".repeat(length))
    }

    #[test]
    fn names_and_secrets_are_bounded() {
        let name = "n".repeat(256);
        assert_eq!(flaw(&login(&name, Credential::Password(secret(1024)), Some(&name))), None);
        assert_eq!(flaw(&login("", Credential::Token(secret(8192)), None)), None);
        assert_eq!(flaw(&login("", Credential::Certificate, None)), None);
        let longer = "n".repeat(257);
        for hopeless in [
            login(&longer, Credential::Certificate, None),
            login("a", Credential::Certificate, Some(&longer)),
            login("", Credential::Password(secret(1)), None),
            login("a", Credential::Password(secret(0)), None),
            login("a", Credential::Password(secret(1025)), None),
            login("a", Credential::Token(secret(0)), None),
            login("a", Credential::Token(secret(8193)), None),
        ] {
            assert_eq!(flaw(&hopeless), Some(Flaw::Hopeless), "{hopeless:?}");
        }
    }

    #[test]
    fn what_could_become_a_command_is_illegal() {
        for end in ["\r", "\n", "\0"] {
            let text = format!("a{end}b");
            for illegal in [
                login(&text, Credential::Certificate, None),
                login("a", Credential::Certificate, Some(&text)),
                login("a", Credential::Password(SecretText::new(text.clone())), None),
                login("a", Credential::Token(SecretText::new(text.clone())), None),
            ] {
                assert_eq!(flaw(&illegal), Some(Flaw::Illegal));
            }
        }
    }
}
