//! Functions of one number without branches, so that loops over them become vector instructions.

/// eˣ to about two units in the last place: 2ⁿ times a polynomial (Cephes' coefficients) on half of
/// ln 2 around zero.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5·2²³ rounds to the nearest whole number n and leaves it in the lowest bits, from
    // where it goes into the exponent: a conversion to an integer would not become vector
    // instructions, since it must saturate.
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// x·σ(x)
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GELU by the error function. Near zero, where most numbers are and where an error that leans one
/// way would add up, by a Chebyshev fit of it to 4·10⁻⁸; beyond that to 1.5·10⁻⁷ (Abramowitz and
/// Stegun, 7.1.26).
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let square = 0.5 * x * x;
    let mut near = 2.786_883_7e-5;
    near = near * square - 2.835_093_5e-4;
    near = near * square + 1.834_698_8e-3;
    near = near * square - 9.494_439e-3;
    near = near * square + 3.989_354e-2;
    near = near * square - 1.329_807_2e-1;
    near = near * square + 3.989_423e-1;
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    let tail = 0.5 * p * t * exp(-z * z);
    // The tail is what lies beyond |x|: on the left it is the share itself.
    let far = if x < 0.0 { tail } else { 1.0 - tail };
    let share = if square < 1.0 { 0.5 + x * near } else { far };
    x * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_gelu_are_those_of_libm() {
        for i in -8000..8000 {
            let x = i as f32 * 0.01;
            let (ours, theirs) = (exp(x), libm::expf(x));
            assert!(
                (ours / theirs - 1.0).abs() < 3e-7,
                "exp({x}) = {ours}, not {theirs}"
            );
            let theirs = 0.5 * f64::from(x) * (1.0 + libm::erf(f64::from(x) / 2f64.sqrt()));
            let ours = f64::from(gelu(x));
            let close = if x.abs() < 1.4 {
                1.2e-7 * f64::from(x.abs())
            } else {
                4e-7 * (1.0 + theirs.abs())
            };
            assert!(
                (ours - theirs).abs() <= close,
                "gelu({x}) = {ours}, not {theirs}"
            );
        }
    }

    #[test]
    fn exp_of_what_no_float_holds_is_very_small_or_very_large() {
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(1000.0) > 1e38);
    }
}
