//! The calls under way: how many there are, how long they take, and the end of the last.

use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    Answered,
    /// Answered with what the caller has to mend, or with what failed.
    Refused,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    tool: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tool {
    tool: &'static str,
}

/// All calls of a server, over whatever transport.
#[derive(Clone)]
pub struct Calls {
    tracker: TaskTracker,
    ended: Family<Ended, Counter>,
    seconds: Family<Tool, Histogram>,
    running: Gauge,
    /// Cancelled: nobody waits for the calls any more, or the server ends.
    pub gone: CancellationToken,
}

impl Calls {
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            ended: Family::default(),
            // 10 ms to 11 minutes.
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.01, 2.0, 17))
            }),
            running: Gauge::default(),
            gone: CancellationToken::new(),
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("calls", "Tool calls that ended", self.ended.clone());
        registry.register(
            "call_seconds",
            "How long tool calls took, waiting included",
            self.seconds.clone(),
        );
        registry.register(
            "calls_running",
            "Tool calls under way",
            self.running.clone(),
        );
    }

    /// A call of `tool` begins, and ends when what this gives is dropped.
    pub fn begin(&self, tool: &'static str) -> Call {
        self.running.inc();
        Call {
            calls: self.clone(),
            tool,
            began: Instant::now(),
            outcome: Outcome::Cancelled,
            _token: self.tracker.token(),
        }
    }

    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Until no call is under way, at most this long; whether it came to that.
    pub async fn ended_within(&self, patience: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait())
            .await
            .is_ok()
    }
}

/// A call under way.
pub struct Call {
    calls: Calls,
    tool: &'static str,
    began: Instant,
    /// What it counts as, unless something better is known before its end.
    pub outcome: Outcome,
    _token: TaskTrackerToken,
}

impl Drop for Call {
    fn drop(&mut self) {
        let Self {
            calls,
            tool,
            outcome,
            ..
        } = self;
        calls.running.dec();
        let ended = Ended {
            tool,
            outcome: *outcome,
        };
        calls.ended.get_or_create(&ended).inc();
        calls
            .seconds
            .get_or_create(&Tool { tool })
            .observe(self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_is_dropped_was_cancelled_and_the_last_one_ends_the_waiting() {
        let calls = Calls::new();
        let mut registry = Registry::default();
        calls.register(&mut registry);
        let mut answered = calls.begin("render");
        drop(calls.begin("render"));
        assert!(!calls.ended_within(Duration::from_millis(10)).await);
        answered.outcome = Outcome::Answered;
        drop(answered);
        assert!(calls.ended_within(Duration::from_secs(5)).await);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"calls_total{tool="render",outcome="Answered"} 1"#,
            r#"calls_total{tool="render",outcome="Cancelled"} 1"#,
            r#"call_seconds_count{tool="render"} 2"#,
            "calls_running 0",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
