//! The tap while the denoiser runs.

use candle_core::Tensor;

use super::{TapRequest, Tapped};

/// What is wanted of this call of the denoiser, and what was kept so far.
pub struct Tap<'a> {
    request: &'a TapRequest,
    tapped: Tapped,
}

impl<'a> Tap<'a> {
    pub fn new(request: &'a TapRequest) -> Self {
        Self {
            request,
            tapped: Tapped::default(),
        }
    }

    /// Whether the probabilities of the attention at this module path are wanted.
    pub fn wants(&self, path: &str) -> bool {
        self.request.wants(path)
    }

    /// Keeps probabilities (rows, heads, image queries, text keys).
    pub fn keep(&mut self, path: &str, probabilities: Tensor) {
        self.tapped.maps.insert(path.to_owned(), probabilities);
    }

    pub fn wants_middle(&self) -> bool {
        self.request.middle
    }

    /// Keeps the activations after the middle block, (rows, channels, height, width).
    pub fn keep_middle(&mut self, middle: Tensor) {
        self.tapped.middle = Some(middle);
    }

    pub fn finish(self) -> Tapped {
        self.tapped
    }
}
