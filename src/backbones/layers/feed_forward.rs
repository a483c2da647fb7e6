//! The feed-forward network of diffusion transformers.

use candle_core::Tensor;

use super::activation::Activation;
use super::linear::Linear;
use crate::Result;
use crate::backbones::weights::Scope;

/// Two linear layers with the tanh form of GELU between, as diffusers' `FeedForward` with
/// `gelu-approximate`.
#[derive(Clone, Debug)]
pub struct FeedForward {
    widen: Linear,
    narrow: Linear,
}

impl FeedForward {
    pub fn load(scope: &Scope<'_>, channels: usize, hidden: usize) -> Result<Self> {
        let net = scope.at("net");
        Ok(Self {
            widen: Linear::load(&net.at(0).at("proj"), channels, hidden)?,
            narrow: Linear::load(&net.at(2), hidden, channels)?,
        })
    }

    /// (…, channels)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = Activation::GeluTanh.forward(&self.widen.forward(x)?)?;
        self.narrow.forward(&y)
    }
}
