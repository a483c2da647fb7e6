//! `foreseed doctor`: checks that everything is in place, from the data folder to a step of the
//! default model, and says what to do where it is not.

mod machine;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Globals, output};
use crate::candidate::Seed;
use crate::foresight::requests::{PredictRequest, PredictingSettings, SeedChoice};
use crate::foresight::{Caller, Foresight};
use crate::probe::recalibration::ENOUGH;
use crate::store::Store;
use crate::{Error, Result};

mod mcp;

/// A prompt that pocket's world holds and any other model can draw.
const PROMPT: &str = "a red circle";
/// Beyond this the doctor says so and does not wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// `foreseed doctor`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start the server as a client would, in both eras of the protocol, and look at that alone.
    #[arg(long)]
    mcp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// It works, and could work better.
    Note,
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do about it, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    well: bool,
    findings: Vec<Finding>,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let findings = match args.mcp {
        true => mcp::examine(globals),
        false => examine(globals),
    };
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        well: findings.iter().all(|f| f.verdict != Verdict::Wrong),
        findings,
    };
    if globals.json {
        output::print_json(&report)?;
    } else {
        output::print(&told(&report))?;
    }
    match report
        .findings
        .iter()
        .filter(|f| f.verdict == Verdict::Wrong)
        .count()
    {
        0 => Ok(()),
        wrong => Err(Error::Unwell(wrong)),
    }
}

fn told(report: &Report) -> String {
    let mut text = format!("foreseed {}\n", report.version);
    for finding in &report.findings {
        let mark = match finding.verdict {
            Verdict::Ok => "ok   ",
            Verdict::Note => "note ",
            Verdict::Wrong => "WRONG",
        };
        text += &format!("{mark}  {:<15} {}\n", finding.what, finding.found);
        if let Some(help) = &finding.help {
            text += &format!("       {:<15} → {help}\n", "");
        }
    }
    text += if report.well {
        "all is well"
    } else {
        "something is wrong: see above"
    };
    text
}

fn ok(what: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        what,
        verdict: Verdict::Ok,
        found: found.into(),
        help: None,
    }
}

fn note(what: &'static str, found: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding {
        what,
        verdict: Verdict::Note,
        found: found.into(),
        help: Some(help.into()),
    }
}

fn wrong(what: &'static str, found: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding {
        verdict: Verdict::Wrong,
        ..note(what, found, help)
    }
}

/// From the ground up; what rests on something that failed is not looked at.
fn examine(globals: &Globals) -> Vec<Finding> {
    let mut findings = vec![
        machine::threads(),
        machine::memory(),
        machine::device(globals),
    ];
    let another_folder = "Name a folder that can be written with --data DIR or FORESEED_DATA";
    let folder = match globals.data_folder() {
        Ok(folder) => folder,
        Err(error) => {
            findings.push(wrong("data folder", error.to_string(), another_folder));
            return findings;
        }
    };
    findings.push(match tempfile::tempfile_in(&folder) {
        Ok(_) => ok("data folder", folder.display().to_string()),
        Err(error) => wrong(
            "data folder",
            format!("{}: {error}", folder.display()),
            another_folder,
        ),
    });
    findings.push(match globals.pictures_folder().and_then(writable) {
        Ok(found) => ok("pictures", found),
        Err(error) => wrong(
            "pictures",
            error.to_string(),
            "Name another folder with --out DIR",
        ),
    });
    match Store::open(&folder).and_then(|store| store.renders(1)) {
        Ok(_) => findings.push(ok("records", "the database opens")),
        Err(error) => {
            let help = "Free the disk or move the database away; a new one is made";
            findings.push(wrong("records", error.to_string(), help));
            return findings;
        }
    }
    match history(globals) {
        Ok(found) => findings.push(ok("history", found)),
        Err(error) => {
            let help = "--no-history predicts without what was rendered here";
            findings.push(wrong("history", error.to_string(), help));
        }
    }
    match with_fresh_records(globals) {
        Ok((foresight, _records)) => {
            findings.extend(machine::models(&foresight.models));
            findings.extend(machine::scorers(&foresight.models));
            model(globals, &foresight, &mut findings);
        }
        Err(error) => {
            let help = "Look at --model, or leave it out to use the embedded one";
            findings.push(wrong("models", error.to_string(), help));
        }
    }
    findings
}

