//! Steps that are seen half-way through, and purses that end before the work does.

use super::super::{Limits, Work};
use super::GUIDED;
use super::fake::{STEPS, Told, engine, render, told, work};

/// Brought to the middle of the step after `to_step`.
fn glimpse(prompt: &str, seeds: u32, to_step: usize) -> Work {
    Work {
        glimpse: true,
        ..work(prompt, seeds, to_step, &[])
    }
}

#[test]
fn a_glimpse_costs_half_of_its_step_and_the_rest_of_it_the_other_half() {
    let (straight, _) = engine(Limits::default());
    let straight = told(&straight, work("a red circle", 3, 5, &[5])).observations();

    let (engine, watch) = engine(Limits::default());
    let seen = told(&engine, glimpse("a red circle", 3, 4));
    assert_eq!(seen.glimpses().len(), 3);
    assert!(
        seen.glimpses()
            .iter()
            .all(|(_, steps_done)| *steps_done == 4)
    );
    assert_eq!(seen.evaluations(), 3 * (4 * GUIDED + 1));
    assert_eq!(
        told(&engine, glimpse("a red circle", 3, 4)).evaluations(),
        0
    );
    let rest = told(&engine, work("a red circle", 3, 5, &[5]));
    assert_eq!((rest.evaluations(), rest.observations()), (3, straight));
    assert_eq!(watch.evaluations().len(), 3 * 5 * GUIDED);
}

#[test]
fn the_first_step_can_be_glimpsed_and_a_step_that_has_passed_costs_a_restart() {
    let (engine, _) = engine(Limits::default());
    let first = told(&engine, glimpse("a red circle", 2, 0));
    assert_eq!((first.glimpses().len(), first.evaluations()), (2, 2));
    told(&engine, work("a red circle", 2, 6, &[]));
    let again = told(&engine, glimpse("a red circle", 2, 3));
    assert_eq!(again.glimpses().len(), 2);
    assert_eq!(again.evaluations(), 2 * (3 * GUIDED + 1));
    assert_eq!(
        told(&engine, glimpse("a red circle", 2, 0)).evaluations(),
        0
    );
    // It goes on from there, and what went further is still there.
    let on = told(&engine, work("a red circle", 2, 4, &[4]));
    assert_eq!((on.observations().len(), on.evaluations()), (2, 2));
    let furthest = told(&engine, work("a red circle", 2, 7, &[7]));
    assert_eq!(furthest.evaluations(), 2 * GUIDED);
}

#[test]
fn a_glimpse_and_a_render_of_one_candidate_share_its_steps() {
    let (straight, _) = engine(Limits::default());
    let straight = told(&straight, render("shared", 0)).picture();
    let (engine, watch) = engine(Limits::default());
    watch.close();
    let renders = engine.submit(render("shared", 0)).unwrap();
    watch.wait_for(1);
    let glimpses = engine.submit(glimpse("shared", 1, 3)).unwrap();
    watch.open();
    let (renders, glimpses) = (Told::of(renders), Told::of(glimpses));
    assert_eq!(renders.picture(), (straight.0, 0));
    assert_eq!(glimpses.glimpses().len(), 1);
    assert_eq!(watch.evaluations().len(), GUIDED * STEPS);
    assert_eq!(
        renders.evaluations() + glimpses.evaluations(),
        GUIDED * STEPS
    );
}

#[test]
fn with_no_memory_a_glimpsed_step_is_done_from_its_beginning() {
    let (engine, _) = engine(Limits {
        cache_bytes: 0,
        ..Limits::default()
    });
    let seen = told(&engine, glimpse("a red circle", 4, 2));
    assert_eq!(seen.glimpses().len(), 4);
    let all = told(&engine, work("a red circle", 4, 3, &[3]));
    assert_eq!(all.observations().len(), 4);
    assert_eq!(all.evaluations(), 4 * 3 * GUIDED);
}

#[test]
fn a_purse_is_never_overdrawn() {
    for purse in 0..=(3 * 4 * GUIDED) {
        let (engine, watch) = engine(Limits::default());
        let some = told(
            &engine,
            Work {
                purse: Some(purse as u64),
                ..glimpse("a red circle", 3, 3)
            },
        );
        assert!(some.error.is_none());
        assert!(some.evaluations() <= purse);
        assert_eq!(watch.evaluations().len(), some.evaluations());
        let affords_all = purse >= 3 * (3 * GUIDED + 1);
        assert_eq!(some.glimpses().len() == 3, affords_all, "{purse}");
        // What was done stays.
        let rest = told(&engine, glimpse("a red circle", 3, 3)).evaluations();
        assert_eq!(rest + some.evaluations(), 3 * (3 * GUIDED + 1));
    }
}
