//! What a run leaves behind: lines for a terminal, JSON, and one HTML file that needs nothing else.

use std::fmt::Write as _;

use askama::Template;
use serde::Serialize;

use crate::{
    record::{StepSummary, Summary},
    scenario::{Scenario, Settings, Threshold, Verdict},
};

/// A run, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Scenario.
    pub scenario: &'static str,
    /// What it is.
    pub about: &'static str,
    /// When it began, RFC 3339.
    pub began: String,
    /// How long it took in all, seconds.
    pub took_s: f64,
    /// How it was run.
    pub settings: Settings,
    /// What it had to keep.
    pub thresholds: &'static [Threshold],
    /// How it ended.
    pub verdict: Verdict,
    /// Why, when not well.
    pub reasons: Vec<String>,
    /// What happened.
    pub summary: Summary,
}

impl Report {
    /// Of a run that has ended.
    pub fn new(scenario: Scenario, settings: Settings, began: jiff::Timestamp, took_s: f64, summary: Summary) -> Self {
        let (verdict, reasons) = crate::scenario::judge(scenario.thresholds(), &summary);
        Self {
            scenario: scenario.name(),
            about: scenario.about(),
            began: began.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            took_s,
            settings,
            thresholds: scenario.thresholds(),
            verdict,
            reasons,
            summary,
        }
    }

    /// In words.
    pub fn verdict_text(&self) -> &'static str {
        match self.verdict {
            Verdict::Passed => "passed",
            Verdict::Missed => "thresholds missed",
            Verdict::Overloaded => "generator overloaded, figures invalid",
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let Settings { rate, duration_s, users, seed } = self.settings;
        writeln!(
            out,
            "{}: {} (rate {rate}/s, {duration_s} s, {users} users, seed {seed})",
            self.scenario,
            self.verdict_text()
        )?;
        writeln!(out, "  milliseconds from the intended start; in brackets p99 from the actual start")?;
        writeln!(
            out,
            "  {:<24} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9} {:>11}",
            "step", "ok", "failed", "p50", "p90", "p99", "max", "[p99 sent]"
        )?;
        for step in &self.summary.steps {
            let (from, sent) = (&step.intended, &step.sent);
            writeln!(
                out,
                "  {:<24} {:>7} {:>7} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>11}",
                step.name,
                step.ok,
                step.failed,
                from.p50_ms,
                from.p90_ms,
                from.p99_ms,
                from.max_ms,
                format!("[{:.1}]", sent.p99_ms)
            )?;
            for (kind, (count, seen)) in &step.failures {
                writeln!(out, "    {count} × {kind}, such as: {seen}")?;
            }
        }
        writeln!(out, "  visits began at most {:.1} ms late (p99)", self.summary.lag_p99_ms)?;
        for note in &self.summary.notes {
            writeln!(out, "  at {:>6.1} s: {}", note.at_s, note.text)?;
        }
        for reason in &self.reasons {
            writeln!(out, "  ! {reason}")?;
        }
        Ok(())
    }

    /// One page.
    ///
    /// # Errors
    /// Never seen: the template is checked when this is built.
    pub fn html(&self) -> Result<String, askama::Error> {
        let charts = self.summary.steps.iter().map(Chart::of).collect();
        Page { report: self, charts }.render()
    }
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    charts: Vec<Chart>,
}

/// Percentiles of one step over time, as SVG coordinates.
struct Chart {
    name: String,
    label: String,
    p50: String,
    p99: String,
    failures: Vec<(String, String)>,
    top_ms: String,
    last_s: u64,
}

impl Chart {
    fn of(step: &StepSummary) -> Self {
        let last_s = step.seconds.iter().map(|second| second.at_s).max().unwrap_or_default();
        let first_s = step.seconds.iter().map(|second| second.at_s).min().unwrap_or_default();
        let top = step.seconds.iter().map(|second| second.p99_ms).fold(1.0, f64::max);
        let x = |at: u64| (at - first_s) as f64 / (last_s - first_s).max(1) as f64 * WIDTH;
        let line = |value: fn(&crate::record::SecondSummary) -> f64| {
            let points = step.seconds.iter().filter(|second| second.ok > 0);
            points
                .map(|second| format!("{:.1},{:.1} ", x(second.at_s), HEIGHT - value(second) / top * HEIGHT))
                .collect::<String>()
        };
        let mut label = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            label,
            "{}: {} succeeded, {} failed; median {:.0} ms, 99th percentile {:.0} ms",
            step.name, step.ok, step.failed, step.intended.p50_ms, step.intended.p99_ms
        );
        Self {
            name: step.name.clone(),
            label,
            p50: line(|second| second.p50_ms),
            p99: line(|second| second.p99_ms),
            failures: step
                .seconds
                .iter()
                .filter(|second| second.failed > 0)
                .map(|second| {
                    (format!("{:.1}", x(second.at_s)), format!("{} failed at {} s", second.failed, second.at_s))
                })
                .collect(),
            top_ms: format!("{top:.0}"),
            last_s,
        }
    }
}

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::Failure, record::Recorder};
    use std::time::Duration;

    #[tokio::test]
    async fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
        let recorder = Recorder::new(Duration::from_secs(10));
        recorder.success("saml login", Duration::from_millis(12), Duration::from_millis(10));
        recorder.failure("saml login", &Failure::new("refused", "<script>"));
        let scenario = Scenario::MondayMorning;
        let report = Report::new(scenario, scenario.defaults(), jiff::Timestamp::UNIX_EPOCH, 1.0, recorder.summary());
        let html = report.html().unwrap();
        assert!(html.contains("saml login") && html.contains("<svg") && html.contains("thresholds missed"));
        assert!(!html.contains("<script") && !html.contains("http://") && !html.contains("https://"));
        assert!(report.text().contains("1 × refused, such as: <script>"));
    }
}
