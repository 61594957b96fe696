//! From text that has the right shape to values that cannot be wrong. Every check that fails adds a problem and goes on.

mod bearers;
mod cells;
mod directory;
mod discovery;
mod ecp;
mod files;
mod hosts;
mod idp;
mod listeners;
mod network;
mod proofs;
mod publication;
mod requests;
mod server;
mod setup;
mod tenants;
mod values;
mod zimbra;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    CellId, Config, Place, Problem, Report, TenantId,
    document::{self, Document},
    file, places, shape,
};

/// Reads the main file and its tenants, checks them together.
pub(crate) fn load(path: &std::path::Path) -> Result<Config, Report> {
    let mut problems = Vec::new();
    let main: Document<file::Main> = document::read(path, &mut problems);
    let mut check = Check {
        places: main.places,
        problems,
        remarks: Vec::new(),
        cells: Vec::new(),
        services: Vec::new(),
        tenants: Vec::new(),
        bearers: false,
        tenants_partial: false,
    };
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
            check.remarks.sort();
            config.remarks = check.remarks;
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
    /// What works and may still not be meant.
    remarks: Vec<Problem>,
    /// Names of `[cell.NAME]`, for references to them.
    cells: Vec<String>,
    /// What each of them speaks, for listeners that need it.
    services: Vec<(String, &'static str)>,
    /// Names of `[tenant.NAME]`, for references to them.
    tenants: Vec<String>,
    /// There is a `[bearer.NAME]`.
    bearers: bool,
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

    fn remark(&mut self, key: &str, message: impl Into<String>) {
        let place = self.place(key);
        self.remarks.push(Problem { place, key: key.to_owned(), message: message.into(), hint: None });
    }

    fn main(&mut self, main: file::Main) -> Option<Config> {
        self.cells = main.cell.keys().cloned().collect();
        self.services = main
            .cell
            .iter()
            .flat_map(|(name, cell)| cell.services().into_iter().map(|service| (name.clone(), service)))
            .collect();
        self.tenants = main.tenant.keys().cloned().collect();
        self.bearers = !main.bearer.is_empty();
        let public = self.public(&main.public);
        let node = self.node(&main.node, &main.public.hostname);
        let management = self.management(&main.management);
        let log = self.log(&main.log);
        let mut listeners = self.listeners(&main.listener);
        if let (Some(listeners), Some(management)) = (&listeners, &management) {
            self.ports(listeners, management);
        }
        let dns_servers = self.dns(&main.dns);
        let origin = public.as_ref().map(|public| public.origin.clone());
        let saml = self.saml(main.saml.as_ref(), origin.as_deref());
        let discovery = self.discovery(main.saml.as_ref());
        let federations = self.federations(&main.federation);
        let bearers = self.bearers(&main.bearer);
        let availability = self.availability(&main.availability);
        let session = self.session(&main.session);
        let limits = self.limits(&main.limits);
        let setup = self.setup(&main.setup);
        let cells = self.cells(&main.cell);
        if let (Some(listeners), Some(cells)) = (listeners.as_mut(), &cells) {
            self.proofs(listeners, cells);
        }
        let tenants = self.tenants(&main.tenant);
        if let (Some(cells), Some(tenants)) = (&cells, &tenants) {
            self.preauth_domains(cells, tenants);
            self.ecp_cells(cells, tenants);
        }
        let mut domains = HashMap::new();
        self.domains(&main.tenant, &mut domains);
        let hosts = public.as_ref().map(|public| self.hosts(public, &main.tenant));
        self.idps(&main);
        let directory = self.directory(&main.directory, &domains);
        Some(Config {
            node: node?,
            public: public?,
            hosts: hosts?,
            management: management?,
            log: log?,
            listeners: listeners?,
            directory: directory?,
            saml: saml?,
            discovery: discovery?,
            federations: federations?,
            bearers: bearers?,
            availability: availability?,
            session: session?,
            limits: limits?,
            setup: setup?,
            dns_servers: dns_servers?,
            cells: cells?,
            tenants: tenants?,
            domains,
            places: BTreeMap::new(),
            remarks: Vec::new(),
        })
    }

    /// A reference to a cell.
    fn cell(&mut self, key: &str, name: &str) -> Option<CellId> {
        if self.cells.iter().any(|cell| cell == name) {
            // A bad name was reported where the cell stands.
            return name.parse().ok();
        }
        self.unknown(key, "cell", name, &self.cells.clone());
        None
    }

    /// References to tenants.
    fn tenant_names(&mut self, key: &str, names: &[String]) -> Option<BTreeSet<TenantId>> {
        let one = |(index, name): (usize, &String)| {
            if self.tenants.iter().any(|known| known == name) {
                return name.parse().ok();
            }
            // Those of a file that cannot be read are not missed.
            if !self.tenants_partial {
                self.unknown(&format!("{key}[{index}]"), "tenant", name, &self.tenants.clone());
            }
            None
        };
        all(names.iter().enumerate().map(one).collect()).map(BTreeSet::from_iter)
    }

    fn unknown(&mut self, key: &str, what: &str, name: &str, known: &[String]) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let mut hint =
            if known.is_empty() { format!("no {what} is configured") } else { format!("known: {}", known.join(", ")) };
        if let Some(near) = shape::similar(name, &known) {
            hint = format!("did you mean \"{near}\"? ({hint})");
        }
        self.problem(key, format!("no {what} called {name:?}"), hint);
    }
}

/// `Some` when every part is: no problem was found in any of them.
fn all<T>(parts: Vec<Option<T>>) -> Option<Vec<T>> {
    parts.into_iter().collect()
}

/// Beside the main file.
const TENANTS_FOLDER: &str = "tenants.d";