/// How many renders correct the default model's probes.
fn history(globals: &Globals) -> Result<String> {
    let models = globals.foresight()?.list_models()?.models;
    let probes = models.into_iter().filter(|m| m.default);
    let counts: Vec<String> = probes
        .flat_map(|m| m.probes)
        .map(|probe| match probe.local_renders {
            few if (few as usize) < ENOUGH => format!(
                "{few} of the {ENOUGH} local renders that begin to correct {}",
                probe.metric
            ),
            enough => format!("{enough} local renders correct {}", probe.metric),
        })
        .collect();
    Ok(match (counts.is_empty(), globals.no_history) {
        (true, _) => "no probe to correct".into(),
        (_, true) => format!("{}; not used: --no-history", counts.join("; ")),
        _ => counts.join("; "),
    })
}

/// The four jobs with records that know of nothing yet, so that all is really done; they go with the
/// folder.
fn with_fresh_records(globals: &Globals) -> Result<(Foresight, tempfile::TempDir)> {
    let folder = tempfile::tempdir().map_err(Error::file(&std::env::temp_dir()))?;
    let foresight = Foresight {
        store: Arc::new(Store::open(folder.path())?),
        ..globals.foresight()?
    };
    Ok((foresight, folder))
}

/// Makes the folder and writes to it, as a render would.
fn writable(folder: std::path::PathBuf) -> Result<String> {
    std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
    tempfile::tempfile_in(&folder).map_err(Error::file(&folder))?;
    Ok(folder.display().to_string())
}

/// Loads the default model, steps it and has it predicted, as an agent's first call would.
fn model(globals: &Globals, foresight: &Foresight, findings: &mut Vec<Finding>) {
    let name = foresight.models.default_name().to_string();
    let card = match foresight.models.card(&name) {
        Ok(card) => card,
        Err(error) => {
            let help = "Use another with --model; `foreseed models list` names them";
            findings.push(wrong("model", error.to_string(), help));
            return;
        }
    };
    findings.push(ok("model", format!("{name}: {}", card.about)));
    let started = Instant::now();
    let reply = globals.block_on(async {
        let caller = Caller {
            cancel: CancellationToken::new(),
            progress: Arc::new(|_| ()),
            patience: Some(PATIENCE),
        };
        let first = foresight.predict(prediction_of(Seed(0)), &caller).await?;
        let loaded = started.elapsed();
        foresight.predict(prediction_of(Seed(1)), &caller).await?;
        Ok((first, loaded, started.elapsed() - loaded))
    });
    match reply {
        Err(error) => {
            let help = "If it is a model of yours, check its folder with `foreseed models list`";
            findings.push(wrong("a step", error.to_string(), help));
        }
        Ok((reply, ..)) if !reply.common.complete => {
            let found = format!("not done after {} s", PATIENCE.as_secs());
            findings.push(wrong(
                "a step",
                found,
                "This machine is too slow for it: --model pocket",
            ));
        }
        Ok((reply, loaded, step)) => {
            let found = format!(
                "loaded and predicted in {:.1} s, another step in {:.2} s",
                loaded.as_secs_f64(),
                step.as_secs_f64()
            );
            findings.push(ok("a step", found));
            findings.push(if reply.common.calibrated {
                let quality = reply.expected_quality.unwrap_or(f64::NAN);
                let metric = &reply.common.metric;
                ok(
                    "probe",
                    format!("predicts {metric} {quality:.2} for {PROMPT:?}"),
                )
            } else {
                note("probe", format!("none fits {name}"), reply.advice)
            });
        }
    }
}

/// The cheapest prediction there is: one seed, at the recommended step.
fn prediction_of(seed: Seed) -> PredictRequest {
    PredictRequest {
        prompt: PROMPT.into(),
        seeds: SeedChoice {
            seeds: Some(vec![seed]),
            count: None,
        },
        attention: false,
        settings: PredictingSettings::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_that_cannot_be_made_is_named_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let globals = Globals {
            data: Some(file.path().join("below-a-file")),
            ..Default::default()
        };
        let findings = examine(&globals);
        let last = findings.last().unwrap();
        assert_eq!((last.what, last.verdict), ("data folder", Verdict::Wrong));
        assert!(last.help.as_ref().unwrap().contains("--data"));
    }
}
