//! One question at a time: parallel logins of one user with one password are one question to whoever judges it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    UnavailableReason,
    directory::Verdict,
    password::{CacheKey, PasswordCache, Verifier},
};

/// Questions under way, by what names tenant, user, protocol class and password.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Verifier, watch::Receiver<Option<Reply>>>>);

/// An answer, and who is away when it is none.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) verdict: Verdict,
    /// Says something of [`Verdict::Unavailable`] only.
    pub(super) missing: UnavailableReason,
}

impl Reply {
    /// What the directory said, or what was said with its help.
    pub(super) fn of(verdict: Verdict) -> Self {
        Self { verdict, missing: UnavailableReason::Directory }
    }

    /// No answer, because this one is away.
    pub(super) fn nobody(missing: UnavailableReason) -> Self {
        Self { verdict: Verdict::Unavailable, missing }
    }
}

impl Flights {
    /// The answer to a question, asked by this call or by one before it; `None` when too many questions are under way. The
    /// question goes on when its callers leave, and what it learns is kept. `nobody` stands for an answer that does not
    /// come.
    pub(super) async fn ask<F>(
        self: &Arc<Self>,
        (key, verifier): (CacheKey, Verifier),
        cache: &Arc<PasswordCache>,
        nobody: Reply,
        question: impl FnOnce() -> F,
    ) -> Option<Reply>
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let mut answer = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&verifier) {
                Some(answer) => answer.clone(),
                None if flights.len() >= FLIGHTS_MAX => return None,
                None => {
                    let (tell, answer) = watch::channel(None);
                    flights.insert(verifier, answer.clone());
                    let landing = Landing { flights: Arc::clone(self), verifier };
                    let (cache, nobody, question) = (Arc::clone(cache), nobody.clone(), question());
                    tokio::spawn(async move {
                        // Dropped last, also when who is asked panics: then the callers see the channel close.
                        let _landing = landing;
                        let reply = tokio::time::timeout(ANSWER_TIMEOUT, question).await.unwrap_or(nobody);
                        cache.learn(key, verifier, &reply.verdict, Instant::now());
                        tell.send_replace(Some(reply));
                    });
                    answer
                }
            }
        };
        let reply = match answer.wait_for(Option::is_some).await {
            Ok(reply) => reply.clone(),
            Err(_) => None,
        };
        Some(reply.unwrap_or(nobody))
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

/// One answer: queues and all servers of the directory, or an institution and two searches for the account behind its word.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(16);
