//! Has weak prompts rewritten by `refine_prompt` itself, and renders what came of it on seeds that it
//! did not see: those on which the prompt itself was rendered before.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::candidates::{Candidates, part};
use super::progress::Progress;
use crate::backbones::{Backbone, TapRequest};
use crate::candidate::{Seed, Settings};
use crate::foresight::replies::RefineReply;
use crate::foresight::requests::{PredictingSettings, RefineRequest, SharedSettings};
use crate::foresight::{Caller, Foresight};
use crate::probe::random::Random;
use crate::probe::run::run;
use crate::probe::stats::mean;
use crate::scorers::Scorer;
use crate::{Error, Result};

/// Keeps the draw of random rewordings apart from other draws.
const BY_CHANCE: u64 = 0x5eed;
/// So many rewordings by chance of each prompt: the mean of several says better what chance gains.
const RANDOM: usize = 3;
/// What refining one prompt takes, about, in steps of single trajectories: seven wordings of eight seeds to
/// step 1, and some of them to step 5.
const STEPS_TO_REFINE: usize = 200;
/// The picked wording and the random ones.
const WORDINGS: usize = 1 + RANDOM;

/// A prompt of which the probe expects little, and how it came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Weak {
    pub prompt: String,
    pub seeds: Vec<Seed>,
    /// The measured score of each seed.
    pub scores: Vec<f64>,
}

/// The prompts of which the probe expects least, the weakest first.
///
/// Expected after its first step, where it knows the prompt and as good as nothing of a seed: a later
/// prediction would pick prompts whose seeds came out badly by chance, and any other wording would
/// then seem to gain.
pub fn weakest(all: &Candidates, how_many: usize) -> Vec<Weak> {
    let Some(said) = all.foreseen.first() else {
        return Vec::new();
    };
    let said = part(said, |p| p.quality);
    let expected: Vec<f64> = said.iter().map(|seeds| mean(seeds)).collect();
    let mut order: Vec<usize> = (0..expected.len()).collect();
    order.sort_by(|&a, &b| expected[a].total_cmp(&expected[b]));
    let weak = order.into_iter().take(how_many).map(|i| Weak {
        prompt: all.prompts[i].clone(),
        seeds: all.seeds[i].clone(),
        scores: all.scores[i].clone(),
    });
    weak.collect()
}

/// How to rewrite prompts, and how to measure what comes of it.
pub struct RewriteOrder<'a> {
    /// Whose `refine` it is: the product's own, on records of its own.
    pub foresight: &'a Foresight,
    pub backbone: &'a dyn Backbone,
    pub scorer: &'a dyn Scorer,
    pub settings: &'a Settings,
    /// What random rewordings are drawn from.
    pub draw: u64,
}

/// One prompt, what `refine_prompt` promised, and what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    pub prompt: String,
    pub picked: String,
    pub promised: f64,
    pub interval: Option<[f64; 2]>,
    /// Denoiser evaluations that the picking took.
    pub evaluations: u64,
    /// The scores of each wording, on the same seeds.
    pub original_scores: Vec<f64>,
    pub picked_scores: Vec<f64>,
    /// Of some of the rewordings that were tried, by chance; of the prompt where none was.
    pub random_scores: Vec<Vec<f64>>,
}

impl RewriteOrder<'_> {
    /// Steps of single trajectories that so many prompts of so many seeds take, about.
    pub fn steps(&self, prompts: usize, seeds: usize) -> usize {
        prompts * (STEPS_TO_REFINE + WORDINGS * seeds * self.settings.steps)
    }

    /// Rewrites each prompt and measures it.
    pub fn run(&self, weak: &[Weak], progress: &dyn Fn(Progress)) -> Result<Vec<Rewrite>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| Error::Internal(format!("no asynchronous runtime: {e}")))?;
        let mut rewrites = Vec::with_capacity(weak.len());
        for (index, weak) in weak.iter().enumerate() {
            let reply = runtime.block_on(self.refine(&weak.prompt))?;
            progress(Progress::Stepped(STEPS_TO_REFINE));
            rewrites.push(self.measure(index, weak, &reply, progress)?);
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
        weak: &Weak,
        reply: &RefineReply,
        progress: &dyn Fn(Progress),
    ) -> Result<Rewrite> {
        let prompt = weak.prompt.as_str();
        let mut rewordings: Vec<&str> = reply
            .tried
            .iter()
            .map(|tried| tried.prompt.as_str())
            .filter(|tried| *tried != prompt)
            .collect();
        Random::nth(self.draw ^ BY_CHANCE, index as u64).shuffle(&mut rewordings);
        rewordings.truncate(RANDOM);
        if rewordings.is_empty() {
            rewordings.push(prompt);
        }
        let picked = reply.best.prompt.as_str();
        let mut scores = HashMap::from([(prompt, weak.scores.clone())]);
        for wording in std::iter::once(&picked).chain(&rewordings) {
            if scores.contains_key(wording) {
                progress(Progress::Stepped(weak.seeds.len() * self.settings.steps));
            } else {
                scores.insert(wording, self.scores(weak, wording, progress)?);
            }
        }
        let missing = RANDOM.saturating_sub(rewordings.len());
        progress(Progress::Stepped(
            missing * weak.seeds.len() * self.settings.steps,
        ));
        let of = |wording: &str| scores.get(wording).cloned().unwrap_or_default();
        Ok(Rewrite {
            prompt: prompt.into(),
            picked: picked.into(),
            promised: reply.best.gain,
            interval: reply.best.gain_interval,
            evaluations: reply.common.cost.evaluations,
            original_scores: of(prompt),
            picked_scores: of(picked),
            random_scores: rewordings.into_iter().map(of).collect(),
        })
    }

    /// What `wording` draws on the prompt's seeds, by what the prompt itself asks for.
    fn scores(&self, weak: &Weak, wording: &str, progress: &dyn Fn(Progress)) -> Result<Vec<f64>> {
        let runs = run(
            self.backbone,
            wording,
            &weak.seeds,
            self.settings,
            (&[], &TapRequest::default()),
            &|| progress(Progress::Stepped(weak.seeds.len())),
        )?;
        runs.iter()
            .map(|run| Ok(self.scorer.score(&weak.prompt, &run.picture)?.value))
            .collect()
    }
}
