//! A single-file checkpoint of SDXL, given at start.

use std::path::{Path, PathBuf};

use super::folder::{self, Survey};
use super::{Known, ModelCard, Models, Place, free_name, given_card, hub};
use crate::{Error, Result};

/// The card of the checkpoint in `file`. It is called by the file's name without its ending. `config`
/// is the folder that was named for its configurations and tokenizers.
pub(super) fn card(file: &Path, config: Option<PathBuf>, models: &Models) -> Result<ModelCard> {
    let whole = file.canonicalize().map_err(Error::file(file))?;
    if whole.extension().is_none_or(|end| end != "safetensors") {
        return Err(Error::model(
            file.display().to_string(),
            "of single files only .safetensors are read, never .ckpt or .bin",
        ));
    }
    let survey = Survey {
        class: "StableDiffusionXLPipeline".into(),
        parameters: folder::count(&whole)?,
        pixels: 1024 * 1024,
    };
    let stem = whole
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let name = free_name(stem, &whole, models);
    let about = format!("The model in {}", whole.display());
    let folders = folders(&whole, config, models)?;
    let place = Place::Checkpoint(whole, folders);
    Ok(given_card(name, "sdxl", place, about, &survey, models))
}

/// Where configurations and tokenizers are looked for: in the folder that was named; else in one
/// beside the file with its name, in the file's own where that is a model's, and in what the hub's
/// cache has of SDXL, weights or not.
fn folders(file: &Path, config: Option<PathBuf>, models: &Models) -> Result<Vec<PathBuf>> {
    if let Some(folder) = config {
        return match folder.is_dir() {
            true => Ok(vec![folder]),
            false => Err(Error::invalid(
                "model-config",
                format!("there is no folder {}", folder.display()),
                "Name a folder in diffusers' layout",
            )),
        };
    }
    let is_models = |folder: &Path| {
        let parts = ["model_index.json", "tokenizer", "unet/config.json"];
        parts.iter().any(|part| folder.join(part).exists())
    };
    let beside = [
        Some(file.with_extension("")),
        file.parent().map(PathBuf::from),
    ];
    let mut found: Vec<PathBuf> = beside.into_iter().flatten().collect();
    if let Some(known) = Known::named("sdxl") {
        found.extend(hub::snapshots(known.repo, &models.cache));
    }
    found.retain(|folder| is_models(folder));
    Ok(found)
}
