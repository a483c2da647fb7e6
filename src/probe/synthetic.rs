//! Observations made from nothing, for tests: the score is read off the attention, so that a network
//! that learns anything learns to predict it.

use std::path::Path;

use super::features::{Before, Seen, Text};
use super::preview::{self, Preview};
use super::random::Random;
use super::shard::{Group, Manifest, Outcome, ShardName};
use crate::Result;

pub const KEYS: usize = 6;
pub const TEXT: usize = 8;
pub const POOLED: usize = 5;
pub const SIDE: (usize, usize) = (4, 6);
const BLOCKS: usize = 2;
const X0: usize = 4;
const MIDDLE: usize = 7;

pub fn manifest() -> Manifest {
    Manifest {
        model_name: "synthetic".into(),
        model_fingerprint: "0123".into(),
        metric: "composition".into(),
        good: 0.5,
        steps: 25,
        at_steps: vec![5, 10],
        sampler: "EulerDiscreteScheduler/epsilon".into(),
        guidance: 5.0,
        width: 96,
        height: 64,
        tap: vec!["a".into(), "b".into()],
        middle: true,
        early: 1,
        preview: Some("composition".into()),
        previews: Default::default(),
        seeds: 4,
        prompts: "synthetic".into(),
        also: Vec::new(),
    }
}

fn uniform(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| 2.0 * random.unit() as f32 - 1.0).collect()
}

/// Noise, and little of it: what there is to learn lies in the attention.
fn preview(random: &mut Random) -> Preview {
    let mut little = |n| -> Vec<f32> { uniform(random, n).iter().map(|v| 0.2 * v).collect() };
    Preview {
        whole: little(preview::WHOLE),
        words: little(3 * preview::WORD),
    }
}

/// A prompt of three words, the first two keys long.
pub fn text(random: &mut Random) -> Text {
    Text {
        keys: KEYS,
        embeds: uniform(random, KEYS * TEXT),
        pooled: uniform(random, POOLED),
        words: vec![1..3, 3..4, 4..5],
    }
}

/// Attention in which the word at key 3 holds `strength` of every cell of the grid's upper half.
pub fn seen(random: &mut Random, steps_done: usize, strength: f32) -> Seen {
    let cells = SIDE.0 * SIDE.1;
    let mut maps = Vec::with_capacity(BLOCKS * cells * KEYS);
    for _ in 0..BLOCKS {
        for cell in 0..cells {
            let mut row: Vec<f32> = (0..KEYS).map(|_| 0.05 + random.unit() as f32).collect();
            let sum: f32 = row.iter().sum();
            let share = if cell < cells / 2 {
                0.9 * strength
            } else {
                0.1
            };
            row.iter_mut().for_each(|v| *v *= (1.0 - share) / sum);
            row[3] += share;
            maps.extend(row);
        }
    }
    Seen {
        steps_done,
        height: SIDE.0,
        width: SIDE.1,
        maps,
        x0: uniform(random, cells * X0),
        middle: uniform(random, cells * MIDDLE),
        glimpse: false,
        preview: Some(preview(random)),
        before: Some(Before {
            x0: uniform(random, cells * X0),
            preview: Some(preview(random)),
        }),
    }
}

/// Writes `prompts` shards whose scores are the strength of a word's attention.
pub fn collect(folder: &Path, prompts: usize) -> Result<()> {
    let manifest = manifest();
    manifest.claim(folder)?;
    for index in 0..prompts {
        let mut random = Random::nth(17, index as u64);
        let text = text(&mut random);
        let outcomes: Vec<Outcome> = (0..manifest.seeds as u32)
            .map(|seed| {
                let strength = random.unit() as f32;
                Outcome {
                    seed,
                    seen: [5, 10].map(|s| seen(&mut random, s, strength)).to_vec(),
                    score: f64::from(strength),
                    words_wrong: vec![None, Some(strength < 0.5), Some(false)],
                    also: Vec::new(),
                }
            })
            .collect();
        let scene = format!("scene {}", index / 2);
        let prompt = format!("prompt {index}");
        let path = ShardName::new(&manifest, index, &prompt, &[]).path(folder);
        Group::write(&path, &prompt, &scene, &text, &outcomes)?;
    }
    Ok(())
}
