//! The wiring: what one node holds, and the part of it that a reload replaces.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context;
use arc_swap::ArcSwap;
use guichet_auth::{
    Authenticator, Clock, SystemClock, WallTime,
    availability::Board,
    bearer::VerifyToken,
    saml::{MetadataIndex, ServiceProvider, discovery::Institutions},
    session::Sealer,
    store::{DrainOverride, Store},
};
use guichet_config::{Config, Report};
use rustls::server::ProducesTickets;
use tokio_util::sync::CancellationToken;

use crate::{
    cell::Cells,
    check::{self, Loaded},
    ecp::Ecp,
    http::{Tagged, WebEngine},
    limit::{Connections, Submissions},
    listener::Listeners,
    mail::Relays,
    placement::Holds,
    telemetry::{METRICS, event},
    tls::{ClientTls, ServerTls, policy},
    zimbra::Tokens,
};

/// Everything a reload replaces, at once. Taken once per connection or request.
#[derive(Debug)]
pub struct Snapshot {
    /// The checked files.
    pub config: Arc<Config>,
    /// Password logins, and the accounts of the others.
    pub authenticator: Arc<Authenticator>,
    /// Whose a bearer token is.
    pub bearers: Arc<dyn VerifyToken>,
    /// Our side of SAML, when a tenant has an IdP.
    pub sp: Option<Arc<ServiceProvider>>,
    /// The other sides.
    pub idps: Arc<MetadataIndex>,
    /// The institutions to choose from, made when somebody first chooses.
    pub institutions: OnceLock<Institutions>,
    /// Cookies.
    pub sealer: Arc<Sealer>,
    /// TLS of every listener.
    pub tls: Arc<ServerTls>,
    /// TLS towards cells.
    pub client_tls: Arc<ClientTls>,
    /// Counts (re)loads, from 1.
    pub generation: u64,
}

/// One node.
pub struct App {
    /// What a reload replaces.
    pub snapshot: ArcSwap<Snapshot>,
    /// The file given by `-c`.
    pub config_path: PathBuf,
    /// Keys, markers, overrides, revocations.
    pub store: Arc<Store>,
    /// Is each IdP up?
    pub board: Arc<Board>,
    /// Endpoints and their health.
    pub cells: Arc<Cells>,
    /// Open connections.
    pub connections: Arc<Connections>,
    /// Logins that wait for the end of a move.
    pub holds: Arc<Holds>,
    /// Who is logged in by mail.
    pub relays: Arc<Relays>,
    /// What was submitted lately.
    pub submissions: Submissions,
    /// Open ports.
    pub listeners: Listeners,
    /// The drains that were put in force last.
    pub(crate) drained: ArcSwap<Vec<DrainOverride>>,
    /// Asks institutions about passwords.
    pub(crate) ecp: Arc<Ecp>,
    /// What opens Zimbra cells for their users.
    pub(crate) tokens: Tokens,
    /// Whose a logout tag is.
    pub(crate) tagged: Tagged,
    /// The HTTP engine.
    pub web: WebEngine,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// When the node started.
    pub started: WallTime,
    /// Cancelled when the node must stop: listeners close, connections end at their next quiet moment.
    pub stop: CancellationToken,
    /// Cancelled when the drain is over: what is still open is cut.
    pub cut: CancellationToken,
    pub(crate) tickets: Arc<dyn ProducesTickets>,
    /// One change of the snapshot at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// One file of users at a time.
    pub(crate) files: Arc<tokio::sync::Semaphore>,
    connection_count: AtomicU64,
    me: Weak<App>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration: exit 78.
    #[error("{0}")]
    Config(Report),
    /// Something around us.
    #[error("the node cannot start")]
    Start(#[source] anyhow::Error),
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("config_path", &self.config_path).finish_non_exhaustive()
    }
}

impl App {
    /// Reads and checks the configuration and puts a node together. Opens no port yet: see [`App::start`].
    ///
    /// # Errors
    /// The report of `guichet check`, or state that cannot be opened.
    pub async fn build(config_path: &Path) -> Result<Arc<Self>, BuildError> {
        Self::build_with(config_path, Arc::new(SystemClock)).await
    }

