//! The text encoders of a pipeline: one or two CLIPs side by side.

use candle_core::{DType, Device, Tensor};

use crate::Result;
use crate::backbones::clip::{ClipOutput, ClipText, ClipTokenizer, concatenated};
use crate::backbones::files::ModelFiles;
use crate::backbones::index::PipelineIndex;
use crate::backbones::weights::Weights;
use crate::backbones::words::words_of;
use crate::backbones::{TextState, Word};

/// Encoders with their tokenizers.
#[derive(Debug)]
pub struct TextEncoders {
    encoders: Vec<(ClipTokenizer, ClipText)>,
    /// Which encoder's pooled state is used.
    pooled: usize,
    name: String,
    pub weight_bytes: u64,
}

const PROJECTED: &str = "CLIPTextModelWithProjection";

impl TextEncoders {
    pub fn load(
        files: &ModelFiles,
        index: &PipelineIndex,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let mut encoders = Vec::new();
        let mut pooled = None;
        let mut weight_bytes = 0;
        for (tokenizer, component) in [
            ("tokenizer", "text_encoder"),
            ("tokenizer_2", "text_encoder_2"),
        ] {
            let Some(class) = index.class(component) else {
                continue;
            };
            let projected = match class {
                PROJECTED => true,
                "CLIPTextModel" => false,
                other => {
                    return Err(files.error(format!(
                        "model_index.json: {component} is a {other}, which is not supported: \
                         CLIPTextModel and {PROJECTED} are"
                    )));
                }
            };
            let Some(tokenizer_class) = index.class(tokenizer) else {
                return Err(files.error(format!(
                    "model_index.json: there is a {component} and no {tokenizer}"
                )));
            };
            let weights = Weights::open(files, component, device, dtype)?;
            let encoder = ClipText::load(files, component, &weights, projected)?;
            weight_bytes += weights.bytes();
            if projected && pooled.is_none() {
                pooled = Some(encoders.len());
            }
            let tokenizer =
                ClipTokenizer::load(files, tokenizer, tokenizer_class, encoder.max_tokens())?;
            encoders.push((tokenizer, encoder));
        }
        let Some(pooled) = pooled else {
            return Err(files.error(format!(
                "model_index.json: none of its text encoders is a {PROJECTED}, so there is no \
                 pooled text"
            )));
        };
        let lengths: Vec<usize> = encoders.iter().map(|(t, _)| t.length()).collect();
        if lengths.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(files.error(format!(
                "its tokenizers differ in model_max_length: {lengths:?}"
            )));
        }
        Ok(Self {
            encoders,
            pooled,
            name: files.name().into(),
            weight_bytes,
        })
    }

    /// Width of the text as the denoiser reads it.
    pub fn width(&self) -> usize {
        self.encoders.iter().map(|(_, e)| e.hidden()).sum()
    }

    /// Width of the pooled text.
    pub fn pooled_width(&self) -> usize {
        self.encoders[self.pooled].1.pooled_width()
    }

    pub fn encode(&self, text: &str) -> Result<TextState> {
        let outputs = self
            .encoders
            .iter()
            .map(|(tokenizer, encoder)| {
                let ids = tokenizer.encode(text)?.ids;
                if let Some(id) = ids.iter().find(|id| **id as usize >= encoder.vocabulary()) {
                    return Err(crate::Error::model(
                        self.name.clone(),
                        format!(
                            "its tokenizer gives the id {id}, and its text encoder knows {} ids",
                            encoder.vocabulary()
                        ),
                    ));
                }
                encoder.forward(&ids)
            })
            .collect::<Result<Vec<ClipOutput>>>()?;
        Ok(TextState {
            embeds: concatenated(&outputs)?,
            pooled: Some(outputs[self.pooled].pooled.clone()),
        })
    }

    /// What stands for an absent negative prompt where the pipeline forces zeros.
    pub fn zeros_like(state: &TextState) -> Result<TextState> {
        Ok(TextState {
            embeds: state.embeds.zeros_like()?,
            pooled: state.pooled.as_ref().map(Tensor::zeros_like).transpose()?,
        })
    }

    /// The text's words, runs of letters and digits, by the first tokenizer's tokens.
    pub fn words(&self, text: &str) -> Result<Vec<Word>> {
        let tokens = self.encoders[0].0.encode(text)?;
        Ok(words_of(text, &tokens.spans))
    }
}
