//! Layers that train in candle, built from operations whose gradients are checked in the tests, since
//! candle's own `LayerNorm`, `RmsNorm` and `softmax_last_dim` lose them without a word.
//!
//! Activations are channels-last, (rows, height, width, channels), so that a 1×1 convolution and a
//! dense layer are one thing and a 3×3 convolution is an unfold and one matrix product.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};

use super::super::file::wrong;
use super::super::random::Random;
use super::ops::{AddRows, Normalize, Unfold};
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::conv::Conv2d;
use crate::backbones::layers::linear;
use crate::{Error, Result};

/// Where a network's weights come from and are kept: freshly drawn, or read from a file.
pub struct Weights {
    drawn: Option<Random>,
    vars: BTreeMap<String, Var>,
    read: BTreeMap<String, Tensor>,
}

impl Weights {
    /// New weights to train, the same for the same seed.
    pub fn fresh(seed: u64) -> Self {
        Self {
            drawn: Some(Random::new(seed)),
            vars: BTreeMap::new(),
            read: BTreeMap::new(),
        }
    }

    /// Weights by name, to predict with.
    pub fn read(tensors: BTreeMap<String, Tensor>) -> Self {
        Self {
            drawn: None,
            vars: BTreeMap::new(),
            read: tensors,
        }
    }

    /// What is trained, by name.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// Whether they are only predicted with.
    fn are_fixed(&self) -> bool {
        self.drawn.is_none()
    }

    /// The tensor `name`, uniform in ±`bound` around `centre` when it is drawn.
    fn get(&mut self, name: &str, shape: &[usize], centre: f64, bound: f64) -> Result<Tensor> {
        let Some(random) = &mut self.drawn else {
            let tensor = self
                .read
                .get(name)
                .ok_or_else(|| wrong(format!("it lacks {name}")))?;
            if tensor.dims() != shape {
                return Err(wrong(format!(
                    "its {name} is {:?} where {shape:?} is needed",
                    tensor.dims()
                )));
            }
            return Ok(tensor.to_dtype(DType::F32)?);
        };
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| (centre + bound * (2.0 * random.unit() - 1.0)) as f32)
            .collect();
        let var = Var::from_vec(values, shape, &Device::Cpu)?;
        let tensor = var.as_tensor().clone();
        self.vars.insert(name.to_string(), var);
        Ok(tensor)
    }
}

/// x·W + b over the last dimension.
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    /// The same, packed: faster, and without a gradient.
    fixed: Option<linear::Linear>,
}

impl Linear {
    /// `gain` 1 keeps the variance of its input.
    pub fn new(
        weights: &mut Weights,
        name: &str,
        (inputs, outputs): (usize, usize),
        gain: f64,
    ) -> Result<Self> {
        let bound = gain * (3.0 / inputs.max(1) as f64).sqrt();
        let weight = weights.get(&format!("{name}.weight"), &[inputs, outputs], 0.0, bound)?;
        let bias = weights.get(&format!("{name}.bias"), &[outputs], 0.0, 0.0)?;
        let fixed = weights
            .are_fixed()
            .then(|| linear::Linear::new(weight.t()?.contiguous()?, Some(bias.clone())))
            .transpose()?;
        Ok(Self {
            weight,
            bias,
            fixed,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(fixed) = &self.fixed {
            return fixed.forward(x);
        }
        let mut shape = x.dims().to_vec();
        let (inputs, outputs) = self.weight.dims2()?;
        let rows = x.elem_count() / inputs.max(1);
        let y = x.reshape((rows, inputs))?.matmul(&self.weight)?;
        if let Some(last) = shape.last_mut() {
            *last = outputs;
        }
        add_rows(&y, &self.bias.unsqueeze(0)?)?
            .reshape(shape)
            .map_err(Error::from)
    }
}

/// x·σ(x), with its gradient where there is one to follow.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    match x.track_op() {
        true => Ok(x.silu()?),
        false => Activation::Silu.forward(x),
    }
}

/// Layer normalization over the last dimension (Ba et al. 2016).
pub struct Norm {
    scale: Tensor,
    shift: Tensor,
}

