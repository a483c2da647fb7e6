//! SDXL in one file, in the key layout that its authors published it in (`model.diffusion_model.*`,
//! `conditioner.embedders.*`, `first_stage_model.*`), which most fine-tuned models come in.
//!
//! Such a file holds the weights alone. Configurations and tokenizers are looked for in folders in
//! diffusers' layout and, where they have no configuration, taken from SDXL base 1.0.

mod constants;
mod names;

use std::collections::BTreeSet;

pub use self::constants::SDXL_BASE;
pub use self::names::{Names, layers_per_block, unet_module};
use super::files::ModelFiles;
use super::weights::Shard;
use crate::Result;

/// What a model's one file is called among its files.
pub const PATH: &str = "checkpoint.safetensors";

/// The components that such a file holds, and where.
const HELD: [(&str, &str); 4] = [
    ("unet", "model.diffusion_model."),
    ("vae", "first_stage_model."),
    ("text_encoder", "conditioner.embedders.0.transformer."),
    ("text_encoder_2", "conditioner.embedders.1.model."),
];

/// Whether these files' tensors of `component` lie in a single-file checkpoint.
pub fn holds(files: &ModelFiles, component: &str) -> bool {
    files.has(PATH) && HELD.iter().any(|(held, _)| *held == component)
}

/// Beginnings of tensor names that only other models have, and what such a file is.
const OTHERS: [(&str, &str); 8] = [
    ("cond_stage_model.", "a Stable Diffusion 1 or 2 checkpoint"),
    (
        "conditioner.embedders.0.model.",
        "a checkpoint of SDXL's refiner",
    ),
    (
        "edm_mean",
        "a checkpoint trained by EDM, as Playground v2.5",
    ),
    ("double_blocks.", "a FLUX checkpoint in its original layout"),
    (
        "model.diffusion_model.double_blocks.",
        "a FLUX checkpoint in its original layout",
    ),
    (
        "model.diffusion_model.joint_blocks.",
        "a Stable Diffusion 3 checkpoint",
    ),
    ("lora_", "a LoRA: give it with --lora, beside a model"),
    ("unet.", "a LoRA: give it with --lora, beside a model"),
];

/// Refuses a checkpoint of another kind by what it is, and one without a tokenizer by what to do.
/// Does nothing for models that are no single file.
pub fn check(files: &ModelFiles) -> Result<()> {
    if !files.has(PATH) {
        return Ok(());
    }
    let (_, header) = Shard::open(files.name(), PATH.into(), files.open(PATH)?)?;
    let names: BTreeSet<String> = header.tensors.into_iter().map(|(name, _)| name).collect();
    let has = |start: &str| names.range(start.to_owned()..).next();
    let has = |start: &str| has(start).is_some_and(|name| name.starts_with(start));
    if let Some((_, what)) = OTHERS.iter().find(|(start, _)| has(start)) {
        return Err(files.error(format!(
            "it is {what}; of single files, checkpoints of SDXL in their original layout are run"
        )));
    }
    if let Some((component, start)) = HELD.iter().find(|(_, start)| !has(start)) {
        return Err(files.error(format!(
            "it has no {component}, whose tensors begin with {start}: a whole checkpoint of SDXL \
             in its original layout is run, or a folder in diffusers' layout"
        )));
    }
    if has("v_pred") {
        let scheduler: serde_json::Value = files.json("scheduler/scheduler_config.json")?;
        let kind = scheduler.get("prediction_type").and_then(|k| k.as_str());
        if kind != Some("v_prediction") {
            return Err(files.error(
                "it predicts velocities (it has a tensor v_pred), and its scheduler does not: name \
                 with --model-config a folder whose scheduler/scheduler_config.json says \
                 prediction_type v_prediction, and rescale_betas_zero_snr true if the file has a \
                 tensor ztsnr",
            ));
        }
    }
    for folder in ["tokenizer", "tokenizer_2"] {
        let files_of = |name: &str| files.has(&format!("{folder}/{name}"));
        if !files_of("tokenizer.json") && !files_of("vocab.json") {
            return Err(files.error(format!(
                "a single file has no tokenizer, and no {folder}/ was found beside it or in the \
                 hub's cache. Fetch it with `hf download stabilityai/stable-diffusion-xl-base-1.0 \
                 --include \"tokenizer*/*\"`, or name a folder in diffusers' layout that has \
                 tokenizer/ and tokenizer_2/ with --model-config DIR"
            )));
        }
    }
    Ok(())
}
