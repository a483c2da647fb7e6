//! The real models that Foreseed knows by name.

use crate::Result;
use crate::backbones::{self, Embedded, Needs, Placement, PublishedPart, SDXL_BASE};

/// A model on the hub.
pub struct Known {
    pub name: &'static str,
    pub family: &'static str,
    pub repo: &'static str,
    pub licence: &'static str,
    /// What it is made of, and what it is configured as where that decides what it takes of memory:
    /// told before any of its files are here.
    pub parts: &'static [PublishedPart],
    configurations: Embedded,
    pub about: &'static str,
    /// Whether this version can run it.
    pub supported: bool,
}

const fn part(component: &'static str, parameters: u64, at_once: u64) -> PublishedPart {
    PublishedPart {
        component,
        parameters,
        at_once,
    }
}

/// CLIP ViT-L/14's text half.
const CLIP_L: u64 = 123_060_480;
/// T5 1.1 XXL's encoder, and its vocabulary with one layer.
const T5: PublishedPart = part("text_encoder_2", 4_762_310_656, 324_548_608);

/// FLUX.1's: all that is not said here is what the architecture is by default.
const FLUX: Embedded = &[
    ("model_index.json", br#"{"_class_name": "FluxPipeline"}"#),
    ("transformer/config.json", b"{}"),
    (
        "vae/config.json",
        br#"{
            "block_out_channels": [128, 256, 512, 512],
            "latent_channels": 16,
            "layers_per_block": 2,
            "up_block_types":
                ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
        }"#,
    ),
];

/// Qwen-Image's, by the same rule.
const QWEN_IMAGE: Embedded = &[
    (
        "model_index.json",
        br#"{"_class_name": "QwenImagePipeline"}"#,
    ),
    ("transformer/config.json", b"{}"),
    ("vae/config.json", b"{}"),
];

pub static KNOWN: [Known; 4] = [
    Known {
        name: "sdxl",
        family: "sdxl",
        repo: "stabilityai/stable-diffusion-xl-base-1.0",
        licence: "OpenRAIL++-M",
        parts: &[
            part("text_encoder", CLIP_L, CLIP_L),
            part("text_encoder_2", 694_659_840, 694_659_840),
            part("unet", 2_567_463_684, 0),
            part("vae", 49_490_271, 0),
        ],
        configurations: SDXL_BASE,
        about: "Stable Diffusion XL: any picture, 1024×1024",
        supported: true,
    },
    Known {
        name: "flux-schnell",
        family: "flux",
        repo: "black-forest-labs/FLUX.1-schnell",
        licence: "Apache-2.0",
        parts: &[
            part("text_encoder", CLIP_L, CLIP_L),
            T5,
            part("transformer", 11_891_178_560, 0),
            part("vae", 49_545_475, 0),
        ],
        configurations: FLUX,
        about: "FLUX.1 schnell: any picture in four steps",
        supported: true,
    },
    Known {
        name: "flux-dev",
        family: "flux",
        repo: "black-forest-labs/FLUX.1-dev",
        licence: "FLUX.1 dev non-commercial",
        parts: &[
            part("text_encoder", CLIP_L, CLIP_L),
            T5,
            part("transformer", 11_901_408_320, 0),
            part("vae", 49_545_475, 0),
        ],
        configurations: FLUX,
        about: "FLUX.1 dev: any picture, 1024×1024",
        supported: true,
    },
    Known {
        name: "qwen-image",
        family: "qwen-image",
        repo: "Qwen/Qwen-Image",
        licence: "Apache-2.0",
        parts: &[
            part("text_encoder", 7_070_619_136, 778_058_752),
            part("transformer", 20_430_401_088, 0),
            part("vae", 73_296_659, 0),
        ],
        configurations: QWEN_IMAGE,
        about: "Qwen-Image: any picture, and text in it",
        supported: true,
    },
];

impl Known {
    pub fn named(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }

    /// Weights in all parts that are loaded.
    pub fn parameters(&self) -> u64 {
        self.parts.iter().map(|part| part.parameters).sum()
    }

    /// What it takes of memory.
    pub fn needs(&self, placement: &Placement) -> Result<Needs> {
        backbones::published_needs(self.configurations, self.parts, placement)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn what_the_known_models_compute_is_what_is_known_of_them() {
        // In 10¹² multiplications and additions at 1024²: SDXL's UNet as profilers count it (2.98), and
        // the attention's own products, which they leave out; the transformers' 57 and 60 blocks, by
        // hand, over 4608 tokens.
        let placement = Placement::new(&Device::Cpu, DType::BF16);
        for (name, multiplications) in [("sdxl", 3.36), ("flux-dev", 37.2), ("qwen-image", 39.1)] {
            let told = Known::named(name).unwrap().needs(&placement).unwrap();
            let off = told.evaluation_tflop / (2.0 * multiplications) - 1.0;
            assert!(off.abs() < 0.03, "{name}: {}", told.evaluation_tflop);
        }
    }
}
