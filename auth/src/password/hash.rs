//! Argon2id hashes as PHC strings, for the embedded directory.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{Error, PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use guichet_config::Secret;

/// Why a password cannot be hashed or compared. Holds nothing of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// Not a PHC string of Argon2, or with parameters it does not take.
    #[error("the hash is not a usable `$argon2id$…` string")]
    Malformed,
    /// Hashing failed, for want of memory or of randomness.
    #[error("the password cannot be hashed")]
    Hashing,
}

/// Hashes a password with Argon2id, 19 MiB, two passes, one lane (RFC 9106, OWASP), and a fresh salt. Takes tens of
/// milliseconds: never call it on a runtime thread.
///
/// # Errors
/// No memory or no randomness.
pub fn hash_password(password: &Secret<String>) -> Result<String, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| HashError::Hashing)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password(password.expose().as_bytes()).map_err(|_| HashError::Hashing)?;
    Ok(hash.to_string())
}

/// Whether a password is the one of a PHC string. As slow as [`hash_password`].
///
/// # Errors
/// The string is no usable hash.
pub fn verify_password(password: &Secret<String>, phc: &str) -> Result<bool, HashError> {
    let hash = PasswordHash::new(phc).map_err(|_| HashError::Malformed)?;
    match Argon2::default().verify_password(password.expose().as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(HashError::Malformed),
    }
}

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_hash_knows_its_password_and_no_other() {
        let phc = hash_password(&secret("correct horse é")).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_eq!(verify_password(&secret("correct horse é"), &phc), Ok(true));
        assert_eq!(verify_password(&secret("correct horse e"), &phc), Ok(false));
        assert_ne!(hash_password(&secret("correct horse é")).unwrap(), phc, "each hash has its own salt");
    }

    #[test]
    fn what_is_no_hash_is_an_error() {
        for phc in ["", "x", "$argon2id$", "$argon2id$v=19$m=1,t=0,p=0$aaaa$bbbb", "{SSHA}abcd", "$2y$10$abcdefghijk"] {
            assert_eq!(verify_password(&secret("x"), phc), Err(HashError::Malformed), "{phc}");
        }
    }
}
