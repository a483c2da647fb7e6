use candle_core::Tensor;

use super::features::{Seen, Text};
use super::preview::{self, Preview};
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
    /// Who judges the previews, where somebody can.
    pub scorer: Option<&'a dyn Scorer>,
    /// The same for all; read off the first observation.
    pub text: Option<Text>,
}

impl Reader<'_> {
    pub fn read(&mut self, observations: &[Observation]) -> Result<Vec<Seen>> {
        observations.iter().map(|o| self.read_one(o)).collect()
    }

    pub fn into_text(self) -> Result<Text> {
        self.text
            .ok_or_else(|| Error::Internal("nothing was observed".into()))
    }

    fn read_one(&mut self, observation: &Observation) -> Result<Seen> {
        let own = self.preview(Some(&observation.x0))?;
        let before = self.preview(observation.previous_x0.as_ref())?;
        let keys = match &self.text {
            Some(text) => text.keys,
            None => {
                let text = Text::read(observation, self.words, keys_of(self.words))?;
                self.text.insert(text).keys
            }
        };
        Seen::read(observation, self.blocks, keys, self.middle, own)?
            .with_before(observation, before)
    }

    fn preview(&self, x0: Option<&Tensor>) -> Result<Option<Preview>> {
        let Some(scorer) = self.scorer else {
            return Ok(None);
        };
        Ok(Some(match x0 {
            None => Preview::blank(self.words.len()),
            Some(x0) => {
                let score = preview::score(self.backbone, scorer, self.prompt, x0)?;
                Preview::read(&score, self.words)
            }
        }))
    }
}

/// Text keys that are kept: up to the last word's and the one after it, which often sums the prompt up.
fn keys_of(words: &[Word]) -> usize {
    1 + words.iter().map(|w| w.tokens.end).max().unwrap_or(1)
}
