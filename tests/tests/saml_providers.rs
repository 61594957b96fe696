//! Three identity providers of independent make at one gateway (SimpleSAMLphp with xmlseclibs, LemonLDAP::NG with Lasso,
//! pysaml2 with xmlsec1), members of two federations: every shape of Response that is fit to be accepted leads to the
//! user's page, every other one is refused for its own reason.

use std::{process::Command, sync::LazyLock};

use guichet_tests::{
    Answer, Curl, Gateway, House, LemonLdap, Login, Pysaml2, SimpleSaml,
    federation::{self, sign_aggregate, with_scopes},
    guichet, run, run_with_input,
    saml::{assert_enters, assert_refused, decoded, post, tenant, tenant_of, to_login_form},
};

const PAUL: Login<'_> =
    Login { login: "paul", password: "rubber-soul-Pw1", address: "paul@univ-p.test", affiliation: "staff@univ-p.test" };
/// Of a laboratory that shares the IdP of `univ-p` but accepts responses whose assertion alone is signed.
const LEA: Login<'_> =
    Login { login: "lea", password: "microscope-Pw2", address: "lea@labo-p.test", affiliation: "staff@labo-p.test" };
const SIMON: Login<'_> =
    Login { login: "simon", password: "garfunkel-Pw3", address: "simon@univ-s.test", affiliation: "staff@univ-s.test" };
/// Of the second scope of the same IdP.
const SOPHIE: Login<'_> =
    Login { login: "sophie", password: "germain-Pw4", address: "sophie@ens-s.test", affiliation: "student@ens-s.test" };
/// Demonstration user of LemonLDAP::NG.
const DOCTOR: Login<'_> = Login { login: "dwho", password: "dwho", address: "dwho@univ-l.test", affiliation: "" };

struct Estate {
    house: House,
    pysaml2: Pysaml2,
    simplesaml: SimpleSaml,
    lemonldap: LemonLdap,
    gateway: Gateway,
}

/// What `guichet saml inspect` printed.
#[derive(Debug)]
struct Inspected {
    code: i32,
    whole: serde_json::Value,
}

impl Inspected {
    /// Kinds of the checks that failed.
    fn faults(&self) -> Vec<&str> {
        let checks = self.whole["checks"].as_array().expect("checks");
        checks.iter().filter_map(|check| check.get("kind")?.as_str()).collect()
    }
}

static ESTATE: LazyLock<Estate> = LazyLock::new(Estate::build);

impl Estate {
    fn build() -> Self {
        let house = House::new("saml-providers");
        let world = &house.world;
        let pysaml2 = Pysaml2::start(world, "pysaml2", &["univ-p.test", "labo-p.test"], &[PAUL, LEA]);
        let simplesaml = SimpleSaml::start(world, "simple", &["univ-s.test", "ens-s.test"], &[SIMON, SOPHIE]);
        let mut lemonldap = LemonLdap::start(world, "lemon", "univ-l.test");
        let federation = |name: &str, members: &[String]| {
            let key = world.pki().saml(&format!("{name}-key"));
            let file = world.dir().join(format!("{name}.xml"));
            sign_aggregate(name, members, &key, Some(7), &file);
            federation::config(name, &file, &key)
        };
        let federations = federation("national", &[pysaml2.metadata(), simplesaml.metadata()])
            + &federation("regional", &[with_scopes(&lemonldap.metadata(), &["univ-l.test"])]);
        let tenants = [
            tenant("univ-p", &pysaml2.entity_id(), ""),
            tenant("labo-p", &pysaml2.entity_id(), "assertion_signature_only = true"),
            tenant("univ-s", &simplesaml.entity_id(), ""),
            tenant("ens-s", &simplesaml.entity_id(), ""),
            tenant("univ-l", &lemonldap.entity_id(), ""),
        ];
        let settings = house.settings("gateway").saml_with(world, &federations).with(&tenants.concat());
        let gateway = settings.start(world);
        let ours = gateway.sp_metadata(world).body;
        pysaml2.register(&ours);
        simplesaml.register(&ours);
        lemonldap.register(&ours);
        Self { house, pysaml2, simplesaml, lemonldap, gateway }
    }

    /// The page that posts the Response of pysaml2 in that shape.
    fn shaped(&self, browser: &Curl, who: &Login<'_>, shape: &str) -> Answer {
        let form = to_login_form(&self.gateway, browser, who.address);
        self.pysaml2.sign_in(browser, &form, who.login, who.password, shape)
    }

    /// What comes of that Response.
    fn refused(&self, who: &Login<'_>, shape: &str) -> Answer {
        let browser = self.house.browser();
        post(&browser, &self.shaped(&browser, who, shape))
    }

