mod fake;
mod glimpses;
mod pocket;

use std::sync::Arc;

use super::texts::Texts;
use super::{Engine, Event, Limits, Work};
use crate::Error;
use crate::backbones::TapRequest;
use fake::{FAILS, PANICS, STEPS, Told, UNREADABLE, candidate, engine, render, told, work};

/// Denoiser evaluations of a guided step.
const GUIDED: usize = 2;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn a_request_for_one_candidate_does_not_wait_behind_one_for_64() {
    let (engine, watch) = engine(Limits::default());
    watch.close();
    let big = engine.submit(work("big", 64, 5, &[5])).unwrap();
    watch.wait_for(1);
    let small = engine.submit(work("small", 1, 5, &[5])).unwrap();
    watch.open();
    assert_eq!(Told::of(small).observations().len(), 1);
    assert_eq!(Told::of(big).observations().len(), 64);

    let order = watch.evaluations();
    let end = order.iter().rposition(|prompt| *prompt == "small".len());
    let batch = rayon::current_num_threads().min(Limits::default().max_batch);
    // A step of its own in each of five ticks, after the one that was under way.
    let bound = GUIDED * batch * (5 + 2);
    assert!(end.unwrap() <= bound, "done after {end:?}, not {bound}");
}

#[test]
fn encoded_prompts_stay_within_their_share_of_the_memory() {
    let fake = fake::Fake::new(Arc::default());
    // One guided text of the fake is 112 bytes, and its pooled halves.
    let mut texts = Texts::new(400);
    for seed in 0..20 {
        let prompt = "x".repeat(1 + seed as usize);
        let text = texts.encoded(&fake, &candidate(&prompt, seed)).unwrap();
        assert_eq!(text.positive.embeds.dims(), [1, 7, 2]);
        assert!(texts.bytes() > 0 && texts.bytes() <= 400);
    }
}

#[test]
fn many_small_requests_share_the_batches_fairly() {
    let (engine, watch) = engine(Limits {
        max_batch: 2,
        ..Limits::default()
    });
    watch.close();
    let gate = engine.submit(work("", 1, 1, &[])).unwrap();
    watch.wait_for(1);
    let requests: Vec<_> = ["a", "bb", "ccc", "dddd"]
        .map(|prompt| engine.submit(work(prompt, 2, STEPS, &[])).unwrap())
        .into();
    watch.open();
    for running in requests.into_iter().chain([gate]) {
        Told::of(running);
    }
    let order = watch.evaluations();
    let half = &order[..order.len() / 2];
    for prompt in 1..=4 {
        let steps = half.iter().filter(|p| **p == prompt).count();
        assert!(
            (7..=13).contains(&steps),
            "prompt {prompt} got {steps} of about 10 steps"
        );
    }
}

#[test]
fn a_dropped_request_stops_within_one_step_and_its_trajectory_is_kept() {
    let (engine, watch) = engine(Limits::default());
    watch.close();
    let dropped = engine.submit(work("dropped", 1, STEPS, &[])).unwrap();
    watch.wait_for(1);
    drop(dropped);
    watch.open();
    told(&engine, work("other", 1, 1, &[]));
    let spent = |watch: &fake::Watch| {
        let evaluations = watch.evaluations();
        evaluations
            .iter()
            .filter(|p| **p == "dropped".len())
            .count()
    };
    assert_eq!(spent(&watch), 1);
    let rest = told(&engine, work("dropped", 1, STEPS, &[]));
    assert_eq!(rest.evaluations(), GUIDED * (STEPS - 1));
}

#[test]
fn a_candidate_in_a_batch_is_to_the_bit_what_it_is_alone() {
    let (together, _) = engine(Limits::default());
    let batch = told(&together, work("a red circle", 16, 5, &[1, 5])).observations();
    for seed in 0..16 {
        let (alone, _) = engine(Limits::default());
        let single = told(
            &alone,
            Work {
                candidates: vec![candidate("a red circle", seed)],
                ..work("", 0, 5, &[1, 5])
            },
        );
        let of_batch = batch.iter().filter(|(index, ..)| *index == seed as usize);
        let of_batch: Vec<_> = of_batch
            .map(|(_, step, x0)| (0, *step, x0.clone()))
            .collect();
        assert_eq!(single.observations(), of_batch);
    }
}

#[test]
fn a_render_resumes_from_the_cache_and_is_the_straight_run_to_the_bit() {
    let (straight, _) = engine(Limits::default());
    let straight = told(&straight, render("a red circle", 0)).picture();
    assert_eq!(straight.1, 0);

    let (engine, watch) = engine(Limits::default());
    let predicted = told(&engine, work("a red circle", 1, 3, &[3]));
    assert_eq!(predicted.evaluations(), GUIDED * 3);
    let rendered = told(&engine, render("a red circle", 0));
    assert_eq!(rendered.evaluations(), GUIDED * (STEPS - 3));
    assert_eq!(rendered.picture(), (straight.0.clone(), 3));
    let again = told(&engine, render("a red circle", 0));
    assert_eq!(again.evaluations(), 0);
    assert_eq!(again.picture(), (straight.0, STEPS));
    assert_eq!(watch.evaluations().len(), GUIDED * STEPS);
}

