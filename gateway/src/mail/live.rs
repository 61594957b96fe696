//! Who is logged in now: every relay of the node and every tunnel of the web, to be counted, listed and ended by operators.
//!
//! A relay is entered once, when its cell is open, and leaves when its [`Place`] is dropped; while bytes move nothing here
//! is touched. What the list shows is what the relay itself keeps for its log line, shared. Entries are spread over shards
//! by their user, so that logins seldom meet on a lock and all of one user's are found without looking at the others.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use guichet_auth::store::DrainOverride;
use guichet_config::{Address, CellId, Limits, ListenerId, TenantId};
use serde::Serialize;
use tokio::time::Instant;

mod traffic;
mod tunnel;

pub use self::traffic::Traffic;
pub(crate) use self::tunnel::Tunnel;
use super::orders::{Node, Orders, Slip, Why};
use crate::{limit::prefix, telemetry::event, tls::policy::Negotiated};

/// What is known of a relay: the log line at its end tells it, and the list of live ones.
#[derive(Debug)]
pub(crate) struct About {
    pub(super) protocol: Traffic,
    pub(super) conn: u64,
    pub(super) listener: ListenerId,
    pub(super) client: SocketAddr,
    pub(super) tls: Negotiated,
    /// Nobody behind a relay listener.
    pub(super) user: Option<(Address, TenantId)>,
    pub(super) cell: CellId,
    pub(super) endpoint: Arc<str>,
    /// Longest time in which nothing moves.
    pub(super) inactivity: Duration,
}

/// Which relays are meant: all given parts must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Of users of this institution.
    pub tenant: Option<TenantId>,
    /// Of this user.
    pub user: Option<Address>,
    /// To this cell.
    pub cell: Option<CellId>,
    /// Of this protocol.
    pub protocol: Option<Traffic>,
    /// That came in here.
    pub listener: Option<ListenerId>,
}

impl Selector {
    /// Whether it means every relay.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn matches(&self, about: &About) -> bool {
        let (user, tenant) = about.user.as_ref().map(|(user, tenant)| (user, tenant)).unzip();
        fits(self.user.as_ref(), user)
            && fits(self.tenant.as_ref(), tenant)
            && fits(self.cell.as_ref(), Some(&about.cell))
            && fits(self.protocol.as_ref(), Some(&about.protocol))
            && fits(self.listener.as_ref(), Some(&about.listener))
    }
}

fn fits<T: PartialEq>(wanted: Option<&T>, is: Option<&T>) -> bool {
    wanted.is_none() || wanted == is
}

/// An operator's drain as it concerns relays and endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub(crate) selector: Selector,
    /// `host:port`; `None`: every endpoint.
    pub(crate) endpoint: Option<String>,
    /// What the operator said: two drains are the same when this is.
    pub(crate) word: DrainOverride,
    /// When the last of them ends.
    pub(crate) done: Instant,
    /// When the override ends.
    pub(crate) until: Instant,
}

impl Drain {
    /// Whether a login that would go to this endpoint must not, at `now`.
    pub(crate) fn bars(&self, cell: &CellId, endpoint: &str, now: Instant) -> bool {
        self.until > now
            && self.selector.cell.as_ref() == Some(cell)
            && self.endpoint.as_deref().is_none_or(|one| one == endpoint)
    }

    fn matches(&self, about: &About) -> bool {
        self.selector.matches(about) && self.endpoint.as_deref().is_none_or(|one| one == &*about.endpoint)
    }
}

/// One live relay, as operators see it.
#[derive(Clone, Debug, Serialize)]
pub struct RelayStatus {
    /// Names the connection in logs and at the cell.
    pub session: String,
    /// Protocol; `relay` or `web` where nobody speaks one of mail.
    pub protocol: &'static str,
    /// Where it came in.
    pub listener: String,
    /// From where.
    pub client: String,
    /// Version and suite.
    pub tls: String,
    /// Who.
    pub user: Option<String>,
    /// Of which institution.
    pub tenant: Option<String>,
    /// To where.
    pub cell: String,
    /// `host:port` of the cell.
    pub endpoint: String,
    /// Since login.
    pub seconds: u64,
    /// `kicked` or `drained`, when its end is ordered.
    pub ending: Option<&'static str>,
}

/// Why a user gets no further session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Too many in all.
    User,
    /// Too many from where this one came.
    Source,
}

impl Crowded {
    /// For metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "sessions_user",
            Self::Source => "sessions_source",
        }
    }
}

/// The live relays of this node.
pub struct Relays {
    /// (hash of the user, number of the connection): all of one user's stand together.
    shards: [Mutex<BTreeMap<Key, Arc<Live>>>; SHARDS],
    hasher: RandomState,
    node: AtomicU8,
    drains: ArcSwap<Vec<Drain>>,
    /// Orders count their time from here.
    began: Instant,
    /// Start of the node, Unix seconds: the first half of a session's name.
    started: u64,
}

type Key = (u64, u64);

#[derive(Debug)]
struct Live {
    about: About,
    since: Instant,
    slip: Slip,
}

/// A relay's place among the live ones; given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    live: Arc<Live>,
    relays: Arc<Relays>,
}

