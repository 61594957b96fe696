//! An issuer of bearer tokens.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::world::{World, run, run_with_input};

/// Signs tokens with openssl; its key set is a file.
#[derive(Debug)]
pub struct Issuer {
    key: PathBuf,
    keys: PathBuf,
}

impl Issuer {
    /// An issuer whose key set is `NAME.jwks` in a folder.
    pub fn new(world: &World, folder: &Path, name: &str) -> Self {
        let whose = folder.file_name().and_then(|name| name.to_str()).expect("a name");
        let key = world.pki().saml(&format!("{whose}-{name}")).key;
        let issuer = Self { key, keys: folder.join(format!("{name}.jwks")) };
        issuer.publish(&issuer.keys);
        issuer
    }

    /// File of its key set.
    pub fn keys(&self) -> &Path {
        &self.keys
    }

    /// `[bearer.login]`: it speaks for the users of one tenant.
    pub fn config(&self, tenant: &str) -> String {
        format!(
            "[bearer.login]\nissuer = \"{ISSUER}\"\naudience = \"{AUDIENCE}\"\nkeys_file = \"{}\"\ntenants = [\"{tenant}\"]\n",
            self.keys.display()
        )
    }

    /// Writes its public key as a key set.
    pub fn publish(&self, file: &Path) {
        let said = run(Command::new("openssl").args(["rsa", "-noout", "-modulus", "-in"]).arg(&self.key));
        let hex = said.trim().strip_prefix("Modulus=").expect("a modulus").as_bytes();
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok()).expect("hex");
        let modulus: Vec<u8> =
            hex.chunks(2).map(|pair| pair.iter().fold(0, |byte, &b| (byte << 4) | digit(b))).collect();
        let set = serde_json::json!({"keys": [
            {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"}
        ]});
        std::fs::write(file, set.to_string()).expect("key set");
    }

    /// A token for an address, that lasts so many seconds from now.
    #[allow(clippy::disallowed_methods, reason = "the gateway that reads it looks at the real clock")]
    pub fn token(&self, address: &str, seconds: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let now = i64::try_from(now).expect("before the end of time");
        let claims = serde_json::json!({
            "iss": ISSUER, "aud": [AUDIENCE], "sub": "f3a9", "iat": now, "exp": now + seconds, "email": address,
        });
        let header = serde_json::json!({"alg": "RS256", "typ": "at+jwt", "kid": "k1"});
        let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let mut sign = Command::new("openssl");
        sign.args(["dgst", "-sha256", "-sign"]).arg(&self.key);
        let signature = run_with_input(&mut sign, message.as_bytes());
        assert!(signature.status.success(), "{}", String::from_utf8_lossy(&signature.stderr));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.stdout))
    }
}

const ISSUER: &str = "https://login.univ-a.test/realms/mail";
const AUDIENCE: &str = "https://mail.guichet.test";
