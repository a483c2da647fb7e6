//! What the machine has, and what of the models and scorers it holds, before any of them is loaded.

use candle_core::Device;

use super::{Finding, Globals, note, ok, wrong};
use crate::device::{self, WAYS_OUT};
use crate::models::{ModelCard, Models, needs_said};

pub(super) fn threads() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let used = rayon::current_num_threads();
    if used < cores {
        let help = "RAYON_NUM_THREADS limits it; unset it to use all cores";
        return note("threads", format!("{used} of {cores} cores are used"), help);
    }
    ok("threads", format!("{used} on {cores} cores"))
}

pub(super) fn memory() -> Finding {
    let Some(memory) = device::memory(&Device::Cpu) else {
        return ok("memory", "this system does not say");
    };
    // The engine keeps up to 1 GiB of paused trajectories.
    if memory.free < 1 << 30 {
        return note(
            "memory",
            free_of(memory),
            "Close something: paused trajectories may not all be kept",
        );
    }
    ok("memory", free_of(memory))
}

fn free_of(memory: device::Memory) -> String {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    format!(
        "{:.1} GB free of {:.1} GB",
        gb(memory.free),
        gb(memory.total)
    )
}

pub(super) fn device(globals: &Globals) -> Finding {
    let opened = match globals.device.open() {
        Ok(opened) => opened,
        Err(error) => return wrong("device", error.to_string(), "Choose another with --device"),
    };
    let built = [
        ("avx2", candle_core::utils::with_avx()),
        ("f16c", candle_core::utils::with_f16c()),
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("metal", cfg!(feature = "metal")),
    ];
    let built: Vec<&str> = built
        .iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| *name)
        .collect();
    let name = device::name_of(&opened);
    let memory = match opened {
        Device::Cpu => String::new(),
        _ => device::memory(&opened).map_or(String::new(), |m| format!(", {}", free_of(m))),
    };
    ok(
        "device",
        format!("{name}{memory} (built for {})", built.join(", ")),
    )
}

/// What each model needs, and whether that fits.
pub(super) fn models(models: &Models) -> Vec<Finding> {
    models.list().iter().map(one_model).collect()
}

fn one_model(card: &ModelCard) -> Finding {
    let state = match card.installed {
        true => "installed",
        false => "not here",
    };
    let parts = card
        .needs
        .as_ref()
        .map_or("unknown parts".to_owned(), needs_said);
    let found = format!(
        "{} ({state}) needs {} at least: {parts}",
        card.name,
        gigabytes(card.needs_bytes)
    );
    match (card.fits, card.installed) {
        (false, true) => note(
            "fits",
            format!("{found}: more than is free"),
            format!("To run it, {WAYS_OUT}"),
        ),
        (false, false) => ok("too large", format!("{found}: more than is free")),
        (true, _) => ok("fits", found),
    }
}

/// What each scorer needs, and whether that fits.
pub(super) fn scorers(models: &Models) -> Vec<Finding> {
    let findings = models.scorers().into_iter().map(|card| {
        let state = match (card.installed, card.fits) {
            (true, true) => "installed".to_owned(),
            (false, true) => format!("not here: `foreseed models pull {}`", card.metric),
            (_, false) => "more than is free".to_owned(),
        };
        ok(
            "scorer",
            format!(
                "{} needs {}, {state}",
                card.metric,
                gigabytes(card.needs_bytes)
            ),
        )
    });
    findings.collect()
}

fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.0} MB", (bytes as f64 / 1e6).ceil()),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
