//! The text encoders of a pipeline: one or two CLIPs side by side.

use candle_core::Tensor;

use crate::Result;
use crate::backbones::clip::{ClipOutput, ClipText, ClipTokenizer, concatenated};
use crate::backbones::files::ModelFiles;
use crate::backbones::index::PipelineIndex;
use crate::backbones::on_demand::OnDemand;
use crate::backbones::placement::Placement;
use crate::backbones::words::words_of;
use crate::backbones::{TextState, Word};

/// Encoders with their tokenizers.
#[derive(Debug)]
pub struct TextEncoders {
    encoders: Vec<(ClipTokenizer, OnDemand<ClipText>)>,
    /// Which encoder's pooled state is used.
    pooled: usize,
    name: String,
    pub weight_bytes: u64,
}

const PROJECTED: &str = "CLIPTextModelWithProjection";

impl TextEncoders {
    pub fn load(files: &ModelFiles, index: &PipelineIndex, placement: &Placement) -> Result<Self> {
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
            let own = files.clone();
            let encoder = OnDemand::load(files, component, placement, move |weights, _| {
                ClipText::load(&own, component, weights, projected)
            })?;
            weight_bytes += encoder.weight_bytes;
            if projected && pooled.is_none() {
                pooled = Some(encoders.len());
            }
            let length = encoder.shape().max_tokens();
            let tokenizer = ClipTokenizer::load(files, tokenizer, tokenizer_class, length)?;
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
        self.encoders.iter().map(|(_, e)| e.shape().hidden()).sum()
    }

    /// Width of the pooled text.
    pub fn pooled_width(&self) -> usize {
        self.encoders[self.pooled].1.shape().pooled_width()
    }

    /// Each of the texts as the denoiser reads it. An encoder that is read for it is read once.
    pub fn encode<const N: usize>(&self, texts: [&str; N]) -> Result<[TextState; N]> {
        let mut outputs: [Vec<ClipOutput>; N] = std::array::from_fn(|_| Vec::new());
        for (tokenizer, encoder) in &self.encoders {
            let known = encoder.shape().vocabulary();
            let ids = texts.map(|text| self.ids(tokenizer, known, text));
            encoder.with(|encoder| {
                for (outputs, ids) in outputs.iter_mut().zip(ids) {
                    outputs.push(encoder.forward(&ids?)?);
                }
                Ok(())
            })?;
        }
        let states = outputs.iter().map(|outputs| {
            Ok(TextState {
                embeds: concatenated(outputs)?,
                pooled: Some(outputs[self.pooled].pooled.clone()),
            })
        });
        let states = states.collect::<Result<Vec<_>>>()?;
        <[TextState; N]>::try_from(states)
            .map_err(|_| crate::Error::Internal("a text was not encoded".into()))
    }

    /// A text's tokens, each of which the encoder has to know.
    fn ids(&self, tokenizer: &ClipTokenizer, known: usize, text: &str) -> Result<Vec<u32>> {
        let ids = tokenizer.encode(text)?.ids;
        match ids.iter().find(|id| **id as usize >= known) {
            None => Ok(ids),
            Some(id) => Err(crate::Error::model(
                self.name.clone(),
                format!("its tokenizer gives the id {id}, and its text encoder knows {known} ids"),
            )),
        }
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
