//! Cells: their endpoints, resolved, checked and chosen.
//!
//! Endpoints of one cell and service are equal in rank and taken in turn. An endpoint leaves the rotation after some
//! failures in a row (checks and real connections alike) and comes back after some good checks; its very first check and
//! its first good one decide at once. [`health`] runs the checks, [`resolve`] keeps the addresses.

mod dial;
mod health;
mod learnt;
mod resolve;

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use guichet_config::{CellId, Config, Endpoint, Health, MailProtocol};
use pingora::connectors::l4::BindTo;
use tokio::{net::TcpStream, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) use self::dial::DialError;
pub use self::learnt::Learnt;
use self::{dial::Sources, resolve::Names};
use crate::{
    mail::Drain,
    telemetry::{METRICS, event},
    tls::ClientTls,
};

/// Which back end of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// HTTP.
    Web,
    /// A mail protocol.
    Mail(MailProtocol),
    /// Whatever a relay listener takes.
    Relay,
    /// Where a Zimbra gives auth tokens.
    Zimbra,
}

impl Service {
    /// `web`, `imap`, `pop3`, `submission`, `sieve`, `relay` or `zimbra`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Mail(protocol) => protocol.as_str(),
            Self::Relay => "relay",
            Self::Zimbra => "zimbra",
        }
    }
}

/// An endpoint chosen for one connection.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// As configured.
    pub endpoint: Endpoint,
    /// The same in one word, shared by all that go there.
    pub label: Arc<str>,
    /// Where to connect now.
    pub address: SocketAddr,
    /// Where from.
    sources: Arc<Sources>,
}

impl Chosen {
    /// Connects, from one of the cell's source addresses.
    pub(crate) async fn connect(&self) -> Result<TcpStream, DialError> {
        self.sources.dial(self.address).await
    }

    /// The source addresses in the order to try them, for connections that others make. `None`: the kernel's choice.
    pub(crate) fn ways(&self) -> impl Iterator<Item = Option<BindTo>> {
        self.sources.ways(self.address).into_iter().map(|way| way.map(dial::bind_to))
    }

    /// Such a connection found no port.
    pub(crate) fn source_exhausted(&self) {
        self.sources.exhausted(None);
    }
}

/// Health of one endpoint, for `guichet ctl cell list`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct EndpointStatus {
    /// Cell.
    pub cell: String,
    /// As [`Service::as_str`].
    pub service: &'static str,
    /// `host:port`.
    pub endpoint: String,
    /// In rotation.
    pub healthy: bool,
    /// Takes nothing new, by an operator's word.
    pub drained: bool,
    /// Last failure in words.
    pub last_error: Option<String>,
}

/// The endpoints of every cell and their health. Survives reloads.
#[derive(Debug)]
pub struct Cells {
    pools: ArcSwap<BTreeMap<(CellId, Service), Arc<Pool>>>,
    /// Operators' words: their targets take nothing new.
    drains: ArcSwap<Vec<Drain>>,
    names: ArcSwap<Names>,
}

#[derive(Debug)]
struct Pool {
    members: Vec<Arc<Member>>,
    sources: Arc<Sources>,
    next: AtomicUsize,
    /// Ends the checks.
    stop: CancellationToken,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One endpoint and what is known of it.
#[derive(Debug)]
struct Member {
    cell: CellId,
    service: Service,
    endpoint: Endpoint,
    label: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    checked: bool,
    passed: bool,
    out: bool,
    failures: u32,
    successes: u32,
    thresholds: (u32, u32),
    last_error: Option<String>,
    /// What it told a check before login.
    learnt: Learnt,
}

impl Cells {
    /// No cell yet. The name servers are those of `config`.
    ///
    /// # Errors
    /// The system's resolver configuration cannot be used.
    pub fn new(config: &Config) -> anyhow::Result<Arc<Self>> {
        let names = ArcSwap::from_pointee(Names::new(&config.dns_servers)?);
        Ok(Arc::new(Self { pools: ArcSwap::default(), drains: ArcSwap::default(), names }))
    }

