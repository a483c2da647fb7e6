//! Work on single pictures, several at a time where that is faster and memory holds it.

use rayon::prelude::*;

use super::Backbone;
use crate::{Result, device};

/// Calls `work`, which decodes or looks at a picture, for each of `items`. Pictures of a small model are
/// worked on in parallel; those of a large one, of which each takes gigabytes and keeps all cores busy,
/// and those on an accelerator, one after the other.
pub fn each<T: Sync, R: Send>(
    backbone: &dyn Backbone,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    let facts = backbone.facts();
    let (width, height) = (facts.default_width, facts.default_height);
    let cost = backbone.evaluation_cost();
    let bytes = cost.map_or(0, |cost| cost.bytes(width, height));
    match backbone.device().is_cpu() && bytes <= device::LITTLE {
        true => items.par_iter().map(work).collect(),
        false => items.iter().map(work).collect(),
    }
}
