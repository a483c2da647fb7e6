//! A trajectory's numbers depend on its candidate alone: not on pauses, on the batch, or on the tap.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use foreseed::backbones::{self, Backbone, ModelFiles, TapRequest};
use foreseed::candidate::{Candidate, Seed, Settings};
use foreseed::sampling::{Observation, Trajectory, glimpse_all, step_all};

/// A tiny model of each family, and what its denoiser reads of a picture of 40×24 pixels.
struct Tiny {
    folder: &'static str,
    guidance: f64,
    /// Denoiser evaluations of one step.
    evaluations: u64,
    /// The activations after the middle.
    middle: [usize; 3],
    queries: usize,
    keys: usize,
    /// Whether the image attends to the text alone, or to itself as well.
    text_alone: bool,
}

const TINY: [Tiny; 3] = [
    Tiny {
        folder: "sdxl/epsilon",
        guidance: 5.0,
        evaluations: 2,
        middle: [16, 3, 5],
        queries: 15,
        keys: 77,
        text_alone: true,
    },
    Tiny {
        folder: "flux/schnell",
        guidance: 3.5,
        evaluations: 1,
        middle: [12, 3, 5],
        queries: 15,
        keys: 24,
        text_alone: false,
    },
    Tiny {
        folder: "qwen/published",
        guidance: 4.0,
        evaluations: 1,
        middle: [20, 3, 5],
        queries: 15,
        keys: 31,
        text_alone: false,
    },
];

impl Tiny {
    fn load(&self) -> Box<dyn Backbone> {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        let files = ModelFiles::folder(goldens.join(self.folder));
        backbones::load(files, "tiny", &Device::Cpu, DType::F32).unwrap()
    }

