use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use guichet_config::{Category, Tenant};

use super::*;
use crate::directory::Answer;

/// A directory of one user, which can be told to fail or to wait.
#[derive(Debug, Default)]
struct Fake {
    asked: AtomicUsize,
    verdict: Mutex<Option<Verdict>>,
    gate: Option<tokio::sync::Semaphore>,
}

impl Directory for Fake {
    fn verify<'a>(&'a self, address: &'a Address, password: &'a Secret<String>) -> Answer<'a, Verdict> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            if let Some(verdict) = self.verdict.lock().unwrap().clone() {
                return verdict;
            }
            match (address.local(), password.expose().as_str()) {
                ("alice", "right") => Verdict::Valid(account("alice@univ-a.example")),
                ("strange", "right") => Verdict::Valid(account("strange@univ-b.example")),
                _ => Verdict::BadCredential,
            }
        })
    }

    fn lookup<'a>(&'a self, address: &'a Address) -> Answer<'a, Lookup> {
        let found = match address.local() {
            "alice" => {
                Lookup::Found(Account { cell: Some("beta".parse().unwrap()), ..account("alice@univ-a.example") })
            }
            "al" => Lookup::Found(account("alice@univ-a.example")),
            "strange" => Lookup::Found(account("strange@univ-b.example")),
            "gone" => Lookup::Found(Account { active: false, ..account("gone@univ-a.example") }),
            "nobody" => Lookup::Unknown,
            _ => Lookup::Unavailable,
        };
        Box::pin(std::future::ready(found))
    }

    fn identify<'a>(&'a self, question: Question<'a>) -> Answer<'a, Identified> {
        let found = match question.value {
            "x1@univ-a.example" => Identified::One(Account {
                cell: Some("beta".parse().unwrap()),
                category: Some(Category::Staff),
                ..account("alice@univ-a.example")
            }),
            "gone@univ-a.example" => Identified::One(Account { active: false, ..account("gone@univ-a.example") }),
            "strange@univ-a.example" => Identified::One(account("strange@univ-b.example")),
            "twice@univ-a.example" => Identified::Several,
            "nobody@univ-a.example" => Identified::Unknown,
            _ => Identified::Unavailable,
        };
        Box::pin(std::future::ready(found))
    }
}

fn account(address: &str) -> Account {
    Account { address: address.parse().unwrap(), category: None, cell: None, active: true }
}

/// A tenant with the domain `ID.example`.
pub(crate) fn tenant(id: &str) -> Tenant {
    Tenant {
        id: id.parse().unwrap(),
        name: guichet_config::Text::default(),
        domains: vec![format!("{id}.example").parse().unwrap()],
        cell: "alpha".parse().unwrap(),
        category: Category::Student,
        idp: None,
        fallback_staff: guichet_config::FallbackPolicy::Auto,
        fallback_students: guichet_config::FallbackPolicy::Auto,
        idp_forced: None,
        contact: None,
        step_up: None,
    }
}

/// Institutions that no tenant of these stories wants to be asked.
#[derive(Debug)]
struct Nobody;

impl Institutions for Nobody {
    fn ask<'a>(&'a self, _: &'a Arc<Tenant>, _: &'a Address, _: &'a Secret<String>) -> Answer<'a, Word> {
        unreachable!("no tenant has ECP")
    }

    fn state(&self, _: &TenantId) -> crate::availability::IdpState {
        unreachable!("no tenant has ECP")
    }
}

