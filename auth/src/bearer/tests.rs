use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use guichet_config::BearerAlgorithm;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chain::tests::config;

/// Signs tokens as an issuer does, well or badly.
struct Minter {
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

/// RSA keys take their time: once for all tests.
static MINTER: LazyLock<Minter> = LazyLock::new(Minter::new);
static STRANGER: LazyLock<Minter> = LazyLock::new(Minter::new);

const ISSUER: &str = "https://login.example/realms/a";
const AUDIENCE: &str = "https://mail.example";
const NOW: u64 = 1_800_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Minter {
    fn new() -> Self {
        Self {
            ec: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa = self.rsa.public_key();
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "use": "sig", "kid": "ec-1", "x": b64(&point[1..33]), "y": b64(&point[33..])},
            {"kty": "RSA", "alg": "RS256", "kid": "rsa-1", "n": b64(rsa.modulus().big_endian_without_leading_zero()),
             "e": b64(rsa.exponent().big_endian_without_leading_zero())},
            {"kty": "RSA", "alg": "RSA-OAEP", "use": "enc", "kid": "enc-1", "n": "x", "e": "AQAB"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed-1", "x": "x"},
        ]})
    }

    fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let chance = SystemRandom::new();
        if alg == "ES256" {
            return self.ec.sign(&chance, message).unwrap().as_ref().to_vec();
        }
        let mut signed = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&signature::RSA_PKCS1_SHA256, &chance, message, &mut signed).unwrap();
        signed
    }

    /// A token of texts that are JSON, more or less; signed as `alg`.
    fn raw(&self, alg: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = b64(self.sign(alg, message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn mint(&self, alg: &str, claims: &Value) -> String {
        let kid = if alg == "ES256" { "ec-1" } else { "rsa-1" };
        self.raw(alg, &json!({"alg": alg, "typ": "at+jwt", "kid": kid}).to_string(), &claims.to_string())
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "5ba552d67", "exp": NOW + 300, "nbf": NOW - 5, "iat": NOW - 5,
        "email": "Alice@UNIV-A.example", "email_verified": true, "scope": "mail",
    })
}

/// The claims with some changed, or left out (null).
fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            all.as_object_mut().unwrap().remove(name);
        } else {
            all[name] = value.clone();
        }
    }
    all
}

fn bearer(tenants: &[&str]) -> Bearer {
    Bearer {
        name: "a".into(),
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        keys_file: "a.jwks".into(),
        algorithms: vec![BearerAlgorithm::Es256, BearerAlgorithm::Rs256],
        address_claim: "email".into(),
        tenants: tenants.iter().map(|name| name.parse().unwrap()).collect(),
        clock_skew: Duration::from_secs(60),
    }
}

fn issuers_with(bearer: Bearer, jwks: &Value) -> Issuers {
    let keys = Keys::read(jwks.to_string().as_bytes(), &bearer.algorithms).unwrap();
    let mut config = config();
    config.bearers = vec![bearer];
    Issuers { config: Arc::new(config), keys: vec![keys] }
}

fn issuers() -> Issuers {
    issuers_with(bearer(&["univ-a"]), &MINTER.jwks())
}

fn verify(issuers: &Issuers, token: &str) -> Result<String, TokenRefusal> {
    issuers.verify(token, WallTime(NOW * 1000)).map(|address| address.to_string())
}

const ALICE: Result<&str, &TokenRefusal> = Ok("alice@univ-a.example");

#[test]
fn a_good_token_of_either_algorithm_proves_its_address() {
    let issuers = issuers();
    for alg in ["ES256", "RS256"] {
        for changes in [
            json!({}),
            json!({"nbf": null, "iat": null, "email_verified": null}),
            json!({"aud": ["https://other.example", AUDIENCE]}),
            json!({"exp": NOW as f64 + 0.5, "groups": ["a", {"b": [1, null]}]}),
        ] {
            let token = MINTER.mint(alg, &with(changes));
            assert_eq!(verify(&issuers, &token).as_deref(), ALICE, "{token}");
        }
        for typ in [json!("JWT"), json!("application/at+JWT"), json!(null)] {
            let mut header = json!({"alg": alg, "kid": if alg == "ES256" { "ec-1" } else { "rsa-1" }});
            if !typ.is_null() {
                header["typ"] = typ;
            }
            let token = MINTER.raw(alg, &header.to_string(), &claims().to_string());
            assert_eq!(verify(&issuers, &token).as_deref(), ALICE);
        }
    }
}