    /// [`App::build`] with a clock of the caller's.
    ///
    /// # Errors
    /// As [`App::build`].
    pub async fn build_with(config_path: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, BuildError> {
        let now = clock.now();
        let loaded = check::load(config_path, now).map_err(BuildError::Config)?;
        Self::assemble(config_path, clock, loaded).map_err(BuildError::Start)
    }

    fn assemble(config_path: &Path, clock: Arc<dyn Clock>, loaded: Loaded) -> anyhow::Result<Arc<Self>> {
        let now = clock.now();
        let config = loaded.config.clone();
        let store = Store::open(&config.node.state_dir, now).context("the state directory")?;
        let tickets = policy::tickets().context("session tickets")?;
        let ecp = Arc::new(Ecp::default());
        let snapshot = make_snapshot(loaded, &store, &tickets, &ecp, None, 1, now)?;
        let board = Arc::new(Board::new());
        configure_board(&board, &config, now);
        for (tenant, forced, word) in store.forced_idps(now).context("overrides")? {
            board.force(&tenant, Some((forced, Some(WallTime(word.until)), word.reason)), now);
        }
        for one in board.list(now) {
            event::set_idp_state(&one.tenant, one.state);
        }
        let cells = Cells::new(&config)?;
        cells.configure(&config, &snapshot.client_tls);
        METRICS.config_generation.set(1);
        METRICS.placement_users.set(i64::try_from(store.placements_len()).unwrap_or(i64::MAX));
        event::WavesChanged { waves: &store.waves() }.emit();
        crate::placement::warn_of_unknown_cells(&store, &config);
        let app = Arc::new_cyclic(|me| Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            config_path: config_path.to_owned(),
            store: Arc::new(store),
            board,
            cells,
            connections: Arc::default(),
            holds: Arc::default(),
            relays: Arc::new(Relays::new(now.seconds())),
            submissions: Submissions::default(),
            listeners: Listeners::default(),
            drained: ArcSwap::default(),
            ecp,
            tokens: Tokens::new(),
            tagged: Tagged::new(),
            web: WebEngine::default(),
            clock,
            started: now,
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            tickets,
            changing: tokio::sync::Mutex::new(()),
            files: Arc::new(tokio::sync::Semaphore::new(1)),
            connection_count: AtomicU64::new(0),
            me: me.clone(),
        });
        app.ecp.attach(&app);
        Ok(app)
    }

    /// Opens the ports and starts what runs beside them. The node is ready when this returns.
    ///
    /// # Errors
    /// A port that cannot be opened.
    pub fn start(self: &Arc<Self>) -> anyhow::Result<()> {
        let config = self.snapshot.load().config.clone();
        self.restore_drains();
        let prepared = self.listeners.prepare(&config)?;
        self.listeners.commit(prepared, &config, self);
        tokio::spawn(crate::reload::keep_fresh(self.clone()));
        tokio::spawn(crate::metadata::run(self.clone()));
        tokio::spawn(crate::probe::run(self.clone()));
        tokio::spawn(crate::drain::tell_relays(self.relays.clone(), self.stop.clone(), self.cut.clone()));
        METRICS.node_ready.set(1);
        Ok(())
    }

    /// Whether the node takes connections: ports open, not stopping. What `/readyz` tells.
    pub fn ready(&self) -> bool {
        self.listeners.any_open() && !self.stop.is_cancelled()
    }

    /// The number of the next connection.
    pub fn next_connection(&self) -> u64 {
        self.connection_count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Names one connection of this node in logs and to cells: `<start>-<number>`, hexadecimal.
    pub fn session_name(&self, conn: u64) -> String {
        self.relays.session_name(conn)
    }

    pub(crate) fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }
}

/// The part that a reload replaces, from checked files.
pub(crate) fn make_snapshot(
    loaded: Loaded,
    store: &Store,
    tickets: &Arc<dyn ProducesTickets>,
    ecp: &Arc<Ecp>,
    before: Option<&Snapshot>,
    generation: u64,
    now: WallTime,
) -> anyhow::Result<Snapshot> {
    let Loaded { config, certificates, management, client_cas, client_tls, issuers, sp, idps } = loaded;
    for remark in &config.remarks {
        tracing::info!(%remark, "The configuration can be used, and may not be meant so.");
    }
    let tls = ServerTls::new(config.public.tls_profile, certificates, management, client_cas, tickets)
        .context("session tickets")?;
    let authenticator =
        Authenticator::new(config.clone(), Arc::clone(ecp) as _, before.map(|one| &*one.authenticator))?;
    let keys = store.seal_keys(now).context("session keys")?;
    Ok(Snapshot {
        authenticator: Arc::new(authenticator),
        bearers: issuers,
        sp,
        idps,
        institutions: OnceLock::new(),
        sealer: Arc::new(Sealer::new(keys, &config.public.hostname)),
        tls: Arc::new(tls),
        client_tls,
        generation,
        config,
    })
}

pub(crate) fn configure_board(board: &Board, config: &Config, now: WallTime) {
    let watched = |tenant: &Arc<guichet_config::Tenant>| {
        let idp = tenant.idp.as_ref()?;
        Some((tenant.id.clone(), idp.entity_id.clone(), tenant.idp_forced))
    };
    let tenants: Vec<_> = config.tenants.values().filter_map(watched).collect();
    board.configure(&config.availability, &tenants, now);
}
