//! The text encoders: CLIP for the whole text in one vector, T5 for its tokens.

use candle_core::DType;

use crate::Result;
use crate::backbones::clip::{ClipText, ClipTokenizer};
use crate::backbones::files::ModelFiles;
use crate::backbones::index::PipelineIndex;
use crate::backbones::on_demand::OnDemand;
use crate::backbones::placement::Placement;
use crate::backbones::t5::{T5Encoder, T5Tokenizer};
use crate::backbones::words::words_of;
use crate::backbones::{TextState, Word};

/// The component that is T5.
const T5: &str = "text_encoder_2";

/// What T5 is computed in: its activations overflow in f16.
pub fn t5_dtype(dtype: DType) -> DType {
    match dtype {
        DType::F16 => DType::F32,
        other => other,
    }
}

/// Both encoders with their tokenizers.
#[derive(Debug)]
pub struct TextEncoders {
    clip_tokenizer: ClipTokenizer,
    clip: OnDemand<ClipText>,
    t5_tokenizer: T5Tokenizer,
    t5: OnDemand<T5Encoder>,
    dtype: DType,
    name: String,
    pub weight_bytes: u64,
}

impl TextEncoders {
    /// `length`: tokens of every text as the denoiser reads it.
    pub fn load(
        files: &ModelFiles,
        index: &PipelineIndex,
        length: usize,
        placement: &Placement,
    ) -> Result<Self> {
        let tokenizer_class = index.class("tokenizer").unwrap_or("nothing");
        let t5_class = index.class("tokenizer_2").unwrap_or("nothing");
        if !t5_class.starts_with("T5Tokenizer") {
            return Err(files.error(format!(
                "model_index.json: tokenizer_2 is a {t5_class}, which is not supported: \
                 T5TokenizerFast and T5Tokenizer are"
            )));
        }
        let own = files.clone();
        let clip = OnDemand::load(files, "text_encoder", placement, move |weights, _| {
            ClipText::load(&own, "text_encoder", weights, false)
        })?;
        let length_of_clip = clip.shape().max_tokens();
        let clip_tokenizer =
            ClipTokenizer::load(files, "tokenizer", tokenizer_class, length_of_clip)?;
        let for_t5 = Placement {
            dtype: t5_dtype(placement.dtype),
            ..placement.clone()
        };
        let own = files.clone();
        let t5 = OnDemand::load(files, T5, &for_t5, move |weights, residence| {
            T5Encoder::load(&own, T5, weights, residence)
        })?;
        Ok(Self {
            t5_tokenizer: T5Tokenizer::load(files, "tokenizer_2", length)?,
            dtype: placement.dtype,
            name: files.name().into(),
            weight_bytes: clip.weight_bytes + t5.weight_bytes,
            clip_tokenizer,
            clip,
            t5,
        })
    }

    /// Width of the text as the denoiser reads it.
    pub fn width(&self) -> usize {
        self.t5.shape().hidden()
    }

    /// Width of the pooled text.
    pub fn pooled_width(&self) -> usize {
        self.clip.shape().pooled_width()
    }

    pub fn encode(&self, text: &str) -> Result<TextState> {
        let clip_ids = self.clip_tokenizer.encode(text)?.ids;
        self.check_ids(&clip_ids, self.clip.shape().vocabulary(), "tokenizer")?;
        let t5_ids = self.t5_tokenizer.encode(text)?.ids;
        self.check_ids(&t5_ids, self.t5.shape().vocabulary(), "tokenizer_2")?;
        let embeds = self.t5.with(|t5| t5.forward(&t5_ids))?;
        let pooled = self.clip.with(|clip| Ok(clip.forward(&clip_ids)?.pooled))?;
        Ok(TextState {
            embeds: embeds.to_dtype(self.dtype)?,
            pooled: Some(pooled),
        })
    }

    /// The text's words by T5's tokens, which are what the image attends to.
    pub fn words(&self, text: &str) -> Result<Vec<Word>> {
        Ok(words_of(text, &self.t5_tokenizer.encode(text)?.spans))
    }

    fn check_ids(&self, ids: &[u32], known: usize, tokenizer: &str) -> Result<()> {
        match ids.iter().find(|id| **id as usize >= known) {
            None => Ok(()),
            Some(id) => Err(crate::Error::model(
                self.name.clone(),
                format!(
                    "its {tokenizer} gives the id {id}, and its text encoder knows {known} ids"
                ),
            )),
        }
    }
}
