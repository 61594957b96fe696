//! One question at a time: parallel logins of one user with one password are one question to the directory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use guichet_config::{Address, Secret};
use tokio::sync::watch;

use crate::{
    directory::{Directory, Verdict},
    password::{CacheKey, PasswordCache, Verifier},
};

/// Questions under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Verifier, watch::Receiver<Option<Verdict>>>>);

/// What the directory is asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) user: Address,
    pub(super) password: Secret<String>,
    pub(super) key: CacheKey,
    /// Names tenant, user, protocol class and password.
    pub(super) verifier: Verifier,
}

impl Flights {
    /// The directory's answer, asked by this call or by one before it; `None` when too many questions are under way.
    /// The question goes on when its callers leave, and what it learns is kept.
    pub(super) async fn ask(
        self: &Arc<Self>,
        question: Question,
        directory: &Arc<dyn Directory>,
        cache: &Arc<PasswordCache>,
    ) -> Option<Verdict> {
        let mut answer = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&question.verifier) {
                Some(answer) => answer.clone(),
                None if flights.len() >= FLIGHTS_MAX => return None,
                None => {
                    let (tell, answer) = watch::channel(None);
                    flights.insert(question.verifier, answer.clone());
                    let landing = Landing { flights: Arc::clone(self), verifier: question.verifier };
                    let (directory, cache) = (Arc::clone(directory), Arc::clone(cache));
                    tokio::spawn(async move {
                        // Dropped last, also when the directory panics: then the callers see the channel close.
                        let _landing = landing;
                        let asked = directory.verify(&question.user, &question.password);
                        let verdict = tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Verdict::Unavailable);
                        cache.learn(question.key, question.verifier, &verdict, Instant::now());
                        tell.send_replace(Some(verdict));
                    });
                    answer
                }
            }
        };
        let verdict = match answer.wait_for(Option::is_some).await {
            Ok(verdict) => verdict.clone(),
            Err(_) => None,
        };
        Some(verdict.unwrap_or(Verdict::Unavailable))
    }
}

/// Takes a question off the list when its task ends.
struct Landing {
    flights: Arc<Flights>,
    verifier: Verifier,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.verifier);
    }
}

/// Questions at once: more wait nowhere, they are told to try later.
const FLIGHTS_MAX: usize = 4096;

/// One answer, queues and all servers included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
