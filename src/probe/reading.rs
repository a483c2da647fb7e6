use candle_core::Tensor;

use super::features::{Seen, Text};
use super::preview::{Decoding, Preview};
use crate::backbones::{Backbone, Word};
use crate::sampling::Observation;
use crate::scorers::Scorer;
use crate::{Error, Result};

/// Reads the observations of one prompt's trajectories as a shard keeps them, previews scored.
pub(super) struct Reader<'a> {
    pub backbone: &'a dyn Backbone,
    pub prompt: &'a str,
    pub words: &'a [Word],
    /// Module paths of the blocks that were tapped, and how many of them, the first ones, a glimpse
    /// shows.
    pub blocks: (&'a [String], usize),
    pub middle: bool,
    /// What decodes the previews.
    pub decoding: Decoding,
    /// Who judges the previews, where somebody can.
    pub scorers: Vec<&'a dyn Scorer>,
    /// The same for all; read off the first observation.
    pub text: Option<Text>,
}

/// What was seen at a step with the first scorer's preview, and by each of the others the preview
/// and that of the step before.
pub(super) type Looked = (Seen, Vec<[Option<Preview>; 2]>);

impl Reader<'_> {
    pub fn read(&mut self, observations: &[Observation]) -> Result<Vec<Looked>> {
        observations.iter().map(|o| self.read_one(o)).collect()
    }

    pub fn into_text(self) -> Result<Text> {
        self.text
            .ok_or_else(|| Error::Internal("nothing was observed".into()))
    }

    fn read_one(&mut self, observation: &Observation) -> Result<Looked> {
        let done = observation.steps_done;
        let shown = self.decoding.shown(observation)?;
        let mut own = self.previews(Some(&shown), done)?.into_iter();
        let before = self.previews(observation.previous_x0.as_ref(), done.saturating_sub(1))?;
        let mut before = before.into_iter();
        let first = [own.next(), before.next()];
        let also = own
            .zip(before)
            .map(|(own, before)| [Some(own), Some(before)]);
        let also: Vec<_> = also.collect();
        let [own, before] = first;
        let keys = match &self.text {
            Some(text) => text.keys,
            None => {
                let text = Text::read(observation, self.words, keys_of(self.words))?;
                self.text.insert(text).keys
            }
        };
        let seen = Seen::read(observation, self.blocks, keys, self.middle, own)?;
        Ok((seen.with_before(observation, before)?, also))
    }

    /// One by each scorer; decoded once.
    fn previews(&self, x0: Option<&Tensor>, done: usize) -> Result<Vec<Preview>> {
        let Some(x0) = x0.filter(|_| !self.scorers.is_empty()) else {
            let blank = |_: &&dyn Scorer| Preview::blank(self.words.len());
            return Ok(self.scorers.iter().map(blank).collect());
        };
        let shown = (x0, done);
        let scores = self
            .decoding
            .scores(self.backbone, &self.scorers, self.prompt, shown)?;
        let read = scores.iter().map(|score| Preview::read(score, self.words));
        Ok(read.collect())
    }
}

/// Text keys that are kept: up to the last word's and the one after it, which often sums the prompt up.
fn keys_of(words: &[Word]) -> usize {
    1 + words.iter().map(|w| w.tokens.end).max().unwrap_or(1)
}
