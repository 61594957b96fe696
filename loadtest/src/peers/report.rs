//! What a comparison says: lines for a terminal, JSON, one HTML file that needs nothing else.

use std::fmt::Write as _;

use askama::Template;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Options,
    proxy::{Found, Kind},
    turn::Seen,
};

/// A comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// When it began, RFC 3339.
    pub began: String,
    /// Where.
    pub machine: Machine,
    /// How.
    pub options: Options,
    /// Who.
    pub peers: Vec<Peer>,
    /// What was seen.
    pub figures: Vec<Figure>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Kernel.
    pub kernel: String,
    /// Load average of the last minute before the run. More than a little: the machine was busy, and the figures are rough.
    pub load_before: f64,
    /// The same after it, with the run's own load in it.
    pub load_after: f64,
}

/// One of those compared.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    /// Name.
    pub name: &'static str,
    /// What it says of itself; absent ones have none.
    pub version: Option<String>,
    /// What it does at a login, or why it is absent.
    pub note: String,
}

/// One figure of all.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What.
    pub name: &'static str,
    /// In what.
    pub unit: &'static str,
    /// `less` or `more`.
    pub better: &'static str,
    /// Of each.
    pub rows: Vec<Row>,
}

/// One figure of one.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Whose.
    pub peer: &'static str,
    /// Of all rounds.
    pub median: f64,
    /// The least of them.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// Round by round.
    pub values: Vec<f64>,
    /// The gateway's figure divided by this one: median of the rounds' own ratios.
    pub ratio: Option<f64>,
}

impl Machine {
    /// This one, now.
    pub(super) fn here(load_before: f64) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: model.map(|(_, name)| name.trim().to_owned()).unwrap_or_default(),
            kernel: kernel.trim().to_owned(),
            load_before,
            load_after: load_average(),
        }
    }
}

