//! A decoder of previews that computes on the latents' grid alone: a cell becomes its square of pixels
//! at the end, as in sub-pixel convolution (Shi et al. 2016), here by a small network over the cell's
//! channels. Many channels on few cells cost a CPU less than few channels on many pixels.

use candle_core::{DType, Tensor};
use serde::Deserialize;

use super::tiny::{Block, bent};
use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::layers::activation::Activation;
use crate::backbones::layers::conv::Conv2d;
use crate::backbones::layers::cpu;
use crate::backbones::layers::linear::Linear;
use crate::backbones::weights::Weights;

/// What its `config.json` calls it. The class is Foreseed's own: diffusers has none like it.
pub const CLASS: &str = "SubPixelDecoder";

const COLOURS: usize = 3;

/// What its `config.json` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(rename = "_class_name")]
    _class: String,
    pub latent_channels: usize,
    pub channels: usize,
    pub blocks: usize,
    /// Channels of the network that makes a cell's pixels.
    pub head_channels: usize,
    /// Pixels to a latent along each side.
    pub pixels: usize,
}

impl Config {
    /// Reads and checks `path`.
    pub fn read(files: &ModelFiles, path: &str) -> Result<Self> {
        let config: Self = files.json(path)?;
        let widths = [
            config.latent_channels,
            config.channels,
            config.head_channels,
        ];
        if widths.contains(&0) || !(1..=32).contains(&config.pixels) {
            return Err(files.error(format!(
                "{path}: {widths:?} channels of the latents, the blocks and the head, and {} pixels \
                 to a latent make no decoder",
                config.pixels
            )));
        }
        Ok(config)
    }
}

/// Latents, as the denoiser speaks of them, to pixels.
#[derive(Debug)]
pub struct SubPixelDecoder {
    conv_in: Conv2d,
    blocks: Vec<Block>,
    around: Conv2d,
    within: Linear,
    out: Linear,
    pixels: usize,
    dtype: DType,
}

impl SubPixelDecoder {
    pub fn load(config: &Config, weights: &Weights, dtype: DType) -> Result<Self> {
        let root = weights.root("");
        let root = root.at("decoder");
        let channels = config.channels;
        let act = Activation::Relu;
        let (width, outputs) = (
            config.head_channels,
            COLOURS * config.pixels * config.pixels,
        );
        let head = root.at("head");
        let decoder = Self {
            conv_in: Conv2d::load_same(&root.at("conv_in"), config.latent_channels, channels, 3)?
                .rectified(),
            blocks: (0..config.blocks)
                .map(|i| Block::load(&root.at("blocks").at(i), channels, act))
                .collect::<Result<_>>()?,
            around: Conv2d::load_same(&head.at(0), channels, width, 3)?.rectified(),
            within: Linear::load_conv1x1(&head.at(1), width, width)?.rectified(),
            out: Linear::load_conv1x1(&head.at(2), width, outputs)?,
            pixels: config.pixels,
            dtype,
        };
        weights.finish(&[]);
        Ok(decoder)
    }

    /// (rows, channels, height, width) → (rows, 3, height', width'), around −1 to 1, f32.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let x = bent(&latents.to_dtype(self.dtype)?)?;
        let x = x.permute((0, 2, 3, 1))?.contiguous()?;
        let mut x = self.conv_in.forward(&x)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let x = self.within.forward(&self.around.forward(&x)?)?;
        let x = self.out.forward(&x)?.to_dtype(DType::F32)?;
        let (rows, height, width, _) = x.dims4()?;
        let pixels = self.pixels;
        let shape = [rows, COLOURS, height * pixels, width * pixels];
        if cpu::applies_to(&x) {
            return cpu::with_values(&x, |values| {
                cpu::tensor(&shape, |out| lay_out(values, (height, width), pixels, out))
            })?;
        }
        let x = x
            .reshape(&[rows, height, width, COLOURS, pixels, pixels][..])?
            .permute([0, 3, 1, 4, 2, 5])?
            .contiguous()?
            .reshape(&shape)?;
        Ok(((x * 2.0)? - 1.0)?)
    }
}

/// Cells (rows, height, width, colours × pixels × pixels), 0 to 1, as images (rows, colours, height × pixels,
/// width × pixels), −1 to 1.
fn lay_out(cells: &[f32], (height, width): (usize, usize), pixels: usize, out: &mut [f32]) {
    let line = width * pixels;
    for (at, out) in out.chunks_exact_mut(line).enumerate() {
        let (image, y) = (at / (height * pixels), at % (height * pixels));
        let (row, colour) = (image / COLOURS, image % COLOURS);
        let first = (row * height + y / pixels) * width;
        let within = (colour * pixels + y % pixels) * pixels;
        for (x, out) in out.chunks_exact_mut(pixels).enumerate() {
            let cell = (first + x) * COLOURS * pixels * pixels;
            let own = &cells[cell + within..][..pixels];
            for (out, value) in out.iter_mut().zip(own) {
                *out = 2.0 * value - 1.0;
            }
        }
    }
}
