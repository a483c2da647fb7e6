//! Ratings: how good a picture was to whoever looked at it.

use super::call::Call;
use super::replies::RenderReply;
use super::{Caller, Foresight};
use crate::Result;
use crate::candidate::{Candidate, Handle};
use crate::store::{RATING, Told};

impl Foresight {
    /// Rates a picture that is there, and answers with its record. `None`: it was never rendered, or
    /// its file is gone.
    pub(super) fn rate(
        &self,
        candidate: &Candidate,
        handle: &Handle,
        rating: f64,
        caller: &Caller,
    ) -> Result<Option<RenderReply>> {
        let there = |handle| -> Result<_> {
            let record = self.store.render_of(handle)?;
            Ok(record.filter(|r| r.path.is_file()))
        };
        if there(handle)?.is_none() {
            return Ok(None);
        }
        self.store.keep_score(handle, RATING, rating)?;
        let Some(record) = there(handle)? else {
            return Ok(None);
        };
        let told = record.told.unwrap_or_else(|| Told {
            metric: "unknown".into(),
            calibrated: false,
            predicted: None,
            full_evaluations: 0,
        });
        let mut call = Call::begin(self, caller);
        Ok(Some(RenderReply {
            path: Some(record.path),
            shown: None,
            seed: candidate.seed,
            prompt: candidate.prompt.clone(),
            predicted: told.predicted,
            measured: record.measured,
            // Nothing was left to do.
            resumed_from_step: candidate.settings.steps as u32,
            handle: handle.clone(),
            next: None,
            common: call.end(
                &candidate.settings.model,
                &told.metric,
                told.calibrated,
                told.full_evaluations,
            ),
        }))
    }
}