    fn candidate(&self, seed: u32) -> Candidate {
        Candidate {
            prompt: format!("{seed} red circles"),
            seed: Seed(seed),
            settings: Settings {
                model: "tiny".into(),
                negative_prompt: None,
                steps: 6,
                guidance: self.guidance,
                width: 40,
                height: 24,
            },
        }
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
    for tiny in &TINY {
        let backbone = tiny.load();
        let backbone = backbone.as_ref();
        let mut straight = Trajectory::start(backbone, &tiny.candidate(3)).unwrap();
        run(backbone, &mut straight, 6);
        let mut paused = Trajectory::start(backbone, &tiny.candidate(3)).unwrap();
        run(backbone, &mut paused, 2);
        let mut resumed = paused.clone();
        drop(paused);
        run(backbone, &mut resumed, 4);
        assert!(resumed.is_done());
        assert_eq!(bits(resumed.latents()), bits(straight.latents()));
    }
}

#[test]
fn a_candidate_in_a_batch_of_sixteen_gives_what_it_gives_alone_to_the_bit() {
    for tiny in &TINY {
        let backbone = tiny.load();
        let backbone = backbone.as_ref();
        let start = |seed| Trajectory::start(backbone, &tiny.candidate(seed)).unwrap();
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
}

#[test]
fn tapping_changes_no_latents_and_gives_shares_of_attention() {
    for tiny in &TINY {
        let backbone = tiny.load();
        let backbone = backbone.as_ref();
        let tap = TapRequest {
            blocks: backbone.facts().tappable.clone(),
            middle: true,
        };
        let mut plain = Trajectory::start(backbone, &tiny.candidate(1)).unwrap();
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
        assert_eq!(seen.middle.as_ref().unwrap().dims(), tiny.middle);
        for (block, map) in &seen.maps {
            let (_, queries, keys) = map.dims3().unwrap();
            assert_eq!(keys, tiny.keys);
            assert_eq!(queries, tiny.queries, "{block}");
            let sums = map.sum(2).unwrap().flatten_all().unwrap();
            for sum in sums.to_vec1::<f32>().unwrap() {
                let right = match tiny.text_alone {
                    true => (sum - 1.0).abs() < 1e-5,
                    false => sum > 0.0 && sum < 1.0,
                };
                assert!(right, "{block}: a query's attention sums to {sum}");
            }
        }
    }
}

fn all_of(backbone: &dyn Backbone) -> TapRequest {
    TapRequest {
        blocks: backbone.facts().tappable.clone(),
        middle: true,
    }
}

fn same(a: &Observation, b: &Observation) {
    assert_eq!((a.steps_done, a.glimpse), (b.steps_done, b.glimpse));
    assert_eq!(bits(&a.x0), bits(&b.x0));
    assert_eq!(
        a.previous_x0.as_ref().map(bits),
        b.previous_x0.as_ref().map(bits)
    );
    assert_eq!(a.middle.as_ref().map(bits), b.middle.as_ref().map(bits));
    let maps = |o: &Observation| -> Vec<_> {
        let maps = o.maps.iter();
        maps.map(|(path, map)| (path.clone(), bits(map))).collect()
    };
    assert_eq!(maps(a), maps(b));
}

#[test]
fn a_glimpsed_step_comes_out_the_same_to_the_bit_and_costs_no_more() {
    let cases = [
        (&TINY[0], 5.0),
        (&TINY[0], 1.0),
        (&TINY[1], 3.5),
        (&TINY[2], 4.0),
    ];
    for (tiny, guidance) in cases {
        let backbone = tiny.load();
        let backbone = backbone.as_ref();
        let tap = all_of(backbone);
        let mut plain: Vec<Trajectory> = (0..5)
            .map(|seed| {
                let mut candidate = tiny.candidate(seed);
                candidate.settings.guidance = guidance;
                Trajectory::start(backbone, &candidate).unwrap()
            })
            .collect();
        let mut glimpsed = plain.clone();
        for step in 0..6 {
            let mut all: Vec<&mut Trajectory> = glimpsed.iter_mut().collect();
            // One of them is not glimpsed: the batch is mixed.
            let seen = glimpse_all(backbone, &mut all[..4], &[&tap; 4]).unwrap();
            assert!(seen.iter().all(|s| s.glimpse && s.steps_done == step));
            let a_step = all[0].evaluations_a_step();
            let left = all[0].evaluations_left_in_step(backbone.facts(), &tap);
            assert_eq!(left, a_step - 1);
            assert_eq!(
                all[4].evaluations_left_in_step(backbone.facts(), &tap),
                a_step
            );
            let after = step_all(backbone, &mut all, &[Some(&tap); 5]).unwrap();
            let mut all: Vec<&mut Trajectory> = plain.iter_mut().collect();
            let straight = step_all(backbone, &mut all, &[Some(&tap); 5]).unwrap();
            for (after, straight) in after.iter().zip(&straight) {
                same(after.as_ref().unwrap(), straight.as_ref().unwrap());
            }
        }
        for (glimpsed, plain) in glimpsed.iter().zip(&plain) {
            assert!(glimpsed.is_done());
            assert_eq!(bits(glimpsed.latents()), bits(plain.latents()));
        }
    }
}

#[test]
fn a_glimpse_shows_what_the_whole_step_reads_in_its_first_half() {
    for tiny in &TINY {
        let backbone = tiny.load();
        let backbone = backbone.as_ref();
        let tap = all_of(backbone);
        let mut trajectory = Trajectory::start(backbone, &tiny.candidate(2)).unwrap();
        let (mut before, mut two_before): (Option<Tensor>, Option<Tensor>) = (None, None);
        for _ in 0..3 {
            let glimpse = glimpse_all(backbone, &mut [&mut trajectory], &[&tap]).unwrap();
            let whole = step_all(backbone, &mut [&mut trajectory], &[Some(&tap)]).unwrap();
            let (glimpse, whole) = (&glimpse[0], whole[0].as_ref().unwrap());
            assert_eq!(
                glimpse.maps.keys().cloned().collect::<Vec<_>>().len(),
                backbone.facts().glimpsed.len()
            );
            assert!(glimpse.maps.len() < whole.maps.len());
            for (path, map) in &glimpse.maps {
                assert_eq!(bits(map), bits(&whole.maps[path]), "{path}");
            }
            let middle = |o: &Observation| o.middle.as_ref().map(bits);
            assert_eq!(middle(glimpse), middle(whole));
            match &before {
                Some(before) => assert_eq!(bits(&glimpse.x0), bits(before)),
                None => assert!(bits(&glimpse.x0).iter().all(|b| *b == 0)),
            }
            assert_eq!(
                glimpse.previous_x0.as_ref().map(bits),
                two_before.as_ref().map(bits)
            );
            assert_eq!(
                whole.previous_x0.as_ref().map(bits),
                before.as_ref().map(bits)
            );
            (two_before, before) = (before, Some(whole.x0.clone()));
        }
    }
}

#[test]
fn a_trajectory_paused_at_a_glimpse_goes_on_to_the_same_latents() {
    for tiny in &TINY {
        let backbone = tiny.load();
        let backbone = backbone.as_ref();
        let tap = all_of(backbone);
        let mut straight = Trajectory::start(backbone, &tiny.candidate(4)).unwrap();
        let mut kept = straight.clone();
        run(backbone, &mut straight, 6);
        run(backbone, &mut kept, 2);
        let before = kept.bytes();
        glimpse_all(backbone, &mut [&mut kept], &[&TapRequest::default()]).unwrap();
        assert!(kept.half_bytes() > 0);
        assert_eq!(kept.bytes(), before + kept.half_bytes());
        let mut forgetful = kept.clone();
        forgetful.forget_half();
        assert_eq!(forgetful.bytes(), before);
        // What this glimpse tapped does not hold what is asked for now: the step is done anew.
        let mut wider = kept.clone();
        let facts = backbone.facts();
        assert_eq!(
            wider.evaluations_left_in_step(facts, &tap),
            tiny.evaluations
        );
        let seen = step_all(backbone, &mut [&mut wider], &[Some(&tap)]).unwrap();
        assert_eq!(seen[0].as_ref().unwrap().maps.len(), tap.blocks.len());
        run(backbone, &mut wider, 3);
        for trajectory in [&mut kept, &mut forgetful] {
            run(backbone, trajectory, 4);
        }
        for trajectory in [kept, forgetful, wider] {
            assert_eq!(bits(trajectory.latents()), bits(straight.latents()));
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
