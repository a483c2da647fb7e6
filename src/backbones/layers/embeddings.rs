//! Sinusoidal embeddings and the small networks that read them.

use candle_core::{DType, Device, Tensor};

use super::activation::Activation;
use super::linear::Linear;
use crate::Result;
use crate::backbones::weights::Scope;

/// Sines and cosines of a number at geometrically spaced frequencies, as diffusers' `Timesteps`.
#[derive(Clone, Copy, Debug)]
pub struct Sinusoids {
    pub channels: usize,
    /// Cosines first.
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
}

impl Sinusoids {
    /// n numbers → (n, channels). Computed on the CPU in f32 like the reference, whose rounding
    /// of the frequencies shows at large angles.
    pub fn forward(&self, values: &[f32], dtype: DType, device: &Device) -> Result<Tensor> {
        self.forward_scaled(values, 1.0, dtype, device)
    }

    /// [`Sinusoids::forward`] with all angles times `scale`, rounded in the reference's order.
    pub fn forward_scaled(
        &self,
        values: &[f32],
        scale: f32,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let half = self.channels / 2;
        let span = (half as f64 - self.freq_shift) as f32;
        // The reference's exponential is nearly always the nearest f32, that of libm's expf at one angle
        // in eight is not: at a guidance of 7.5, times 1000, that turns the angle by 4e-4.
        let nearest_exp = |x: f32| libm::exp(f64::from(x)) as f32;
        let frequencies: Vec<f32> = (0..half)
            .map(|i| nearest_exp(-(10000f64.ln() as f32) * i as f32 / span))
            .collect();
        let mut out = Vec::with_capacity(values.len() * self.channels);
        for value in values {
            let sines = frequencies.iter().map(|f| libm::sinf(scale * (value * f)));
            let cosines = frequencies.iter().map(|f| libm::cosf(scale * (value * f)));
            if self.flip_sin_to_cos {
                out.extend(cosines.chain(sines));
            } else {
                out.extend(sines.chain(cosines));
            }
            // An odd number of channels ends in a zero.
            out.resize(out.len() + self.channels % 2, 0.0);
        }
        let out = Tensor::from_vec(out, (values.len(), self.channels), &Device::Cpu)?;
        Ok(out.to_dtype(dtype)?.to_device(device)?)
    }
}

/// Two linear layers with an activation between, as diffusers' `TimestepEmbedding`.
#[derive(Clone, Debug)]
pub struct TimestepEmbedding {
    first: Linear,
    act: Activation,
    second: Linear,
    post: Option<Activation>,
}

impl TimestepEmbedding {
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        act: Activation,
        post: Option<Activation>,
    ) -> Result<Self> {
        Ok(Self {
            first: Linear::load(&scope.at("linear_1"), inputs, outputs)?,
            act,
            second: Linear::load(&scope.at("linear_2"), outputs, outputs)?,
            post,
        })
    }

    /// (rows, in) → (rows, out)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.act.forward(&self.first.forward(x)?)?;
        let y = self.second.forward(&y)?;
        match self.post {
            Some(post) => post.forward(&y),
            None => Ok(y),
        }
    }
}
