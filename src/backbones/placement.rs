//! Where a model's parts are put, and for how long.

use candle_core::{DType, Device};

/// How a model is loaded.
#[derive(Clone, Debug)]
pub struct Placement {
    pub device: Device,
    /// What the weights are computed in.
    pub dtype: DType,
    pub texts: Residence,
    /// Pixels along a side of the tiles that pictures are decoded in. `None`: pictures are decoded
    /// whole while memory holds that, else in the largest tiles that it holds.
    pub tile: Option<usize>,
}

impl Placement {
    /// Everything stays in memory.
    pub fn new(device: &Device, dtype: DType) -> Self {
        Self {
            device: device.clone(),
            dtype,
            texts: Residence::Kept,
            tile: None,
        }
    }
}

/// How long text encoders stay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residence {
    Kept,
    /// Read from the files for each text and dropped after it; the large ones a layer at a time.
    Dropped,
}
