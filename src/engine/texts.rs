//! Prompts that were encoded before: the candidates of one prompt share its text.

use std::sync::Arc;

use candle_core::Tensor;

use super::guard::guarded;
use super::lru::Lru;
use crate::Result;
use crate::backbones::{Backbone, Conditioning};
use crate::candidate::Candidate;

/// A model's fingerprint, prompt, negative prompt, and the bits of the guidance, which decides
/// whether there is a negative half.
type Key = (String, String, Option<String>, u64);

pub(super) struct Texts {
    kept: Lru<Key, Arc<Conditioning>>,
    budget: u64,
}

impl Texts {
    /// Keeps up to so many bytes.
    pub(super) fn new(budget: u64) -> Self {
        Self {
            kept: Lru::new(),
            budget,
        }
    }

    /// Bytes of all that is kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.kept.bytes()
    }

    pub(super) fn encoded(
        &mut self,
        backbone: &dyn Backbone,
        candidate: &Candidate,
    ) -> Result<Arc<Conditioning>> {
        let s = &candidate.settings;
        let key = (
            backbone.facts().fingerprint.clone(),
            candidate.prompt.clone(),
            s.negative_prompt.clone(),
            s.guidance.to_bits(),
        );
        if let Some(text) = self.kept.get(&key) {
            return Ok(Arc::clone(text));
        }
        let text = guarded("encoding the prompt", || {
            backbone.encode(&candidate.prompt, s.negative_prompt.as_deref(), s.guidance)
        })?;
        let text = Arc::new(text);
        self.kept.put(key, Arc::clone(&text), bytes_of(&text));
        self.kept.shrink_to(self.budget);
        Ok(text)
    }
}

fn bytes_of(text: &Conditioning) -> u64 {
    let bytes = |t: &Tensor| (t.elem_count() * t.dtype().size_in_bytes()) as u64;
    std::iter::once(&text.positive)
        .chain(&text.negative)
        .map(|half| bytes(&half.embeds) + half.pooled.as_ref().map_or(0, bytes))
        .sum()
}
