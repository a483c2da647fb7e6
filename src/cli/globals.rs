//! The options that every subcommand shares, and what is opened with them.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::DType;
use clap::{Args, ValueEnum};

use crate::backbones::Adapter;
use crate::device::DeviceChoice;
use crate::engine::{Engine, Limits};
use crate::foresight::{Foresight, Learned};
use crate::models::{Machine, ModelOptions, Models};
use crate::store::Store;
use crate::{Error, Result};

#[derive(Clone, Debug, Default, Args)]
pub struct Globals {
    /// A model's name (`foreseed models list`), a folder in diffusers' layout, or a single file:
    /// an SDXL checkpoint in its original layout.
    #[arg(long, global = true, value_name = "NAME|DIR|FILE")]
    pub model: Option<String>,

    /// A LoRA to merge into the model, by its weight [default: 1]. Can be given several times.
    #[arg(long, global = true, value_name = "FILE[=WEIGHT]", value_parser = adapter)]
    pub lora: Vec<Adapter>,

    /// A GGUF file with the weights of FLUX.1's or Qwen-Image's transformer, instead of the model's.
    #[arg(long, global = true, value_name = "FILE.gguf")]
    pub denoiser: Option<PathBuf>,

    /// Where a single file's configurations and tokenizers are: a folder in diffusers' layout.
    /// Default: one beside it, or what the hub's cache has of SDXL.
    #[arg(long, global = true, value_name = "DIR")]
    pub model_config: Option<PathBuf>,

    /// A folder with the published files of a scorer, where they are not in the hub's cache. Can be
    /// given several times.
    #[arg(long, global = true, value_name = "METRIC=DIR", value_parser = scorer)]
    pub scorer: Vec<(String, PathBuf)>,

    /// What computes: auto, cpu, cuda, cuda:1 or metal. Default: a GPU where this binary was built for
    /// one and one is there.
    #[arg(
        long,
        global = true,
        value_name = "DEVICE",
        default_value = "auto",
        hide_default_value = true
    )]
    pub device: DeviceChoice,

    /// What weights are computed in. Default: bf16 on a GPU; f32 on the CPU, for small models and in
    /// `trace`.
    #[arg(long, global = true, value_enum, value_name = "PRECISION")]
    pub dtype: Option<Precision>,

    /// Decode pictures in tiles of so many pixels, whose edges are blended. Default: whole, and in
    /// tiles where memory is short.
    #[arg(long, global = true, value_name = "PIXELS")]
    pub vae_tile: Option<usize>,

    /// Load models that do not fit into the memory that is free.
    #[arg(long, global = true)]
    pub no_memory_check: bool,

    /// Where pictures go, or the file that `trace` and `probe` write.
    #[arg(long, global = true, value_name = "PATH")]
    pub out: Option<PathBuf>,

    /// Where records, probes and pulled models are kept. Default: the platform's data folder.
    #[arg(long, global = true, value_name = "DIR", env = "FORESEED_DATA")]
    pub data: Option<PathBuf>,

    /// Predict as the probe was shipped: what was rendered here before corrects nothing.
    #[arg(long, global = true)]
    pub no_history: bool,

    /// Print the structured reply as JSON.
    #[arg(long, global = true)]
    pub json: bool,

    /// Say more on stderr: -v, -vv. RUST_LOG is honoured as well.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    F32,
    F16,
    Bf16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
            Precision::Bf16 => Self::BF16,
        }
    }
}

impl Globals {
    /// The folder of records, probes and models; made if it is not there.
    pub fn data_folder(&self) -> Result<PathBuf> {
        let folder = self.data_place()?;
        std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        Ok(folder)
    }

    /// Where that folder is or would be.
    fn data_place(&self) -> Result<PathBuf> {
        match &self.data {
            Some(folder) => Ok(folder.clone()),
            None => directories::ProjectDirs::from("", "", "foreseed")
                .map(|dirs| dirs.data_dir().to_path_buf())
                .ok_or_else(|| {
                    Error::invalid(
                        "data",
                        "this account has no home folder to keep records in",
                        "Name a folder with --data DIR or FORESEED_DATA",
                    )
                }),
        }
    }

