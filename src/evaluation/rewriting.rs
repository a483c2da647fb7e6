//! Has weak prompts rewritten by `refine_prompt` itself, and renders what came of it on seeds that it
//! did not see.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use crate::backbones::{Backbone, TapRequest};
use crate::candidate::{Seed, Settings};
use crate::foresight::replies::RefineReply;
use crate::foresight::requests::{PredictingSettings, RefineRequest, SharedSettings};
use crate::foresight::{Caller, Foresight};
use crate::probe::random::Random;
use crate::probe::run::run;
use crate::scorers::Scorer;
use crate::{Error, Result};

/// Keeps the seeds that measure apart from those of the other candidates.
const FRESH: u64 = 0x5eed;
/// What refining one prompt takes, in steps of single trajectories: about seven wordings of six
/// seeds to step 5.
const STEPS_TO_REFINE: usize = 210;
/// The original, the picked wording and a random one.
const WORDINGS: usize = 3;

/// Which prompts to rewrite, and how to measure them.
pub struct RewriteOrder<'a> {
    /// Whose `refine` it is: the product's own, on records of its own.
    pub foresight: &'a Foresight,
    pub backbone: &'a dyn Backbone,
    pub scorer: &'a dyn Scorer,
    pub settings: &'a Settings,
    pub prompts: Vec<String>,
    /// Fresh seeds that each wording is rendered on.
    pub seeds: usize,
    pub draw: u64,
}

/// One prompt, what `refine_prompt` promised, and what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    pub prompt: String,
    pub picked: String,
    /// One of the rewordings that were tried, by chance.
    pub random: String,
    pub promised: f64,
    pub interval: Option<[f64; 2]>,
    /// The scores of each wording, on the same seeds.
    pub original_scores: Vec<f64>,
    pub picked_scores: Vec<f64>,
    pub random_scores: Vec<f64>,
}

impl RewriteOrder<'_> {
    /// Steps of single trajectories that it takes, about.
    pub fn steps(&self) -> usize {
        let measuring = WORDINGS * self.seeds * self.settings.steps;
        self.prompts.len() * (STEPS_TO_REFINE + measuring)
    }

    /// Rewrites each prompt and measures it.
    pub fn run(&self, progress: &dyn Fn(Progress)) -> Result<Vec<Rewrite>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| Error::Internal(format!("no asynchronous runtime: {e}")))?;
        let mut rewrites = Vec::with_capacity(self.prompts.len());
        for (index, prompt) in self.prompts.iter().enumerate() {
            let reply = runtime.block_on(self.refine(prompt))?;
            progress(Progress::Stepped(STEPS_TO_REFINE));
            rewrites.push(self.measure(index, prompt, &reply, progress)?);
        }
        Ok(rewrites)
    }

    async fn refine(&self, prompt: &str) -> Result<RefineReply> {
        let caller = Caller {
            cancel: CancellationToken::new(),
            progress: Arc::new(|_| ()),
            patience: None,
        };
        let settings = self.settings;
        let request = RefineRequest {
            prompt: prompt.into(),
            variants: None,
            count: None,
            rounds: None,
            settings: PredictingSettings {
                shared: SharedSettings {
                    model: Some(settings.model.clone()),
                    negative_prompt: None,
                    steps: Some(settings.steps as u32),
                    guidance: Some(settings.guidance),
                    width: Some(settings.width as u32),
                    height: Some(settings.height as u32),
                },
                at_step: None,
                metric: Some(self.scorer.metric().into()),
            },
        };
        self.foresight.refine(request, &caller).await
    }

    fn measure(
        &self,
        index: usize,
        prompt: &str,
        reply: &RefineReply,
        progress: &dyn Fn(Progress),
    ) -> Result<Rewrite> {
        let mut random = Random::nth(self.draw ^ FRESH, index as u64);
        let seeds: Vec<Seed> = (0..self.seeds).map(|_| Seed(random.bits())).collect();
        let rewordings: Vec<&str> = reply
            .tried
            .iter()
            .map(|tried| tried.prompt.as_str())
            .filter(|tried| *tried != prompt)
            .collect();
        let by_chance = match rewordings.len() {
            0 => prompt,
            n => rewordings[random.below(n)],
        };
        let picked = reply.best.prompt.as_str();
        let mut scores: HashMap<&str, Vec<f64>> = HashMap::new();
        for wording in [prompt, picked, by_chance] {
            if scores.contains_key(wording) {
                progress(Progress::Stepped(self.seeds * self.settings.steps));
            } else {
                scores.insert(wording, self.scores(prompt, wording, &seeds, progress)?);
            }
        }
        let of = |wording: &str| scores.get(wording).cloned().unwrap_or_default();
        Ok(Rewrite {
            prompt: prompt.into(),
            picked: picked.into(),
            random: by_chance.into(),
            promised: reply.best.gain,
            interval: reply.best.gain_interval,
            original_scores: of(prompt),
            picked_scores: of(picked),
            random_scores: of(by_chance),
        })
    }

    /// What `wording` draws on these seeds, by what the original `prompt` asks for.
    fn scores(
        &self,
        prompt: &str,
        wording: &str,
        seeds: &[Seed],
        progress: &dyn Fn(Progress),
    ) -> Result<Vec<f64>> {
        let runs = run(
            self.backbone,
            wording,
            seeds,
            self.settings,
            (&[], &TapRequest::default()),
            &|| progress(Progress::Stepped(seeds.len())),
        )?;
        runs.iter()
            .map(|run| Ok(self.scorer.score(prompt, &run.picture)?.value))
            .collect()
    }
}
