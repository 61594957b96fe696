//! A tenant whose institution judges passwords, in every state of its IdP.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use guichet_config::{Ecp, EcpUsername, FallbackPolicy, IdpOfTenant};

use super::*;
use crate::{
    Attempt, Decision, DenyReason, Identity, Method, Outcome, Protocol, chain::tests::config, directory::Question,
    saml::Identifier,
};

/// An institution whose users have the password `inst`, and which can be sent away.
#[derive(Debug)]
struct Idp {
    asked: AtomicUsize,
    state: Mutex<IdpState>,
    away: Mutex<bool>,
    gate: Option<tokio::sync::Semaphore>,
}

impl Institutions for Idp {
    fn ask<'a>(&'a self, _: &'a Arc<Tenant>, user: &'a Address, password: &'a Secret<String>) -> Answer<'a, Word> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            if *self.away.lock().unwrap() {
                return Word::Unavailable;
            }
            let known = |address: &str| Word::Known {
                subject: Subject::Address(address.parse().unwrap()),
                category: Category::Staff,
            };
            match (user.local(), password.expose().as_str()) {
                // Who knows alice's password is alice, whatever name is typed beside it.
                (_, "inst") => known("alice@univ-a.example"),
                ("new", "inst-new") => known("new@univ-a.example"),
                ("bob", "inst-bob") => known("bob@univ-a.example"),
                ("closed", "inst-closed") => known("closed@univ-a.example"),
                ("guest", "inst-guest") => Word::AccountRefused,
                // An IdP that names its users by an identifier.
                (_, "inst-x1" | "inst-x2" | "inst-x3" | "inst-x4") => Word::Known {
                    subject: Subject::Identifier(Identifier::said(password.expose().trim_start_matches("inst-"))),
                    category: Category::Staff,
                },
                _ => Word::BadCredential,
            }
        })
    }

    fn state(&self, _: &TenantId) -> IdpState {
        *self.state.lock().unwrap()
    }
}

/// A directory with passwords of its own: `dir`.
#[derive(Debug, Default)]
struct Accounts {
    verified: AtomicUsize,
    away: Mutex<bool>,
}

impl Accounts {
    fn find(&self, user: &Address) -> Lookup {
        if *self.away.lock().unwrap() {
            return Lookup::Unavailable;
        }
        let account = |address: &str, category, active| {
            Lookup::Found(Account { address: address.parse().unwrap(), category, cell: None, active })
        };
        match user.local() {
            "alice" | "al" => account("alice@univ-a.example", None, true),
            "bob" => account("bob@univ-a.example", Some(Category::Staff), true),
            "closed" => account("closed@univ-a.example", None, false),
            _ => Lookup::Unknown,
        }
    }
}

impl Directory for Accounts {
    fn verify<'a>(&'a self, address: &'a Address, password: &'a Secret<String>) -> Answer<'a, Verdict> {
        self.verified.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(match self.find(address) {
            Lookup::Unavailable => Verdict::Unavailable,
            Lookup::Found(account) if password.expose() == "dir" => Verdict::Valid(account),
            Lookup::Found(_) | Lookup::Unknown => Verdict::BadCredential,
        }))
    }

    fn identify<'a>(&'a self, question: Question<'a>) -> Answer<'a, Identified> {
        Box::pin(std::future::ready(match (question.tenant.as_str(), question.value) {
            ("univ-a", "x1") => match self.find(&"alice@univ-a.example".parse().unwrap()) {
                Lookup::Found(account) => Identified::One(account),
                _ => Identified::Unavailable,
            },
            ("univ-a", "x2") => Identified::Several,
            ("univ-a", "x3") => Identified::Unavailable,
            _ => Identified::Unknown,
        }))
    }

    fn lookup<'a>(&'a self, address: &'a Address) -> Answer<'a, Lookup> {
        Box::pin(std::future::ready(self.find(address)))
    }
}

struct World {
    idp: Arc<Idp>,
    accounts: Arc<Accounts>,
    authenticator: Authenticator,
}

impl World {
    /// Students fall back in a proven outage, staff on an operator's word only.
    fn new() -> Self {
        Self::with_gate(None)
    }

    fn with_gate(gate: Option<tokio::sync::Semaphore>) -> Self {
        let mut config = config();
        let tenants: HashMap<_, _> =
            config.tenants.iter().map(|(id, tenant)| (id.clone(), (**tenant).clone())).collect();
        for (id, mut tenant) in tenants {
            tenant.fallback_staff = FallbackPolicy::Operator;
            tenant.idp = (id.as_str() == "univ-a").then(|| IdpOfTenant {
                ecp: Some(Ecp { username: EcpUsername::Address, ca: None }),
                ..IdpOfTenant::new("https://idp.univ-a.example")
            });
            config.tenants.insert(id, Arc::new(tenant));
        }
        let idp = Arc::new(Idp {
            asked: AtomicUsize::new(0),
            state: Mutex::new(IdpState::Up),
            away: Mutex::new(false),
            gate,
        });
        let accounts = Arc::new(Accounts::default());
        let authenticator =
            Authenticator::with(Arc::new(config), Arc::clone(&accounts) as _, Arc::clone(&idp) as _, None);
        Self { idp, accounts, authenticator }
    }

