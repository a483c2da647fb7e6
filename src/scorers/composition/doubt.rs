//! How sure a score is: whether a picture that differs a little, as the same latents decoded by a smaller
//! decoder do, would be scored otherwise.

use super::reader::{Found, Open};
use crate::world::Object;

/// How many numbers tell.
pub const SIGNS: usize = 6;

/// What tells that something in a picture is near to being read otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signs {
    /// [`Open::split`].
    pub split: f64,
    /// By how much the outline that fits worst misses the shape that fits it best, 0 to 1.
    pub outline: f64,
    /// ln(1 + [`Open::blurred`]).
    pub blurred: f64,
    /// How near the shape asked for of some object is to being another: 1 where two fit alike.
    pub shape: f64,
    /// [`Open::specks`].
    pub specks: f64,
    /// 1 where nothing is wrong: more can change then.
    pub right: f64,
}

/// Shapes whose overlaps differ by so much are a third as near to each other as those that fit alike.
const APART: f64 = 0.08;

/// What each sign adds to the log-odds that the score is another, and what they begin with: logistic
/// regression on what the embedded model's two decoders made of 9,000 late predictions
/// (`models/pocket-recipe/doubt.py`).
const WEIGHTS: [f64; SIGNS] = [2.767, 1.94, 0.58, 2.324, 0.502, -0.91];
const OFFSET: f64 = -6.211;

impl Signs {
    /// Of objects asked for, what was found, and which found one was taken for each.
    pub fn of(
        asked: &[Object],
        found: &[Found],
        matching: &[Option<usize>],
        open: Open,
        right: bool,
    ) -> Self {
        let best = |found: &Found| found.fits.iter().copied().fold(0.0, f64::max);
        let taken = asked.iter().zip(matching);
        let taken = taken.filter_map(|(asked, choice)| Some((asked, &found[(*choice)?])));
        let shape = taken.map(|(asked, found)| (-found.margin(asked.shape).abs() / APART).exp());
        Self {
            split: open.split,
            outline: 1.0 - found.iter().map(best).fold(1.0, f64::min),
            blurred: open.blurred.ln_1p(),
            shape: shape.fold(0.0, f64::max),
            specks: open.specks as f64,
            right: f64::from(u8::from(right)),
        }
    }

    /// In the order of their weights.
    pub fn numbers(&self) -> [f64; SIGNS] {
        [
            self.split,
            self.outline,
            self.blurred,
            self.shape,
            self.specks,
            self.right,
        ]
    }

    /// The chance that the score is another.
    pub fn doubt(&self) -> f64 {
        let weighed = self.numbers().into_iter().zip(WEIGHTS);
        let odds: f64 = weighed.map(|(sign, weight)| sign * weight).sum();
        1.0 / (1.0 + (-odds - OFFSET).exp())
    }
}
