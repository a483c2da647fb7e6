//! Which models there are: the embedded pocket, diffusers folders, and what was pulled from the hub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::backbones::{self, Adapter, Backbone, ModelFiles, Needs};
use crate::device::DeviceChoice;
use crate::probe::Probe;
use crate::scorers::Scorer;
use crate::{Error, Result, world};

#[cfg(not(fuzzing))]
mod folder;
#[cfg(fuzzing)]
pub mod folder;
mod hub;
mod known;
mod large;
mod machine;
mod pocket;
mod probes;
mod pull;
mod scorers;
mod single;

pub use known::{KNOWN, Known};
pub use machine::{Machine, said as needs_said};
pub use pull::{Pulled, pull};
pub use scorers::{KNOWN_SCORERS, KnownScorer, ScorerCard};

/// The name of the embedded model.
pub const POCKET: &str = "pocket";

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Embedded,
    Folder(PathBuf),
    /// A single-file checkpoint, and the folders that its configurations and tokenizers are looked
    /// for in.
    Checkpoint(PathBuf, Vec<PathBuf>),
    /// Known by name and not here: `foreseed models pull` fetches it.
    Hub(String),
}

/// What is known of a model before it is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    pub name: String,
    pub family: String,
    pub place: Place,
    pub installed: bool,
    pub licence: Option<String>,
    /// Bytes of memory that it needs at least, by [`Needs::least`].
    pub needs_bytes: u64,
    /// Whether the device had them free at start.
    pub fits: bool,
    /// Part by part; `None` where the files do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<Needs>,
    /// What the model is for, in a sentence.
    pub about: String,
}

/// How models are found.
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// A model's name, a diffusers folder or a single-file checkpoint, given at start: it becomes
    /// the default.
    pub model: Option<String>,
    /// Merged into the default model.
    pub loras: Vec<Adapter>,
    /// A GGUF file with the default model's denoiser.
    pub denoiser: Option<PathBuf>,
    /// A folder in diffusers' layout with what a single-file checkpoint does not hold.
    pub config: Option<PathBuf>,
    /// Where probes that were trained here lie: `<data>/probes`.
    pub probes: Option<PathBuf>,
    /// By metric, folders with a scorer's published files; others are looked for in the hub's cache.
    pub scorers: BTreeMap<String, PathBuf>,
    /// What models are run on. Default: what this binary was built for and finds.
    pub machine: Option<Machine>,
}

/// The models there are. What lies in the hub's cache is looked at anew each time, so that a model
/// pulled meanwhile is found.
pub struct Models {
    pocket: ModelCard,
    /// The folder or file that was given at start.
    given: Option<ModelCard>,
    default: String,
    loras: Vec<Adapter>,
    denoiser: Option<PathBuf>,
    probes: probes::Probes,
    scorers: scorers::Shelf,
    cache: PathBuf,
    machine: Machine,
}

impl Models {
    /// Looks around; reads no weights. An error where the model given at start is none.
    pub fn discover(options: ModelOptions) -> Result<Self> {
        Self::discover_in(options, hub_cache())
    }

    fn discover_in(options: ModelOptions, cache: PathBuf) -> Result<Self> {
        let machine = match options.machine {
            Some(machine) => machine,
            None => Machine::open(DeviceChoice::Auto, None, None, false)?,
        };
        let mut models = Self {
            pocket: pocket_card(&machine),
            given: None,
            default: POCKET.to_owned(),
            loras: options.loras,
            denoiser: options.denoiser,
            probes: probes::Probes::new(options.probes),
            scorers: scorers::Shelf::new(options.scorers)?,
            cache,
            machine,
        };
        match options.model {
            Some(name) if models.find(&name).is_some() => models.default = name,
            Some(path) if Path::new(&path).is_dir() => {
                let card = folder_card(Path::new(&path), &models)?;
                models.default = card.name.clone();
                models.given = Some(card);
            }
            Some(path) if Path::new(&path).is_file() => {
                let card = single::card(Path::new(&path), options.config, &models)?;
                models.default = card.name.clone();
                models.given = Some(card);
            }
            Some(name) => return Err(models.unknown(&name)),
            None => {
                let cards = models.list();
                let real = |c: &&ModelCard| c.installed && c.fits && c.place != Place::Embedded;
                if let Some(card) = cards.iter().find(real) {
                    models.default = card.name.clone();
                }
            }
        }
        Ok(models)
    }

    /// Every model that this version can run, installed or not.
    pub fn list(&self) -> Vec<ModelCard> {
        self.cards().collect()
    }

