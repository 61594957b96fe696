//! The open model: visits begin when they are due, whether or not earlier ones have ended.
//!
//! Latencies count from the intended start, so that a target that stalls cannot hide the visits it kept from beginning; the time
//! from the actual start is kept beside it. A visit that finds too many others under way is dropped and counts as a failure.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{client::Failure, record::Recorder};

/// A rate, a time, a seed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Visits a second, on average.
    pub rate: f64,
    /// How long visits begin.
    pub duration: Duration,
    /// Decides arrivals and choices.
    pub seed: u64,
}

/// A generator of numbers that a seed decides (SplitMix64): reproducible, not secret.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0, below 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of a list.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let at = self.bits() % u64::try_from(list.len()).ok().filter(|&length| length > 0)?;
        list.get(usize::try_from(at).ok()?)
    }

    /// Time to the next arrival of a Poisson process.
    fn gap(&mut self, rate: f64) -> Duration {
        Duration::from_secs_f64((-(1.0 - self.unit()).ln() / rate).min(GAP_MAX))
    }
}

/// One visit under way: its steps are timed through it.
#[derive(Debug)]
pub struct Visit {
    recorder: Arc<Recorder>,
    intended: Instant,
    /// Choices of this visit.
    pub chance: Chance,
}

impl Visit {
    /// A visit that was to begin at `intended`.
    pub fn new(recorder: Arc<Recorder>, intended: Instant, seed: u64) -> Self {
        Self { recorder, intended, chance: Chance::new(seed) }
    }

    /// Does one step, bounded in time, and records how it went. `None` when it failed: the visit is over.
    pub async fn step<T>(&mut self, name: &'static str, work: impl Future<Output = Result<T, Failure>>) -> Option<T> {
        let sent = Instant::now();
        let result = match timeout(STEP_MAX, work).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new("timeout", format!("no end within {} s", STEP_MAX.as_secs()))),
        };
        let done = Instant::now();
        match result {
            Ok(value) => {
                self.recorder.success(name, done - self.intended, done - sent);
                self.intended = done;
                Some(value)
            }
            Err(failure) => {
                self.recorder.failure(name, &failure);
                None
            }
        }
    }
}

/// Begins visits as planned and waits for the last one.
pub async fn run<F, W>(plan: Plan, recorder: &Arc<Recorder>, visit: F)
where
    F: Fn(Visit) -> W,
    W: Future<Output = ()> + Send + 'static,
{
    let mut chance = Chance::new(plan.seed);
    let slots = Arc::new(Semaphore::new(VISITS_MAX));
    let mut visits = JoinSet::new();
    let begin = Instant::now();
    let mut due = begin + chance.gap(plan.rate);
    while due < begin + plan.duration {
        sleep_until(due).await;
        let seed = chance.bits();
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                let recorder = Arc::clone(recorder);
                let work = visit(Visit::new(Arc::clone(&recorder), due, seed));
                visits.spawn(async move {
                    recorder.started(Instant::now() - due);
                    work.await;
                    drop(slot);
                });
            }
            Err(_) => {
                recorder.failure("start", &Failure::new("dropped start", format!("{VISITS_MAX} visits were under way")))
            }
        }
        while visits.try_join_next().is_some() {}
        due += chance.gap(plan.rate);
    }
    while visits.join_next().await.is_some() {}
}

const VISITS_MAX: usize = 5_000;
const GAP_MAX: f64 = 60.0;
const STEP_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn visits_begin_on_time_although_earlier_ones_hang() {
        let recorder = Arc::new(Recorder::new(Duration::from_secs(10)));
        let plan = Plan { rate: 50.0, duration: Duration::from_secs(10), seed: 7 };
        run(plan, &recorder, |mut visit| async move {
            let wait = async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                Ok(())
            };
            visit.step("wait", wait).await;
        })
        .await;
        let summary = recorder.summary();
        let step = summary.steps.iter().find(|step| step.name == "wait").unwrap();
        assert!((400..600).contains(&step.ok), "{}", step.ok);
        assert!(summary.lag_p99_ms < 2.0);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_counts_from_the_intended_start() {
        let recorder = Arc::new(Recorder::new(Duration::from_secs(10)));
        let late = Instant::now();
        tokio::time::advance(Duration::from_secs(3)).await;
        let mut visit = Visit::new(Arc::clone(&recorder), late, 1);
        visit.step("login", async { Ok(()) }).await;
        visit.step("page", async { Ok(()) }).await;
        let summary = recorder.summary();
        let p50 = |name: &str| summary.steps.iter().find(|step| step.name == name).unwrap().intended.p50_ms;
        assert!(p50("login") >= 2990.0 && p50("page") < 10.0);
    }

    #[test]
    fn the_seed_decides() {
        let (mut one, mut other) = (Chance::new(3), Chance::new(3));
        assert_eq!(one.bits(), other.bits());
        assert!((0.0..1.0).contains(&one.unit()));
        assert_eq!(Chance::new(1).pick::<u8>(&[]), None);
    }
}
