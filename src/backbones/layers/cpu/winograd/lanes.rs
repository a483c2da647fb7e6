//! A few channels' numbers at once. Written out, without closures over arrays: what the standard library
//! makes of those is not compiled for the vectors that are at hand.

/// Channels that are transformed together.
pub const LANES: usize = 8;

/// One number of each of some channels.
pub type Lanes = [f32; LANES];

pub const ZERO: Lanes = [0.0; LANES];

#[inline(always)]
pub fn load(from: &[f32], at: usize) -> Lanes {
    let mut lanes = ZERO;
    lanes.copy_from_slice(&from[at..at + LANES]);
    lanes
}

#[inline(always)]
pub fn plus(mut x: Lanes, y: Lanes) -> Lanes {
    for (x, y) in x.iter_mut().zip(&y) {
        *x += y;
    }
    x
}

#[inline(always)]
pub fn minus(mut x: Lanes, y: Lanes) -> Lanes {
    for (x, y) in x.iter_mut().zip(&y) {
        *x -= y;
    }
    x
}

#[inline(always)]
pub fn times(mut x: Lanes, factor: f32) -> Lanes {
    for x in &mut x {
        *x *= factor;
    }
    x
}
