//! What `vae/config.json` says.

use serde::Deserialize;

use crate::Result;
use crate::backbones::files::ModelFiles;

const PATH: &str = "vae/config.json";

/// The decoder's shape; the defaults are diffusers' `AutoencoderKLQwenImage`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    pub base_dim: usize,
    /// Channels of the latents.
    pub z_dim: usize,
    pub dim_mult: Vec<usize>,
    pub num_res_blocks: usize,
    temperal_downsample: Vec<bool>,
    input_channels: usize,
    pub latents_mean: Vec<f32>,
    pub latents_std: Vec<f32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base_dim: 96,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            temperal_downsample: vec![false, true, true],
            input_channels: 3,
            latents_mean: vec![
                -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134,
                -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
            ],
            latents_std: vec![
                2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526,
                2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
            ],
        }
    }
}

impl Config {
    /// Reads and checks the file.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let config: Self = files.json(PATH)?;
        let bad = |problem: String| Err(files.error(format!("{PATH}: {problem}")));
        if config.dim_mult.is_empty() {
            return bad("dim_mult is empty".into());
        }
        // The pipeline takes the scale from this list, the decoder from the other.
        if config.temperal_downsample.len() + 1 != config.dim_mult.len() {
            return bad(format!(
                "{} values of temperal_downsample do not go with {} of dim_mult: one less is needed",
                config.temperal_downsample.len(),
                config.dim_mult.len()
            ));
        }
        let widths = config.widths();
        if let Some(width) = widths.iter().find(|w| **w == 0 || *w % 2 != 0) {
            return bad(format!(
                "base_dim {} and dim_mult {:?} make a block of {width} channels, and an even number \
                 is needed",
                config.base_dim, config.dim_mult
            ));
        }
        for (name, values) in [
            ("latents_mean", &config.latents_mean),
            ("latents_std", &config.latents_std),
        ] {
            if values.len() != config.z_dim {
                return bad(format!(
                    "{name} has {} values for z_dim {}",
                    values.len(),
                    config.z_dim
                ));
            }
        }
        if config.input_channels != 3 {
            return bad(format!(
                "input_channels is {}, which is not supported: pictures of 3 are",
                config.input_channels
            ));
        }
        Ok(config)
    }

    /// Channels of the decoder's blocks, in the order in which they run.
    pub fn widths(&self) -> Vec<usize> {
        let widths = self.dim_mult.iter().rev();
        widths.map(|factor| factor * self.base_dim).collect()
    }

    /// Pixels to one latent, along each side.
    pub fn scale(&self) -> usize {
        1 << self.temperal_downsample.len()
    }
}