#[test]
fn a_signature_of_somebody_else_is_refused() {
    let issuers = issuers();
    for alg in ["ES256", "RS256"] {
        assert_eq!(verify(&issuers, &STRANGER.mint(alg, &claims())), Err(TokenRefusal::Signature));
        // The claims of one token under the signature of another, and a signature cut or empty.
        let (good, other) =
            (MINTER.mint(alg, &claims()), MINTER.mint(alg, &with(json!({"email": "bob@univ-a.example"}))));
        let (message, signature) = good.rsplit_once('.').unwrap();
        let swapped = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
        assert_eq!(verify(&issuers, &swapped), Err(TokenRefusal::Signature));
        for cut in ["", "AAAA", &signature[..signature.len() - 2]] {
            assert_eq!(verify(&issuers, &format!("{message}.{cut}")), Err(TokenRefusal::Signature), "{cut:?}");
        }
    }
    // An ECDSA signature of zeros, which careless verifiers took for good, and one as X.509 writes it.
    let token = MINTER.mint("ES256", &claims());
    let message = token.rsplit_once('.').unwrap().0;
    assert_eq!(verify(&issuers, &format!("{message}.{}", b64([0; 64]))), Err(TokenRefusal::Signature));
}

#[test]
fn alg_none_is_refused() {
    let issuers = issuers();
    for alg in ["none", "None", "NONE", ""] {
        let header = json!({"alg": alg, "kid": "ec-1"}).to_string();
        for signature in [String::new(), b64("x")] {
            let token = format!("{}.{}.{signature}", b64(&header), b64(claims().to_string()));
            assert_eq!(verify(&issuers, &token), Err(TokenRefusal::Algorithm), "{alg}");
        }
    }
    let header = json!({"kid": "ec-1"}).to_string();
    let token = MINTER.raw("ES256", &header, &claims().to_string());
    assert_eq!(verify(&issuers, &token), Err(TokenRefusal::Algorithm), "no alg at all");
}

