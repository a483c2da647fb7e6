//! What is measured over time, and the few statistics of it.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::server::{Server, figure};

/// The server's own figures, a second apart.
pub struct Samples {
    /// Seconds since the start, seconds that the engine had worked by then, resident MiB.
    taken: Vec<(f64, f64, f64)>,
}

impl Samples {
    pub async fn take_until(server: &Server, until: Instant) -> Result<Self> {
        let began = Instant::now();
        let mut taken = Vec::new();
        while Instant::now() < until {
            let busy = figure(&server.url, "foreseed_engine_busy_seconds_total ").await?;
            let at = began.elapsed().as_secs_f64();
            let memory = figure(&server.url, "foreseed_memory_bytes ").await? / f64::from(1 << 20);
            taken.push((at, busy, memory));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(Self { taken })
    }

    /// The share of the time that the engine worked, once the first calls had come.
    pub fn busy(&self) -> f64 {
        let settled = &self.taken[self.taken.len().min(3) - 1..];
        match (settled.first(), settled.last()) {
            (Some(first), Some(last)) if last.0 > first.0 => {
                (last.1 - first.1) / (last.0 - first.0)
            }
            _ => 0.0,
        }
    }

    /// The median memory in the second quarter of the time and in the last, in MiB.
    pub fn memory(&self) -> (f64, f64) {
        let quarter = self.taken.len() / 4;
        let of = |from: usize, to: usize| {
            let memory: Vec<f64> = self.taken[from..to].iter().map(|sample| sample.2).collect();
            median(&memory)
        };
        (of(quarter, 2 * quarter), of(3 * quarter, self.taken.len()))
    }

    /// Watches the queue; never ends by itself.
    pub async fn most_waiting(url: String) -> Result<()> {
        loop {
            let waiting = figure(&url, "foreseed_engine_waiting ").await?;
            anyhow::ensure!(waiting <= 9.0, "{waiting} wait in a queue of 8");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of them lies; 0 of none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * (sorted.len().max(1) - 1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}