impl Norm {
    pub fn new(weights: &mut Weights, name: &str, channels: usize) -> Result<Self> {
        Ok(Self {
            scale: weights.get(&format!("{name}.scale"), &[channels], 1.0, 0.0)?,
            shift: weights.get(&format!("{name}.shift"), &[channels], 0.0, 0.0)?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        Ok(x.apply_op3(&self.scale, &self.shift, Normalize)?)
    }
}

/// A 3×3 convolution with zero padding.
pub struct Conv3 {
    unfolded: Linear,
    /// The same, without an unfolded input and without a gradient.
    fixed: Option<Conv2d>,
}

impl Conv3 {
    pub fn new(
        weights: &mut Weights,
        name: &str,
        (inputs, outputs): (usize, usize),
        gain: f64,
    ) -> Result<Self> {
        let unfolded = Linear::new(weights, name, (9 * inputs, outputs), gain)?;
        let convolution = || -> Result<Conv2d> {
            let weight = unfolded.weight.reshape((3, 3, inputs, outputs))?;
            let weight = weight.permute((3, 2, 0, 1))?.contiguous()?;
            Conv2d::new(weight, unfolded.bias.clone(), (1, 1))
        };
        let fixed = weights.are_fixed().then(convolution).transpose()?;
        Ok(Self { unfolded, fixed })
    }

    /// (rows, height, width, channels) → the same with other channels
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.fixed {
            Some(fixed) => fixed.forward(x),
            None => self.unfolded.forward(&x.contiguous()?.apply_op1(Unfold)?),
        }
    }
}

/// Adds row `g` of `added`, (groups, channels), to all of the g-th equal share of `x`'s rows.
pub fn add_rows(x: &Tensor, added: &Tensor) -> Result<Tensor> {
    Ok(x.contiguous()?.apply_op2(&added.contiguous()?, AddRows)?)
}

/// Halves a grid by the mean of 2×2 cells; an odd last row or column, and a side of 1, stay.
pub fn halve(x: &Tensor) -> Result<Tensor> {
    let (rows, height, width, channels) = x.dims4()?;
    let mut x = x.clone();
    if height > 1 {
        x = x
            .narrow(1, 0, height / 2 * 2)?
            .reshape((rows, height / 2, 2, width, channels))?
            .mean(2)?;
    }
    let height = x.dim(1)?;
    if width > 1 {
        x = x
            .narrow(2, 0, width / 2 * 2)?
            .reshape((rows, height, width / 2, 2, channels))?
            .mean(3)?;
    }
    Ok(x)
}

/// Sines and cosines of a time in 0–1 at doubling frequencies: (rows) → (rows, 2 × frequencies).
pub fn time_embedding(time: &Tensor, frequencies: usize) -> Result<Tensor> {
    let scales: Vec<f32> = (0..frequencies)
        .map(|i| std::f32::consts::FRAC_PI_2 * f32::powi(2.0, i as i32))
        .collect();
    let scales = Tensor::new(scales, &Device::Cpu)?.unsqueeze(0)?;
    let phase = time.unsqueeze(1)?.broadcast_mul(&scales)?;
    Ok(Tensor::cat(&[phase.sin()?, phase.cos()?], 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfolded_product_is_candles_convolution() {
        let mut weights = Weights::fresh(1);
        let conv = Conv3::new(&mut weights, "c", (3, 5), 1.0).unwrap();
        let x = Tensor::randn(0f32, 1.0, (2, 4, 6, 3), &Device::Cpu).unwrap();
        let ours = conv.forward(&x).unwrap();
        let kernel = conv
            .unfolded
            .weight
            .reshape((3, 3, 3, 5))
            .and_then(|k| k.permute((3, 2, 0, 1)))
            .and_then(|k| k.contiguous())
            .unwrap();
        let theirs = x
            .permute((0, 3, 1, 2))
            .and_then(|x| x.contiguous())
            .and_then(|x| x.conv2d(&kernel, 1, 1, 1, 1))
            .and_then(|y| y.permute((0, 2, 3, 1)))
            .unwrap();
        let gap = (ours - theirs)
            .and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>())
            .unwrap();
        assert!(gap < 1e-5, "{gap}");
    }

    #[test]
    fn weights_that_are_read_predict_as_those_that_were_trained() {
        let mut weights = Weights::fresh(1);
        let trained = Conv3::new(&mut weights, "c", (5, 7), 1.0).unwrap();
        let vars = weights.vars().iter();
        let values = vars.map(|(name, var)| (name.clone(), var.as_detached_tensor()));
        let mut read = Weights::read(values.collect());
        let fixed = Conv3::new(&mut read, "c", (5, 7), 1.0).unwrap();
        let x = Tensor::randn(0f32, 1.0, (2, 4, 6, 5), &Device::Cpu).unwrap();
        let by = |conv: &Conv3| silu(&conv.forward(&x).unwrap()).unwrap();
        assert!(by(&trained).track_op() && !by(&fixed).track_op());
        let gap = (by(&trained) - by(&fixed))
            .and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>())
            .unwrap();
        assert!(gap < 1e-5, "{gap}");
    }

    #[test]
    fn a_norm_has_no_mean_and_unit_variance() {
        let norm = Norm::new(&mut Weights::fresh(1), "n", 4).unwrap();
        let x = Tensor::new(&[[1f32, 2.0, 3.0, 6.0]], &Device::Cpu).unwrap();
        let y = norm.forward(&x).unwrap().to_vec2::<f32>().unwrap();
        let mean: f32 = y[0].iter().sum();
        let square: f32 = y[0].iter().map(|v| v * v).sum();
        assert!(mean.abs() < 1e-5 && (square - 4.0).abs() < 1e-3, "{y:?}");
    }

    #[test]
    fn halving_keeps_means_and_single_rows() {
        let x = Tensor::arange(0f32, 10.0, &Device::Cpu)
            .and_then(|x| x.reshape((1, 1, 5, 2)))
            .unwrap();
        let y = halve(&x).unwrap();
        assert_eq!(y.dims(), [1, 1, 2, 2]);
        let y = y.flatten_all().and_then(|y| y.to_vec1::<f32>()).unwrap();
        assert_eq!(y, [1.0, 2.0, 5.0, 6.0]);
    }
}
