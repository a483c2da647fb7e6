//! Figures for Prometheus: the calls, the engine, the requests over HTTP and the process.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::super::Server;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

pub struct Figures {
    registry: Registry,
    server: Server,
    answered: Family<Answered, Counter>,
    sessions: Gauge,
    waiting: Gauge,
    busy: Counter<f64, AtomicU64>,
    evaluations: Counter,
    memory: Gauge,
}

impl Figures {
    pub fn new(server: Server) -> Self {
        let mut registry = Registry::with_prefix("foreseed");
        server.calls.register(&mut registry);
        let figures = Self {
            answered: Family::default(),
            sessions: Gauge::default(),
            waiting: Gauge::default(),
            busy: Counter::default(),
            evaluations: Counter::default(),
            memory: Gauge::default(),
            server,
            registry: Registry::default(),
        };
        registry.register(
            "http_requests",
            "Requests over HTTP, by the status that they were answered with",
            figures.answered.clone(),
        );
        registry.register(
            "sessions",
            "Open sessions of clients up to 2025-11-25",
            figures.sessions.clone(),
        );
        registry.register(
            "engine_waiting",
            "Pieces of work that the engine has taken on",
            figures.waiting.clone(),
        );
        registry.register_with_unit(
            "engine_busy",
            "Time in which the engine worked",
            Unit::Seconds,
            figures.busy.clone(),
        );
        registry.register(
            "engine_evaluations",
            "Denoiser evaluations done",
            figures.evaluations.clone(),
        );
        registry.register_with_unit(
            "memory",
            "Resident memory of the process, where the platform tells",
            Unit::Bytes,
            figures.memory.clone(),
        );
        let version = env!("CARGO_PKG_VERSION");
        registry.register("build", "What runs here", Info::new(Build { version }));
        Self {
            registry,
            ..figures
        }
    }

    pub fn answered(&self, status: StatusCode) {
        let status = status.as_u16();
        self.answered.get_or_create(&Answered { status }).inc();
    }

    /// All figures as they are now, in the text format of OpenMetrics.
    pub fn told(&self, sessions: usize) -> Result<String, std::fmt::Error> {
        let pulse = self.server.foresight.engine.pulse();
        self.sessions.set(sessions as i64);
        self.waiting.set(pulse.waiting as i64);
        let busy = pulse.busy.as_secs_f64().to_bits();
        self.busy.inner().store(busy, Ordering::Relaxed);
        self.evaluations
            .inner()
            .store(pulse.evaluations, Ordering::Relaxed);
        self.memory.set(resident_bytes().unwrap_or_default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// On Linux; elsewhere nothing simple tells.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
