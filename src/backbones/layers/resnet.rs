//! The residual block of UNets and VAEs.

use candle_core::Tensor;

use super::activation::Activation;
use super::conv::Conv2d;
use super::linear::Linear;
use super::norm::GroupNorm;
use crate::Result;
use crate::backbones::weights::Scope;

/// What the residual blocks of one model have in common.
#[derive(Clone, Copy, Debug)]
pub struct ResnetKind {
    pub groups: usize,
    pub eps: f64,
    pub act: Activation,
    /// Width of the time embedding, where there is one.
    pub time_channels: Option<usize>,
    /// Whether time scales and shifts the second norm's output rather than being added before it.
    pub time_scales: bool,
    /// The sum is divided by this.
    pub output_scale: f64,
}

/// Two normalised convolutions beside a shortcut, told the time in between.
#[derive(Clone, Debug)]
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Linear>,
    kind: ResnetKind,
}

impl Resnet {
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        kind: ResnetKind,
    ) -> Result<Self> {
        let time_outputs = if kind.time_scales {
            2 * outputs
        } else {
            outputs
        };
        Ok(Self {
            norm1: GroupNorm::load(&scope.at("norm1"), kind.groups, inputs, kind.eps)?,
            conv1: Conv2d::load_same(&scope.at("conv1"), inputs, outputs, 3)?,
            time: kind
                .time_channels
                .map(|channels| Linear::load(&scope.at("time_emb_proj"), channels, time_outputs))
                .transpose()?,
            norm2: GroupNorm::load(&scope.at("norm2"), kind.groups, outputs, kind.eps)?,
            conv2: Conv2d::load_same(&scope.at("conv2"), outputs, outputs, 3)?,
            shortcut: (inputs != outputs)
                .then(|| Linear::load_conv1x1(&scope.at("conv_shortcut"), inputs, outputs))
                .transpose()?,
            kind,
        })
    }

    /// (rows, height, width, in) → (rows, height, width, out). `time`: (rows, time channels), with
    /// the activation already applied, as it is the same for all blocks.
    pub fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let act = self.kind.act;
        let time = match (&self.time, time) {
            (Some(project), Some(time)) => Some(project.forward(time)?),
            _ => None,
        };
        let shortcut = match &self.shortcut {
            Some(shortcut) => &shortcut.forward(x)?,
            None => x,
        };
        let first = (&self.norm1, act);
        let sum = match time {
            Some(time) if self.kind.time_scales => {
                let (rows, channels) = time.dims2()?;
                let parts = time.reshape((rows, 1, 1, channels))?.chunk(2, 3)?;
                let y = self.conv1.forward_normed(x, first, None, None)?;
                let y = self
                    .norm2
                    .forward(&y)?
                    .broadcast_mul(&(&parts[0] + 1.0)?)?
                    .broadcast_add(&parts[1])?;
                (shortcut + self.conv2.forward(&act.forward(&y)?)?)?
            }
            time => {
                let y = self.conv1.forward_normed(x, first, time.as_ref(), None)?;
                let second = (&self.norm2, act);
                self.conv2
                    .forward_normed(&y, second, None, Some(shortcut))?
            }
        };
        if self.kind.output_scale == 1.0 {
            Ok(sum)
        } else {
            Ok((sum / self.kind.output_scale)?)
        }
    }
}