    /// The folder that pictures go to; made when the first is written.
    pub fn pictures_folder(&self) -> Result<PathBuf> {
        match &self.out {
            Some(folder) => Ok(folder.clone()),
            None => Ok(self.data_folder()?.join("pictures")),
        }
    }

    /// What models are run on, and how.
    pub fn machine(&self) -> Result<Machine> {
        let dtype = self.dtype.map(DType::from);
        Machine::open(self.device, dtype, self.vae_tile, self.no_memory_check)
    }

    /// The models there are; no weights are loaded.
    pub fn models(&self) -> Result<Models> {
        self.models_with(self.data_place()?.join("probes"))
    }

    /// The models there are, and these probes.
    pub fn models_with(&self, probes: PathBuf) -> Result<Models> {
        Models::discover(ModelOptions {
            model: self.model.clone(),
            loras: self.lora.clone(),
            denoiser: self.denoiser.clone(),
            config: self.model_config.clone(),
            probes: Some(probes),
            scorers: self.scorer.iter().cloned().collect(),
            machine: Some(self.machine()?),
        })
    }

    /// The four jobs, over an engine of this process. No weights are loaded yet.
    pub fn foresight(&self) -> Result<Foresight> {
        self.foresight_within(Limits::default())
    }

    /// The same, over an engine that takes on no more than `limits`.
    pub fn foresight_within(&self, limits: Limits) -> Result<Foresight> {
        let models = Arc::new(self.models()?);
        Ok(Foresight {
            engine: Engine::start(models.clone(), limits)?,
            models,
            store: Arc::new(Store::open(&self.data_folder()?)?),
            out: self.pictures_folder()?,
            writes: true,
            learned: (!self.no_history).then(Learned::default),
        })
    }

    /// The same without a file written: what is recorded goes with the process.
    pub fn foresight_read_only(&self, limits: Limits) -> Result<Foresight> {
        let place = self.data_place()?;
        let models = Arc::new(self.models()?);
        Ok(Foresight {
            engine: Engine::start(models.clone(), limits)?,
            models,
            store: Arc::new(Store::in_memory(&place)?),
            out: self.out.clone().unwrap_or_else(|| place.join("pictures")),
            writes: false,
            learned: (!self.no_history).then(Learned::default),
        })
    }

    /// What a process of its own is started with to find what this one finds.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut all = Vec::new();
        let mut option = |name: &str, value: OsString| all.extend([OsString::from(name), value]);
        let paths = [
            ("--denoiser", &self.denoiser),
            ("--model-config", &self.model_config),
            ("--out", &self.out),
            ("--data", &self.data),
        ];
        for (name, path) in paths {
            if let Some(path) = path {
                option(name, path.into());
            }
        }
        if let Some(model) = &self.model {
            option("--model", model.into());
        }
        for lora in &self.lora {
            let mut text = lora.file.clone().into_os_string();
            text.push(format!("={}", lora.weight));
            option("--lora", text);
        }
        for (metric, folder) in &self.scorer {
            let mut text = OsString::from(format!("{metric}="));
            text.push(folder);
            option("--scorer", text);
        }
        if self.no_history {
            all.push("--no-history".into());
        }
        all
    }

    /// Runs `work` to its end on a runtime of its own.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|e| Error::Internal(format!("no asynchronous runtime: {e}")))?
            .block_on(work)
    }
}

/// `FILE` or `FILE=WEIGHT`.
fn adapter(text: &str) -> std::result::Result<Adapter, String> {
    let (file, weight) = match text.rsplit_once('=') {
        Some((file, weight)) => match weight.parse::<f64>() {
            Ok(weight) if weight.is_finite() => (file, weight),
            // A name may have an equals sign in it.
            _ if std::path::Path::new(text).is_file() => (text, 1.0),
            _ => return Err(format!("{weight:?} is no weight: FILE=0.8 names one")),
        },
        None => (text, 1.0),
    };
    Ok(Adapter {
        file: file.into(),
        weight,
    })
}

/// `METRIC=DIR`.
fn scorer(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((metric, folder)) if !metric.is_empty() && !folder.is_empty() => {
            Ok((metric.to_owned(), folder.into()))
        }
        _ => Err(format!("{text:?} names no folder: METRIC=DIR does")),
    }
}
