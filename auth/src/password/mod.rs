//! Passwords: Argon2id hashes of the embedded directory, and the cache that spares the directory.

mod cache;
mod hash;

pub use cache::{CacheKey, Cached, PasswordCache, Verifier};
pub use hash::{HashError, hash_password, verify_password};
