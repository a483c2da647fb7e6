//! The text encoders: CLIP for the whole text in one vector, T5 for its tokens.

use candle_core::{DType, Device};

use crate::Result;
use crate::backbones::clip::{ClipText, ClipTokenizer};
use crate::backbones::files::ModelFiles;
use crate::backbones::index::PipelineIndex;
use crate::backbones::t5::{T5Encoder, T5Tokenizer};
use crate::backbones::weights::Weights;
use crate::backbones::words::words_of;
use crate::backbones::{TextState, Word};

/// Both encoders with their tokenizers.
#[derive(Debug)]
pub struct TextEncoders {
    clip_tokenizer: ClipTokenizer,
    clip: ClipText,
    t5_tokenizer: T5Tokenizer,
    t5: T5Encoder,
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
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let tokenizer_class = index.class("tokenizer").unwrap_or("nothing");
        let t5_class = index.class("tokenizer_2").unwrap_or("nothing");
        if !t5_class.starts_with("T5Tokenizer") {
            return Err(files.error(format!(
                "model_index.json: tokenizer_2 is a {t5_class}, which is not supported: \
                 T5TokenizerFast and T5Tokenizer are"
            )));
        }
        let weights = Weights::open(files, "text_encoder", device, dtype)?;
        let clip = ClipText::load(files, "text_encoder", &weights, false)?;
        let clip_tokenizer =
            ClipTokenizer::load(files, "tokenizer", tokenizer_class, clip.max_tokens())?;
        let clip_bytes = weights.bytes();
        // T5's activations overflow in f16.
        let t5_dtype = match dtype {
            DType::F16 => DType::F32,
            other => other,
        };
        let weights = Weights::open(files, "text_encoder_2", device, t5_dtype)?;
        Ok(Self {
            clip_tokenizer,
            clip,
            t5_tokenizer: T5Tokenizer::load(files, "tokenizer_2", length)?,
            t5: T5Encoder::load(files, "text_encoder_2", &weights)?,
            dtype,
            name: files.name().into(),
            weight_bytes: clip_bytes + weights.bytes(),
        })
    }

    /// Width of the text as the denoiser reads it.
    pub fn width(&self) -> usize {
        self.t5.hidden()
    }

    /// Width of the pooled text.
    pub fn pooled_width(&self) -> usize {
        self.clip.pooled_width()
    }

    pub fn encode(&self, text: &str) -> Result<TextState> {
        let clip_ids = self.clip_tokenizer.encode(text)?.ids;
        self.check_ids(&clip_ids, self.clip.vocabulary(), "tokenizer")?;
        let t5_ids = self.t5_tokenizer.encode(text)?.ids;
        self.check_ids(&t5_ids, self.t5.vocabulary(), "tokenizer_2")?;
        Ok(TextState {
            embeds: self.t5.forward(&t5_ids)?.to_dtype(self.dtype)?,
            pooled: Some(self.clip.forward(&clip_ids)?.pooled),
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
