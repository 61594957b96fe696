//! The demo: a simulated world and the real gateway in front of it, in one process, kept in one folder.
//!
//! The first start makes keys, users, ports and configuration; later starts find them and go on where the last one stopped,
//! however it ended: every file is written whole or not at all.

mod config;
mod folder;
mod guide;
mod info;
mod ports;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use guichet::{app::App, console, drain};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

pub use folder::Folder;
pub use info::{DemoInfo, DemoTenant, DemoUser};
pub(crate) use ports::free_port;
pub use ports::{CellMailPorts, Ports};

use crate::world::{
    Cell, CellLogin, Idp, Institution, Mailboxes, World,
    idp::IdpOf,
    institutions,
    people::CELLS,
    saml::{MetadataEntry, ServiceProvider, der_of_pem, federation_metadata},
};

/// What a demo runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The world and the gateway.
    All,
    /// The world only: the gateway is started by hand, as a process of its own.
    WorldOnly,
}

/// Runs the demo in `dir` until SIGINT or SIGTERM. `program` is how to call the `guichet` binary in printed lines.
///
/// # Errors
/// A folder that cannot be written, a port that is taken, a gateway that does not start.
pub async fn run(dir: &Path, scope: Scope, program: &Path) -> anyhow::Result<()> {
    let mut stop = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let folder = Folder::open(dir)?;
    let people = Arc::new(institutions(CROWD));
    let (ports, sockets) = ports::open(&folder).await?;
    folder.prepare(&people)?;
    config::write_missing(&folder, &ports, &people)?;
    let idp = identity_provider(&folder, &ports, &people)?;
    write_metadata(&folder, &ports, &people)?;
    let metadata = keep_metadata_fresh(folder.clone(), ports.clone(), Arc::clone(&people));
    let world = World::start(cells(&folder, &people)?, idp, sockets.world)?;
    // The gateway binds these itself.
    drop(sockets.gateway);

    let info = DemoInfo::new(&folder, &ports, &people);
    let gateway = match scope {
        Scope::All => Some(start_gateway(&folder).await?),
        Scope::WorldOnly => None,
    };
    info.write(&folder)?;
    print!("{}", guide::text(&folder, &ports, &info, scope, &program.display().to_string()));

    let [interrupt, terminate] = &mut stop;
    match gateway {
        Some((app, mut management)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                ended = &mut management => {
                    ended??;
                    anyhow::bail!("the gateway's management listener ended");
                }
            }
            tokio::select! {
                _ = drain::drain(&app, DRAIN) => {}
                _ = interrupt.recv() => {}
            }
        }
        None => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
    }
    metadata.abort();
    drop(world);
    folder.remove("demo.json")
}

/// The `guichet` binary built beside this one, or the one on the path.
pub fn gateway_program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("guichet")));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("guichet"))
}

async fn start_gateway(folder: &Folder) -> anyhow::Result<(Arc<App>, JoinHandle<anyhow::Result<()>>)> {
    let path = folder.path("guichet.toml");
    let shape = guichet_config::load(&path).map_err(|report| anyhow::anyhow!("{report}"))?;
    guichet::telemetry::log::init(&shape.log);
    let app = App::build(&path).await.context("the gateway's configuration")?;
    let management = tokio::spawn(console::serve(Arc::clone(&app)));
    app.start()?;
    Ok((app, management))
}

fn cells(folder: &Folder, people: &Arc<Vec<Institution>>) -> anyhow::Result<Vec<Cell>> {
    let mail = Arc::new(Mailboxes::default());
    CELLS
        .iter()
        .map(|name| {
            Ok(Cell {
                name: (*name).to_owned(),
                institutions: Arc::clone(people),
                mail: Arc::clone(&mail),
                login: if *name == MASTER_CELL {
                    CellLogin::Master { username: MASTER.to_owned(), password: folder.read("secrets/master.password")? }
                } else {
                    CellLogin::Password
                },
                identity_key: folder.read(&format!("secrets/{name}.key"))?.into_bytes(),
            })
        })
        .collect()
}

fn identity_provider(folder: &Folder, ports: &Ports, people: &Arc<Vec<Institution>>) -> anyhow::Result<Idp> {
    let idps = people.iter().map(|one| {
        let signing = folder.pair(&format!("world/idp-{}", one.id))?;
        Ok(IdpOf { tenant: one.id.to_owned(), entity_id: entity_id(one), signing })
    });
    let origin = ports.origin();
    let sp = ServiceProvider {
        entity_id: format!("{origin}/saml/metadata"),
        acs: format!("{origin}/saml/acs"),
        ecp: format!("{origin}/saml/ecp"),
        slo: format!("{origin}/saml/slo"),
        encryption_certificate: der_of_pem(&folder.read("saml/encryption.crt")?)?,
    };
    Ok(Idp::new(Arc::clone(people), idps.collect::<anyhow::Result<_>>()?, sp))
}

fn write_metadata(folder: &Folder, ports: &Ports, people: &[Institution]) -> anyhow::Result<()> {
    let federation = folder.pair("world/federation")?;
    let mut parts = Vec::new();
    for institution in people {
        let certificate = folder.read(&format!("world/idp-{}.crt", institution.id))?;
        parts.push((institution, entity_id(institution), ports.idp_prefix(institution), certificate));
    }
    let entries: Vec<MetadataEntry<'_>> = parts
        .iter()
        .map(|(institution, entity_id, idp, certificate)| MetadataEntry { institution, entity_id, idp, certificate })
        .collect();
    let until = Timestamp::now().checked_add(METADATA_LIFE)?;
    folder.write("metadata/federation.xml", &federation_metadata(&entries, &federation, until)?)
}

/// Federations sign again every day; so does the demo, for those that run it longer than its metadata lives.
fn keep_metadata_fresh(folder: Folder, ports: Ports, people: Arc<Vec<Institution>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(METADATA_EVERY).await;
            if let Err(error) = write_metadata(&folder, &ports, &people) {
                tracing::warn!(%error, "The demo's metadata could not be renewed.");
            }
        }
    })
}

fn entity_id(institution: &Institution) -> String {
    format!("https://idp.{}/idp/shibboleth", institution.domain)
}

/// Numbered people in each institution, besides the named ones.
const CROWD: usize = 20;
/// The cell that the gateway enters as master; the other one wants the user's password.
const MASTER_CELL: &str = "beta";
const MASTER: &str = "guichet";
const DRAIN: Duration = Duration::from_secs(5);
const METADATA_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
const METADATA_EVERY: Duration = Duration::from_secs(24 * 3600);
