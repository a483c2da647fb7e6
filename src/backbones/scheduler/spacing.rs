//! Other spacings of a run's noise levels between its highest and its lowest.

/// Noise levels by Karras et al. 2022, equation 5, with ρ = 7.
pub fn karras(low: f64, high: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (low, high) = (low.powf(1.0 / RHO), high.powf(1.0 / RHO));
    (0..steps)
        .map(|i| (high + ramp(i, steps) * (low - high)).powf(RHO))
        .collect()
}

/// Noise levels even in their logarithm.
pub fn exponential(low: f64, high: f64, steps: usize) -> Vec<f64> {
    let (low, high) = (low.ln(), high.ln());
    (0..steps)
        .map(|i| (high + ramp(i, steps) * (low - high)).exp())
        .collect()
}

/// 0 to 1 over the steps; a single step stays at 0.
fn ramp(i: usize, steps: usize) -> f64 {
    i as f64 / (steps.max(2) - 1) as f64
}
