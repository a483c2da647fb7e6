//! Where a token stands: the angles of its rotary embedding.

use candle_core::Device;

use crate::Result;
use crate::backbones::layers::rotary::Rotary;

/// Base of the frequencies, a constant of diffusers' model in no file.
const THETA: f64 = 10_000.0;

/// The angles of `text` tokens and then of a picture of `height`×`width` tokens, row by row
/// (MSRoPE, Wu et al. 2025, section 2.4): a picture's centre is at 0, and the text goes on along the
/// diagonal where the picture ends. `axes`: channels of a head that turn with the frame, the row
/// and the column.
pub fn rotary(
    axes: [usize; 3],
    text: usize,
    (height, width): (usize, usize),
    device: &Device,
) -> Result<Rotary> {
    let frequencies = axes.map(|channels| {
        (0..channels / 2)
            .map(|i| 1.0 / THETA.powf(f64::from((2 * i) as f32 / channels as f32)) as f32)
            .collect::<Vec<f32>>()
    });
    let mut angles = Vec::new();
    // In f32, as the reference rounds.
    let mut stand = |at: [i64; 3]| {
        for (position, frequencies) in at.iter().zip(&frequencies) {
            angles.extend(frequencies.iter().map(|f| f64::from(*position as f32 * f)));
        }
    };
    let first = (height / 2).max(width / 2);
    for i in first..first + text {
        stand([i as i64; 3]);
    }
    // An odd number has one more before the centre than behind.
    let centred = |i: usize, of: usize| i as i64 - (of - of / 2) as i64;
    for row in 0..height {
        for column in 0..width {
            stand([0, centred(row, height), centred(column, width)]);
        }
    }
    Rotary::new(&angles, axes.iter().sum::<usize>() / 2, device)
}
