//! The usual house: one directory, two cells, an IdP when asked for, and the people who live there.

use crate::{
    curl::{Answer, Curl},
    dovecot::Dovecot,
    gateway::{Gateway, HOST, Settings},
    saml,
    simplesaml::{Login, Manner, SimpleSaml},
    slapd::Slapd,
    webcell::WebCell,
    world::World,
};

/// Someone with an account in the directory.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    /// Address.
    pub address: &'static str,
    /// Password in the directory.
    pub password: &'static str,
    /// Login at the IdP.
    pub idp_login: &'static str,
    /// Password there.
    pub idp_password: &'static str,
}

/// A student of `univ-a`, whose tenant places her in cell `alpha`.
pub const ALICE: Person = Person {
    address: "alice@univ-a.test",
    password: "wonderland-Pw1",
    idp_login: "alice",
    idp_password: "looking-glass-Pw2",
};
/// Her password at the cell, which only the cell knows: the gateway logs in for her as master.
pub const ALICE_AT_CELL: &str = "only-the-cell-knows-Pw12";
/// Staff of `univ-a`; the directory places him in cell `beta`.
pub const BOB: Person =
    Person { address: "bob@univ-a.test", password: "builder-Pw3", idp_login: "bob", idp_password: "hammer-Pw4" };
/// Staff of `labo-b`, which has no IdP and lives in cell `beta`.
pub const CAROL: Person =
    Person { address: "carol@labo-b.test", password: "laboratoire-é-Pw5", idp_login: "", idp_password: "" };
/// Of `univ-a`, locked by the directory's password policy.
pub const LOU: Person =
    Person { address: "lou@univ-a.test", password: "locked-Pw6", idp_login: "lou", idp_password: "locked-Pw7" };
/// Of `univ-a`, whose account is closed.
pub const ERIN: Person =
    Person { address: "erin@univ-a.test", password: "closed-Pw8", idp_login: "erin", idp_password: "closed-Pw9" };
/// A user of `univ-a`'s IdP that claims an address of `labo-b`.
pub const MALLORY: Person =
    Person { address: "mallory@labo-b.test", password: "", idp_login: "mallory", idp_password: "mask-Pw10" };
/// A user of `univ-a`'s IdP whom the directory does not know.
pub const GHOST: Person =
    Person { address: "ghost@univ-a.test", password: "", idp_login: "ghost", idp_password: "sheet-Pw11" };

/// The peers. Cell `alpha` is entered by its master user, cell `beta` with the user's own password.
#[derive(Debug)]
pub struct House {
    /// Folder and authority.
    pub world: World,
    /// Directory.
    pub slapd: Slapd,
    /// Mail of `alpha`.
    pub alpha: Dovecot,
    /// Mail of `beta`.
    pub beta: Dovecot,
    /// Web of `alpha`.
    pub alpha_web: WebCell,
    /// Web of `beta`.
    pub beta_web: WebCell,
    /// IdP of `univ-a`.
    pub idp: Option<SimpleSaml>,
}

impl House {
    /// Without an IdP: everybody logs in by the directory.
    pub fn new(name: &str) -> Self {
        let world = World::new(name);
        let slapd = Slapd::start(&world);
        slapd.add_user(ALICE.address, ALICE.password, &["guichetCategory: student"]);
        slapd.add_user(BOB.address, BOB.password, &["guichetCategory: staff", "guichetCell: beta"]);
        slapd.add_user(CAROL.address, CAROL.password, &["guichetCategory: staff"]);
        slapd.add_user(LOU.address, LOU.password, &[]);
        slapd.lock(LOU.address);
        slapd.add_user(ERIN.address, ERIN.password, &["guichetStatus: closed"]);
        let alpha = Dovecot::start(&world, "alpha", &[(ALICE.address, ALICE_AT_CELL)]);
        let beta = Dovecot::start(&world, "beta", &[(BOB.address, BOB.password), (CAROL.address, CAROL.password)]);
        let alpha_web = WebCell::start(&world, "alpha");
        let beta_web = WebCell::start(&world, "beta");
        Self { world, slapd, alpha, beta, alpha_web, beta_web, idp: None }
    }

    /// With an IdP for `univ-a`.
    pub fn with_idp(name: &str) -> Self {
        Self::with_idp_of(name, Manner::default())
    }