impl std::fmt::Debug for Relays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relays").field("node", &self.node()).finish_non_exhaustive()
    }
}

impl Relays {
    /// None yet. `started`: Unix seconds, for the names of sessions.
    pub fn new(started: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            node: AtomicU8::new(Node::Runs as u8),
            drains: ArcSwap::default(),
            began: Instant::now(),
            started,
        }
    }

    /// How many match.
    pub fn count(&self, selector: &Selector) -> usize {
        self.count_at(selector, None)
    }

    /// Up to `limit` of those that match, the longest connected first.
    pub fn list(&self, selector: &Selector, limit: usize) -> Vec<RelayStatus> {
        let mut found = Vec::new();
        if limit > 0 {
            self.each(selector, |live| {
                found.push(live.clone());
                found.len() < limit
            });
        }
        found.sort_by_key(|live| live.about.conn);
        found.iter().map(|live| self.status(live)).collect()
    }

    /// Ends those that match, each at a moment of its own within `over`; zero is now. Returns how many.
    pub fn kick(&self, selector: &Selector, over: Duration) -> usize {
        let chance = RandomState::new();
        let now = Instant::now();
        let mut count = 0;
        self.each(selector, |live| {
            self.order(live, moment(&chance, live, now, now + over), Why::Kicked);
            count += 1;
            true
        });
        count
    }

    /// The drains in force, in place of those before. Relays that match a new one are ended over its time; those whose
    /// drain was taken back stay.
    pub(crate) fn set_drains(&self, drains: Vec<Drain>) {
        let before = self.drains.swap(Arc::new(drains.clone()));
        let gone = before.iter().filter(|one| drains.iter().all(|drain| drain.word != one.word));
        for drain in gone {
            self.each(&drain.selector, |live| {
                if drain.matches(&live.about) {
                    live.slip.take_back(Why::Drained);
                    self.end_if_drained(live, &drains);
                }
                true
            });
        }
        for drain in drains.iter().filter(|one| before.iter().all(|drain| drain.word != one.word)) {
            self.each(&drain.selector, |live| {
                self.end_if_drained(live, std::slice::from_ref(drain));
                true
            });
        }
    }

    /// How many match at one endpoint, or at all.
    pub(crate) fn count_at(&self, selector: &Selector, endpoint: Option<&str>) -> usize {
        let mut count = 0;
        self.each(selector, |live| {
            count += usize::from(endpoint.is_none_or(|one| one == &*live.about.endpoint));
            true
        });
        count
    }

    /// The node stops: every relay ends at its next quiet moment, those to come as well.
    pub(crate) fn stop(&self) {
        self.tell(Node::Stops);
    }

    /// The node's patience is over: every relay ends now.
    pub(crate) fn cut(&self) {
        self.tell(Node::Cuts);
    }

    /// Whether a user has as many sessions as allowed, in all or from this client.
    pub(crate) fn crowded(&self, user: &Address, client: SocketAddr, limits: &Limits) -> Option<Crowded> {
        let hash = self.hasher.hash_one(user);
        crowded(&self.shard(hash), hash, user, client, limits)
    }

    /// Enters a relay whose cell is open.
    pub(crate) fn enter(self: &Arc<Self>, about: About, limits: &Limits) -> Result<Place, Crowded> {
        let (key, live) = self.live(about);
        {
            let mut shard = self.shard(key.0);
            // Again, now that nobody else of this user can come between.
            if let Some((user, _)) = &live.about.user
                && let Some(crowded) = crowded(&shard, key.0, user, live.about.client, limits)
            {
                return Err(crowded);
            }
            shard.insert(key, live.clone());
        }
        Ok(self.placed(live))
    }

    /// Names a connection in logs and to cells: `<start>-<number>`, hexadecimal.
    pub(crate) fn session_name(&self, conn: u64) -> String {
        format!("{:x}-{conn:x}", self.started)
    }

    fn live(&self, about: About) -> (Key, Arc<Live>) {
        (self.key(&about), Arc::new(Live { about, since: Instant::now(), slip: Slip::default() }))
    }

    /// Behind the insertion: a drain that begins meanwhile sees this relay, or this relay sees it.
    fn placed(self: &Arc<Self>, live: Arc<Live>) -> Place {
        self.end_if_drained(&live, &self.drains.load());
        Place { live, relays: self.clone() }
    }

    fn end_if_drained(&self, live: &Live, drains: &[Drain]) {
        let now = Instant::now();
        let of_it = drains.iter().filter(|drain| drain.until > now && drain.matches(&live.about));
        for drain in of_it {
            // Its chance is its own: the hasher is as random as the node's start.
            let at = moment(&self.hasher, live, now, drain.done.max(now));
            self.order(live, at, Why::Drained);
        }
    }

    fn order(&self, live: &Live, at: Instant, why: Why) {
        live.slip.order(at.saturating_duration_since(self.began), why);
    }

    fn tell(&self, node: Node) {
        self.node.store(node as u8, Ordering::SeqCst);
        for shard in &self.shards {
            for live in lock(shard).values() {
                live.slip.wake();
            }
        }
    }

    fn node(&self) -> Node {
        Node::of(self.node.load(Ordering::SeqCst))
    }

    /// Calls `found` with those that match until it returns `false`. Under the lock of a shard: `found` must be quick.
    fn each(&self, selector: &Selector, mut found: impl FnMut(&Arc<Live>) -> bool) {
        if let Some(user) = &selector.user {
            let hash = self.hasher.hash_one(user);
            let shard = self.shard(hash);
            let of_user = shard.range(of(hash)).map(|(_, live)| live);
            of_user.filter(|live| selector.matches(&live.about)).all(found);
            return;
        }
        for shard in &self.shards {
            let shard = lock(shard);
            if !shard.values().filter(|live| selector.matches(&live.about)).all(&mut found) {
                return;
            }
        }
    }

    fn status(&self, live: &Live) -> RelayStatus {
        let about = &live.about;
        let user = about.user.as_ref();
        RelayStatus {
            session: self.session_name(about.conn),
            protocol: about.protocol.as_str(),
            listener: about.listener.to_string(),
            client: about.client.to_string(),
            tls: about.tls.to_string(),
            user: user.map(|(user, _)| user.to_string()),
            tenant: user.map(|(_, tenant)| tenant.to_string()),
            cell: about.cell.to_string(),
            endpoint: about.endpoint.to_string(),
            seconds: live.since.elapsed().as_secs(),
            ending: live.slip.read(self.began, self.node()).end().map(|(_, why)| why.as_str()),
        }
    }

    fn key(&self, about: &About) -> Key {
        let hash = match &about.user {
            Some((user, _)) => self.hasher.hash_one(user),
            None => self.hasher.hash_one(about.conn),
        };
        (hash, about.conn)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, BTreeMap<Key, Arc<Live>>> {
        let index = usize::try_from(hash).unwrap_or(usize::MAX) % SHARDS;
        lock(self.shards.get(index).expect("a remainder of SHARDS is an index"))
    }
}