    /// Takes over the cells of a configuration; an endpoint that stays keeps its health. Checks start now.
    pub fn configure(self: &Arc<Self>, config: &Config, tls: &ClientTls) {
        if self.names.load().servers() != config.dns_servers
            && let Ok(names) = Names::new(&config.dns_servers)
        {
            self.names.store(Arc::new(names));
        }
        let before = self.pools.load_full();
        let mut pools = BTreeMap::new();
        for cell in config.cells.values() {
            let sources = &Sources::new(cell.id.as_str(), &cell.source_addresses);
            if let Some(web) = &cell.web {
                let check = health::Check::web(web, tls);
                let pool = self.pool(&before, (&cell.id, Service::Web), &web.endpoints, sources, &web.health, &check);
                pools.insert((cell.id.clone(), Service::Web), pool);
            }
            for (protocol, mail) in &cell.mail {
                let (service, check) =
                    (Service::Mail(*protocol), health::Check::mail(*protocol, mail, tls, &config.public.hostname));
                let pool = self.pool(&before, (&cell.id, service), &mail.endpoints, sources, &mail.health, &check);
                pools.insert((cell.id.clone(), service), pool);
            }
            if let Some(relay) = &cell.relay {
                let check = health::Check::relay(relay, tls);
                let service = Service::Relay;
                let pool = self.pool(&before, (&cell.id, service), &relay.endpoints, sources, &relay.health, &check);
                pools.insert((cell.id.clone(), service), pool);
            }
            if let Some(zimbra) = &cell.zimbra {
                let check = health::Check::zimbra(zimbra, tls);
                let service = Service::Zimbra;
                let pool = self.pool(&before, (&cell.id, service), &zimbra.endpoints, sources, &zimbra.health, &check);
                pools.insert((cell.id.clone(), service), pool);
            }
        }
        let kept: HashSet<&str> = pools.values().flat_map(|pool| &pool.members).map(|member| &*member.label).collect();
        for gone in before.values().flat_map(|pool| &pool.members).filter(|member| !kept.contains(&*member.label)) {
            let labels = [gone.cell.as_str(), gone.service.as_str(), &gone.label];
            let _ = METRICS.cell_endpoint_up.remove_label_values(&labels);
        }
        self.pools.store(Arc::new(pools));
        for pool in before.values() {
            pool.stop.cancel();
        }
    }

    fn pool(
        self: &Arc<Self>,
        before: &BTreeMap<(CellId, Service), Arc<Pool>>,
        (cell, service): (&CellId, Service),
        endpoints: &[Endpoint],
        sources: &Arc<Sources>,
        health: &Health,
        check: &health::Check,
    ) -> Arc<Pool> {
        let old = before.get(&(cell.clone(), service));
        let stop = CancellationToken::new();
        let members: Vec<_> = endpoints
            .iter()
            .map(|endpoint| {
                let known = old.and_then(|pool| pool.members.iter().find(|member| member.endpoint == *endpoint));
                let member = known.cloned().unwrap_or_else(|| Arc::new(Member::new(cell, service, endpoint)));
                member.lock().thresholds = (health.failures.max(1), health.successes.max(1));
                let target = health::Target { member: member.clone(), sources: sources.clone(), check: check.clone() };
                tokio::spawn(health::run(self.clone(), target, health.clone(), stop.clone()));
                member
            })
            .collect();
        Arc::new(Pool { members, sources: sources.clone(), next: AtomicUsize::new(0), stop })
    }

    /// A healthy endpoint, in turn; `None`: the cell has none, answer "try later".
    pub async fn choose(&self, cell: &CellId, service: Service) -> Option<Chosen> {
        self.choose_other(cell, service, None).await
    }

    /// As [`Cells::choose`], but not `failed`.
    ///
    /// A drained endpoint is not chosen. For the web it is the last resort for as long as the drain ends live relays: a
    /// request is short, and whoever is writing a message there should be able to send it.
    pub async fn choose_other(&self, cell: &CellId, service: Service, failed: Option<&Endpoint>) -> Option<Chosen> {
        let pool = self.pools.load().get(&(cell.clone(), service)).cloned()?;
        let start = pool.next.fetch_add(1, Ordering::Relaxed);
        let count = pool.members.len();
        let (drains, now) = (self.drains.load_full(), Instant::now());
        for step in 0..count * 2 {
            let member = pool.members.get(start.wrapping_add(step) % count)?;
            if failed == Some(&member.endpoint) || member.lock().out {
                continue;
            }
            let barring = drains.iter().filter(|drain| drain.bars(cell, &member.label, now));
            let last_resort = step >= count;
            match barring.map(|drain| drain.done).min() {
                None if !last_resort => {}
                Some(done) if last_resort && service == Service::Web && done > now => {}
                _ => continue,
            }
            match self.address(&member.endpoint).await {
                Ok(address) => {
                    let (endpoint, label) = (member.endpoint.clone(), member.label.clone());
                    return Some(Chosen { endpoint, label, address, sources: pool.sources.clone() });
                }
                Err(error) => member.on_failure(&error),
            }
        }
        None
    }