    /// Posts the Response of one page with the RelayState of another.
    fn mixed(&self, browser: &Curl, response: &Answer, relay_state: &Answer) -> Answer {
        let response = response.field("SAMLResponse").expect("a Response");
        let relay_state = relay_state.field("RelayState").expect("a RelayState");
        let form = [("SAMLResponse", response.as_str()), ("RelayState", relay_state.as_str())];
        browser.post(&self.gateway.url("/saml/acs"), &form)
    }

    /// `guichet saml inspect` on a form field by the rules of a tenant, at a time as `date -d` takes it.
    fn inspect(&self, response: &str, tenant: &str, at: &str) -> Inspected {
        let at = run(Command::new("date").args(["-u", "-d", at, "+%Y-%m-%dT%H:%M:%SZ"]));
        let mut command = Command::new(guichet());
        command
            .args(["saml", "inspect", "-", "--json", "--tenant", tenant, "--at", at.trim(), "-c"])
            .arg(self.gateway.config());
        let output = run_with_input(&mut command, response.as_bytes());
        let whole = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        Inspected { code: output.status.code().expect("an exit code"), whole }
    }

    /// The page that posts the Response of the IdP that `who` belongs to.
    fn answer_of_idp(&self, browser: &Curl, who: &Login<'_>) -> Answer {
        let form = to_login_form(&self.gateway, browser, who.address);
        match tenant_of(who) {
            "univ-l" => self.lemonldap.sign_in(browser, &form, who.login, who.password),
            "univ-s" | "ens-s" => self.simplesaml.sign_in(browser, &form, who.login, who.password),
            _ => self.pysaml2.sign_in(browser, &form, who.login, who.password, "shibboleth"),
        }
    }
}

#[test]
fn users_of_three_idps_in_two_federations_log_in_at_one_gateway() {
    for who in [PAUL, LEA, SIMON, SOPHIE, DOCTOR] {
        let browser = ESTATE.house.browser();
        let page = ESTATE.answer_of_idp(&browser, &who);
        assert!(decoded(&page).contains("EncryptedAssertion"), "{}", who.login);
        assert_enters(&ESTATE.gateway, &browser, &page, who.address);
    }
}

#[test]
fn every_shape_under_a_signature_of_the_response_is_accepted() {
    for shape in [
        "shibboleth",
        "aes256_gcm",
        "cbc",
        "plain",
        "both_signed",
        "both_signed_plain",
        "targeted_id",
        "second_key",
        "ecdsa",
        "ecdsa_both_signed",
    ] {
        println!("{shape}");
        let browser = ESTATE.house.browser();
        let page = ESTATE.shaped(&browser, &PAUL, shape);
        let xml = decoded(&page);
        assert_eq!(xml.contains(PAUL.address), shape.ends_with("plain"), "{xml}");
        assert_eq!(xml.contains("#ecdsa-sha256"), shape.starts_with("ecdsa"), "{xml}");
        assert_enters(&ESTATE.gateway, &browser, &page, PAUL.address);
    }
}

#[test]
fn a_signature_of_the_assertion_alone_is_for_tenants_that_say_so() {
    for shape in ["assertion_signed", "assertion_signed_plain"] {
        println!("{shape}");
        let browser = ESTATE.house.browser();
        let page = ESTATE.shaped(&browser, &LEA, shape);
        assert_enters(&ESTATE.gateway, &browser, &page, LEA.address);
        assert_refused(&ESTATE.gateway, &ESTATE.refused(&PAUL, shape), "response_unsigned");
    }
    // Nothing signed vouches for a ciphertext that can be bent.
    assert_refused(&ESTATE.gateway, &ESTATE.refused(&LEA, "assertion_signed_cbc"), "unauthenticated_cipher");
}

#[test]
fn every_other_shape_is_refused_for_its_own_reason() {
    for (who, shape, kind) in [
        (PAUL, "unsigned", "response_unsigned"),
        (PAUL, "unsigned_plain", "unsigned"),
        (LEA, "unsigned", "unsigned"),
        (LEA, "unsigned_plain", "unsigned"),
        (PAUL, "sha1", "signature_algorithm"),
        (PAUL, "triple_des", "encryption_algorithm"),
        (PAUL, "stranger_key", "signature_invalid"),
        (PAUL, "audience", "audience"),
        (PAUL, "clock_behind", "expired"),
        (PAUL, "clock_ahead", "not_yet_valid"),
        (PAUL, "denied", "status"),
    ] {
        println!("{} {shape}", who.login);
        let answer = ESTATE.refused(&who, shape);
        assert_refused(&ESTATE.gateway, &answer, kind);
        assert!(!answer.body.contains(kind), "the page tells the reason: {}", answer.body);
    }
}

