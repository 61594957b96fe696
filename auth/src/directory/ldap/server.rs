//! One LDAP server: its connections and its breaker.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use guichet_config::Secret;
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchOptions};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::answer::{self, Bind, Found};

/// Why a server gave no answer about a user.
#[derive(Debug, thiserror::Error)]
pub(super) enum Outage {
    #[error("the connection failed")]
    Connection(#[from] LdapError),
    #[error("no reply in time")]
    Timeout,
    #[error("every connection is busy")]
    Queue,
    #[error("result code {0}")]
    Result(u32),
    #[error("the service account was refused with result code {0}")]
    ServiceAccount(u32),
    #[error("the reply makes no sense: {0}")]
    Senseless(&'static str),
}

impl Outage {
    /// Whether the connection may have been closed while it idled: then a fresh one gets one try.
    fn is_stale(&self) -> bool {
        matches!(self, Self::Connection(error) if !matches!(error, LdapError::Timeout { .. }))
    }
}

/// One server.
pub(super) struct Server {
    url: String,
    settings: LdapConnSettings,
    bind_dn: String,
    password: Secret<String>,
    request: Duration,
    /// Connections bound as the service account, shared; opened one at a time.
    searching: [tokio::sync::Mutex<Option<Connection>>; SEARCH_CONNECTIONS],
    next: AtomicUsize,
    /// Binds at once.
    binds: Semaphore,
    idle: Mutex<Vec<Connection>>,
    breaker: Mutex<Breaker>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url).finish_non_exhaustive()
    }
}

struct Connection {
    ldap: Ldap,
    opened: Instant,
    used: Instant,
}

impl Connection {
    fn usable(&mut self, now: Instant) -> bool {
        !self.ldap.is_closed() && now - self.opened < AGE_MAX && now - self.used < IDLE_MAX
    }
}

impl Server {
    pub(super) fn new(url: &str, settings: LdapConnSettings, config: &guichet_config::Ldap) -> Self {
        Self {
            url: url.to_owned(),
            settings,
            bind_dn: config.bind_dn.clone(),
            password: config.password.clone(),
            request: config.timeout_request,
            searching: Default::default(),
            next: AtomicUsize::new(0),
            binds: Semaphore::new(config.connections_max.max(1)),
            idle: Mutex::default(),
            breaker: Mutex::default(),
        }
    }

