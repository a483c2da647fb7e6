//! The promises of the engine, kept with the embedded model's own numbers.

use std::sync::Arc;

use super::super::{Engine, Limits, Work};
use super::block_on;
use super::fake::{Told, told};
use crate::backbones::TapRequest;
use crate::candidate::{Candidate, Seed, Settings};
use crate::models::{ModelOptions, Models};

const STEPS: usize = 4;

fn engine() -> Engine {
    let models = Models::discover(ModelOptions {
        model: Some("pocket".into()),
        ..Default::default()
    });
    Engine::start(Arc::new(models.unwrap()), Limits::default()).unwrap()
}

fn candidates(seeds: std::ops::Range<u32>) -> Vec<Candidate> {
    seeds
        .map(|seed| Candidate {
            prompt: "a red circle left of a blue square".into(),
            seed: Seed(seed),
            settings: Settings {
                model: "pocket".into(),
                negative_prompt: None,
                steps: STEPS,
                guidance: 5.0,
                width: 64,
                height: 64,
            },
        })
        .collect()
}

/// Observed after two steps; brought to the end as pictures where `picture` says so.
fn run(engine: &Engine, candidates: Vec<Candidate>, picture: bool) -> Told {
    let backbone = block_on(engine.open("pocket")).unwrap();
    let tap = TapRequest {
        blocks: backbone.facts().default_tap.clone(),
        middle: true,
    };
    let to_step = if picture { STEPS } else { 2 };
    told(
        engine,
        Work {
            candidates,
            to_step,
            observe_at: vec![2],
            tap,
            glimpse: false,
            picture,
            purse: None,
        },
    )
}

#[test]
fn paused_and_resumed_in_a_batch_or_alone_pocket_draws_the_same_picture_to_the_bit() {
    let straight = run(&engine(), candidates(3..4), true);

    let engine = engine();
    let batch = run(&engine, candidates(0..5), false);
    let resumed = run(&engine, candidates(3..4), true);
    assert_eq!(resumed.picture(), (straight.picture().0, 2));
    let seen = batch.observations();
    let (_, _, x0) = seen.iter().find(|(index, ..)| *index == 3).unwrap();
    assert_eq!(straight.observations()[0].2, *x0);
    assert_eq!(resumed.observations()[0].2, *x0);
}
