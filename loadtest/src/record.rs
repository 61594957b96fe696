//! What happened: latencies by step, failures by kind, both over time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::client::Failure;

/// Collects; shared by all visits.
#[derive(Debug)]
pub struct Recorder {
    begin: Instant,
    slot_s: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    steps: BTreeMap<&'static str, Step>,
    order: Vec<&'static str>,
    lag: Histogram<u64>,
    notes: Vec<Note>,
}

#[derive(Debug)]
struct Step {
    intended: Histogram<u64>,
    sent: Histogram<u64>,
    failures: BTreeMap<&'static str, (u64, String)>,
    seconds: BTreeMap<u64, Second>,
}

/// One slot of the time line.
#[derive(Debug)]
struct Second {
    latency: Histogram<u64>,
    failures: u64,
}

/// Something that happened once.
#[derive(Clone, Debug, Serialize)]
pub struct Note {
    /// Seconds since the start.
    pub at_s: f64,
    /// What.
    pub text: String,
}

/// Percentiles of a latency, milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Half are faster.
    pub p50_ms: f64,
    /// 90 % are faster.
    pub p90_ms: f64,
    /// 99 % are faster.
    pub p99_ms: f64,
    /// 99.9 % are faster.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// One step in all.
#[derive(Clone, Debug, Serialize)]
pub struct StepSummary {
    /// Name.
    pub name: String,
    /// Successes.
    pub ok: u64,
    /// Failures.
    pub failed: u64,
    /// From the intended start.
    pub intended: Latency,
    /// From the actual start.
    pub sent: Latency,
    /// By kind: count, and what was seen first.
    pub failures: BTreeMap<String, (u64, String)>,
    /// By second.
    pub seconds: Vec<SecondSummary>,
}

/// One second of a step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SecondSummary {
    /// Seconds since the start.
    pub at_s: u64,
    /// Successes that ended in it.
    pub ok: u64,
    /// Failures.
    pub failed: u64,
    /// Median, from the intended start.
    pub p50_ms: f64,
    /// 99th percentile, from the intended start.
    pub p99_ms: f64,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Steps in the order they first happened.
    pub steps: Vec<StepSummary>,
    /// How late visits began, 99th percentile: the generator's own fault.
    pub lag_p99_ms: f64,
    /// What happened once.
    pub notes: Vec<Note>,
}

impl Recorder {
    /// Begins now; for a run of about `span`. Long runs get wider slots, so that the time line stays bounded.
    pub fn new(span: Duration) -> Self {
        let inner = Inner { steps: BTreeMap::new(), order: Vec::new(), lag: histogram(3), notes: Vec::new() };
        Self { begin: Instant::now(), slot_s: span.as_secs().div_ceil(SLOTS).max(1), inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The second that the present slot begins with.
    fn slot(&self) -> u64 {
        self.begin.elapsed().as_secs() / self.slot_s * self.slot_s
    }

    /// A visit began `lag` after its time.
    pub fn started(&self, lag: Duration) {
        record(&mut self.inner().lag, lag);
    }

    /// A step went well.
    pub fn success(&self, name: &'static str, intended: Duration, sent: Duration) {
        let second = self.slot();
        let mut inner = self.inner();
        let step = inner.step(name);
        record(&mut step.intended, intended);
        record(&mut step.sent, sent);
        record(&mut step.second(second).latency, intended);
    }

    /// A step failed.
    pub fn failure(&self, name: &'static str, failure: &Failure) {
        let second = self.slot();
        let mut inner = self.inner();
        let step = inner.step(name);
        step.failures.entry(failure.kind).or_insert_with(|| (0, failure.detail.clone())).0 += 1;
        step.second(second).failures += 1;
    }

    /// Something happened once.
    pub fn note(&self, text: impl Into<String>) {
        let note = Note { at_s: self.begin.elapsed().as_secs_f64(), text: text.into() };
        self.inner().notes.push(note);
    }

    /// Successes and failures so far.
    pub fn counts(&self) -> (u64, u64) {
        let inner = self.inner();
        let ok = inner.steps.values().map(|step| step.intended.len()).sum();
        (ok, inner.steps.values().map(Step::failed).sum())
    }

    /// Everything so far.
    pub fn summary(&self) -> Summary {
        let inner = self.inner();
        let steps =
            inner.order.iter().filter_map(|name| inner.steps.get(name).map(|step| step.summary(name))).collect();
        Summary { steps, lag_p99_ms: millis(inner.lag.value_at_quantile(0.99)), notes: inner.notes.clone() }
    }
}

impl Inner {
    fn step(&mut self, name: &'static str) -> &mut Step {
        if !self.steps.contains_key(name) {
            self.order.push(name);
        }
        self.steps.entry(name).or_insert_with(|| Step {
            intended: histogram(3),
            sent: histogram(3),
            failures: BTreeMap::new(),
            seconds: BTreeMap::new(),
        })
    }
}

impl Step {
    fn second(&mut self, at: u64) -> &mut Second {
        self.seconds.entry(at).or_insert_with(|| Second { latency: histogram(2), failures: 0 })
    }

    fn failed(&self) -> u64 {
        self.failures.values().map(|(count, _)| count).sum()
    }

    fn summary(&self, name: &str) -> StepSummary {
        StepSummary {
            name: name.to_owned(),
            ok: self.intended.len(),
            failed: self.failed(),
            intended: latency(&self.intended),
            sent: latency(&self.sent),
            failures: self.failures.iter().map(|(kind, seen)| ((*kind).to_owned(), seen.clone())).collect(),
            seconds: self
                .seconds
                .iter()
                .map(|(&at_s, second)| SecondSummary {
                    at_s,
                    ok: second.latency.len(),
                    failed: second.failures,
                    p50_ms: millis(second.latency.value_at_quantile(0.5)),
                    p99_ms: millis(second.latency.value_at_quantile(0.99)),
                })
                .collect(),
        }
    }
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| millis(histogram.value_at_quantile(quantile));
    Latency { p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: millis(histogram.max()) }
}

/// Microseconds, to `digits` digits.
fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new(digits).expect("up to five digits are fine")
}

/// `saturating_record` would clamp to the range a growing histogram has now, and hide every slow step: `record` makes it grow.
fn record(histogram: &mut Histogram<u64>, duration: Duration) {
    let micros = u64::try_from(duration.min(LONGEST).as_micros()).unwrap_or(u64::MAX);
    histogram.record(micros).expect("an hour in microseconds fits a histogram that grows");
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Longer is shown as this.
const LONGEST: Duration = Duration::from_secs(3600);
const SLOTS: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_steps_stay_slow_in_every_figure() {
        let recorder = Recorder::new(Duration::from_secs(10));
        for ms in [1, 80, 4_000] {
            recorder.success("login", Duration::from_millis(ms), Duration::from_millis(ms));
            recorder.started(Duration::from_millis(ms));
        }
        let summary = recorder.summary();
        let step = &summary.steps[0];
        assert!((79.0..81.0).contains(&step.intended.p50_ms), "{}", step.intended.p50_ms);
        assert!((3_990.0..4_010.0).contains(&step.intended.max_ms) && (3_990.0..4_010.0).contains(&step.sent.p99_ms));
        assert!(step.seconds[0].p99_ms > 3_900.0 && summary.lag_p99_ms > 3_900.0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_line_of_a_long_run_is_bounded() {
        let recorder = Recorder::new(Duration::from_secs(86_400));
        for _ in 0..86_400 / 60 {
            recorder.success("page", Duration::from_millis(1), Duration::from_millis(1));
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert!(recorder.summary().steps[0].seconds.len() <= 301);
    }
}
