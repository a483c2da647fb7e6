//! Where FLUX.1's tokens lie.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Device;

use crate::Result;
use crate::backbones::layers::rotary::Rotary;

/// The base of the angles' frequencies: a constant of diffusers' `FluxTransformer2DModel`.
const THETA: f64 = 10000.0;

/// Where the tokens of text and image lie, as angles.
#[derive(Debug)]
pub struct Positions {
    /// Channels of a head that turn with each of a token's three coordinates.
    axes: Vec<usize>,
    device: Device,
    /// The last ones: all steps of a run ask for the same.
    last: Mutex<Option<(Layout, Arc<Rotary>)>>,
}

/// How many tokens there are: of the text, and the image's rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub text_tokens: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Positions {
    pub fn new(axes: &[usize], device: &Device) -> Self {
        Self {
            axes: axes.to_vec(),
            device: device.clone(),
            last: Mutex::default(),
        }
    }

    pub fn of(&self, layout: Layout) -> Result<Arc<Rotary>> {
        // What a panicking thread left here is whole: entries are put in as they are.
        let lock = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, rotary)) = &*lock()
            && *known == layout
        {
            return Ok(Arc::clone(rotary));
        }
        let rotary = Arc::new(self.computed(layout)?);
        *lock() = Some((layout, Arc::clone(&rotary)));
        Ok(rotary)
    }

    /// The text's tokens all lie at the origin, the image's on their grid; the first coordinate is 0
    /// in all of them.
    fn computed(&self, layout: Layout) -> Result<Rotary> {
        let frequencies: Vec<(usize, f64)> = self
            .axes
            .iter()
            .enumerate()
            .flat_map(|(axis, channels)| {
                (0..channels / 2).map(move |i| {
                    let exponent = 2.0 * i as f64 / *channels as f64;
                    (axis, 1.0 / libm::pow(THETA, exponent))
                })
            })
            .collect();
        let Layout {
            text_tokens,
            rows,
            columns,
        } = layout;
        let text = std::iter::repeat_n([0.0; 3], text_tokens);
        let image = (0..rows).flat_map(|y| (0..columns).map(move |x| [0.0, y as f64, x as f64]));
        let mut angles = Vec::with_capacity((text_tokens + rows * columns) * frequencies.len());
        for at in text.chain(image) {
            angles.extend(frequencies.iter().map(|(axis, f)| at[*axis] * f));
        }
        Rotary::new(&angles, frequencies.len(), &self.device)
    }
}