    /// Whether to ask this server now. After failures in a row it is left alone for a while, then gets one question.
    pub(super) fn open(&self) -> bool {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).allows(Instant::now())
    }

    /// Feeds the breaker: answers about a user close it, whatever they say; outages open it.
    pub(super) fn judge<T>(&self, answer: Result<T, Outage>) -> Option<T> {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) => {
                if breaker.succeed() {
                    info!(server = %self.url, "The directory server answers again.");
                }
                Some(answer)
            }
            // Our own crowd, or one odd entry, says nothing about the server.
            Err(outage @ (Outage::Queue | Outage::Senseless(_))) => {
                warn!(server = %self.url, error = %outage, "The directory gave no answer about a user.");
                None
            }
            Err(outage) => {
                let source = std::error::Error::source(&outage).map(ToString::to_string);
                warn!(server = %self.url, error = %outage, source, "The directory server gave no answer.");
                if breaker.fail(Instant::now()) {
                    warn!(server = %self.url, "The directory server is left alone for a while.");
                }
                None
            }
        }
    }

    /// Entries under `base`, at most `most`, searched as the service account.
    pub(super) async fn search(
        &self,
        base: &str,
        filter: &str,
        attributes: &[String],
        most: i32,
    ) -> Result<Found, Outage> {
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % SEARCH_CONNECTIONS;
        let slot = self.searching.get(slot).ok_or(Outage::Queue)?;
        let mut fresh = false;
        loop {
            let (mut ldap, opened) = self.search_connection(slot, &mut fresh).await?;
            let options = SearchOptions::new().sizelimit(most);
            ldap.with_search_options(options).with_timeout(self.request);
            let reply = timeout(self.request, ldap.search(base, Scope::Subtree, filter, attributes)).await;
            let found = match reply {
                Ok(Ok(reply)) => answer::search(reply.0, &reply.1),
                Ok(Err(error)) => Err(Outage::Connection(error)),
                Err(_) => Err(Outage::Timeout),
            };
            match found {
                Err(outage) if !matches!(outage, Outage::Senseless(_)) => {
                    // Whatever ails it, the next search gets another; unless somebody replaced it already.
                    let mut slot = slot.lock().await;
                    slot.take_if(|connection| connection.opened == opened);
                    if fresh || !outage.is_stale() {
                        return Err(outage);
                    }
                }
                found => return found,
            }
        }
    }

    async fn search_connection(
        &self,
        slot: &tokio::sync::Mutex<Option<Connection>>,
        fresh: &mut bool,
    ) -> Result<(Ldap, Instant), Outage> {
        let mut slot = timeout(QUEUE, slot.lock()).await.map_err(|_| Outage::Queue)?;
        let now = Instant::now();
        if let Some(connection) = slot.as_mut()
            && connection.usable(now)
        {
            connection.used = now;
            return Ok((connection.ldap.clone(), connection.opened));
        }
        *fresh = true;
        *slot = None;
        let mut connection = self.connect().await?;
        let bound =
            connection.ldap.with_timeout(self.request).simple_bind(&self.bind_dn, self.password.expose()).await?;
        if bound.rc != 0 {
            return Err(Outage::ServiceAccount(bound.rc));
        }
        let handle = (connection.ldap.clone(), connection.opened);
        *slot = Some(connection);
        Ok(handle)
    }

    /// Binds as `dn` on a connection of its own.
    pub(super) async fn bind(&self, dn: &str, password: &Secret<String>) -> Result<Bind, Outage> {
        let _permit = match timeout(QUEUE, self.binds.acquire()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(Outage::Queue),
        };
        loop {
            let idle = self.take_idle();
            let fresh = idle.is_none();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let bound = connection
                .ldap
                .with_controls(answer::policy_request())
                .with_timeout(self.request)
                .simple_bind(dn, password.expose())
                .await;
            match bound {
                Ok(result) => {
                    let answer = answer::bind(&result);
                    if answer.is_ok() {
                        connection.used = Instant::now();
                        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                    }
                    return answer;
                }
                // The connection goes with its unknown state.
                Err(error) => {
                    let outage = Outage::Connection(error);
                    if fresh || !outage.is_stale() {
                        return Err(outage);
                    }
                }
            }
        }
    }

    /// The connection used last; those too old or closed are dropped on the way.
    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        idle.retain_mut(|connection| connection.usable(now));
        idle.pop()
    }

    async fn connect(&self) -> Result<Connection, Outage> {
        let (driver, ldap) = LdapConnAsync::with_settings(self.settings.clone(), &self.url).await?;
        let url = self.url.clone();
        tokio::spawn(async move {
            if let Err(error) = driver.drive().await {
                info!(server = %url, %error, "A connection to the directory ended.");
            }
        });
        let opened = Instant::now();
        Ok(Connection { ldap, opened, used: opened })
    }
}

/// Leaves a failing server alone, for longer each time.
#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// Not before then; one question each time.
    retry: Option<(Instant, Duration)>,
}

impl Breaker {
    fn allows(&mut self, now: Instant) -> bool {
        match &mut self.retry {
            None => true,
            Some((at, pause)) if now >= *at => {
                // The one question: others wait for its answer, or for another pause.
                *at = now + *pause;
                true
            }
            Some(_) => false,
        }
    }

    /// Returns whether it was open.
    fn succeed(&mut self) -> bool {
        self.failures = 0;
        self.retry.take().is_some()
    }

    /// Returns whether it opens now.
    fn fail(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        match self.retry {
            Some((_, pause)) => {
                let pause = (pause * 2).min(RETRY_MAX);
                self.retry = Some((now + pause, pause));
                false
            }
            None if self.failures >= FAILURES_MAX => {
                self.retry = Some((now + RETRY_FIRST, RETRY_FIRST));
                true
            }
            None => false,
        }
    }
}

/// Searches share these.
const SEARCH_CONNECTIONS: usize = 2;

/// Wait for a free connection.
const QUEUE: Duration = Duration::from_secs(2);

/// A connection older than this is not used again, so that load comes back to a server that returned.
const AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// Nor one idle for longer: firewalls forget.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Outages in a row that open the breaker.
const FAILURES_MAX: u32 = 5;

/// First pause; doubles to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_opens_after_five_outages_and_tries_one_question_a_pause() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..4 {
            assert!(!breaker.fail(now));
        }
        assert!(breaker.allows(now));
        assert!(breaker.fail(now));
        assert!(!breaker.allows(now));
        let later = now + Duration::from_secs(1);
        assert!(breaker.allows(later));
        assert!(!breaker.allows(later), "one question, not many");
        breaker.fail(later);
        assert!(!breaker.allows(later + Duration::from_secs(1)), "the pause doubles");
        assert!(breaker.allows(later + Duration::from_secs(2)));
        assert!(breaker.succeed());
        assert!(breaker.allows(later));
        assert!(!breaker.fail(later), "one outage after a success is one");
    }
}
