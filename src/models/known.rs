//! The real models that Foreseed knows by name.

/// A model on the hub.
pub struct Known {
    pub name: &'static str,
    pub family: &'static str,
    pub repo: &'static str,
    pub licence: &'static str,
    /// Weights in all its parts: what it will need, told before any of its files are here.
    pub parameters: u64,
    pub about: &'static str,
    /// Whether this version can run it.
    pub supported: bool,
}

pub static KNOWN: [Known; 4] = [
    Known {
        name: "sdxl",
        family: "sdxl",
        repo: "stabilityai/stable-diffusion-xl-base-1.0",
        licence: "OpenRAIL++-M",
        parameters: 3_469_000_000,
        about: "Stable Diffusion XL: any picture, 1024×1024",
        supported: true,
    },
    Known {
        name: "flux-schnell",
        family: "flux",
        repo: "black-forest-labs/FLUX.1-schnell",
        licence: "Apache-2.0",
        parameters: 16_900_000_000,
        about: "FLUX.1 schnell: any picture in four steps",
        supported: true,
    },
    Known {
        name: "flux-dev",
        family: "flux",
        repo: "black-forest-labs/FLUX.1-dev",
        licence: "FLUX.1 dev non-commercial",
        parameters: 16_900_000_000,
        about: "FLUX.1 dev: any picture, 1024×1024",
        supported: true,
    },
    Known {
        name: "qwen-image",
        family: "qwen-image",
        repo: "Qwen/Qwen-Image",
        licence: "Apache-2.0",
        parameters: 28_900_000_000,
        about: "Qwen-Image: any picture, and text in it",
        supported: true,
    },
];

impl Known {
    pub fn named(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }
}
