//! Which scenes a probe is fitted on: all wordings of a scene fall on one side.

use sha2::{Digest, Sha256};

/// What a scene is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Weights are fitted on it.
    Train,
    /// Training stops where it is best on these.
    Validation,
    /// Intervals and probabilities are fitted on it.
    Calibration,
}

/// Four scenes in five train, one in ten validates, one in ten calibrates; by a hash, so that a scene
/// stays on its side when more are collected.
pub fn side_of(scene: &str) -> Side {
    let digest = Sha256::digest(scene.as_bytes());
    match u16::from_le_bytes([digest[0], digest[1]]) % 10 {
        0 => Side::Validation,
        1 => Side::Calibration,
        _ => Side::Train,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_each_is_kept_from_training() {
        let sides: Vec<Side> = (0..5000).map(|i| side_of(&format!("scene {i}"))).collect();
        for side in [Side::Validation, Side::Calibration] {
            let share = sides.iter().filter(|s| **s == side).count() as f64 / 5000.0;
            assert!((share - 0.1).abs() < 0.02, "{side:?}: {share}");
        }
    }
}
