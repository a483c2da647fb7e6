//! LAION's aesthetic predictor (Schuhmann 2022): how much people like a picture, from 1 to 10, by a
//! linear head on CLIP ViT-L/14's embedding. The prompt has no say.

use candle_core::Device;
use image::RgbImage;

use super::clip::{self, ClipVision};
use super::files::ScorerFiles;
use super::head::Head;
use super::image::{Fit, Preparation, Rounding};
use super::metrics::AESTHETIC;
use super::{Score, Scorer, pickle};
use crate::Result;

/// Tensors of published files that are rightly not used.
const LEFT_OVER: [(&str, &str); 4] = [
    ("position_ids", "the positions are 0, 1, 2, …"),
    ("text_model.", "the prompt is not read"),
    ("text_projection", "the prompt is not read"),
    ("logit_scale", "only for CLIP's similarity"),
];

#[derive(Debug)]
pub struct Aesthetic {
    vision: ClipVision,
    head: Head,
    preparation: Preparation,
}

impl Aesthetic {
    /// CLIP out of a folder in transformers' layout, the head out of the `.pth` beside it or in the
    /// next folder.
    pub fn load(files: &ScorerFiles, device: &Device) -> Result<Self> {
        let (part, config, weights) = clip::open(files, device)?;
        let vision = ClipVision::load(&part, &config, &weights)?;
        weights.finish(&LEFT_OVER);
        let path = files.find_ending("pth").ok_or_else(|| {
            files.error("there is no .pth with the head, sac+logos+ava1-l14-linearMSE.pth".into())
        })?;
        let tensors = pickle::tensors(&path, device)?;
        let mut numbers: Vec<usize> = tensors
            .keys()
            .filter_map(|name| {
                let number = name.strip_prefix("layers.")?.strip_suffix(".weight")?;
                number.parse().ok()
            })
            .collect();
        numbers.sort_unstable();
        let head = Head::load(vision.width(), numbers.into_iter(), &|name| {
            tensors
                .get(name)
                .cloned()
                .ok_or_else(|| files.error(format!("{}: {name} is missing in it", path.display())))
        })?;
        let side = vision.side()?;
        Ok(Self {
            preparation: Preparation::clip(Fit::Crop {
                shortest: side,
                side,
                rounding: Rounding::HalfEven,
            }),
            vision,
            head,
        })
    }
}

impl Scorer for Aesthetic {
    fn metric(&self) -> &str {
        AESTHETIC.name
    }

    fn good(&self) -> f64 {
        AESTHETIC.good
    }

    fn score(&self, _prompt: &str, image: &RgbImage) -> Result<Score> {
        let pixels = self.preparation.apply(image, self.vision.device())?;
        let embedding = self.vision.embed(&pixels)?;
        Ok(Score::plain(self.head.forward(&embedding)?))
    }
}