/// Two tenants, `univ-a` and `univ-b`, with a domain each.
pub(crate) fn config() -> Config {
    let tenants = ["univ-a", "univ-b"].map(|id| {
        let tenant = tenant(id);
        (tenant.domains[0].clone(), Arc::new(tenant))
    });
    let seconds = Duration::from_secs;
    Config {
        node: guichet_config::Node { name: "edge-1".into(), state_dir: "state".into(), workers: None },
        public: guichet_config::Public {
            hostname: "mail.example".into(),
            origin: "https://mail.example".into(),
            certificates: "tls".into(),
            tls_profile: guichet_config::TlsProfile::Anssi,
        },
        hosts: guichet_config::Hosts::new("mail.example", "https://mail.example", Vec::new()),
        management: guichet_config::Management {
            bind: ([127, 0, 0, 1], 0).into(),
            token: Secret::default(),
            tls: None,
        },
        log: guichet_config::Log { format: guichet_config::LogFormat::Text, level: "info".into() },
        listeners: Vec::new(),
        directory: Configured::Embedded(Users::default()),
        saml: None,
        discovery: guichet_config::Discovery::default(),
        federations: Vec::new(),
        bearers: Vec::new(),
        availability: guichet_config::Availability {
            probe_interval: seconds(15),
            probe_interval_suspect: seconds(5),
            probe_timeout: seconds(5),
            failures_to_suspect: 2,
            failures_to_down: 6,
            down_after: seconds(120),
            veto: seconds(60),
            successes_to_up: 5,
            up_after: seconds(120),
            dwell: seconds(300),
        },
        session: guichet_config::Session {
            lifetime: seconds(36_000),
            lifetime_idle: seconds(3600),
            lifetime_fallback: seconds(7200),
        },
        limits: Limits {
            connections_max: 1000,
            connections_per_source: 100,
            connections_per_source_rate: 10,
            login_failures_per_source: 5,
            login_failures_per_user: 3,
            login_window: seconds(36_000),
            exempt: vec!["192.0.2.0/24".parse().unwrap()],
            login_deadline: seconds(60),
            password_cache_entries: 1000,
            password_cache_ttl: seconds(300),
            held_logins: 1,
            held_logins_per_tenant: 1,
            sessions_per_user: 1,
            sessions_per_user_source: 1,
            messages_per_user: 1,
            recipients_per_user: 1,
            messages_per_tenant: 1,
            recipients_per_tenant: 1,
            messages_window: std::time::Duration::from_secs(1),
            body_bytes_max: 1 << 20,
        },
        setup: guichet_config::Setup { enabled: false, name: None, dav_path: None },
        dns_servers: Vec::new(),
        cells: Default::default(),
        domains: tenants.iter().map(|(domain, tenant)| (domain.clone(), tenant.id.clone())).collect(),
        tenants: tenants.into_iter().map(|(_, tenant)| (tenant.id.clone(), tenant)).collect(),
        places: Default::default(),
        remarks: Vec::new(),
    }
}

struct World {
    fake: Arc<Fake>,
    authenticator: Authenticator,
}

impl World {
    fn new(fake: Fake) -> Self {
        let fake = Arc::new(fake);
        let directory: Arc<dyn Directory> = Arc::clone(&fake) as _;
        let authenticator = Authenticator::with(Arc::new(config()), directory, Arc::new(Nobody), None);
        Self { fake, authenticator }
    }

    async fn login(&self, user: &str, password: &str, source: &str) -> Outcome {
        let password = Secret::new(password.to_owned());
        let attempt = Attempt {
            username: user,
            password: &password,
            protocol: Protocol::Imap,
            method: AuthMethod::Password,
            source: source.parse().unwrap(),
        };
        self.authenticator.decide(&attempt).await
    }

    fn asked(&self) -> usize {
        self.fake.asked.load(Ordering::SeqCst)
    }
}

const EXEMPT: &str = "192.0.2.1";
const BAD: Decision = Decision::Deny(DenyReason::BadCredential);
const THROTTLED: Decision = Decision::Unavailable(UnavailableReason::Throttled);