#[test]
fn every_step_is_told_once_and_in_order() {
    let (engine, _) = engine(Limits::default());
    for _ in 0..2 {
        let told = told(&engine, work("a red circle", 3, 4, &[2, 4]));
        for wanted in 0..3 {
            let steps = told.events.iter().filter_map(|event| match event {
                Event::Stepped {
                    index, steps_done, ..
                } if *index == wanted => Some(*steps_done),
                Event::Observed { index, observation } if *index == wanted => {
                    Some(100 + observation.steps_done)
                }
                _ => None,
            });
            assert_eq!(steps.collect::<Vec<_>>(), [1, 2, 102, 3, 4, 104]);
        }
    }
}

#[test]
fn what_was_observed_before_is_free_and_what_was_not_costs_a_restart() {
    let (straight, _) = engine(Limits::default());
    let straight = told(&straight, work("a red circle", 1, 6, &[2, 6])).observations();

    let (engine, watch) = engine(Limits::default());
    told(&engine, work("a red circle", 1, 6, &[6]));
    let early = told(&engine, work("a red circle", 1, 2, &[2]));
    assert_eq!(early.observations(), straight[..1]);
    assert_eq!(early.evaluations(), GUIDED * 2);
    let both = told(&engine, work("a red circle", 1, 2, &[2]));
    assert_eq!(
        (both.evaluations(), both.observations()),
        (0, early.observations())
    );

    let wider = told(
        &engine,
        Work {
            tap: TapRequest {
                blocks: vec!["other".into()],
                middle: true,
            },
            ..work("a red circle", 1, 2, &[2])
        },
    );
    assert_eq!(wider.observations(), straight[..1]);
    let Some(Event::Observed { observation, .. }) = wider.events.last() else {
        panic!("the last event is the observation");
    };
    assert!(observation.middle.is_some() && observation.maps.len() == 2);
    assert_eq!(
        told(&engine, work("a red circle", 1, 2, &[2])).evaluations(),
        0
    );
    assert_eq!(watch.evaluations().len(), GUIDED * (6 + 2 + 2));

    // And it is where it was before it was sent back, twice.
    let (picture, resumed_from) = told(&engine, render("a red circle", 0)).picture();
    let (plain, _) = engine_anew().picture();
    assert_eq!((resumed_from, picture), (6, plain));
}

/// The same render by an engine that did nothing before.
fn engine_anew() -> Told {
    told(&engine(Limits::default()).0, render("a red circle", 0))
}

#[test]
fn two_requests_for_one_candidate_share_its_steps() {
    let (engine, watch) = engine(Limits::default());
    watch.close();
    let first = engine.submit(render("shared", 0)).unwrap();
    watch.wait_for(1);
    let second = engine.submit(work("shared", 1, 5, &[5])).unwrap();
    let third = engine.submit(work("shared", 1, STEPS, &[])).unwrap();
    watch.open();
    let told = [first, second, third].map(Told::of);
    assert_eq!(told[1].observations().len(), 1);
    assert_eq!(watch.evaluations().len(), GUIDED * STEPS);
    let paid: usize = told.iter().map(Told::evaluations).sum();
    assert_eq!(
        paid,
        GUIDED * STEPS,
        "every evaluation is told to one of them"
    );
    told[0].picture();
}

#[test]
fn one_request_that_names_a_candidate_twice_is_told_of_both() {
    let (engine, watch) = engine(Limits::default());
    let twice = told(
        &engine,
        Work {
            candidates: vec![candidate("twice", 1), candidate("twice", 1)],
            ..work("", 0, 3, &[3])
        },
    );
    assert_eq!(twice.observations().len(), 2);
    assert_eq!(watch.evaluations().len(), GUIDED * 3);
}

#[test]
fn a_request_that_sends_a_shared_candidate_back_to_the_start_leaves_the_other_whole() {
    let (straight, _) = engine(Limits::default());
    let straight = told(&straight, render("shared", 0)).picture();
    let (engine, watch) = engine(Limits::default());
    told(&engine, work("shared", 1, 4, &[]));
    watch.close();
    let renders = engine.submit(render("shared", 0)).unwrap();
    watch.wait_for(GUIDED * 4 + 1);
    let observes = engine.submit(work("shared", 1, 2, &[2])).unwrap();
    watch.open();
    let (renders, observes) = (Told::of(renders), Told::of(observes));
    assert_eq!(renders.picture(), (straight.0, 0));
    assert_eq!(observes.observations().len(), 1);
    let told = GUIDED * 4 + renders.evaluations() + observes.evaluations();
    assert_eq!(told, watch.evaluations().len());
}