    /// One after the other: a card of a published model takes a look at its files.
    fn cards(&self) -> impl Iterator<Item = ModelCard> {
        let known = KNOWN.iter().filter(|known| known.supported);
        std::iter::once_with(|| self.pocket.clone())
            .chain(self.given.clone())
            .chain(known.map(|known| hub::card(known, &self.cache, &self.machine)))
    }

    /// The one given at start, else an installed real one that fits into memory, else pocket.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// The card of `name`; the error lists what there is.
    pub fn card(&self, name: &str) -> Result<ModelCard> {
        self.find(name).ok_or_else(|| self.unknown(name))
    }

    /// What all models are run on.
    pub fn device(&self) -> &Device {
        &self.machine.device
    }

    /// Loads the weights: seconds to minutes.
    ///
    /// # Errors
    /// A model that the device's free memory does not hold, before anything of it is read.
    pub fn load(&self, name: &str) -> Result<Arc<dyn Backbone>> {
        Ok(Arc::from(self.machine.load(self.files(name)?, name)?))
    }

    /// [`Models::load`] with the weights as `dtype`.
    pub fn load_as(&self, name: &str, dtype: DType) -> Result<Arc<dyn Backbone>> {
        let machine = self.machine.clone().computing_in(dtype);
        Ok(Arc::from(machine.load(self.files(name)?, name)?))
    }

    fn files(&self, name: &str) -> Result<ModelFiles> {
        let card = self.card(name)?;
        if let Place::Hub(repo) = &card.place {
            return Err(Error::invalid(
                "model",
                format!("{name} is not installed"),
                format!("Fetch {repo} with `foreseed models pull {name}`, or use another model"),
            ));
        }
        self.files_at(&card.place, name == self.default)
    }

    /// The files of what is installed; the default model's with what was named beside it at start.
    fn files_at(&self, place: &Place, is_default: bool) -> Result<ModelFiles> {
        let mut files = match place {
            Place::Embedded => ModelFiles::embedded(pocket::FILES),
            Place::Folder(folder) => ModelFiles::folder(folder),
            Place::Checkpoint(file, folders) => ModelFiles::checkpoint(file, folders),
            Place::Hub(repo) => return Err(Error::Internal(format!("{repo} is not here"))),
        };
        if is_default {
            files = files.adapted(&self.loras)?;
            if let Some(denoiser) = &self.denoiser {
                files = files.with_denoiser(denoiser)?;
            }
        }
        Ok(files)
    }

    /// `Ok` where the model can draw this prompt at all: pocket knows a small world of shapes and
    /// says so; a real model takes any text.
    pub fn vocabulary_check(&self, name: &str, prompt: &str) -> Result<()> {
        if !self.draws_shapes_only(name)? {
            return Ok(());
        }
        world::parse(prompt).map(drop).map_err(|error| match error {
            Error::Invalid {
                field,
                problem,
                help,
            } => Error::invalid(field, problem, format!("{help}. {}", way_to_a_real_model())),
            other => other,
        })
    }

    /// Whether all that the model draws is pocket's world, whose pictures can be measured exactly.
    pub fn draws_shapes_only(&self, name: &str) -> Result<bool> {
        Ok(match self.card(name)?.place {
            Place::Embedded => true,
            Place::Folder(folder) => folder::draws_shapes_only(&folder),
            Place::Checkpoint(..) | Place::Hub(_) => false,
        })
    }

    /// The probes that were trained for the weights with this fingerprint, the shipped ones among
    /// them; those that were trained here come first.
    pub fn probes(&self, fingerprint: &str) -> Result<Vec<Arc<Probe>>> {
        let mut probes = self.probes.all()?;
        probes.retain(|probe| probe.card().model_fingerprint == fingerprint);
        Ok(probes)
    }

    /// The probes that were trained for a model of this name, found without loading its weights.
    pub fn probes_of(&self, name: &str) -> Result<Vec<Arc<Probe>>> {
        let mut probes = self.probes.all()?;
        probes.retain(|probe| probe.card().model_name == name);
        Ok(probes)
    }

    /// Every scorer, installed or not, in the order in which they are taken when none is named.
    pub fn scorers(&self) -> Vec<ScorerCard> {
        self.scorers.cards(&self.cache, self.device())
    }

    /// The scorer of a metric; its weights are read when it is first asked for, which takes seconds.
    /// The error says what to fetch, or lists the metrics.
    pub fn scorer(&self, metric: &str) -> Result<Arc<dyn Scorer>> {
        self.scorers.get(metric, &self.cache, self.device())
    }

