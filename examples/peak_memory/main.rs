//! What one guided step of an SDXL-sized UNet with random weights, and decoding its picture, take of
//! memory on the CPU: estimated before anything is loaded, measured, and measured of diffusers.
//!
//! ```text
//! cargo run --release --example peak_memory -- --python .venv/bin/python [--dtype f32|bf16] [--side 1024]
//!     [--folder DIR] [--jobs step,decode,tiled]
//! ```
//!
//! Each is measured in a process of its own, one after the other. The weights take 5 GB of disk in
//! `--folder`, which is made if it is not there and kept (default: a temporary one), and 10 GB of memory
//! in f32. Needs Linux, for its account of a process's memory.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device};
use foreseed::backbones::{self, ModelFiles, Placement, TapRequest};
use foreseed::candidate::{Seed, Settings};
use foreseed::sampling::{Trajectory, standard_normal, step_all};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PYTHON_SIDE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/peak_memory/diffusers_side.py"
);

struct Options {
    python: Option<String>,
    dtype: String,
    side: usize,
    folder: Option<PathBuf>,
    jobs: Vec<String>,
}

impl Options {
    fn read() -> Result<Self> {
        let mut options = Self {
            python: std::env::var("FORESEED_PYTHON").ok(),
            dtype: "f32".into(),
            side: 1024,
            folder: None,
            jobs: ["step", "decode", "tiled"].map(String::from).into(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
            match arg.as_str() {
                "--python" => options.python = Some(value),
                "--dtype" if ["f32", "bf16"].contains(&value.as_str()) => options.dtype = value,
                "--side" => options.side = value.parse()?,
                "--folder" => options.folder = Some(value.into()),
                "--jobs" => options.jobs = value.split(',').map(String::from).collect(),
                _ => {
                    let known = "--python, --dtype f32|bf16, --side, --folder, --jobs";
                    return Err(format!("{arg} {value}: known are {known}").into());
                }
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let outcome = match args.as_slice() {
        // The same binary is, in a process of its own, our side.
        [_, side, job, folder, dtype, pixels] if side == "our-side" => {
            our_side(job, Path::new(folder), dtype, pixels)
        }
        _ => drive(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peak_memory: {error}");
            ExitCode::FAILURE
        }
    }
}

fn drive() -> Result<()> {
    let options = Options::read()?;
    let python = options
        .python
        .ok_or("--python PYTHON names an interpreter with torch and diffusers")?;
    let scratch = tempfile::tempdir()?;
    let folder = options
        .folder
        .unwrap_or_else(|| scratch.path().join("sdxl"));
    if !folder.join("model_index.json").is_file() {
        let tokenizers = concat!(env!("CARGO_MANIFEST_DIR"), "/models/pocket");
        let mut make = Command::new(&python);
        make.args([PYTHON_SIDE, "make"])
            .arg(&folder)
            .arg(tokenizers);
        if !make.status()?.success() {
            return Err("the random model could not be made".into());
        }
    }
    let (dtype, side) = (options.dtype, options.side.to_string());
    let needs = backbones::needs(
        ModelFiles::folder(&folder),
        "random SDXL",
        &placement(&dtype, None),
    )?;
    println!(
        "an SDXL-sized UNet ({dtype}) and VAE (f32) with random weights, {side}×{side} pixels; GB beyond \
         what is loaded"
    );
    for job in &options.jobs {
        let ours = measured(
            Command::new(std::env::current_exe()?)
                .args(["our-side", job])
                .arg(&folder)
                .args([&dtype, &side]),
        )?;
        let theirs = measured(
            Command::new(&python)
                .args([PYTHON_SIDE, job])
                .arg(&folder)
                .args([&dtype, &side]),
        )?;
        // The estimate is for the picture that the model is made for.
        let share = (options.side * options.side) as f64 / (needs.width * needs.height) as f64;
        let estimate = match job.as_str() {
            "step" => needs.step_bytes as f64 * share,
            "decode" => needs.decode_bytes as f64 * share,
            _ => needs.tiled_decode_bytes as f64,
        };
        println!(
            "{job:>6}: estimated {:.2}; ours {:.2} ({:.1} s), peak {:.2} in all; diffusers {:.2} ({:.1} s), \
             peak {:.2} in all",
            estimate / 1e9,
            ours.beyond(),
            ours.seconds,
            ours.peak / 1e9,
            theirs.beyond(),
            theirs.seconds,
            theirs.peak / 1e9,
        );
    }
    Ok(())
}

/// What a side printed.
struct Measured {
    loaded: f64,
    peak: f64,
    seconds: f64,
}

impl Measured {
    /// GB beyond what was loaded.
    fn beyond(&self) -> f64 {
        (self.peak - self.loaded) / 1e9
    }
}

fn measured(command: &mut Command) -> Result<Measured> {
    let done = command.output()?;
    let said = String::from_utf8_lossy(&done.stdout);
    let line = said.lines().last().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(line).map_err(|_| {
        format!(
            "{command:?} printed no figures: {}",
            String::from_utf8_lossy(&done.stderr)
        )
    })?;
    let number = |name: &str| value[name].as_f64().unwrap_or(f64::NAN);
    Ok(Measured {
        loaded: number("loaded"),
        peak: number("peak"),
        seconds: number("seconds"),
    })
}

fn placement(dtype: &str, tile: Option<usize>) -> Placement {
    let dtype = match dtype {
        "bf16" => DType::BF16,
        _ => DType::F32,
    };
    Placement {
        tile,
        ..Placement::new(&Device::Cpu, dtype)
    }
}

fn our_side(job: &str, folder: &Path, dtype: &str, pixels: &str) -> Result<()> {
    let side: usize = pixels.parse()?;
    let tile = (job == "tiled").then_some(512);
    let placement = placement(dtype, tile);
    let files = ModelFiles::folder(folder);
    let backbone = backbones::load_at(files, "random SDXL", &placement)?;
    let facts = backbone.facts();
    let settings = Settings {
        model: "random SDXL".into(),
        negative_prompt: None,
        steps: facts.default_steps,
        guidance: facts.default_guidance,
        width: side,
        height: side,
    };
    let text = Arc::new(backbone.encode("a red circle", None, settings.guidance)?);
    let mut trajectory = Trajectory::start_encoded(backbone.as_ref(), text, Seed(0), &settings)?;
    let latent = side / facts.vae_scale;
    let latents = standard_normal(Seed(0), (1, facts.latent_channels, latent, latent))?;
    let tap = TapRequest {
        blocks: facts.default_tap.clone(),
        middle: true,
    };
    let loaded = status("VmRSS")?;
    // From here on the peak counts anew.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let began = Instant::now();
    match job {
        "step" => drop(step_all(
            backbone.as_ref(),
            &mut [&mut trajectory],
            &[Some(&tap)],
        )?),
        _ => drop(backbone.decode(&latents)?),
    }
    let figures = serde_json::json!({
        "loaded": loaded,
        "peak": status("VmHWM")?,
        "seconds": began.elapsed().as_secs_f64(),
    });
    println!("{figures}");
    Ok(())
}

/// A field of Linux's account of this process, in bytes.
fn status(field: &str) -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    let kib: f64 = kib
        .ok_or("this system does not account for memory")?
        .parse()?;
    Ok(kib * 1024.0)
}
