//! The blocks of a UNet2DConditionModel.

use candle_core::Tensor;

use super::super::config::{BlockConfig, MidKind, UnetConfig};
use crate::Result;
use crate::backbones::layers::conv::{Downsample, Upsample};
use crate::backbones::layers::resnet::{Resnet, ResnetKind};
use crate::backbones::layers::transformer::{SpatialTransformer, TransformerKind};
use crate::backbones::tap::Tap;
use crate::backbones::weights::Scope;

fn transformers(
    scope: &Scope<'_>,
    block: &BlockConfig,
    config: &UnetConfig,
) -> Result<Vec<SpatialTransformer>> {
    let depths = block.transformers.as_deref().unwrap_or_default();
    depths
        .iter()
        .take(block.resnets)
        .enumerate()
        .map(|(i, &layers)| {
            let kind = TransformerKind {
                channels: block.channels,
                heads: block.heads,
                layers,
                text_channels: block.text_channels,
                groups: config.groups,
                linear_projection: config.linear_projection,
            };
            SpatialTransformer::load(&scope.at("attentions").at(i), kind)
        })
        .collect()
}

/// On the way down: half the size at its end, except for the last.
#[derive(Debug)]
pub struct DownBlock {
    resnets: Vec<Resnet>,
    pub attentions: Vec<SpatialTransformer>,
    downsample: Option<Downsample>,
}

impl DownBlock {
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        block: &BlockConfig,
        kind: ResnetKind,
        config: &UnetConfig,
        last: bool,
    ) -> Result<Self> {
        let resnets = (0..block.resnets)
            .map(|i| {
                let from = if i == 0 { inputs } else { block.channels };
                Resnet::load(&scope.at("resnets").at(i), from, block.channels, kind)
            })
            .collect::<Result<_>>()?;
        let downsample = (!last)
            .then(|| {
                Downsample::load(
                    &scope.at("downsamplers").at(0),
                    block.channels,
                    config.downsample_padding,
                )
            })
            .transpose()?;
        Ok(Self {
            resnets,
            attentions: transformers(scope, block, config)?,
            downsample,
        })
    }

    pub fn forward(
        &self,
        mut x: Tensor,
        time: &Tensor,
        texts: &[&Tensor],
        tap: &mut Tap<'_>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(&x, Some(time))?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, texts, tap)?;
            }
            skips.push(x.clone());
        }
        if let Some(downsample) = &self.downsample {
            x = downsample.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// At the deepest point.
#[derive(Debug)]
pub struct MidBlock {
    first: Resnet,
    pub attention: Option<SpatialTransformer>,
    second: Option<Resnet>,
}

impl MidBlock {
    pub fn load(scope: &Scope<'_>, config: &UnetConfig, kind: ResnetKind) -> Result<Option<Self>> {
        let Some(deepest) = config.down.last() else {
            return Ok(None);
        };
        let channels = deepest.channels;
        let kind = ResnetKind {
            output_scale: config.mid_scale,
            ..kind
        };
        let resnet = |i: usize| Resnet::load(&scope.at("resnets").at(i), channels, channels, kind);
        match config.mid {
            MidKind::Absent => Ok(None),
            MidKind::Plain => Ok(Some(Self {
                first: resnet(0)?,
                attention: None,
                second: None,
            })),
            MidKind::Attention(layers) => {
                let transformer = TransformerKind {
                    channels,
                    heads: deepest.heads,
                    layers,
                    text_channels: deepest.text_channels,
                    groups: config.groups,
                    linear_projection: config.linear_projection,
                };
                let scope = scope.at("attentions").at(0);
                Ok(Some(Self {
                    first: resnet(0)?,
                    attention: Some(SpatialTransformer::load(&scope, transformer)?),
                    second: Some(resnet(1)?),
                }))
            }
        }
    }

    pub fn forward(
        &self,
        x: &Tensor,
        time: &Tensor,
        texts: &[&Tensor],
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let mut x = self.first.forward(x, Some(time))?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x, texts, tap)?;
        }
        if let Some(second) = &self.second {
            x = second.forward(&x, Some(time))?;
        }
        Ok(x)
    }
}

/// On the way up: takes back what the way down left.
#[derive(Debug)]
pub struct UpBlock {
    resnets: Vec<Resnet>,
    pub attentions: Vec<SpatialTransformer>,
    upsample: Option<Upsample>,
}

impl UpBlock {
    /// `skips`: channels of what the resnets take from the way down, the last of them first used.
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        skips: &[usize],
        block: &BlockConfig,
        kind: ResnetKind,
        config: &UnetConfig,
        last: bool,
    ) -> Result<Self> {
        let resnets = skips
            .iter()
            .rev()
            .enumerate()
            .map(|(i, skip)| {
                let from = skip + if i == 0 { inputs } else { block.channels };
                Resnet::load(&scope.at("resnets").at(i), from, block.channels, kind)
            })
            .collect::<Result<_>>()?;
        let upsample = (!last)
            .then(|| Upsample::load(&scope.at("upsamplers").at(0), block.channels))
            .transpose()?;
        Ok(Self {
            resnets,
            attentions: transformers(scope, block, config)?,
            upsample,
        })
    }

    pub fn forward(
        &self,
        mut x: Tensor,
        time: &Tensor,
        texts: &[&Tensor],
        tap: &mut Tap<'_>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            let skip = skips
                .pop()
                .ok_or_else(|| crate::Error::Internal("the UNet ran out of skips".into()))?;
            x = resnet.forward(&Tensor::cat(&[&x, &skip], 3)?, Some(time))?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(&x, texts, tap)?;
            }
        }
        match (&self.upsample, skips.last()) {
            // Where the latents were no multiple of the down-sampling, twice the size would be one
            // pixel too large for the skip that follows.
            (Some(upsample), Some(next)) => {
                let (_, h, w, _) = next.dims4()?;
                upsample.forward(&x, Some((h, w)))
            }
            _ => Ok(x),
        }
    }
}