#[tokio::test]
async fn a_good_password_is_asked_once_and_then_known() {
    let world = World::new(Fake::default());
    let first = world.login("Alice@UNIV-A.example", "right", EXEMPT).await;
    let second = world.login("alice@univ-a.example", "right", EXEMPT).await;
    assert_eq!((first.source, second.source), (Source::Directory, Source::Cache));
    assert_eq!(first.decision, second.decision);
    let Decision::Allow(identity) = first.decision else { panic!("{first:?}") };
    assert_eq!(identity.address.as_str(), "alice@univ-a.example");
    assert_eq!((identity.tenant.as_str(), identity.category), ("univ-a", Category::Student));
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn unusable_names_and_passwords_are_refused_without_asking() {
    let world = World::new(Fake::default());
    let long = "x".repeat(1025);
    for (user, password) in [
        ("alice@univ-a.example", ""),
        ("alice@univ-a.example", "ri\0ght"),
        ("alice@univ-a.example", long.as_str()),
        ("alice", "right"),
        ("", "right"),
    ] {
        let outcome = world.login(user, password, EXEMPT).await;
        assert_eq!((outcome.decision, outcome.source), (BAD, Source::Rule), "{user:?}");
    }
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn an_address_of_no_tenant_goes_the_long_way_and_is_refused() {
    let world = World::new(Fake::default());
    let outcome = world.login("alice@elsewhere.example", "right", EXEMPT).await;
    assert_eq!((outcome.decision, world.asked()), (BAD, 1));
    // Nor does it become right when the answer comes from the cache.
    assert_eq!(world.login("alice@elsewhere.example", "right", EXEMPT).await.decision, BAD);
}

#[tokio::test]
async fn a_canonical_address_of_another_tenant_is_not_believed() {
    let world = World::new(Fake::default());
    let outcome = world.login("strange@univ-a.example", "right", EXEMPT).await;
    assert_eq!(outcome.decision, Decision::Unavailable(UnavailableReason::Directory));
}

#[tokio::test]
async fn an_outage_is_not_remembered_and_not_counted() {
    let world = World::new(Fake::default());
    *world.fake.verdict.lock().unwrap() = Some(Verdict::Unavailable);
    for number in 0..20 {
        let outcome = world.login("alice@univ-a.example", &format!("guess {number}"), "203.0.113.1").await;
        assert_eq!(outcome.decision, Decision::Unavailable(UnavailableReason::Directory));
    }
    *world.fake.verdict.lock().unwrap() = None;
    let outcome = world.login("alice@univ-a.example", "right", "203.0.113.1").await;
    assert!(matches!(outcome.decision, Decision::Allow(_)), "{outcome:?}");
}

#[tokio::test]
async fn the_same_wrong_password_is_asked_and_counted_once() {
    let world = World::new(Fake::default());
    for _ in 0..20 {
        assert_eq!(world.login("alice@univ-a.example", "old", "203.0.113.1").await.decision, BAD);
    }
    assert_eq!(world.asked(), 1);
}

/// A webmail, or a phone with many folders, logs in all day long.
#[tokio::test]
async fn good_logins_are_never_too_many() {
    let world = World::new(Fake::default());
    for number in 0..50 {
        let outcome = world.login("alice@univ-a.example", "right", "203.0.113.1").await;
        assert!(matches!(outcome.decision, Decision::Allow(_)), "login {number}: {outcome:?}");
    }
}

#[tokio::test]
async fn too_many_wrong_passwords_are_answered_without_asking() {
    let world = World::new(Fake::default());
    for number in 0..3 {
        let outcome = world.login("alice@univ-a.example", &format!("guess {number}"), "203.0.113.1").await;
        assert_eq!(outcome.decision, BAD);
    }
    let right = world.login("alice@univ-a.example", "right", "203.0.113.1").await;
    assert_eq!((right.decision, right.source), (THROTTLED, Source::Rule));
    // The source has two left, for other users.
    assert_eq!(world.login("bob@univ-a.example", "x", "203.0.113.1").await.decision, BAD);
    assert_eq!(world.login("eve@univ-a.example", "x", "203.0.113.1").await.decision, BAD);
    assert_eq!(world.login("eve@univ-a.example", "y", "203.0.113.1").await.decision, THROTTLED);
    assert_eq!(world.asked(), 5);
    let exempt = world.login("alice@univ-a.example", "right", EXEMPT).await;
    assert!(matches!(exempt.decision, Decision::Allow(_)));
}

#[tokio::test]
async fn parallel_logins_of_one_user_are_one_question() {
    let world = World::new(Fake { gate: Some(tokio::sync::Semaphore::new(0)), ..Fake::default() });
    let logins = async {
        tokio::join!(
            world.login("alice@univ-a.example", "right", EXEMPT),
            world.login("alice@univ-a.example", "right", EXEMPT),
            world.login("alice@univ-a.example", "right", EXEMPT),
            async {
                tokio::task::yield_now().await;
                world.fake.gate.as_ref().unwrap().add_permits(1);
            }
        )
    };
    let (one, two, three, ()) = logins.await;
    assert!([one, two, three].iter().all(|outcome| matches!(outcome.decision, Decision::Allow(_))));
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_spoils_nothing() {
    let world = World::new(Fake { gate: Some(tokio::sync::Semaphore::new(0)), ..Fake::default() });
    {
        let login = world.login("alice@univ-a.example", "right", EXEMPT);
        tokio::pin!(login);
        assert!(futures_poll_once(login.as_mut()).await);
    }
    world.fake.gate.as_ref().unwrap().add_permits(1);
    let outcome = world.login("alice@univ-a.example", "right", EXEMPT).await;
    assert!(matches!(outcome.decision, Decision::Allow(_)));
    assert_eq!(world.asked(), 1);
}

/// Polls once; whether it is still pending.
async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn saml_identities_are_completed() {
    let world = World::new(Fake::default());
    let identity = |local: &str| Identity {
        address: format!("{local}@univ-a.example").parse().unwrap(),
        tenant: "univ-a".parse().unwrap(),
        category: Category::Staff,
        cell: None,
        method: Method::Saml,
    };
    let Decision::Allow(alice) = world.authenticator.complete(identity("alice")).await else { panic!() };
    assert_eq!((alice.category, alice.method), (Category::Staff, Method::Saml));
    assert_eq!(alice.cell, Some("beta".parse().unwrap()));
    let nobody = identity("nobody");
    assert_eq!(world.authenticator.complete(nobody.clone()).await, Decision::Allow(nobody));
    let gone = world.authenticator.complete(identity("gone")).await;
    assert_eq!(gone, Decision::Deny(DenyReason::AccountRefused));
    let away = world.authenticator.complete(identity("away")).await;
    assert_eq!(away, Decision::Unavailable(UnavailableReason::Directory));
}

#[tokio::test]
async fn a_second_look_goes_past_the_cache_and_is_remembered_by_the_next_login() {
    let world = World::new(Fake::default());
    let typed: Address = "Alice@univ-a.example".parse().unwrap();
    let Decision::Allow(before) = world.login("alice@univ-a.example", "right", EXEMPT).await.decision else { panic!() };
    assert_eq!(before.cell, None);
    let Decision::Allow(now) = world.authenticator.look_again(&before, Some(&typed)).await else { panic!() };
    assert_eq!((now.cell.clone(), now.method), (Some("beta".parse().unwrap()), before.method));
    assert_eq!(world.login("alice@univ-a.example", "right", EXEMPT).await.source, Source::Directory);
    // Nothing new: what is believed stays believed.
    assert_eq!(world.authenticator.look_again(&now, None).await, Decision::Allow(now));
    assert_eq!(world.login("alice@univ-a.example", "right", EXEMPT).await.source, Source::Cache);

    let away = Identity { address: "away@univ-a.example".parse().unwrap(), ..before.clone() };
    let unavailable = |reason| Decision::Unavailable(reason);
    assert_eq!(world.authenticator.look_again(&away, None).await, unavailable(UnavailableReason::Directory));
    let _all = world.authenticator.looks.acquire_many(LOOKS_MAX as u32).await.unwrap();
    assert_eq!(world.authenticator.look_again(&before, None).await, unavailable(UnavailableReason::Overloaded));
}

#[tokio::test]
async fn whoever_proves_an_address_still_needs_an_account() {
    let world = World::new(Fake::default());
    let decide = async |address: &str, named: &str, method| {
        let address = address.parse().unwrap();
        world.authenticator.decide_proven(&Proven { address: &address, named, method }).await
    };
    for (address, named) in [
        ("alice@univ-a.example", ""),
        ("alice@univ-a.example", "Alice@UNIV-A.example."),
        // An alias is proven, and the same user named by either address.
        ("al@univ-a.example", ""),
        ("al@univ-a.example", "al@univ-a.example"),
        ("al@univ-a.example", "alice@univ-a.example"),
    ] {
        for (how, method) in [(AuthMethod::Certificate, Method::Certificate), (AuthMethod::Token, Method::Token)] {
            let outcome = decide(address, named, how).await;
            let Decision::Allow(alice) = outcome.decision else { panic!("{address} as {named:?}: {outcome:?}") };
            assert_eq!((alice.address.as_str(), alice.tenant.as_str()), ("alice@univ-a.example", "univ-a"));
            assert_eq!((alice.category, alice.method, outcome.source), (Category::Student, method, Source::Directory));
        }
    }
    let away = Decision::Unavailable(UnavailableReason::Directory);
    for (address, named, decision, source) in [
        ("alice@univ-a.example", "bob@univ-a.example", BAD, Source::Directory),
        ("alice@univ-a.example", "alice@univ-b.example", BAD, Source::Directory),
        ("alice@univ-a.example", "no address", BAD, Source::Rule),
        ("nobody@univ-a.example", "", BAD, Source::Directory),
        ("alice@elsewhere.example", "", BAD, Source::Rule),
        ("gone@univ-a.example", "", Decision::Deny(DenyReason::AccountRefused), Source::Directory),
        ("away@univ-a.example", "", away.clone(), Source::Directory),
        // Whose mailbox belongs to another tenant.
        ("strange@univ-a.example", "", away.clone(), Source::Directory),
    ] {
        let outcome = decide(address, named, AuthMethod::Token).await;
        assert_eq!((outcome.decision, outcome.source), (decision, source), "{address} as {named:?}");
    }
    assert_eq!(world.asked(), 0, "no password was verified");
}

#[tokio::test]
async fn a_reload_keeps_cache_and_throttle_while_they_fit() {
    let world = World::new(Fake::default());
    world.login("alice@univ-a.example", "right", EXEMPT).await;
    let reload = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        let (fake, nobody) = (Arc::clone(&world.fake), Arc::new(Nobody));
        Authenticator::with(Arc::new(config), fake, nobody, Some(&world.authenticator))
    };
    let kept = |next: &Authenticator| {
        (
            Arc::ptr_eq(&next.cache, &world.authenticator.cache),
            Arc::ptr_eq(&next.throttle, &world.authenticator.throttle),
        )
    };
    assert_eq!(kept(&reload(&|config| config.log.level = "debug".into())), (true, true));
    assert_eq!(kept(&reload(&|config| config.limits.login_failures_per_user = 9)), (true, false));
    assert_eq!(kept(&reload(&|config| config.limits.password_cache_ttl = Duration::from_secs(9))), (false, true));
    let user = guichet_config::User {
        address: "alice@univ-a.example".parse().unwrap(),
        password: Secret::new("changed".into()),
        category: None,
        active: true,
        cell: None,
    };
    let users = || Users {
        file: "u".into(),
        by_address: [(user.address.clone(), Arc::new(user.clone()))].into(),
        ..Users::default()
    };
    assert_eq!(kept(&reload(&|config| config.directory = Configured::Embedded(users()))), (false, true));
}

#[test]
fn an_authenticator_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Authenticator>();
}

/// An authenticator with [`config`] and a directory that knows a few people.
pub(crate) fn authenticator() -> Authenticator {
    Authenticator::with(Arc::new(config()), Arc::new(Fake::default()), Arc::new(Nobody), None)
}