/// Of the last minute.
pub(super) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// Name, unit, which is better, and how it is read from what one saw and what the cell itself saw in the same round.
type Definition = (&'static str, &'static str, &'static str, fn(&Seen, &Seen) -> Option<f64>);

const FIGURES: [Definition; 11] = [
    ("processor time of connect, LOGIN, LOGOUT", "ms", "less", |seen, _| seen.login_cpu_ms),
    ("connect, LOGIN, LOGOUT: median", "ms", "less", |seen, _| Some(seen.login_p50_ms)),
    ("connect, LOGIN, LOGOUT: p99", "ms", "less", |seen, _| Some(seen.login_p99_ms)),
    ("connect, LOGIN, LOGOUT, one at a time: median", "ms", "less", |seen, _| Some(seen.alone_p50_ms)),
    ("connect, LOGIN, LOGOUT, one at a time: p99", "ms", "less", |seen, _| Some(seen.alone_p99_ms)),
    ("connect, LOGIN, LOGOUT", "a second", "more", |seen, _| Some(seen.logins_per_second)),
    ("FETCH of 20 MiB", "MiB/s", "more", |seen, _| Some(seen.fetch_mib_per_second)),
    ("processor time of a fetched MiB", "ms", "less", |seen, _| seen.fetch_cpu_ms_per_mib),
    ("NOOP: median", "µs", "less", |seen, _| Some(seen.noop_us)),
    ("NOOP: median added to the cell's own", "µs", "less", |seen, direct| {
        seen.login_cpu_ms.map(|_| seen.noop_us - direct.noop_us)
    }),
    ("memory of a connection in IDLE (PSS)", "KiB", "less", |seen, _| seen.idle_kib),
];

impl Comparison {
    pub(super) fn new(
        began: Timestamp,
        machine: Machine,
        options: Options,
        found: &[Found],
        rounds: &[Vec<(Kind, Seen)>],
    ) -> Self {
        let peers = found
            .iter()
            .map(|one| Peer { name: one.kind.name(), version: one.version.clone(), note: one.note.clone() })
            .collect();
        let figures = FIGURES.iter().map(|definition| figure(definition, rounds)).collect();
        let began = began.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        Self { began, machine, options, peers, figures }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let Options { rounds, logins, at_once, connections, core_proxy, core_load, .. } = &self.options;
        for peer in &self.peers {
            let version = peer.version.as_deref().unwrap_or("absent");
            writeln!(out, "{:<8} {version}\n         {}", peer.name, peer.note)?;
        }
        writeln!(
            out,
            "\n{rounds} rounds by turns, {logins} logins each ({at_once} at once), {connections} connections in IDLE"
        )?;
        writeln!(out, "proxies on core {core_proxy}, client and cell on core {core_load}: {}", self.machine.processor)?;
        writeln!(out, "load average before {:.2}, after {:.2}", self.machine.load_before, self.machine.load_after)?;
        for Figure { name, unit, better, rows } in &self.figures {
            writeln!(out, "\n{name}, {unit} ({better} is better)")?;
            for row in rows {
                let spread = format!("{} to {}", shown(row.least), shown(row.most));
                let ratio = row.ratio.map(|ratio| format!("   guichet / {}: {ratio:.2}", row.peer)).unwrap_or_default();
                writeln!(out, "  {:<8} {:>9}   ({spread}){ratio}", row.peer, shown(row.median))?;
            }
        }
        Ok(())
    }

    /// One page.
    ///
    /// # Errors
    /// Never seen: the template is checked when this is built.
    pub fn html(&self) -> Result<String, askama::Error> {
        Page { comparison: self }.render()
    }
}

fn figure(&(name, unit, better, read): &Definition, rounds: &[Vec<(Kind, Seen)>]) -> Figure {
    let values = |kind: Kind| -> Vec<f64> {
        let of_round = |round: &Vec<(Kind, Seen)>| {
            let of = |wanted: Kind| round.iter().find(|(kind, _)| *kind == wanted).map(|(_, seen)| seen);
            read(of(kind)?, of(Kind::Direct)?)
        };
        rounds.iter().filter_map(of_round).collect()
    };
    let ours = values(Kind::Guichet);
    let rows = std::iter::once(Kind::Direct).chain(Kind::ALL).filter_map(|kind| {
        let values = values(kind);
        let (least, most) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        let ratios: Vec<f64> = ours.iter().zip(&values).map(|(ours, theirs)| ours / theirs).collect();
        let ratio = (kind != Kind::Guichet).then(|| median(&ratios)).filter(|ratio| ratio.is_finite());
        Some(Row { peer: kind.name(), median: median(&values), least, most, values, ratio })
    });
    Figure { name, unit, better, rows: rows.collect() }
}

/// The middle one, or between the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}

/// Three digits that count.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[derive(Template)]
#[template(path = "peers.html")]
struct Page<'a> {
    comparison: &'a Comparison,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison() -> Comparison {
        let options = Options::of_tests();
        let seen = |cpu: Option<f64>, noop_us: f64| Seen { login_cpu_ms: cpu, noop_us, ..Seen::default() };
        let round = |ours: f64, theirs: f64| {
            vec![
                (Kind::Direct, seen(None, 20.0)),
                (Kind::Haproxy, seen(Some(theirs), 70.0)),
                (Kind::Guichet, seen(Some(ours), 60.0)),
            ]
        };
        let rounds = [round(1.0, 2.0), round(1.0, 4.0), round(3.0, 3.0)];
        let found = [
            Found { kind: Kind::Guichet, version: Some("guichet 1".into()), note: "logs in".into() },
            Found { kind: Kind::Haproxy, version: Some("<2.6>".into()), note: "passes on".into() },
            Found { kind: Kind::Nginx, version: None, note: "not installed".into() },
        ];
        Comparison::new(Timestamp::UNIX_EPOCH, Machine::here(0.5), options, &found, &rounds)
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_the_absent_have_no_row() {
        let comparison = comparison();
        let cpu = &comparison.figures[0];
        assert_eq!(cpu.rows.iter().map(|row| row.peer).collect::<Vec<_>>(), ["guichet", "haproxy"]);
        let haproxy = &cpu.rows[1];
        assert_eq!((haproxy.median, haproxy.least, haproxy.most, haproxy.ratio), (3.0, 2.0, 4.0, Some(0.5)));
        let added = comparison.figures.iter().find(|figure| figure.name.contains("added")).unwrap();
        assert_eq!((added.rows[0].median, added.rows[1].ratio), (40.0, Some(0.8)));
        assert!(comparison.text().contains("nginx    absent"));
    }

    #[test]
    fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
        let html = comparison().html().unwrap();
        assert!(html.contains("&#60;2.6&#62;") && html.contains("not installed") && html.contains("0.50"), "{html}");
        assert!(!html.contains("<script") && !html.contains("http://") && !html.contains("https://"));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
