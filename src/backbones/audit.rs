//! Putting a model together from the headers of its files alone, to see whether names and shapes are
//! those that its loader asks for.

use std::sync::{Arc, Mutex, PoisonError};

use super::files::ModelFiles;
use crate::Result;

/// What became of a component's tensors.
#[derive(Clone, Debug)]
pub struct ComponentAudit {
    /// `unet`, `text_encoder_2`, …
    pub component: String,
    /// Names of the tensors that were asked for, each of the shape that was asked for.
    pub taken: Vec<String>,
    /// Names of those that were not, with the reason why that is right; without one, it is not.
    pub left: Vec<(String, Option<&'static str>)>,
}

/// Collects what a loader takes of files that were marked with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit(Arc<Mutex<Vec<ComponentAudit>>>);

impl Audit {
    pub fn add(&self, component: ComponentAudit) {
        // A list of whole entries stays one whatever another thread did.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(component);
    }

    fn components(&self) -> Vec<ComponentAudit> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

/// Loads the model that `files` holds as [`super::load`] does, in bf16 on the CPU and with one zero
/// for every tensor's numbers: that takes little memory whatever the model's size.
///
/// # Errors
/// A tensor that is missing or of another shape than its configuration asks for, and all else that
/// loading refuses.
pub fn audit(files: ModelFiles, name: &str) -> Result<Vec<ComponentAudit>> {
    let audit = Audit::default();
    let (device, dtype) = (candle_core::Device::Cpu, candle_core::DType::BF16);
    super::load(files.audited(audit.clone()), name, &device, dtype)?;
    Ok(audit.components())
}