#[test]
fn the_response_of_one_idp_does_not_answer_a_request_to_another() {
    for (who, other) in [(PAUL, SIMON), (SIMON, DOCTOR), (DOCTOR, PAUL)] {
        println!("{} for {}", who.login, other.login);
        let browser = ESTATE.house.browser();
        let theirs = ESTATE.answer_of_idp(&browser, &who);
        let asked = ESTATE.answer_of_idp(&browser, &other);
        assert_refused(&ESTATE.gateway, &ESTATE.mixed(&browser, &theirs, &asked), "issuer");
        assert_enters(&ESTATE.gateway, &browser, &asked, other.address);
    }
}

#[test]
fn tenants_that_share_an_idp_are_kept_apart_by_their_domains() {
    for (guest, host) in [(PAUL, LEA), (LEA, PAUL)] {
        let browser = ESTATE.house.browser();
        let sign_in = |who: Login<'_>| {
            let form = to_login_form(&ESTATE.gateway, &browser, host.address);
            ESTATE.pysaml2.sign_in(&browser, &form, who.login, who.password, "shibboleth")
        };
        assert_refused(&ESTATE.gateway, &post(&browser, &sign_in(guest)), "domain");
        assert_enters(&ESTATE.gateway, &browser, &sign_in(host), host.address);
    }
    // Signed by the same IdP for the same service, but in answer to the other tenant's request.
    let browser = ESTATE.house.browser();
    let theirs = ESTATE.answer_of_idp(&browser, &PAUL);
    let asked = ESTATE.answer_of_idp(&browser, &LEA);
    assert_refused(&ESTATE.gateway, &ESTATE.mixed(&browser, &theirs, &asked), "in_response_to");
    assert_enters(&ESTATE.gateway, &browser, &asked, LEA.address);
}

#[test]
fn a_response_is_good_once_whichever_idp_wrote_it() {
    for who in [PAUL, SIMON, DOCTOR] {
        let browser = ESTATE.house.browser();
        let page = ESTATE.answer_of_idp(&browser, &who);
        let before = browser.copy();
        assert_enters(&ESTATE.gateway, &browser, &page, who.address);
        assert_refused(&ESTATE.gateway, &post(&before, &page), "replay");
    }
}

#[test]
fn inspect_says_of_real_responses_what_the_gateway_says() {
    for who in [PAUL, SIMON, DOCTOR] {
        println!("{}", who.login);
        let browser = ESTATE.house.browser();
        let page = ESTATE.answer_of_idp(&browser, &who);
        let response = page.field("SAMLResponse").expect("a Response");
        let seen = ESTATE.inspect(&response, tenant_of(&who), "now");
        assert_eq!((seen.code, seen.faults()), (0, vec![]), "{seen:?}");
        assert!(!seen.whole.to_string().contains(who.address), "a value is printed: {seen:?}");
        // LemonLDAP::NG gives its assertions most of a day, the others minutes.
        let late = ESTATE.inspect(&response, tenant_of(&who), "+2 days");
        assert_eq!(late.code, 1, "{late:?}");
        assert!(late.faults().contains(&"expired"), "{late:?}");
        let early = ESTATE.inspect(&response, tenant_of(&who), "-1 hour");
        assert_eq!(early.code, 1, "{early:?}");
        assert!(early.faults().contains(&"not_yet_valid"), "{early:?}");
        assert_enters(&ESTATE.gateway, &browser, &page, who.address);
    }
    for (shape, kind) in
        [("sha1", "signature_algorithm"), ("stranger_key", "signature_invalid"), ("audience", "audience")]
    {
        println!("{shape}");
        let page = ESTATE.shaped(&ESTATE.house.browser(), &PAUL, shape);
        let seen = ESTATE.inspect(&page.field("SAMLResponse").expect("a Response"), "univ-p", "now");
        assert_eq!((seen.code, seen.faults()), (1, vec![kind]), "{seen:?}");
    }
}

#[test]
fn a_response_is_good_until_the_end_that_the_idp_gave_it_and_the_difference_of_clocks() {
    let page = ESTATE.answer_of_idp(&ESTATE.house.browser(), &PAUL);
    let response = page.field("SAMLResponse").expect("a Response");
    // pysaml2 gives five minutes, `clock_skew` is three; a minute is for this machine.
    for (at, faults) in [("+4 min", vec![]), ("+7 min", vec![]), ("+9 min", vec!["expired"])] {
        let seen = ESTATE.inspect(&response, "univ-p", at);
        let mut found = seen.faults();
        found.dedup();
        assert_eq!(found, faults, "{at}: {seen:?}");
    }
}