#[test]
fn a_public_key_is_no_shared_secret() {
    // HS256 with what anybody can know as key: the point, the modulus, the whole key set.
    let issuers = issuers();
    let point = MINTER.ec.public_key().as_ref().to_vec();
    let modulus = MINTER.rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
    for (kid, secret) in
        [("ec-1", point), ("rsa-1", modulus), ("rsa-1", MINTER.jwks().to_string().into_bytes()), ("ec-1", Vec::new())]
    {
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": kid}).to_string();
        let message = format!("{}.{}", b64(header), b64(claims().to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        assert_eq!(verify(&issuers, &format!("{message}.{}", b64(tag))), Err(TokenRefusal::Algorithm));
    }
}

#[test]
fn a_key_verifies_its_own_algorithm_only() {
    let issuers = issuers();
    for (alg, kid) in [("ES256", "rsa-1"), ("RS256", "ec-1"), ("ES256", "enc-1"), ("ES256", "ed-1")] {
        let token = MINTER.raw(alg, &json!({"alg": alg, "kid": kid}).to_string(), &claims().to_string());
        assert_eq!(verify(&issuers, &token), Err(TokenRefusal::UnknownKey), "{alg} by {kid}");
    }
    for alg in ["PS256", "ES384", "RS512", "EdDSA"] {
        let header = json!({"alg": alg, "kid": "rsa-1"}).to_string();
        assert_eq!(verify(&issuers, &MINTER.raw("RS256", &header, "{}")), Err(TokenRefusal::Issuer));
        let token = MINTER.raw("RS256", &header, &claims().to_string());
        assert_eq!(verify(&issuers, &token), Err(TokenRefusal::Algorithm), "{alg}");
    }
    // And what the issuer is not configured for is not taken.
    let mut narrow = bearer(&["univ-a"]);
    narrow.algorithms = vec![BearerAlgorithm::Es256];
    let issuers = issuers_with(narrow, &MINTER.jwks());
    assert_eq!(verify(&issuers, &MINTER.mint("RS256", &claims())), Err(TokenRefusal::Algorithm));
    assert_eq!(verify(&issuers, &MINTER.mint("ES256", &claims())).as_deref(), ALICE);
}

#[test]
fn an_unknown_kid_is_refused_and_none_is_taken_only_where_there_is_no_choice() {
    let many = issuers();
    let signed = |header: Value| MINTER.raw("ES256", &header.to_string(), &claims().to_string());
    for kid in [json!("ec-2"), json!(""), json!("EC-1"), json!(1), json!(null), json!(["ec-1"])] {
        let token = signed(json!({"alg": "ES256", "kid": kid}));
        assert_eq!(verify(&many, &token), Err(TokenRefusal::UnknownKey), "{kid}");
    }
    let bare = signed(json!({"alg": "ES256"}));
    assert_eq!(verify(&many, &bare), Err(TokenRefusal::UnknownKey));
    let mut jwks = MINTER.jwks();
    jwks["keys"].as_array_mut().unwrap().remove(1);
    let single = issuers_with(bearer(&["univ-a"]), &jwks);
    assert_eq!(verify(&single, &bare).as_deref(), ALICE);
    // A key that the token brings along is not looked at.
    let own = STRANGER.jwks()["keys"][0].clone();
    let header = json!({"alg": "ES256", "kid": "ec-1", "jwk": own, "jku": "https://evil.example/jwks"});
    let token = STRANGER.raw("ES256", &header.to_string(), &claims().to_string());
    assert_eq!(verify(&many, &token), Err(TokenRefusal::Signature));
}

#[test]
fn a_token_has_its_time() {
    let issuers = issuers();
    // Sixty seconds of difference between the clocks are allowed.
    for (changes, expected) in [
        (json!({"exp": NOW - 59}), Ok(())),
        (json!({"exp": NOW - 60}), Err(TokenRefusal::Expired)),
        (json!({"exp": 0}), Err(TokenRefusal::Expired)),
        (json!({"nbf": NOW + 60}), Ok(())),
        (json!({"nbf": NOW + 61}), Err(TokenRefusal::NotYet)),
        (json!({"iat": NOW + 60}), Ok(())),
        (json!({"iat": NOW + 61}), Err(TokenRefusal::NotYet)),
        (json!({"iat": 1e300}), Err(TokenRefusal::NotYet)),
        (json!({"exp": null}), Err(TokenRefusal::Times)),
        (json!({"exp": (NOW + 300).to_string()}), Err(TokenRefusal::Times)),
        (json!({"exp": -1}), Err(TokenRefusal::Times)),
        (json!({"exp": [NOW + 300]}), Err(TokenRefusal::Times)),
        (json!({"nbf": "now"}), Err(TokenRefusal::Times)),
        (json!({"iat": true}), Err(TokenRefusal::Times)),
    ] {
        let token = MINTER.mint("ES256", &with(changes.clone()));
        assert_eq!(verify(&issuers, &token).map(drop), expected, "{changes}");
    }
}

#[test]
fn a_token_for_somebody_else_is_refused() {
    let issuers = issuers();
    for aud in [
        json!("https://other.example"),
        json!("https://mail.example/"),
        json!("HTTPS://mail.example"),
        json!(["https://other.example", [AUDIENCE]]),
        json!([]),
        json!({"a": AUDIENCE}),
        json!(1),
        json!(null),
    ] {
        let token = MINTER.mint("ES256", &with(json!({"aud": aud})));
        assert_eq!(verify(&issuers, &token), Err(TokenRefusal::Audience), "{aud}");
    }
}

#[test]
fn a_token_of_an_unknown_issuer_is_refused() {
    let issuers = issuers();
    for iss in [json!("https://evil.example"), json!(format!("{ISSUER}/")), json!([ISSUER]), json!(1), json!(null)] {
        let token = MINTER.mint("ES256", &with(json!({"iss": iss})));
        assert_eq!(verify(&issuers, &token), Err(TokenRefusal::Issuer), "{iss}");
    }
}

#[test]
fn issuers_have_their_own_keys_and_their_own_tenants() {
    let other = Bearer { name: "b".into(), issuer: "https://b.example".into(), ..bearer(&["univ-b"]) };
    let mut config = config();
    config.bearers = vec![bearer(&["univ-a"]), other];
    let keys = |minter: &Minter| Keys::read(minter.jwks().to_string().as_bytes(), &[BearerAlgorithm::Es256]).unwrap();
    let issuers = Issuers { config: Arc::new(config), keys: vec![keys(&MINTER), keys(&STRANGER)] };
    let of_b = |email: &str| with(json!({"iss": "https://b.example", "email": email}));
    assert_eq!(verify(&issuers, &MINTER.mint("ES256", &claims())).as_deref(), ALICE);
    let token = STRANGER.mint("ES256", &of_b("bob@univ-b.example"));
    assert_eq!(verify(&issuers, &token).as_deref(), Ok("bob@univ-b.example"));
    // b signs for a, with its own key and in the name of a; and in its own name for a user of a.
    assert_eq!(verify(&issuers, &STRANGER.mint("ES256", &claims())), Err(TokenRefusal::Signature));
    let token = STRANGER.mint("ES256", &of_b("alice@univ-a.example"));
    assert_eq!(verify(&issuers, &token), Err(TokenRefusal::ForeignDomain));
}

#[test]
fn the_address_is_one_of_a_domain_the_issuer_speaks_for() {
    let issuers = issuers();
    for (changes, refusal) in [
        (json!({"email": "alice@univ-b.example"}), TokenRefusal::ForeignDomain),
        (json!({"email": "alice@elsewhere.example"}), TokenRefusal::ForeignDomain),
        (json!({"email": "alice@sub.univ-a.example"}), TokenRefusal::ForeignDomain),
        (json!({"email": "alice"}), TokenRefusal::NoAddress),
        (json!({"email": "alice@univ-a.example\u{0}@univ-b.example"}), TokenRefusal::NoAddress),
        (json!({"email": ["alice@univ-a.example"]}), TokenRefusal::NoAddress),
        (json!({"email": ""}), TokenRefusal::NoAddress),
        (json!({"email": null}), TokenRefusal::NoAddress),
        (json!({"email_verified": false}), TokenRefusal::UnverifiedAddress),
        (json!({"email_verified": "true"}), TokenRefusal::UnverifiedAddress),
    ] {
        let token = MINTER.mint("RS256", &with(changes.clone()));
        assert_eq!(verify(&issuers, &token), Err(refusal), "{changes}");
    }
    // Another claim, which nobody types into a profile.
    let named = Bearer { address_claim: "mailbox".into(), ..bearer(&["univ-a"]) };
    let issuers = issuers_with(named, &MINTER.jwks());
    let token =
        MINTER.mint("ES256", &with(json!({"mailbox": "alice@univ-a.example", "email": "x", "email_verified": false})));
    assert_eq!(verify(&issuers, &token).as_deref(), ALICE);
    assert_eq!(verify(&issuers, &MINTER.mint("ES256", &claims())), Err(TokenRefusal::NoAddress));
}

#[test]
fn other_kinds_of_token_are_refused() {
    let issuers = issuers();
    let signed = |header: Value| MINTER.raw("ES256", &header.to_string(), &claims().to_string());
    for typ in
        [json!("logout+jwt"), json!("dpop+jwt"), json!("secevent+jwt"), json!("JWE"), json!(""), json!(1), json!(null)]
    {
        let token = signed(json!({"alg": "ES256", "kid": "ec-1", "typ": typ}));
        assert_eq!(verify(&issuers, &token), Err(TokenRefusal::Type), "{typ}");
    }
    for crit in [json!(["exp"]), json!(["b64"]), json!([]), json!(null)] {
        let token = signed(json!({"alg": "ES256", "kid": "ec-1", "crit": crit}));
        assert_eq!(verify(&issuers, &token), Err(TokenRefusal::Critical), "{crit}");
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let issuers = issuers();
    let good = MINTER.mint("ES256", &claims());
    let parts: Vec<&str> = good.split('.').collect();
    for token in [
        "".to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "opaque-ya29.a0AfH6".to_owned(),
        parts[..2].join("."),
        format!("{good}."),
        format!(".{good}"),
        // Five parts: encrypted.
        format!("{good}.{}.{}", parts[0], parts[1]),
        // Base64 with padding, with `+` and `/`, with bits behind its end, with a line break.
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}==", parts[0], parts[1], parts[2]),
        format!("{}.{}.+/{}", parts[0], parts[1], &parts[2][2..]),
        format!("{}.{}.{}B", parts[0], parts[1], &parts[2][..parts[2].len() - 1]),
        format!("{}\n.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{} ", parts[0], parts[1], parts[2]),
        MINTER.raw("ES256", "not json", &claims().to_string()),
        MINTER.raw("ES256", r#"{"alg":"ES256","kid":"ec-1"}"#, "not json"),
        MINTER.raw("ES256", r#"{"alg":"ES256","kid":"ec-1"}"#, r#""a text""#),
        MINTER.raw("ES256", r#"["alg"]"#, &claims().to_string()),
        MINTER.raw("ES256", r#"{"alg":"ES256","kid":"ec-1"}"#, &format!("{}{{}}", claims())),
    ] {
        assert_eq!(verify(&issuers, &token), Err(TokenRefusal::Malformed), "{token}");
    }
}

#[test]
fn a_repeated_claim_is_refused_whatever_it_says() {
    let issuers = issuers();
    let header = r#"{"alg":"ES256","kid":"ec-1"}"#;
    let text = claims().to_string();
    let again = |more: &str| format!("{},{more}}}", text.strip_suffix('}').unwrap());
    for claims in [
        again(r#""email":"boss@univ-a.example""#),
        again(r#""\u0065mail":"boss@univ-a.example""#),
        again(r#""aud":"https://mail.example""#),
        again(r#""nested":{"a":1,"a":2}"#),
    ] {
        assert_eq!(
            verify(&issuers, &MINTER.raw("ES256", header, &claims)),
            Err(TokenRefusal::RepeatedName),
            "{claims}"
        );
    }
    let header = r#"{"alg":"none","alg":"ES256","kid":"ec-1"}"#;
    assert_eq!(verify(&issuers, &MINTER.raw("ES256", header, &text)), Err(TokenRefusal::RepeatedName));
}

#[test]
fn an_oversized_token_is_not_even_read() {
    let issuers = issuers();
    let sized = |length: usize| MINTER.mint("ES256", &with(json!({"filler": "x".repeat(length)})));
    let longest = (0..9000).step_by(50).map(sized).take_while(|token| token.len() <= 8192).last().unwrap();
    assert_eq!(verify(&issuers, &longest).as_deref(), ALICE);
    assert_eq!(verify(&issuers, &sized(9000)), Err(TokenRefusal::TooLong));
    assert_eq!(verify(&issuers, &"[".repeat(1 << 20)), Err(TokenRefusal::TooLong));
}

#[test]
fn every_refusal_has_a_name_of_its_own() {
    use TokenRefusal::*;
    let all = [
        TooLong,
        Malformed,
        RepeatedName,
        Algorithm,
        Type,
        Critical,
        Issuer,
        UnknownKey,
        Signature,
        Audience,
        Times,
        Expired,
        NotYet,
        NoAddress,
        UnverifiedAddress,
        ForeignDomain,
    ];
    assert_eq!(all.iter().map(|one| one.as_str()).collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn a_key_set_is_read_whole_or_not() {
    let read = |set: &str| Keys::read(set.as_bytes(), &[BearerAlgorithm::Es256, BearerAlgorithm::Rs256]).map(drop);
    let good = MINTER.jwks();
    assert_eq!(read(&good.to_string()), Ok(()));
    let changed = |index: usize, changes: Value| {
        let mut set = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                set["keys"][index].as_object_mut().unwrap().remove(name);
            } else {
                set["keys"][index][name] = value.clone();
            }
        }
        read(&set.to_string()).unwrap_err()
    };
    let short = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let short = &short.public_key().modulus().big_endian_without_leading_zero()[128..];
    for (index, changes, complaint) in [
        (0, json!({"d": "secret"}), "keys[0] is a secret key"),
        (1, json!({"p": "secret"}), "keys[1] is a secret key"),
        (3, json!({"kty": "oct", "k": "secret"}), "keys[3] is a secret key"),
        (0, json!({"x": null}), "keys[0] lacks a part"),
        (0, json!({"x": "=="}), "keys[0] has a part that is not base64url"),
        (0, json!({"x": b64([1; 32])}), "keys[0] is no point of P-256"),
        (0, json!({"x": b64([1; 31])}), "keys[0] is no point of P-256"),
        (0, json!({"kty": null}), "keys[0] has no `kty`"),
        (0, json!({"kid": 7}), "keys[0] has a `kid` that is no text"),
        (0, json!({"key_ops": "verify"}), "keys[0] has a `key_ops`"),
        (1, json!({"n": b64(short)}), "keys[1] is an RSA key of less than 2048"),
        (1, json!({"n": ""}), "keys[1] is an RSA key of less than 2048"),
        (1, json!({"n": b64([0xff; 1025])}), "keys[1] is an RSA key of less than 2048 or more than 8192"),
        (1, json!({"e": b64([3])}), "keys[1] is an RSA key whose exponent"),
        (1, json!({"e": b64([1, 0, 0])}), "keys[1] is an RSA key whose exponent"),
        (1, json!({"e": b64([1, 0, 0, 0, 1])}), "keys[1] is an RSA key whose exponent"),
    ] {
        let told = changed(index, changes.clone());
        assert!(told.starts_with(complaint), "{changes}: {told}");
    }
    let twice = json!({"keys": [good["keys"][0], good["keys"][0]]}).to_string();
    assert_eq!(read(&twice).unwrap_err(), "keys[1] has the `kid` of another key");
    for (set, complaint) in [
        ("", "it is not a JSON object"),
        ("[]", "it is not a JSON object"),
        ("{}", "it is not a JSON Web Key Set"),
        (r#"{"keys":[1]}"#, "keys[0] is not an object"),
        (r#"{"keys":[],"keys":[]}"#, "a name stands twice"),
        (r#"{"keys":[]}"#, "it holds no key for ES256 or RS256"),
    ] {
        assert!(read(set).unwrap_err().starts_with(complaint), "{set}");
    }
    let many = json!({"keys": vec![good["keys"][0].clone(); 65]}).to_string();
    assert_eq!(read(&many).unwrap_err(), "it holds more than 64 keys");
    // Keys for other things are left out, and alone they are none.
    let signing_only =
        json!({"keys": [{"kty": "EC", "crv": "P-256", "key_ops": ["sign"], "x": "", "y": ""}, good["keys"][2]]});
    assert!(read(&signing_only.to_string()).unwrap_err().starts_with("it holds no key"));
    let rsa_only = json!({"keys": [good["keys"][1]]}).to_string();
    assert_eq!(Keys::read(rsa_only.as_bytes(), &[BearerAlgorithm::Es256]).unwrap_err(), "it holds no key for ES256");
}

#[test]
fn the_files_of_all_issuers_are_judged_together() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    for (name, text) in [("a", MINTER.jwks().to_string()), ("b", "{}".to_owned())] {
        let keys_file = dir.path().join(name);
        std::fs::write(&keys_file, text).unwrap();
        config.bearers.push(Bearer { name: name.into(), issuer: name.into(), keys_file, ..bearer(&["univ-a"]) });
    }
    let mut missing = config.bearers[0].clone();
    missing.keys_file = dir.path().join("none");
    missing.name = "c".into();
    config.bearers.push(missing);
    let problems = Issuers::load(&Arc::new(config.clone())).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["bearer.b.keys_file", "bearer.c.keys_file"]);
    config.bearers.truncate(1);
    let issuers = Issuers::load(&Arc::new(config)).unwrap();
    let token = MINTER.mint("ES256", &with(json!({"iss": "a"})));
    assert_eq!(verify(&issuers, &token).as_deref(), ALICE);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_changed_byte_makes_a_token_worthless(at in any::<prop::sample::Index>(), byte in "[!-~]", rsa in any::<bool>()) {
        let alg = if rsa { "RS256" } else { "ES256" };
        let mut token = MINTER.mint(alg, &claims());
        let at = at.index(token.len());
        prop_assume!(token[at..=at] != byte);
        token.replace_range(at..=at, &byte);
        prop_assert!(verify(&issuers(), &token).is_err());
    }

    #[test]
    fn no_text_brings_the_reader_down(token in "[A-Za-z0-9_.=-]{0,200}|\\PC{0,100}") {
        prop_assert!(verify(&issuers(), &token).is_err());
        properties::bearer_token(token.as_bytes());
    }

    #[test]
    fn no_header_and_claims_open_anything_without_a_signature(
        header in prop::collection::vec(prop::sample::select(HEADER), 0..5),
        claims in prop::collection::vec(prop::sample::select(CLAIMS), 0..8),
    ) {
        let (header, claims) = (format!("{{{}}}", header.join(",")), format!("{{{}}}", claims.join(",")));
        properties::bearer_token(format!("{header}\n{claims}").as_bytes());
        properties::bearer_claims(claims.as_bytes());
    }

    #[test]
    fn no_key_set_brings_the_reader_down(members in prop::collection::vec(prop::sample::select(JWK), 0..8)) {
        properties::bearer_keys(format!("{{\"keys\":[{{{}}}]}}", members.join(",")).as_bytes());
    }
}

const HEADER: &[&str] = &[
    r#""alg":"ES256""#,
    r#""alg":"none""#,
    r#""alg":"RS256""#,
    r#""kid":"1""#,
    r#""kid":1"#,
    r#""typ":"JWT""#,
    r#""typ":"logout+jwt""#,
    r#""crit":["b64"]"#,
];

const CLAIMS: &[&str] = &[
    r#""iss":"https://login.example""#,
    r#""aud":"https://mail.example""#,
    r#""aud":["a","https://mail.example"]"#,
    r#""aud":7"#,
    r#""exp":1800000100"#,
    r#""exp":1e300"#,
    r#""exp":"soon""#,
    r#""exp":-1"#,
    r#""nbf":1800000000.5"#,
    r#""iat":1900000000"#,
    r#""email":"Alice@UNIV-A.example""#,
    r#""email":"no address""#,
    r#""email_verified":false"#,
    r#""email_verified":true"#,
];

const JWK: &[&str] = &[
    r#""kty":"EC""#,
    r#""kty":"RSA""#,
    r#""crv":"P-256""#,
    r#""alg":"RS256""#,
    r#""kid":"1""#,
    r#""kid":1"#,
    r#""use":"enc""#,
    r#""n":"AQAB""#,
    r#""e":"AQAB""#,
    r#""d":"AQAB""#,
    r#""key_ops":[]"#,
    r#""key_ops":["verify"]"#,
    r#""x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4""#,
    r#""y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#,
];