    /// The metrics that a model's pictures can be scored by here and now: pocket's world has its own,
    /// all other pictures those whose files are here and fit into memory.
    pub fn measurable(&self, model: &str) -> Result<Vec<String>> {
        let closed = self.draws_shapes_only(model)?;
        let cards = self.scorers().into_iter().filter(|card| {
            let own = card.repos.is_empty();
            own == closed && card.installed && card.fits
        });
        Ok(cards.map(|card| card.metric).collect())
    }

    fn find(&self, name: &str) -> Option<ModelCard> {
        self.cards().find(|card| card.name == name)
    }

    fn unknown(&self, name: &str) -> Error {
        let cards = self.list();
        let names = |installed| {
            let of = cards.iter().filter(|card| card.installed == installed);
            of.map(|card| card.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut help = format!("Installed: {}", names(true));
        if cards.iter().any(|card| !card.installed) {
            let missing = names(false);
            help += &format!("; `foreseed models pull` fetches {missing}");
        }
        let problem = match Known::named(name) {
            Some(known) => format!(
                "{name} ({}) is not supported by this version yet",
                known.repo
            ),
            None => format!("there is no model {:?}", shortened(name)),
        };
        Error::invalid("model", problem, help)
    }
}

fn pocket_card(machine: &Machine) -> ModelCard {
    let files = ModelFiles::embedded(pocket::FILES);
    let needs = backbones::needs(files, POCKET, &machine.placement(0)).ok();
    let needs_bytes = needs.as_ref().map_or(0, Needs::least);
    ModelCard {
        name: POCKET.to_owned(),
        family: "sdxl".to_owned(),
        place: Place::Embedded,
        installed: true,
        licence: Some(env!("CARGO_PKG_LICENSE").to_owned()),
        needs_bytes,
        fits: machine.fits(needs_bytes),
        needs,
        about: "Embedded, tiny: draws one to four coloured shapes, 64×64, and nothing else; for \
                trying things out and for tests"
            .to_owned(),
    }
}

fn way_to_a_real_model() -> String {
    let names: Vec<_> = KNOWN
        .iter()
        .filter(|known| known.supported)
        .map(|known| format!("`foreseed models pull {}`", known.name))
        .collect();
    format!(
        "For any other picture get a real model: {}",
        names.join(" or ")
    )
}

/// A folder is called by its last component, or by its whole path where that name is taken.
fn folder_card(folder: &Path, models: &Models) -> Result<ModelCard> {
    let survey = folder::survey(folder, models.denoiser.as_deref())?;
    let family = backbones::family_of(&survey.class).ok_or_else(|| {
        Error::model(
            folder.display().to_string(),
            format!("a {} is not supported by this version", survey.class),
        )
    })?;
    let whole = folder.canonicalize().map_err(Error::file(folder))?;
    let last = whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = free_name(last, &whole, models);
    let about = format!("The model in {}", whole.display());
    Ok(given_card(
        name,
        family,
        Place::Folder(whole),
        about,
        &survey,
        models,
    ))
}

/// The name that is proposed or, where it is taken, the whole path.
fn free_name(proposed: Option<String>, whole: &Path, models: &Models) -> String {
    proposed
        .filter(|name| models.find(name).is_none() && Known::named(name).is_none())
        .unwrap_or_else(|| whole.display().to_string())
}

/// The card of what was given at start.
fn given_card(
    name: String,
    family: &str,
    place: Place,
    about: String,
    survey: &folder::Survey,
    models: &Models,
) -> ModelCard {
    let machine = &models.machine;
    let placement = machine.placement(survey.parameters);
    let needs = models
        .files_at(&place, true)
        .and_then(|files| backbones::needs(files, &name, &placement));
    let needs = needs.ok();
    let needs_bytes = needed(needs.as_ref(), survey, placement.dtype);
    ModelCard {
        name,
        family: family.to_owned(),
        about,
        place,
        installed: true,
        licence: None,
        needs_bytes,
        fits: machine.fits(needs_bytes),
        needs,
    }
}

/// What a model needs at least; where its files do not say, its weights and about 2 KiB a pixel.
fn needed(needs: Option<&Needs>, survey: &folder::Survey, dtype: DType) -> u64 {
    let roughly = survey.parameters * dtype.size_in_bytes() as u64 + survey.pixels * 2048;
    needs.map_or(roughly, Needs::least)
}

/// Where the hub's libraries keep what they fetched, by the same variables as everywhere.
fn hub_cache() -> PathBuf {
    hf_hub::resolve_cache_dir()
}

/// A name as it can stand in a message.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