impl Place {
    pub(super) fn about(&self) -> &About {
        &self.live.about
    }

    /// What the relay must know of the world now.
    pub(super) fn orders(&self) -> Orders {
        self.live.slip.read(self.relays.began, self.relays.node())
    }

    /// Waits for other orders than these.
    pub(super) async fn other_orders(&self, than: Orders) -> Orders {
        self.live.slip.changed(than, || self.orders()).await
    }

    /// The relay is part of the world from here on.
    pub(super) fn opened(&self, took: Option<Duration>) {
        let about = self.about();
        event::MailSessionOpened { protocol: about.protocol.as_str(), cell: &about.cell, took }.emit();
    }

    /// Writes the line at the end of the relay.
    pub(super) fn ended(&self, to_cell: u64, to_client: u64, end: &'static str) {
        let about = self.about();
        event::MailSessionEnded {
            protocol: about.protocol.as_str(),
            session: &self.session_name(),
            listener: &about.listener,
            client: about.client,
            tls: &about.tls.to_string(),
            user: about.user.as_ref().map(|(user, tenant)| (user.as_str(), tenant.as_str())),
            cell: &about.cell,
            endpoint: &about.endpoint,
            to_cell,
            to_client,
            lasted: self.live.since.elapsed(),
            end,
        }
        .emit();
    }

    pub(super) fn session_name(&self) -> String {
        self.relays.session_name(self.live.about.conn)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let key = self.relays.key(&self.live.about);
        self.relays.shard(key.0).remove(&key);
    }
}

fn crowded(
    shard: &BTreeMap<Key, Arc<Live>>,
    hash: u64,
    user: &Address,
    client: SocketAddr,
    limits: &Limits,
) -> Option<Crowded> {
    if limits.exempt.iter().any(|net| net.contains(&client.ip())) {
        return None;
    }
    let source = prefix(client.ip());
    let (mut of_user, mut of_source) = (0, 0);
    for (_, live) in shard.range(of(hash)) {
        // The limits are for mail programs, which come back when they are turned away; a page would not.
        let counts = live.about.protocol != Traffic::Web;
        if counts && live.about.user.as_ref().is_some_and(|(one, _)| one == user) {
            of_user += 1;
            of_source += usize::from(prefix(live.about.client.ip()) == source);
        }
    }
    match (of_user >= limits.sessions_per_user, of_source >= limits.sessions_per_user_source) {
        (true, _) => Some(Crowded::User),
        (_, true) => Some(Crowded::Source),
        _ => None,
    }
}

/// A moment between two, another for each relay and each `chance`.
fn moment(chance: &RandomState, live: &Live, first: Instant, last: Instant) -> Instant {
    let part = chance.hash_one(live.about.conn) >> 32;
    // Less than 2^32 parts of 2^32: no more than the whole.
    let share = f64::from(u32::try_from(part).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    first + last.saturating_duration_since(first).mul_f64(share)
}

fn of(hash: u64) -> RangeInclusive<Key> {
    (hash, 0)..=(hash, u64::MAX)
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough that logins on all cores seldom meet.
const SHARDS: usize = 64;

#[cfg(test)]
mod tests;
