//! The prompt as the denoiser reads it.

use crate::backbones::files::ModelFiles;
use crate::backbones::index::PipelineIndex;
use crate::backbones::on_demand::OnDemand;
use crate::backbones::placement::Placement;
use crate::backbones::qwen_text::{self, Qwen2Tokenizer, QwenText};
use crate::backbones::vocabulary::Tokens;
use crate::backbones::words::words_of;
use crate::backbones::{TextState, Word};
use crate::{Error, Result};

/// Constants of diffusers' pipeline, in no file: what is said around a prompt, the tokens of it
/// that the denoiser is not given, the tokens after which a text is cut before and after it is
/// encoded.
const BEFORE: &str = "<|im_start|>system\nDescribe the image by detailing the color, shape, size, \
    texture, quantity, text, spatial relationships of the objects and background:<|im_end|>\n\
    <|im_start|>user\n";
const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n";
const DROPPED: usize = 34;
const TOKENIZER_MAX_LENGTH: usize = 1024;
const MAX_SEQUENCE_LENGTH: usize = 512;

/// The component that is the encoder.
const COMPONENT: &str = "text_encoder";

/// The encoder with its tokenizer.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: Qwen2Tokenizer,
    encoder: OnDemand<QwenText>,
    /// Tokens that the denoiser is given at most.
    kept: usize,
    name: String,
    pub weight_bytes: u64,
}

impl TextEncoder {
    /// `length`: tokens that the denoiser is given at most, where the pipeline's own are not meant.
    pub fn load(
        files: &ModelFiles,
        index: &PipelineIndex,
        length: Option<usize>,
        placement: &Placement,
    ) -> Result<Self> {
        let kept = length.unwrap_or(MAX_SEQUENCE_LENGTH);
        if kept == 0 || kept > TOKENIZER_MAX_LENGTH {
            return Err(files.error(format!(
                "foreseed.json: max_sequence_length is {kept}, and 1 to {TOKENIZER_MAX_LENGTH} can be"
            )));
        }
        index.check(files, &[("text_encoder", qwen_text::CLASS)])?;
        let class = index.class("tokenizer").unwrap_or("nothing");
        let length = TOKENIZER_MAX_LENGTH + DROPPED;
        let tokenizer = Qwen2Tokenizer::load(files, "tokenizer", class, length)?;
        let own = files.clone();
        let encoder = OnDemand::load(files, COMPONENT, placement, move |weights, residence| {
            QwenText::load(&own, COMPONENT, weights, length, residence)
        })?;
        Ok(Self {
            tokenizer,
            weight_bytes: encoder.weight_bytes,
            encoder,
            kept,
            name: files.name().into(),
        })
    }

    /// Width of the text as the denoiser reads it.
    pub fn width(&self) -> usize {
        self.encoder.shape().hidden()
    }

    /// Texts as the denoiser reads them: no padding, so no mask is needed. An encoder that is read for
    /// it is read once.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<TextState>> {
        let ids = texts.iter().map(|text| self.ids(text));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        let states = self.encoder.with(|encoder| encoder.forward(&ids))?;
        let states = states.iter().zip(&ids).map(|(states, ids)| {
            let kept = (ids.len() - DROPPED).min(self.kept);
            Ok(TextState {
                embeds: states.narrow(1, DROPPED, kept)?.contiguous()?,
                pooled: None,
            })
        });
        states.collect()
    }

    /// A text's tokens, each of which the encoder has to know.
    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.tokens(text)?.ids;
        let known = self.encoder.shape().vocabulary();
        if let Some(id) = ids.iter().find(|id| **id as usize >= known) {
            return Err(Error::model(
                self.name.clone(),
                format!("its tokenizer gives the id {id}, and its text encoder knows {known} ids"),
            ));
        }
        Ok(ids)
    }

    /// The text's words by the tokens that the denoiser is given.
    pub fn words(&self, text: &str) -> Result<Vec<Word>> {
        let spans = self.tokens(text)?.spans;
        let within = |at: usize| at.saturating_sub(BEFORE.len()).min(text.len());
        let spans: Vec<_> = spans
            .iter()
            .skip(DROPPED)
            .take(self.kept)
            .map(|span| within(span.start)..within(span.end))
            .collect();
        Ok(words_of(text, &spans))
    }

    /// A text with what is said around it.
    fn tokens(&self, text: &str) -> Result<Tokens> {
        let tokens = self.tokenizer.encode(&format!("{BEFORE}{text}{AFTER}"))?;
        if tokens.ids.len() <= DROPPED {
            return Err(Error::model(
                self.name.clone(),
                format!(
                    "its tokenizer makes {} tokens of a prompt with its template, of which the \
                     first {DROPPED} are dropped: it is not Qwen-Image's",
                    tokens.ids.len()
                ),
            ));
        }
        Ok(tokens)
    }
}
