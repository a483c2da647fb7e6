//! Runs trajectories to learn from: taps them, finishes them, scores them, and keeps what was seen. A
//! prompt at a time goes to disk, whole or not at all, so that a kill loses the prompt in work and
//! running again goes on after it. Several processes can collect into one folder: each works on what
//! no other has claimed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::claims::{Claim, Share};
use super::preview::Decoding;
use super::prompts::{Asked, Source};
use super::random::Random;
use super::reading::Reader;
use super::run::{run, words_wrong};
use super::shard::{Also, Group, Manifest, Measure, Outcome, ShardName};
use crate::backbones::{Backbone, Facts, TapRequest};
use crate::candidate::{Seed, Settings};
use crate::scorers::Scorer;
use crate::{Error, Result};

/// What to collect.
pub struct Order<'a> {
    pub backbone: &'a dyn Backbone,
    /// Who judges pictures and previews; the first one's metric is learned where none is named.
    pub scorers: &'a [Arc<dyn Scorer>],
    pub settings: &'a Settings,
    pub at_steps: &'a [usize],
    /// Seeds of each prompt.
    pub seeds: usize,
    /// What the seeds are drawn from.
    pub seed: u64,
    /// Module paths of the blocks to read, out of those that can be tapped.
    pub tap: &'a [String],
    pub source: &'a Source,
    /// What decodes the previews.
    pub decoding: Decoding,
    /// Which of the prompts.
    pub share: Share,
}

/// How far a collection has come; a trajectory counts 1 for each of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectProgress {
    /// Found on disk already, or collected by another process.
    Skipped {
        prompts: usize,
    },
    Stepped {
        trajectories: usize,
    },
}

/// How many prompts and trajectories a folder holds after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub prompts: usize,
    pub trajectories: usize,
    /// Prompts that were there before.
    pub before: usize,
    /// Prompts that other processes collected meanwhile.
    pub by_others: usize,
}

/// How long to wait for what other processes work on.
const WAIT: Duration = Duration::from_millis(500);

/// How many of the tapped blocks, the first ones, a glimpse shows.
pub fn early_of(tap: &[String], facts: &Facts) -> usize {
    let early = tap.iter().filter(|block| facts.glimpsed.contains(block));
    early.count()
}

