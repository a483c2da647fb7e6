//! The small decoder that a model's folder may hold for previews.

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::subpixel::{self, SubPixelDecoder};
use super::tiny::{self, TinyDecoder};
use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::weights::Weights;

/// Where a model's folder keeps it: not a part of diffusers' pipeline, which leaves it alone.
pub const COMPONENT: &str = "preview_vae";

/// Latents, as the denoiser speaks of them, to pixels, at a small part of the VAE's cost.
#[derive(Debug)]
pub enum Preview {
    Tiny(TinyDecoder),
    SubPixel(SubPixelDecoder),
}

impl Preview {
    /// The decoder and the bytes of its weights, where the folder has one; it must read latents of
    /// `channels` channels.
    pub fn load(
        files: &ModelFiles,
        channels: usize,
        (device, dtype): (&Device, DType),
    ) -> Result<Option<(Self, u64)>> {
        #[derive(Deserialize)]
        struct Class {
            #[serde(rename = "_class_name", default)]
            name: String,
        }
        let path = format!("{COMPONENT}/config.json");
        if !files.has(&path) {
            return Ok(None);
        }
        let fits = |own: usize| match own == channels {
            true => Ok(()),
            false => Err(files.error(format!(
                "its decoder for previews has {own} latent channels and its UNet {channels}"
            ))),
        };
        let open = || Weights::open(files, COMPONENT, device, dtype);
        let (decoder, weights) = match files.json::<Class>(&path)?.name.as_str() {
            subpixel::CLASS => {
                let config = subpixel::Config::read(files, &path)?;
                fits(config.latent_channels)?;
                let weights = open()?;
                let decoder = SubPixelDecoder::load(&config, &weights, dtype)?;
                (Self::SubPixel(decoder), weights)
            }
            _ => {
                let config = tiny::Config::read(files, &path)?;
                fits(config.latent_channels)?;
                let weights = open()?;
                let decoder = TinyDecoder::load(config, &weights, dtype)?;
                (Self::Tiny(decoder), weights)
            }
        };
        Ok(Some((decoder, weights.bytes())))
    }

    /// (rows, channels, height, width) → (rows, 3, height', width'), around −1 to 1, f32.
    pub fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tiny(decoder) => decoder.forward(latents),
            Self::SubPixel(decoder) => decoder.forward(latents),
        }
    }
}
