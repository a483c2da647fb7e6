//! `foreseed trace`: a trajectory's tensors in a file, so that anyone can check the numbers against
//! another implementation.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::Globals;
use crate::backbones::{Backbone, Conditioning, ModelFiles, TapRequest};
use crate::candidate::{Seed, Settings};
use crate::foresight::validate;
use crate::pictures::write_whole;
use crate::sampling::{Fresh, Observation, Trajectory, standard_normal, step_all};
use crate::{Error, Result};

/// Pixels a side at most: twice what the tools take.
const MOST_PIXELS: usize = 2 * validate::MAX_SIDE;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("noise").required(true)))]
pub struct Args {
    /// Taken as it is, never trimmed.
    #[arg(long)]
    pub prompt: String,

    /// What the picture should not be. Left out: what diffusers does without one; an empty one is
    /// encoded like any text.
    #[arg(long)]
    pub negative_prompt: Option<String>,

    /// Denoising steps of the whole run. Default: the model's own.
    #[arg(long)]
    pub steps: Option<usize>,

    /// Steps to do. Default: all of them, and the picture.
    #[arg(long, value_name = "K")]
    pub stop_at: Option<usize>,

    /// Default: the model's own.
    #[arg(long)]
    pub guidance: Option<f64>,

    /// Pixels. Default: the model's own.
    #[arg(long)]
    pub height: Option<usize>,

    /// Pixels. Default: the model's own.
    #[arg(long)]
    pub width: Option<usize>,

    /// A safetensors file whose `latents` are the noise to start from: standard normal, (batch,
    /// channels, height, width). What some samplers add in a step is its `noise.0`, `noise.1`, …, of
    /// the same shape, or that of seed 0 where it has none.
    #[arg(long, value_name = "IN.safetensors", group = "noise")]
    pub latents: Option<PathBuf>,

    /// Draw the noise from this seed.
    #[arg(long, group = "noise")]
    pub seed: Option<u32>,

    /// Beginnings of the module paths to tap. Default: the family's own choice.
    #[arg(long, value_name = "PREFIX,…", value_delimiter = ',')]
    pub tap: Option<Vec<String>>,
}

