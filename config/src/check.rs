//! From text that has the right shape to values that cannot be wrong. Every check that fails adds a problem and goes on.

mod cells;
mod directory;
mod files;
mod listeners;
mod network;
mod server;
mod setup;
mod tenants;
mod values;

use std::collections::{BTreeMap, HashMap};

use crate::{
    CellId, Config, Place, Problem, Report,
    document::{self, Document},
    file, places, shape,
};

/// Reads the main file and its tenants, checks them together.
pub(crate) fn load(path: &std::path::Path) -> Result<Config, Report> {
    let mut problems = Vec::new();
    let main: Document<file::Main> = document::read(path, &mut problems);
    let mut check =
        Check { places: main.places, problems, cells: Vec::new(), services: Vec::new(), tenants_partial: false };
    let folder = files::folder(path).join(TENANTS_FOLDER);
    let more = check.tenant_files(&folder);
    let config = match main.value {
        Some(mut main) => {
            for (name, tenant) in more {
                main.tenant.insert(name, tenant);
            }
            // Unknown keys were told and left out; a file with a wrong type or a missing key has no value to judge.
            check.main(main)
        }
        None => None,
    };
    let mut problems = check.problems;
    problems.sort();
    problems.dedup();
    match config {
        Some(mut config) if problems.is_empty() => {
            config.places = check.places;
            Ok(config)
        }
        _ => {
            if problems.is_empty() {
                let place = places::find(&check.places, "").unwrap_or_default();
                let message = "the file cannot be used, and no check says why: please report this".to_owned();
                problems.push(Problem { place, key: String::new(), message, hint: None });
            }
            Err(Report { problems })
        }
    }
}

/// What the checks share.
struct Check {
    places: BTreeMap<String, Place>,
    problems: Vec<Problem>,
    /// Names of `[cell.NAME]`, for references to them.
    cells: Vec<String>,
    /// What each of them speaks, for listeners that need it.
    services: Vec<(String, &'static str)>,
    /// A file of tenants could not be read: what they would hold is not missed.
    tenants_partial: bool,
}

impl Check {
    fn place(&self, key: &str) -> Place {
        places::find(&self.places, key).or_else(|| self.places.get("").cloned()).unwrap_or_default()
    }

    fn problem(&mut self, key: &str, message: impl Into<String>, hint: impl Into<Option<String>>) {
        let place = self.place(key);
        self.problems.push(Problem { place, key: key.to_owned(), message: message.into(), hint: hint.into() });
    }

    fn main(&mut self, main: file::Main) -> Option<Config> {
        self.cells = main.cell.keys().cloned().collect();
        self.services = main
            .cell
            .iter()
            .flat_map(|(name, cell)| cell.services().into_iter().map(|service| (name.clone(), service)))
            .collect();
        let public = self.public(&main.public);
        let node = self.node(&main.node, &main.public.hostname);
        let management = self.management(&main.management);
        let log = self.log(&main.log);
        let listeners = self.listeners(&main.listener);
        if let (Some(listeners), Some(management)) = (&listeners, &management) {
            self.ports(listeners, management);
        }
        let dns_servers = self.dns(&main.dns);
        let origin = public.as_ref().map(|public| public.origin.clone());
        let saml = self.saml(main.saml.as_ref(), origin.as_deref());
        let federations = self.federations(&main.federation);
        let availability = self.availability(&main.availability);
        let session = self.session(&main.session);
        let limits = self.limits(&main.limits);
        let setup = self.setup(&main.setup);
        let cells = self.cells(&main.cell);
        let tenants = self.tenants(&main.tenant);
        let mut domains = HashMap::new();
        self.domains(&main.tenant, &mut domains);
        self.idps(&main);
        let directory = self.directory(&main.directory, &domains);
        Some(Config {
            node: node?,
            public: public?,
            management: management?,
            log: log?,
            listeners: listeners?,
            directory: directory?,
            saml: saml?,
            federations: federations?,
            availability: availability?,
            session: session?,
            limits: limits?,
            setup: setup?,
            dns_servers: dns_servers?,
            cells: cells?,
            tenants: tenants?,
            domains,
            places: BTreeMap::new(),
        })
    }

    /// A reference to a cell.
    fn cell(&mut self, key: &str, name: &str) -> Option<CellId> {
        if self.cells.iter().any(|cell| cell == name) {
            // A bad name was reported where the cell stands.
            return name.parse().ok();
        }
        let known: Vec<&str> = self.cells.iter().map(String::as_str).collect();
        let mut hint =
            if known.is_empty() { "no cell is configured".to_owned() } else { format!("known: {}", known.join(", ")) };
        if let Some(near) = shape::similar(name, &known) {
            hint = format!("did you mean \"{near}\"? ({hint})");
        }
        self.problem(key, format!("no cell called {name:?}"), hint);
        None
    }
}

/// `Some` when every part is: no problem was found in any of them.
fn all<T>(parts: Vec<Option<T>>) -> Option<Vec<T>> {
    parts.into_iter().collect()
}

/// Beside the main file.
const TENANTS_FOLDER: &str = "tenants.d";
