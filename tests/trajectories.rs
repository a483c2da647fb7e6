//! A trajectory's numbers depend on its candidate alone: not on pauses, on the batch, or on the tap.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use foreseed::backbones::{self, Backbone, ModelFiles, TapRequest};
use foreseed::candidate::{Candidate, Seed, Settings};
use foreseed::sampling::{Trajectory, step_all};

fn model() -> Box<dyn Backbone> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sdxl/epsilon");
    backbones::load(ModelFiles::folder(folder), "tiny", &Device::Cpu, DType::F32).unwrap()
}

fn candidate(seed: u32) -> Candidate {
    Candidate {
        prompt: format!("{seed} red circles"),
        seed: Seed(seed),
        settings: Settings {
            model: "tiny".into(),
            negative_prompt: None,
            steps: 6,
            guidance: 5.0,
            width: 40,
            height: 24,
        },
    }
}

fn bits(t: &Tensor) -> Vec<u32> {
    let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

fn run(backbone: &dyn Backbone, trajectory: &mut Trajectory, steps: usize) {
    for _ in 0..steps {
        step_all(backbone, &mut [trajectory], &[None]).unwrap();
    }
}

#[test]
fn a_paused_trajectory_goes_on_to_the_same_latents_to_the_bit() {
    let backbone = model();
    let backbone = backbone.as_ref();
    let mut straight = Trajectory::start(backbone, &candidate(3)).unwrap();
    run(backbone, &mut straight, 6);
    let mut paused = Trajectory::start(backbone, &candidate(3)).unwrap();
    run(backbone, &mut paused, 2);
    let mut resumed = paused.clone();
    drop(paused);
    run(backbone, &mut resumed, 4);
    assert!(resumed.is_done());
    assert_eq!(bits(resumed.latents()), bits(straight.latents()));
}

#[test]
fn a_candidate_in_a_batch_of_sixteen_gives_what_it_gives_alone_to_the_bit() {
    let backbone = model();
    let backbone = backbone.as_ref();
    let start = |seed| Trajectory::start(backbone, &candidate(seed)).unwrap();
    let mut batch: Vec<Trajectory> = (0..16).map(start).collect();
    // At different steps, as the engine's batches are.
    run(backbone, &mut batch[5], 1);
    for _ in 0..3 {
        let mut all: Vec<&mut Trajectory> = batch.iter_mut().collect();
        step_all(backbone, &mut all, &[None; 16]).unwrap();
    }
    for (seed, together) in batch.iter().enumerate() {
        let mut alone = start(seed as u32);
        run(backbone, &mut alone, together.steps_done());
        assert_eq!(
            bits(alone.latents()),
            bits(together.latents()),
            "seed {seed}"
        );
    }
}

#[test]
fn tapping_changes_no_latents_and_gives_maps_that_sum_to_one() {
    let backbone = model();
    let backbone = backbone.as_ref();
    let tap = TapRequest {
        blocks: backbone.facts().tappable.clone(),
        middle: true,
    };
    let mut plain = Trajectory::start(backbone, &candidate(1)).unwrap();
    let mut tapped = plain.clone();
    step_all(backbone, &mut [&mut plain], &[None]).unwrap();
    let seen = step_all(backbone, &mut [&mut tapped], &[Some(&tap)]).unwrap();
    assert_eq!(bits(plain.latents()), bits(tapped.latents()));
    let seen = seen[0].as_ref().unwrap();
    assert_eq!(seen.steps_done, 1);
    assert_eq!(seen.maps.keys().collect::<Vec<_>>(), {
        let mut blocks: Vec<_> = tap.blocks.iter().collect();
        blocks.sort();
        blocks
    });
    assert_eq!(seen.middle.as_ref().unwrap().dims(), [16, 3, 5]);
    for (block, map) in &seen.maps {
        let (_, queries, keys) = map.dims3().unwrap();
        assert_eq!(keys, 77);
        assert!(queries == 15, "{block}: {queries} queries");
        let sums = map.sum(2).unwrap().flatten_all().unwrap();
        for sum in sums.to_vec1::<f32>().unwrap() {
            assert!(
                (sum - 1.0).abs() < 1e-5,
                "{block}: a query's attention sums to {sum}"
            );
        }
    }
}

#[test]
fn a_seed_is_the_same_noise_on_every_machine() {
    let noise = foreseed::sampling::standard_normal(Seed(42), 6).unwrap();
    let noise = noise.to_vec1::<f32>().unwrap();
    let pinned = [
        -0.35500953f32,
        -1.273099,
        0.49511394,
        0.68150145,
        -0.40797672,
        0.40719262,
    ];
    assert_eq!(noise, pinned);
}