    /// Whether an operator drains every endpoint that could take a login.
    pub fn drained(&self, cell: &CellId, service: Service) -> bool {
        let (drains, now) = (self.drains.load(), Instant::now());
        let pools = self.pools.load();
        let members = pools.get(&(cell.clone(), service)).map_or(&[][..], |pool| pool.members.as_slice());
        let mut healthy = members.iter().filter(|member| !member.lock().out).peekable();
        healthy.peek().is_some() && healthy.all(|member| drains.iter().any(|one| one.bars(cell, &member.label, now)))
    }

    /// The drains in force, in place of those before.
    pub(crate) fn set_drains(&self, drains: Vec<Drain>) {
        self.drains.store(Arc::new(drains));
    }

    /// A connection attempt failed: counts like a failed check.
    pub fn on_failure(&self, cell: &CellId, service: Service, endpoint: &Endpoint, error: &str) {
        METRICS.cell_connects.with_label_values(&[cell.as_str(), service.as_str(), "failed"]).inc();
        let pools = self.pools.load();
        let pool = pools.get(&(cell.clone(), service));
        if let Some(member) = pool.and_then(|pool| pool.members.iter().find(|member| member.endpoint == *endpoint)) {
            member.on_failure(error);
        }
    }

    /// A connection was made: failures no longer stand in a row.
    pub fn on_success(&self, cell: &CellId, service: Service, endpoint: &Endpoint) {
        METRICS.cell_connects.with_label_values(&[cell.as_str(), service.as_str(), "ok"]).inc();
        let pools = self.pools.load();
        let pool = pools.get(&(cell.clone(), service));
        if let Some(member) = pool.and_then(|pool| pool.members.iter().find(|member| member.endpoint == *endpoint)) {
            member.lock().failures = 0;
        }
    }

    /// What every endpoint in rotation told of itself and is worth showing before login. Some clients never ask again.
    pub fn learnt(&self, protocol: MailProtocol) -> Learnt {
        let pools = self.pools.load();
        let service = Service::Mail(protocol);
        let members = pools.iter().filter(|((_, one), _)| *one == service).flat_map(|(_, pool)| &pool.members);
        let told = members.map(|member| member.lock()).filter(|state| !state.out).map(|state| state.learnt.clone());
        told.reduce(|all, one| all.shared_with(&one)).unwrap_or_default()
    }

    /// All of them.
    pub fn list(&self) -> Vec<EndpointStatus> {
        let (drains, now) = (self.drains.load(), Instant::now());
        let barred = |member: &Member| drains.iter().any(|one| one.bars(&member.cell, &member.label, now));
        let pools = self.pools.load();
        pools.values().flat_map(|pool| &pool.members).map(|member| member.status(barred(member))).collect()
    }

    async fn address(&self, endpoint: &Endpoint) -> Result<SocketAddr, String> {
        self.names.load_full().address(endpoint).await
    }
}

impl Member {
    fn new(cell: &CellId, service: Service, endpoint: &Endpoint) -> Self {
        let label: Arc<str> = endpoint.to_string().into();
        METRICS.cell_endpoint_up.with_label_values(&[cell.as_str(), service.as_str(), &label]).set(1);
        Self { cell: cell.clone(), service, endpoint: endpoint.clone(), label, state: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_failure(&self, error: &str) {
        let leaves = {
            let mut state = self.lock();
            let first = !std::mem::replace(&mut state.checked, true);
            state.successes = 0;
            state.failures = state.failures.saturating_add(1);
            state.last_error = Some(error.to_owned());
            let leaves = !state.out && (first || state.failures >= state.thresholds.0);
            state.out |= leaves;
            leaves
        };
        if leaves {
            self.changed(Err(error));
        }
    }

    fn on_learnt(&self, learnt: Learnt) {
        self.lock().learnt = learnt;
    }

    fn on_check_passed(&self) {
        let joins = {
            let mut state = self.lock();
            state.checked = true;
            state.failures = 0;
            state.successes = state.successes.saturating_add(1);
            // The first good check of its life decides at once, too: a cell may start after us.
            let first = !std::mem::replace(&mut state.passed, true);
            let joins = state.out && (first || state.successes >= state.thresholds.1);
            if joins {
                state.out = false;
                state.last_error = None;
            }
            joins
        };
        if joins {
            self.changed(Ok(()));
        }
    }

    fn changed(&self, result: Result<(), &str>) {
        event::EndpointChanged { cell: &self.cell, service: self.service.as_str(), endpoint: &self.label, result }
            .emit();
    }

    fn status(&self, drained: bool) -> EndpointStatus {
        let state = self.lock();
        EndpointStatus {
            cell: self.cell.to_string(),
            service: self.service.as_str(),
            endpoint: self.label.to_string(),
            healthy: !state.out,
            drained,
            last_error: state.last_error.clone(),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
