//! A few channels' numbers at once. Written out, without closures over arrays: what the standard library
//! makes of those is not compiled for the vectors that are at hand.

/// One number of each of some channels, which are transformed together.
pub type Lanes<const L: usize> = [f32; L];

#[inline(always)]
pub fn load<const L: usize>(from: &[f32], at: usize) -> Lanes<L> {
    let mut lanes = [0.0; L];
    lanes.copy_from_slice(&from[at..at + L]);
    lanes
}

#[inline(always)]
pub fn plus<const L: usize>(mut x: Lanes<L>, y: Lanes<L>) -> Lanes<L> {
    for (x, y) in x.iter_mut().zip(&y) {
        *x += y;
    }
    x
}

#[inline(always)]
pub fn minus<const L: usize>(mut x: Lanes<L>, y: Lanes<L>) -> Lanes<L> {
    for (x, y) in x.iter_mut().zip(&y) {
        *x -= y;
    }
    x
}

#[inline(always)]
pub fn times<const L: usize>(mut x: Lanes<L>, factor: f32) -> Lanes<L> {
    for x in &mut x {
        *x *= factor;
    }
    x
}