    /// The same with other manners.
    pub fn with_idp_of(name: &str, manner: Manner) -> Self {
        let mut house = Self::new(name);
        let login = |person: Person, affiliation| Login {
            login: person.idp_login,
            password: person.idp_password,
            address: person.address,
            affiliation,
        };
        house.idp = Some(SimpleSaml::start_with(
            &house.world,
            "idp-a",
            &["univ-a.test"],
            &[
                login(ALICE, "student@univ-a.test"),
                login(BOB, "staff@univ-a.test"),
                login(LOU, "student@univ-a.test"),
                login(ERIN, "student@univ-a.test"),
                login(MALLORY, "student@labo-b.test"),
                login(GHOST, "student@univ-a.test"),
            ],
            manner,
        ));
        house
    }

    /// The IdP.
    pub fn idp(&self) -> &SimpleSaml {
        self.idp.as_ref().expect("a house with an IdP")
    }

    /// The IdP, to kill it.
    pub fn idp_mut(&mut self) -> &mut SimpleSaml {
        self.idp.as_mut().expect("a house with an IdP")
    }

    /// Settings of a gateway in front of all of it.
    pub fn settings(&self, name: &str) -> Settings {
        let cells = self.cells();
        self.settings_with(name, &self.slapd.config(self.slapd.port()), &cells)
    }

    /// The four tables of cells.
    pub fn cells(&self) -> String {
        [
            self.alpha.config_master(self.alpha.imaps()),
            self.beta.config_password(self.beta.imaps()),
            self.alpha_web.config(self.alpha_web.port()),
            self.beta_web.config(self.beta_web.port()),
        ]
        .concat()
    }

    /// Settings with another way to the directory or the cells.
    pub fn settings_with(&self, name: &str, directory: &str, cells: &str) -> Settings {
        let idp = self.idp.as_ref().map(|idp| {
            format!(
                "[tenant.univ-a.idp.saml]\nentity_id = \"{}\"\n[tenant.univ-a.fallback]\nstaff = \"operator\"\nstudents = \"auto\"\n",
                idp.entity_id()
            )
        });
        let tenants = format!(
            r#"
[tenant.univ-a]
name = {{ fr = "Université A", en = "University A" }}
domains = ["univ-a.test"]
cell = "alpha"
category = "student"
contact = "assistance@univ-a.test"
{}
[tenant.labo-b]
name = {{ fr = "Laboratoire B", en = "Laboratory B" }}
domains = ["labo-b.test"]
cell = "beta"
category = "staff"
"#,
            idp.unwrap_or_default()
        );
        let settings = Settings::new(&self.world, name).with(directory).with(cells).with(&tenants);
        match &self.idp {
            Some(idp) => settings.saml(&self.world, idp),
            None => settings,
        }
    }

    /// Starts a gateway and, with an IdP, registers it there.
    pub fn start(&self, settings: Settings) -> Gateway {
        let gateway = settings.start(&self.world);
        if let Some(idp) = &self.idp {
            gateway.register_at(&self.world, idp);
        }
        gateway
    }

    /// A gateway with the usual settings.
    pub fn gateway(&self, name: &str) -> Gateway {
        self.start(self.settings(name))
    }

    /// A browser's stand-in with an empty cookie jar.
    pub fn browser(&self) -> Curl {
        Curl::browser(&self.world, HOST).with(&["-H", "Accept: text/html", "-H", "Accept-Language: en"])
    }

    /// A program without cookies.
    pub fn program(&self) -> Curl {
        Curl::trusting(&self.world, HOST)
    }

    /// The IdP's address that the gateway leads to when someone types an address.
    pub fn to_idp(&self, gateway: &Gateway, browser: &Curl, address: &str) -> String {
        let answer = browser.post(&gateway.url("/login/start"), &[("address", address), ("next", "/")]);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.location().to_owned()
    }

    /// The page of the IdP whose form posts the Response, for someone who logged in there.
    pub fn at_idp(&self, gateway: &Gateway, browser: &Curl, person: &Person) -> Answer {
        let url = self.to_idp(gateway, browser, ALICE.address);
        self.idp().log_in(browser, &url, person.idp_login, person.idp_password)
    }

    /// Posts the form of that page to the assertion consumer.
    pub fn to_acs(&self, browser: &Curl, page: &Answer) -> Answer {
        saml::post(browser, page)
    }

    /// A whole login through the IdP; the browser has a session afterwards.
    pub fn log_in(&self, gateway: &Gateway, browser: &Curl, person: &Person) -> Answer {
        let page = self.at_idp(gateway, browser, person);
        self.to_acs(browser, &page)
    }

    /// A whole login by the directory's password on the page of `labo-b`.
    pub fn log_in_by_password(&self, gateway: &Gateway, browser: &Curl, person: &Person) -> Answer {
        let form = [("address", person.address), ("password", person.password), ("next", "/")];
        browser.post(&gateway.url("/login/password"), &form)
    }
}
