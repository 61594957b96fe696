//! Did a run keep its bounds, and do its figures mean anything?

use serde::Serialize;

use crate::record::Summary;

/// What a step must keep.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Threshold {
    /// The step.
    pub step: &'static str,
    /// 99 % from the intended start within so many milliseconds.
    pub p99_ms: f64,
    /// Share of failures at most.
    pub failed_share: f64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every threshold kept: exit 0.
    Passed,
    /// A threshold missed: exit 1.
    Missed,
    /// The generator was too slow itself, the figures say nothing: exit 4.
    Overloaded,
}

/// Judges a run; the reasons are sentences.
pub fn judge(thresholds: &[Threshold], summary: &Summary) -> (Verdict, Vec<String>) {
    if summary.lag_p99_ms > LAG_MAX_MS {
        let reason = format!(
            "the generator was overloaded: visits began {:.0} ms late (99th percentile, at most {LAG_MAX_MS:.0} allowed)",
            summary.lag_p99_ms
        );
        return (Verdict::Overloaded, vec![reason]);
    }
    let mut reasons = Vec::new();
    for Threshold { step: name, p99_ms, failed_share } in thresholds {
        let Some(step) = summary.steps.iter().find(|step| step.name == *name) else {
            reasons.push(format!("{name}: never happened"));
            continue;
        };
        let share = step.failed as f64 / (step.ok + step.failed).max(1) as f64;
        if share > *failed_share {
            reasons.push(format!(
                "{name}: {:.2} % failed, at most {:.2} % allowed",
                share * 100.0,
                failed_share * 100.0
            ));
        }
        if step.intended.p99_ms > *p99_ms {
            reasons.push(format!("{name}: p99 {:.0} ms, at most {p99_ms:.0} ms allowed", step.intended.p99_ms));
        }
    }
    // A wrong answer is never a matter of percent.
    for step in &summary.steps {
        for kind in ["wrong answer", "dropped start"] {
            if let Some((count, seen)) = step.failures.get(kind) {
                reasons.push(format!("{}: {count} × {kind}: {seen}", step.name));
            }
        }
    }
    let verdict = if reasons.is_empty() { Verdict::Passed } else { Verdict::Missed };
    (verdict, reasons)
}

const LAG_MAX_MS: f64 = 250.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{client::Failure, record::Recorder};

    fn summary(failures: &[&'static str]) -> Summary {
        let recorder = Recorder::new(Duration::from_secs(10));
        for _ in 0..100 {
            recorder.success("login", Duration::from_millis(20), Duration::from_millis(20));
        }
        for kind in failures {
            recorder.failure("login", &Failure::new(kind, "seen"));
        }
        recorder.summary()
    }

    const BOUND: &[Threshold] = &[Threshold { step: "login", p99_ms: 100.0, failed_share: 0.05 }];

    #[tokio::test]
    async fn bounds_decide_and_a_wrong_answer_is_never_excused() {
        assert_eq!(judge(BOUND, &summary(&["closed"])).0, Verdict::Passed);
        assert_eq!(judge(BOUND, &summary(&["closed"; 10])).0, Verdict::Missed);
        assert_eq!(judge(BOUND, &summary(&["wrong answer"])).0, Verdict::Missed);
        let slow = [Threshold { step: "login", p99_ms: 10.0, failed_share: 1.0 }];
        assert_eq!(judge(&slow, &summary(&[])).0, Verdict::Missed);
        let absent = [Threshold { step: "page", p99_ms: 10.0, failed_share: 1.0 }];
        assert_eq!(judge(&absent, &summary(&[])).0, Verdict::Missed);
        let late = Summary { lag_p99_ms: 900.0, ..summary(&[]) };
        assert_eq!(judge(BOUND, &late).0, Verdict::Overloaded);
    }
}
