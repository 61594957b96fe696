//! The embedded directory: users of a file that was read with the configuration.

use std::sync::Arc;

use guichet_config::{Address, Secret, User, Users};
use tokio::sync::Semaphore;
use tracing::{error, warn};

use super::{Account, Answer, Directory, Identified, Lookup, Question, Verdict};
use crate::password::verify_password;

/// Users with Argon2id hashes, checked on blocking threads, as many at once as there are cores.
#[derive(Debug)]
pub struct Embedded {
    users: Users,
    cores: Arc<Semaphore>,
    /// Checked for nobody, so that an unknown user takes as long as a known one: some user's hash, for its cost.
    dummy: Secret<String>,
}

impl Embedded {
    /// Serves these users.
    pub fn new(users: Users) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let dummy = users
            .by_address
            .values()
            .min_by(|one, other| one.address.cmp(&other.address))
            .map_or_else(|| Secret::new(DUMMY.to_owned()), |user| user.password.clone());
        Self { users, cores: Arc::new(Semaphore::new(cores)), dummy }
    }

    async fn check(&self, address: &Address, password: &Secret<String>) -> Verdict {
        if password.expose().is_empty() {
            return Verdict::BadCredential;
        }
        let user = self.users.by_address.get(address).cloned();
        let hash = user.as_ref().map_or_else(|| self.dummy.clone(), |user| user.password.clone());
        let Ok(permit) = Arc::clone(&self.cores).acquire_owned().await else { return Verdict::Unavailable };
        let password = password.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let right = verify_password(&password, hash.expose());
            drop(permit);
            right
        });
        match (user, checked.await) {
            (Some(user), Ok(Ok(true))) if user.active => Verdict::Valid(account(&user)),
            (Some(_), Ok(Ok(true))) => Verdict::AccountRefused,
            (None, Ok(_)) | (Some(_), Ok(Ok(false))) => Verdict::BadCredential,
            (Some(user), Ok(Err(error))) => {
                warn!(user = %user.address, %error, "A user's hash in the embedded directory cannot be used.");
                Verdict::Unavailable
            }
            (_, Err(error)) => {
                error!(%error, "Checking a password ended before its time.");
                Verdict::Unavailable
            }
        }
    }
}

impl Directory for Embedded {
    fn verify<'a>(&'a self, address: &'a Address, password: &'a Secret<String>) -> Answer<'a, Verdict> {
        Box::pin(self.check(address, password))
    }

    fn lookup<'a>(&'a self, address: &'a Address) -> Answer<'a, Lookup> {
        let user = self.users.by_address.get(address);
        Box::pin(std::future::ready(user.map_or(Lookup::Unknown, |user| Lookup::Found(account(user)))))
    }

    fn identify<'a>(&'a self, question: Question<'a>) -> Answer<'a, Identified> {
        let user = self.users.by_identifier.get(&(question.tenant.clone(), question.value.to_owned()));
        Box::pin(std::future::ready(user.map_or(Identified::Unknown, |user| Identified::One(account(user)))))
    }
}

fn account(user: &User) -> Account {
    Account { address: user.address.clone(), category: user.category, cell: user.cell.clone(), active: user.active }
}

/// With no user at all: a hash of our own cost that belongs to nobody.
const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::password::hash_password;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn directory() -> Embedded {
        let mut by_address = HashMap::new();
        for (name, active, hash) in [
            ("alice", true, hash_password(&secret("right")).unwrap()),
            ("gone", false, hash_password(&secret("right")).unwrap()),
            ("broken", true, "no hash".to_owned()),
        ] {
            let user = Arc::new(User {
                address: address(&format!("{name}@univ-a.example")),
                password: Secret::new(hash),
                category: None,
                active,
                cell: None,
            });
            by_address.insert(user.address.clone(), Arc::clone(&user));
            by_address.insert(address(&format!("{name}.alias@univ-a.example")), user);
        }
        let alice = Arc::clone(&by_address[&address("alice@univ-a.example")]);
        let by_identifier = [(("univ-a".parse().unwrap(), "x7f3".to_owned()), alice)].into();
        Embedded::new(Users { file: "users.toml".into(), by_address, by_identifier })
    }

    #[tokio::test]
    async fn each_user_gets_one_of_the_four_answers() {
        let directory = directory();
        let ask = async |user: &str, password: &str| directory.verify(&address(user), &secret(password)).await;
        let Verdict::Valid(alice) = ask("alice.alias@univ-a.example", "right").await else { panic!() };
        assert_eq!(alice.address, address("alice@univ-a.example"), "an alias leads to the canonical address");
        assert_eq!(ask("alice@univ-a.example", "wrong").await, Verdict::BadCredential);
        assert_eq!(ask("alice@univ-a.example", "").await, Verdict::BadCredential);
        assert_eq!(ask("nobody@univ-a.example", "right").await, Verdict::BadCredential);
        assert_eq!(ask("gone@univ-a.example", "right").await, Verdict::AccountRefused);
        assert_eq!(ask("gone@univ-a.example", "wrong").await, Verdict::BadCredential);
        assert_eq!(ask("broken@univ-a.example", "right").await, Verdict::Unavailable);
    }

    #[tokio::test]
    async fn a_lookup_needs_no_password() {
        let directory = directory();
        let found = directory.lookup(&address("gone.alias@univ-a.example")).await;
        assert!(matches!(found, Lookup::Found(account) if !account.active));
        assert_eq!(directory.lookup(&address("nobody@univ-a.example")).await, Lookup::Unknown);
    }

    #[tokio::test]
    async fn a_name_given_by_an_idp_is_good_within_its_tenant() {
        let directory = directory();
        let ask = async |tenant: &str, value: &str| {
            let question = Question { tenant: &tenant.parse().unwrap(), domains: &[], attribute: None, value };
            directory.identify(question).await
        };
        assert!(matches!(ask("univ-a", "x7f3").await, Identified::One(found) if found.address.local() == "alice"));
        assert_eq!(ask("univ-a", "x7f").await, Identified::Unknown);
        assert_eq!(ask("univ-b", "x7f3").await, Identified::Unknown);
    }

    #[test]
    fn the_dummy_hash_costs_what_ours_cost() {
        assert_eq!(verify_password(&secret("x"), DUMMY), Ok(false));
    }
}