    async fn login(&self, local: &str, password: &str) -> Outcome {
        self.attempt(&format!("{local}@univ-a.example"), password, AuthMethod::Password, "192.0.2.1").await
    }

    async fn attempt(&self, username: &str, password: &str, method: AuthMethod, source: &str) -> Outcome {
        let password = Secret::new(password.to_owned());
        let source = source.parse().unwrap();
        let attempt = Attempt { username, password: &password, protocol: Protocol::Imap, method, source };
        self.authenticator.decide(&attempt).await
    }

    fn now(&self, state: IdpState, away: bool) {
        *self.idp.state.lock().unwrap() = state;
        *self.idp.away.lock().unwrap() = away;
    }

    fn asked(&self) -> (usize, usize) {
        (self.idp.asked.load(Ordering::SeqCst), self.accounts.verified.load(Ordering::SeqCst))
    }
}

const BAD: Decision = Decision::Deny(DenyReason::BadCredential);
const REFUSED: Decision = Decision::Deny(DenyReason::AccountRefused);
const AWAY: Decision = Decision::Unavailable(UnavailableReason::Institution);

fn who(outcome: Outcome) -> (String, Category, Method, Source) {
    match outcome.decision {
        Decision::Allow(identity) => {
            (identity.address.as_str().to_owned(), identity.category, identity.method, outcome.source)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_institution_judges_and_the_directory_knows_the_account() {
    let world = World::new();
    let alice = || "alice@univ-a.example".to_owned();
    let staff = Category::Staff;
    let first = who(world.login("alice", "inst").await);
    assert_eq!(first, (alice(), staff, Method::Password, Source::Institution), "the category is the IdP's word");
    let again = who(world.login("ALICE", "inst").await);
    assert_eq!(again, (alice(), staff, Method::Password, Source::Cache));
    // An alias, because the directory says that it is the same account.
    assert_eq!(who(world.login("al", "inst").await).0, alice());
    // Somebody the directory does not know has a mailbox in the tenant's cell, as after a login by the page.
    assert_eq!(who(world.login("new", "inst-new").await).0, "new@univ-a.example");
    assert_eq!(world.login("closed", "inst-closed").await.decision, REFUSED);
    assert_eq!(world.login("guest", "inst-guest").await.decision, REFUSED);
    assert_eq!(world.asked(), (5, 0), "no password goes to the directory");
}

#[tokio::test]
async fn the_password_of_somebody_else_is_a_wrong_one() {
    let world = World::new();
    for local in ["bob", "new", "nobody"] {
        assert_eq!(world.login(local, "inst").await.decision, BAD, "{local} with alice's password");
    }
}

#[tokio::test]
async fn an_identifier_opens_the_account_that_the_directory_has_for_it_and_no_other() {
    let world = World::new();
    for local in ["alice", "al"] {
        assert_eq!(who(world.login(local, "inst-x1").await).0, "alice@univ-a.example", "{local}");
    }
    for local in ["bob", "new"] {
        assert_eq!(world.login(local, "inst-x1").await.decision, BAD, "{local} with alice's password");
    }
    for unidentified in ["inst-x2", "inst-x4"] {
        assert_eq!(world.login("alice", unidentified).await.decision, REFUSED, "{unidentified}");
    }
    let away = Decision::Unavailable(UnavailableReason::Directory);
    assert_eq!(world.login("alice", "inst-x3").await.decision, away);
}

#[tokio::test]
async fn a_wrong_password_is_final_in_every_state() {
    for state in [IdpState::Up, IdpState::Suspect, IdpState::Down, IdpState::ForcedUp] {
        let world = World::new();
        world.now(state, false);
        for _ in 0..3 {
            assert_eq!(world.login("alice", "dir").await.decision, BAD, "{state:?}");
        }
        assert_eq!(world.asked(), (1, 0), "{state:?}: asked once, and the directory never");
    }
}

#[tokio::test]
async fn wrong_passwords_are_counted_before_the_institution_is_asked() {
    let world = World::new();
    let source = "203.0.113.1";
    let login =
        async |password: &str| world.attempt("alice@univ-a.example", password, AuthMethod::Password, source).await;
    for number in 0..3 {
        assert_eq!(login(&format!("guess {number}")).await.decision, BAD);
    }
    let throttled = Decision::Unavailable(UnavailableReason::Throttled);
    assert_eq!(login("inst").await.decision, throttled);
    assert_eq!(world.asked(), (3, 0));
    // An institution that is away costs nobody anything.
    world.now(IdpState::Up, true);
    for number in 0..9 {
        let guess = format!("guess {number}");
        let outcome = world.attempt("new@univ-a.example", &guess, AuthMethod::Password, "203.0.113.2").await;
        assert_eq!(outcome.decision, AWAY);
    }
    world.now(IdpState::Up, false);
    let outcome = world.attempt("new@univ-a.example", "inst-new", AuthMethod::Password, "203.0.113.2").await;
    assert!(matches!(outcome.decision, Decision::Allow(_)));
}

#[tokio::test]
async fn an_outage_without_proof_is_try_later_and_is_not_remembered() {
    for state in [IdpState::Up, IdpState::Suspect, IdpState::ForcedUp] {
        let world = World::new();
        world.now(state, true);
        for password in ["inst", "dir", "wrong"] {
            assert_eq!(world.login("alice", password).await.decision, AWAY, "{state:?} {password}");
        }
        assert_eq!(world.asked(), (3, 0), "{state:?}");
        world.now(state, false);
        assert_eq!(who(world.login("alice", "inst").await).3, Source::Institution);
    }
}

#[tokio::test]
async fn in_a_proven_outage_the_directory_judges_those_whose_category_may() {
    let world = World::new();
    world.now(IdpState::Down, true);
    let fallen = who(world.login("alice", "dir").await);
    assert_eq!((fallen.1, fallen.2, fallen.3), (Category::Student, Method::Fallback, Source::Directory));
    assert_eq!(world.login("alice", "inst").await.decision, BAD, "the institution's is none of the directory's");
    let (idp, directory) = world.asked();
    // Staff only on an operator's word: nobody says that their password is wrong, and it is not even looked at.
    assert_eq!(world.login("bob", "dir").await.decision, AWAY);
    assert_eq!(world.login("new", "inst-new").await.decision, AWAY, "nor of whom the directory does not know");
    assert_eq!(world.asked(), (idp + 2, directory));
    // Known for a while, without asking an IdP that does not answer.
    let again = who(world.login("alice", "dir").await);
    assert_eq!((again.2, again.3), (Method::Fallback, Source::Cache));
    assert_eq!(world.asked(), (idp + 2, directory));

    world.now(IdpState::ForcedDown, false);
    let staff = who(world.login("bob", "dir").await);
    assert_eq!((staff.1, staff.2), (Category::Staff, Method::Fallback));
    assert_eq!(world.login("bob", "inst-bob").await.decision, BAD, "the operator's word stands above the IdP's");
    assert_eq!(world.asked().0, idp + 2, "which is not asked");

    // Back: what the directory believed is believed no more.
    world.now(IdpState::Up, false);
    assert_eq!(world.login("alice", "dir").await.decision, BAD);
    assert_eq!(who(world.login("alice", "inst").await).3, Source::Institution);
}

#[tokio::test]
async fn an_idp_that_answers_while_it_counts_as_down_is_believed() {
    let world = World::new();
    world.now(IdpState::Down, false);
    let known = who(world.login("alice", "inst").await);
    assert_eq!((known.2, known.3), (Method::Password, Source::Institution));
}

#[tokio::test]
async fn a_directory_that_is_away_is_no_reason_to_fall_back_on_it() {
    let world = World::new();
    *world.accounts.away.lock().unwrap() = true;
    for state in [IdpState::Up, IdpState::Down] {
        world.now(state, false);
        let outcome = world.login("alice", "inst").await;
        assert_eq!(outcome.decision, Decision::Unavailable(UnavailableReason::Directory), "{state:?}");
    }
    assert_eq!(world.asked().1, 0, "the institution's password stays with the institution");
}

#[tokio::test]
async fn parallel_logins_are_one_question_to_the_institution() {
    let world = World::with_gate(Some(tokio::sync::Semaphore::new(0)));
    let (one, two, ()) = tokio::join!(world.login("alice", "inst"), world.login("alice", "inst"), async {
        tokio::task::yield_now().await;
        world.idp.gate.as_ref().unwrap().add_permits(1);
    });
    assert!([one, two].iter().all(|outcome| matches!(outcome.decision, Decision::Allow(_))));
    assert_eq!(world.asked(), (1, 0));
}

#[tokio::test]
async fn the_page_of_the_fallback_and_other_tenants_ask_the_directory() {
    let world = World::new();
    let page = world.attempt("alice@univ-a.example", "dir", AuthMethod::Fallback, "192.0.2.1").await;
    assert_eq!(who(page).2, Method::Fallback);
    let other = world.attempt("alice@univ-b.example", "inst", AuthMethod::Password, "192.0.2.1").await;
    assert_eq!(other.decision, BAD);
    assert_eq!(world.asked(), (0, 2));
}

#[tokio::test]
async fn a_second_look_drops_what_the_institution_said() {
    let world = World::new();
    let Decision::Allow(identity) = world.login("alice", "inst").await.decision else { panic!() };
    let elsewhere = Identity { cell: Some("beta".parse().unwrap()), ..identity };
    world.authenticator.look_again(&elsewhere, None).await;
    assert_eq!(world.login("alice", "inst").await.source, Source::Institution);
}