impl Order<'_> {
    fn tap(&self) -> TapRequest {
        TapRequest {
            blocks: self.tap.to_vec(),
            middle: true,
        }
    }

    fn manifest(&self) -> Result<Manifest> {
        let facts = self.backbone.facts();
        let settings = self.settings;
        let Some((first, others)) = self.scorers.split_first() else {
            return Err(Error::invalid(
                "metric",
                "no scorer",
                "Name at least one metric to score by",
            ));
        };
        Ok(Manifest {
            model_name: settings.model.clone(),
            model_fingerprint: facts.fingerprint.clone(),
            metric: first.metric().into(),
            good: first.good(),
            steps: settings.steps,
            at_steps: self.at_steps.to_vec(),
            sampler: facts.sampler.clone(),
            guidance: settings.guidance,
            width: settings.width,
            height: settings.height,
            tap: self.tap.to_vec(),
            middle: true,
            early: early_of(self.tap, facts),
            preview: Some(first.metric().into()),
            previews: self.decoding,
            seeds: self.seeds,
            prompts: format!("{}; seeds drawn from {}", self.source.name, self.seed),
            also: others
                .iter()
                .map(|scorer| Measure {
                    metric: scorer.metric().into(),
                    good: scorer.good(),
                })
                .collect(),
        })
    }

    /// The seeds of the prompt with this index: its own, so that many prompts see many noises.
    pub fn seeds_of(&self, index: usize) -> Vec<Seed> {
        let mut random = Random::nth(self.seed, index as u64);
        let mut seeds: Vec<Seed> = Vec::with_capacity(self.seeds);
        while seeds.len() < self.seeds {
            let seed = Seed(random.bits());
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        seeds
    }

    /// Collects into `folder` what is not there yet and no other process works on, and waits for what
    /// others do: what one of them leaves unfinished is taken up.
    pub fn collect(&self, folder: &Path, progress: &dyn Fn(CollectProgress)) -> Result<Kept> {
        if let Some(step) = self
            .at_steps
            .iter()
            .find(|s| !(1..=self.settings.steps).contains(*s))
        {
            return Err(Error::invalid(
                "at",
                format!("step {step} of {}", self.settings.steps),
                "Observe after a step from 1 to the last one",
            ));
        }
        let manifest = self.manifest()?;
        manifest.claim(folder)?;
        let prompts = self.source.prompts.iter().enumerate();
        let mut open: Vec<(ShardName, usize, &Asked)> = prompts
            .filter(|(index, _)| self.share.holds(*index))
            .map(|(index, asked)| {
                let seeds = self.seeds_of(index);
                (
                    ShardName::new(&manifest, index, &asked.prompt, &seeds),
                    index,
                    asked,
                )
            })
            .collect();
        let prompts = open.len();
        let skipped = |shards: usize| {
            (0..shards).for_each(|_| progress(CollectProgress::Skipped { prompts: 1 }));
        };
        open.retain(|(shard, ..)| !shard.is_in(folder));
        let before = prompts - open.len();
        skipped(before);
        let mut own = 0;
        while !open.is_empty() {
            let mut claimed = Vec::new();
            for (shard, index, asked) in open {
                let Some(claim) = Claim::take(folder, shard.name())? else {
                    claimed.push((shard, index, asked));
                    continue;
                };
                // Another process may have finished it since it was looked for.
                if shard.is_in(folder) {
                    skipped(1);
                    continue;
                }
                self.collect_one(&shard.path(folder), index, asked, progress)?;
                own += 1;
                drop(claim);
            }
            open = claimed;
            let waiting = open.len();
            open.retain(|(shard, ..)| !shard.is_in(folder));
            skipped(waiting - open.len());
            if !open.is_empty() {
                std::thread::sleep(WAIT);
            }
        }
        Ok(Kept {
            prompts,
            trajectories: prompts * self.seeds,
            before,
            by_others: prompts - before - own,
        })
    }

    /// Runs and scores one prompt's seeds, and writes its shard.
    fn collect_one(
        &self,
        path: &Path,
        index: usize,
        asked: &Asked,
        progress: &dyn Fn(CollectProgress),
    ) -> Result<()> {
        let tap = self.tap();
        let early = early_of(self.tap, self.backbone.facts());
        let words = self.backbone.words(&asked.prompt)?;
        let seeds = self.seeds_of(index);
        let runs = run(
            self.backbone,
            &asked.prompt,
            &seeds,
            self.settings,
            (self.at_steps, &tap),
            &|| {
                progress(CollectProgress::Stepped {
                    trajectories: seeds.len(),
                });
            },
        )?;
        let mut reader = Reader {
            backbone: self.backbone,
            prompt: &asked.prompt,
            words: &words,
            blocks: (&tap.blocks, early),
            middle: tap.middle,
            decoding: self.decoding,
            scorers: self.scorers.iter().map(Arc::as_ref).collect(),
            text: None,
        };
        let mut outcomes = Vec::with_capacity(runs.len());
        for run in runs {
            let (seen, mut previews): (Vec<_>, Vec<_>) =
                reader.read(&run.observations)?.into_iter().unzip();
            let scores = self.scorers.iter().map(|scorer| {
                let score = scorer.score(&asked.prompt, &run.picture)?;
                let wrong = words_wrong(&words, &score);
                Ok((scorer.metric().to_owned(), score.value, wrong))
            });
            let mut scores = scores.collect::<Result<Vec<_>>>()?.into_iter();
            let (_, score, words_wrong) = scores
                .next()
                .ok_or_else(|| Error::Internal("a collection without a scorer".into()))?;
            let also = scores.map(|(metric, score, words_wrong)| Also {
                metric,
                score,
                words_wrong,
                // The first of what is left at each step.
                previews: previews.iter_mut().map(|own| own.remove(0)).collect(),
            });
            outcomes.push(Outcome {
                seed: run.seed.0,
                seen,
                score,
                words_wrong,
                also: also.collect(),
            });
        }
        let text = reader.into_text()?;
        Group::write(path, &asked.prompt, &asked.scene, &text, &outcomes)
    }
}