/// Runs the trajectory and writes `--out`, whole or not at all.
pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let Some(out) = &globals.out else {
        return Err(Error::invalid(
            "out",
            "no file to write was named",
            "Send --out OUT.safetensors",
        ));
    };
    let backbone = open(globals)?;
    let backbone = backbone.as_ref();
    let facts = backbone.facts();
    let settings = Settings {
        model: globals.model.clone().unwrap_or_default(),
        negative_prompt: args.negative_prompt.clone(),
        steps: args.steps.unwrap_or(facts.default_steps),
        guidance: args.guidance.unwrap_or(facts.default_guidance),
        width: args.width.unwrap_or(facts.default_width),
        height: args.height.unwrap_or(facts.default_height),
    };
    let stop_at = args.stop_at.unwrap_or(settings.steps);
    if stop_at > settings.steps {
        return Err(Error::invalid(
            "stop-at",
            format!("{stop_at} is more than the {} steps", settings.steps),
            "Send at most the number of steps",
        ));
    }
    if !settings.guidance.is_finite() {
        return Err(Error::invalid(
            "guidance",
            format!("{} is no scale", settings.guidance),
            "Send a finite number; at 1 or below there is no guidance",
        ));
    }
    for (name, pixels) in [("width", settings.width), ("height", settings.height)] {
        if pixels > MOST_PIXELS {
            return Err(Error::invalid(
                name,
                format!("{pixels} pixels"),
                format!("Send at most {MOST_PIXELS}"),
            ));
        }
    }
    // Refuses what does not fit before any text is encoded.
    backbone.schedule(settings.steps, settings.width, settings.height)?;
    let tap = tap(backbone, args.tap.as_deref())?;
    let (noise, fresh) = noise(backbone, &args, &settings)?;

    let negative = settings.negative_prompt.as_deref();
    let conditioning = Arc::new(backbone.encode(&args.prompt, negative, settings.guidance)?);
    let mut trajectories = (0..noise.dim(0)?)
        .map(|row| {
            let noise = noise.narrow(0, row, 1)?;
            let noise = (&noise, fresh.row(row)?);
            Trajectory::start_from_noise(backbone, conditioning.clone(), noise, &settings)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut tensors = texts(&conditioning, trajectories.len())?;
    for step in 0..stop_at {
        let mut batch: Vec<&mut Trajectory> = trajectories.iter_mut().collect();
        let taps = vec![Some(&tap); batch.len()];
        let seen = step_all(backbone, &mut batch, &taps)?;
        let seen: Vec<Observation> = seen.into_iter().flatten().collect();
        for block in &tap.blocks {
            let maps: Vec<&Tensor> = seen.iter().filter_map(|o| o.maps.get(block)).collect();
            tensors.insert(format!("attn.{block}.{step}"), Tensor::stack(&maps, 0)?);
        }
        let latents: Vec<&Tensor> = trajectories.iter().map(Trajectory::latents).collect();
        tensors.insert(format!("latents.{step}"), Tensor::cat(&latents, 0)?);
    }
    if stop_at == settings.steps {
        let images = trajectories
            .iter()
            .map(|t| backbone.decode(t.latents()))
            .collect::<Result<Vec<_>>>()?;
        tensors.insert("image".into(), Tensor::cat(&images, 0)?);
    }
    write(out, tensors)
}

/// The folder, the file or the installed model that `--model` names.
fn open(globals: &Globals) -> Result<Arc<dyn Backbone>> {
    let dtype = globals.dtype.map_or(DType::F32, DType::from);
    match &globals.model {
        // Without a look at what else there is: any folder that loads can be traced.
        Some(model) if Path::new(model).is_dir() => {
            let mut files = ModelFiles::folder(model).adapted(&globals.lora)?;
            if let Some(denoiser) = &globals.denoiser {
                files = files.with_denoiser(denoiser)?;
            }
            Ok(globals
                .machine()?
                .computing_in(dtype)
                .load(files, model)?
                .into())
        }
        _ => {
            let models = globals.models()?;
            models.load_as(models.default_name(), dtype)
        }
    }
}

/// The blocks that begin with one of `prefixes`.
fn tap(backbone: &dyn Backbone, prefixes: Option<&[String]>) -> Result<TapRequest> {
    let facts = backbone.facts();
    let Some(prefixes) = prefixes else {
        return Ok(TapRequest {
            blocks: facts.default_tap.clone(),
            middle: false,
        });
    };
    let chosen = facts
        .tappable
        .iter()
        .filter(|block| prefixes.iter().any(|prefix| block.starts_with(prefix)));
    let blocks: Vec<String> = chosen.cloned().collect();
    if blocks.is_empty() {
        return Err(Error::invalid(
            "tap",
            format!(
                "no block that can be tapped begins with {}",
                prefixes.join(" or ")
            ),
            format!("These can be: {}", facts.tappable.join(", ")),
        ));
    }
    Ok(TapRequest {
        blocks,
        middle: false,
    })
}

/// What the sampler adds in its steps, for all rows: of the file or of the seed.
enum StepNoise {
    Given(Vec<Tensor>),
    Seed(Seed),
}

impl StepNoise {
    fn row(&self, row: usize) -> Result<Fresh> {
        Ok(match self {
            Self::Seed(seed) => Fresh::Seed(*seed),
            Self::Given(steps) => {
                let own = steps.iter().map(|noise| Ok(noise.narrow(0, row, 1)?));
                Fresh::Given(Arc::new(own.collect::<Result<_>>()?))
            }
        })
    }
}

fn noise(backbone: &dyn Backbone, args: &Args, settings: &Settings) -> Result<(Tensor, StepNoise)> {
    let facts = backbone.facts();
    let (h, w) = (
        settings.height / facts.vae_scale,
        settings.width / facts.vae_scale,
    );
    let Some(path) = &args.latents else {
        let seed = Seed(args.seed.unwrap_or_default());
        let noise = standard_normal(seed, (1, facts.latent_channels, h, w))?;
        return Ok((noise, StepNoise::Seed(seed)));
    };
    let wrong = |problem: String| {
        Error::invalid(
            "latents",
            format!("{}: {problem}", path.display()),
            format!(
                "Send a safetensors file with a tensor `latents` of the shape (batch, {}, {h}, {w})",
                facts.latent_channels
            ),
        )
    };
    let bytes = std::fs::read(path).map_err(Error::file(path))?;
    let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| wrong(e.to_string()))?;
    let latents = tensors
        .remove("latents")
        .ok_or_else(|| wrong("there is no tensor `latents`".into()))?;
    match latents.dims() {
        [rows, c, lh, lw] if *rows > 0 && (*c, *lh, *lw) == (facts.latent_channels, h, w) => {}
        other => return Err(wrong(format!("`latents` has the shape {other:?}"))),
    }
    let steps: Vec<Tensor> = (0..)
        .map_while(|step| tensors.remove(&format!("noise.{step}")))
        .collect();
    if let Some(other) = steps.iter().find(|noise| noise.dims() != latents.dims()) {
        return Err(wrong(format!("`noise` has the shape {:?}", other.dims())));
    }
    let fresh = match steps.is_empty() {
        true => StepNoise::Seed(Seed(0)),
        false => StepNoise::Given(steps),
    };
    Ok((latents, fresh))
}

/// The texts as the denoiser reads them, one row a picture.
fn texts(conditioning: &Conditioning, rows: usize) -> Result<HashMap<String, Tensor>> {
    let repeated = |t: &Tensor| t.repeat((rows, 1, 1));
    let repeated_pooled = |t: &Tensor| t.repeat((rows, 1));
    let positive = &conditioning.positive;
    let mut tensors = HashMap::from([("prompt_embeds".into(), repeated(&positive.embeds)?)]);
    if let Some(pooled) = &positive.pooled {
        tensors.insert("pooled".into(), repeated_pooled(pooled)?);
    }
    if let Some(negative) = &conditioning.negative {
        tensors.insert("negative_prompt_embeds".into(), repeated(&negative.embeds)?);
        if let Some(pooled) = &negative.pooled {
            tensors.insert("negative_pooled".into(), repeated_pooled(pooled)?);
        }
    }
    Ok(tensors)
}

/// In f32, whole or not at all.
fn write(path: &Path, tensors: HashMap<String, Tensor>) -> Result<()> {
    let tensors = tensors
        .into_iter()
        .map(|(name, t)| Ok((name, t.to_dtype(DType::F32)?.contiguous()?)))
        .collect::<Result<HashMap<_, _>>>()?;
    let bytes = safetensors::serialize(&tensors, None)
        .map_err(|error| Error::Internal(format!("tensors that cannot be written: {error}")))?;
    write_whole(path, &bytes)
}