#[test]
fn with_no_memory_at_all_everything_still_works_from_the_start() {
    let (straight, _) = engine(Limits::default());
    let straight = told(&straight, render("a red circle", 0)).picture();
    let (engine, _) = engine(Limits {
        cache_bytes: 0,
        ..Limits::default()
    });
    let predicted = told(&engine, work("a red circle", 40, 3, &[1, 3]));
    assert_eq!(predicted.observations().len(), 80);
    assert_eq!(predicted.evaluations(), 40 * 3 * GUIDED);
    let rendered = told(&engine, render("a red circle", 0));
    assert_eq!(rendered.evaluations(), GUIDED * STEPS);
    assert_eq!(rendered.picture(), (straight.0, 0));
}

#[test]
fn one_request_too_many_is_told_to_come_back() {
    let (engine, watch) = engine(Limits {
        max_waiting: 2,
        ..Limits::default()
    });
    watch.close();
    let first = engine.submit(work("first", 1, STEPS, &[])).unwrap();
    watch.wait_for(1);
    let second = engine.submit(work("second", 64, STEPS, &[])).unwrap();
    match engine.submit(work("third", 1, 1, &[])) {
        Err(Error::Busy { waiting, seconds }) => assert!(waiting == 2 && seconds >= 1),
        _ => panic!("a third request was taken"),
    }
    drop(second);
    watch.open();
    Told::of(first);
    // The place of a dropped request is given back at the next step.
    while engine.submit(work("third", 1, 1, &[])).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_panic_or_an_error_is_for_its_own_request_alone() {
    let (engine, watch) = engine(Limits::default());
    watch.close();
    let prompt = |length: usize| "x".repeat(length);
    let submit = |prompt: &str| engine.submit(work(prompt, 2, 3, &[3])).unwrap();
    let gate = submit("gate");
    watch.wait_for(1);
    let [panics, fails, unreadable, good] =
        [&prompt(PANICS), &prompt(FAILS), &prompt(UNREADABLE), "good"].map(submit);
    watch.open();
    let error = |running| Told::of(running).error.expect("an error").to_string();
    let text = error(panics);
    assert!(text.contains("told to panic"), "{text}");
    let text = error(fails);
    assert!(text.contains("told to fail"), "{text}");
    let text = error(unreadable);
    assert!(text.contains("Send another"), "{text}");
    for running in [good, gate] {
        let told = Told::of(running);
        assert!(told.error.is_none() && told.observations().len() == 2);
    }
}

#[test]
fn a_model_that_cannot_be_loaded_is_an_error_and_the_thread_lives_on() {
    let (engine, _) = engine(Limits::default());
    let complaint = |name: &str| match block_on(engine.open(name)) {
        Ok(_) => panic!("{name} was opened"),
        Err(error) => error.to_string(),
    };
    assert!(complaint("missing").contains("no such model"));
    assert!(complaint("bomb").contains("told to panic"));
    let mut missing = work("x", 1, 1, &[]);
    missing.candidates[0].settings.model = "missing".into();
    let error = told(&engine, missing).error.unwrap().to_string();
    assert!(error.contains("no such model"), "{error}");
    let opened = block_on(engine.open("fake")).unwrap();
    assert_eq!(opened.facts().family, "fake");
}

#[test]
fn work_that_makes_no_sense_is_refused_with_the_value_seen() {
    let (engine, watch) = engine(Limits::default());
    let complaint = |work: Work| told(&engine, work).error.unwrap().to_string();
    let text = complaint(work("x", 1, STEPS + 1, &[]));
    assert!(text.contains("step 11 of a run of 10"), "{text}");
    assert!(complaint(work("x", 1, 0, &[])).contains("step 0"));
    assert!(complaint(work("x", 1, 3, &[4])).contains("step 4 of 3"));
    let mut strange = work("x", 1, 3, &[3]);
    strange.tap.blocks = vec!["nowhere".into()];
    assert!(complaint(strange).contains("nowhere"));
    assert!(told(&engine, work("x", 0, 3, &[])).events.is_empty());
    assert!(watch.evaluations().is_empty());
}

#[test]
fn the_thread_stops_when_the_last_engine_is_dropped() {
    let (engine, watch): (Engine, Arc<fake::Watch>) = engine(Limits::default());
    let other = engine.clone();
    watch.close();
    let running = other.submit(work("x", 64, STEPS, &[])).unwrap();
    watch.wait_for(1);
    drop((engine, other));
    watch.open();
    let told = Told::of(running);
    assert!(matches!(told.error, Some(Error::Cancelled)));
    // The thread owned the model, and the model the other half of the watch.
    while Arc::strong_count(&watch) > 1 {
        std::thread::yield_now();
    }
}
