use super::*;
use crate::probe::random::Random;

const GLIMPSES: bool = true;

fn moment(step: usize, glimpse: bool) -> Moment {
    Moment { step, glimpse }
}

/// Stops after steps 1, 5, 10 and 15 of 25, guided, with the usual errors there.
fn terms(keep: usize, budget: Option<u64>, glimpses: bool) -> Terms {
    let stops = [(1, 0.20), (5, 0.17), (10, 0.12), (15, 0.08)];
    let stops = stops.into_iter().flat_map(|(step, error)| {
        let glimpse = glimpses.then_some((moment(step, true), error + 0.01));
        glimpse.into_iter().chain([(moment(step, false), error)])
    });
    Terms {
        stops: stops
            .map(|(moment, error)| Stop {
                moment,
                prompt_share: 0.5,
                error: Some(error),
            })
            .collect(),
        keep,
        budget,
        evaluations_a_step: 2,
        steps: 25,
    }
}

fn predicted(quality: f64, half: f64) -> Option<Prediction> {
    Some(Prediction {
        quality,
        interval: Some([quality - half, quality + half]),
        p_good: None,
        word_risks: Vec::new(),
    })
}

/// Runs a race to its end; what is predicted depends on the seed and the moment alone.
fn run(
    mut race: Race,
    predict: impl Fn(usize, Moment) -> Option<Prediction>,
) -> (Race, Vec<Round>) {
    let mut rounds = Vec::new();
    while let Some(round) = race.next() {
        assert_eq!(race.next().as_ref(), Some(&round), "asking moves nothing");
        race.report(
            round
                .who
                .iter()
                .map(|&i| predict(i, round.moment))
                .collect(),
        );
        rounds.push(round);
    }
    (race, rounds)
}

#[test]
fn everybody_is_judged_first_and_ranked_once() {
    let (race, rounds) = run(Race::new(6, terms(1, None, false)), |i, _| {
        predicted(0.1 * i as f64, 0.3)
    });
    assert_eq!(rounds[0].who, [0, 1, 2, 3, 4, 5]);
    assert_eq!(race.ranking(), [5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_race_whose_best_is_clear_ends_at_once() {
    let (race, rounds) = run(Race::new(4, terms(1, None, false)), |i, _| {
        predicted(if i == 2 { 0.9 } else { 0.1 }, 0.1)
    });
    assert!(race.is_clear());
    assert_eq!((rounds.len(), race.spent()), (1, 4 * 2));
}

#[test]
fn only_seeds_that_are_surely_not_among_the_best_are_dropped() {
    // The chance to be better is a twentieth at 1.64 √2 own errors below the bar.
    let half = 0.2;
    let far = 2f64.sqrt() * half * 0.5f64.sqrt();
    for (below, goes_on) in [(far - 0.005, true), (far + 0.005, false)] {
        let quality = move |i: usize| 0.9 - [0.0, below, 0.01][i];
        let mut race = Race::new(3, terms(1, None, false));
        race.next();
        race.report((0..3).map(|i| predicted(quality(i), half)).collect());
        let second = race.contenders();
        assert_eq!(second.contains(&1), goes_on, "{below} below");
        assert!(second.contains(&0) && second.contains(&2));
    }
}

#[test]
fn a_dropped_seed_is_back_when_the_leaders_fall() {
    let mut race = Race::new(3, terms(1, None, false));
    race.next();
    race.report([0.9, 0.9, 0.55].map(|q| predicted(q, 0.25)).into());
    assert!(!race.contenders().contains(&2));
    for leader in [0, 1] {
        race.field[leader] = Standing {
            prediction: predicted(0.1, 0.05),
            stop: Some(1),
            before: 0,
        };
    }
    assert_eq!(race.contenders()[0], 2);
    assert_eq!(race.ranking()[0], 2);
}

#[test]
fn what_nothing_can_tell_apart_is_not_paid_for() {
    // Known exactly, and alike: no order is better than another.
    let (race, rounds) = run(Race::new(4, terms(1, None, false)), |_, _| {
        predicted(0.8, 0.0)
    });
    assert_eq!(rounds.len(), 1, "{rounds:?}");
    assert!(!race.is_clear());
    // Errors that stay what they are however far one goes.
    let mut flat = terms(1, None, false);
    for stop in &mut flat.stops {
        stop.error = Some(0.2);
    }
    let (_, rounds) = run(Race::new(4, flat), |_, _| predicted(0.8, 0.3));
    assert_eq!(rounds.len(), 1, "{rounds:?}");
}

#[test]
fn a_stated_budget_is_never_exceeded() {
    let mut random = Random::new(3);
    for glimpses in [false, GLIMPSES] {
        for budget in 16..400 {
            let noise: Vec<f64> = (0..64).map(|_| normal(&mut random) * 0.15).collect();
            let race = Race::new(8, terms(1 + budget % 3, Some(budget as u64), glimpses));
            let (race, _) = run(race, |i, moment| {
                predicted(0.6 + noise[(i * 7 + moment.step) % 64], 0.2)
            });
            assert!(race.spent() <= budget as u64, "{budget}: {}", race.spent());
        }
    }
}

#[test]
fn a_dropped_candidate_does_not_finish_its_step() {
    let (race, rounds) = run(
        Race::new(4, terms(1, None, GLIMPSES)),
        |i, moment| match moment.step {
            1 => predicted(0.5, 0.3),
            _ => predicted(if i < 2 { 0.9 } else { 0.2 }, 0.2),
        },
    );
    let at = |i: usize| race.judged(i).unwrap().1;
    assert_eq!((at(2), at(3)), (moment(5, true), moment(5, true)));
    assert_eq!(at(2).evaluations(2), 9);
    assert!(
        rounds
            .iter()
            .all(|r| r.moment.step <= 5 || r.who.len() <= 2)
    );
}

#[test]
fn keeping_more_goes_on_with_more() {
    let quality = |i: usize| 0.9 - 0.04 * i as f64;
    for keep in 1..4 {
        let (race, rounds) = run(Race::new(6, terms(keep, None, false)), |i, _| {
            predicted(quality(i), 0.25)
        });
        for round in &rounds {
            assert!(round.who.len() > keep.min(5) - 1, "{rounds:?}");
        }
        assert_eq!(race.ranking()[..keep], (0..keep).collect::<Vec<_>>());
    }
    let (race, rounds) = run(Race::new(3, terms(3, None, false)), |i, _| {
        predicted(quality(i), 0.2)
    });
    assert!(race.is_clear() && rounds.len() == 1);
}

#[test]
fn without_intervals_nobody_goes_on_and_nobody_is_dropped() {
    let mut plain = terms(1, None, false);
    plain.stops.truncate(1);
    let (race, rounds) = run(Race::new(3, plain), |i, _| {
        predicted(i as f64, 0.1).map(|p| Prediction {
            interval: None,
            ..p
        })
    });
    assert_eq!((rounds.len(), race.ranking()), (1, vec![2, 1, 0]));
}

#[test]
fn who_could_not_be_judged_keeps_what_was_known_and_ends_the_race() {
    let mut race = Race::new(3, terms(1, None, false));
    race.next();
    race.report([0.5, 0.6, 0.55].map(|q| predicted(q, 0.4)).into());
    let round = race.next().unwrap();
    let mut told = vec![None; round.who.len()];
    told[0] = predicted(0.3, 0.3);
    race.report(told);
    assert_eq!(race.next(), None);
    assert_eq!(race.ranking(), [2, 0, 1]);
    assert_eq!(race.judged(2).unwrap().1.step, 1);
}

/// Seeds of many prompts whose predictions get closer to the truth from moment to moment.
fn simulated(seeds: usize, glimpses: bool) -> (f64, f64, f64) {
    const PROMPTS: usize = 400;
    const SPREAD: f64 = 0.145;
    let course = terms(1, None, glimpses);
    let mut random = Random::new(7);
    let (mut cost, mut delivered, mut mean) = (0.0, 0.0, 0.0);
    for _ in 0..PROMPTS {
        // The truth is a prediction plus an own error of the usual size, at every moment.
        let mut beliefs = vec![vec![0.0; course.stops.len()]; seeds];
        let truth: Vec<f64> = (0..seeds)
            .map(|i| {
                let (mut known, mut left) = (0.0, SPREAD);
                for (stop, belief) in course.stops.iter().zip(&mut beliefs[i]) {
                    let error = stop.error.unwrap() * 0.5f64.sqrt();
                    known += normal(&mut random) * (left * left - error * error).max(0.0).sqrt();
                    (left, *belief) = (error, known);
                }
                known + normal(&mut random) * left
            })
            .collect();
        let (race, _) = run(Race::new(seeds, course.clone()), |i, moment| {
            let stop = course
                .stops
                .iter()
                .position(|s| s.moment == moment)
                .unwrap();
            predicted(beliefs[i][stop], course.stops[stop].error.unwrap() * Z90)
        });
        let first = race.ranking()[0];
        cost += (race.spent() + 50 - race.paid(first)) as f64 / PROMPTS as f64;
        delivered += truth[first] / PROMPTS as f64;
        mean += truth.iter().sum::<f64>() / (seeds * PROMPTS) as f64;
    }
    (cost, delivered - mean, SPREAD)
}

#[test]
fn a_race_on_honest_predictions_pays() {
    // The expected best of K standard normal numbers, K = 1, 2, …
    let best_of = [0.0, 0.5642, 0.8463, 1.0294, 1.1630, 1.2672];
    for seeds in [3, 4, 6, 8] {
        for glimpses in [false, GLIMPSES] {
            let (cost, gain, spread) = simulated(seeds, glimpses);
            let renders = cost / 50.0 - 1.0;
            let (k, share) = (renders.floor() as usize, renders.fract());
            let rendering = spread * (best_of[k] + share * (best_of[k + 1] - best_of[k]));
            assert!(
                gain > rendering,
                "{seeds} seeds: {cost:.0} evaluations gain {gain:.3}, rendering {rendering:.3}"
            );
        }
    }
}

/// Box–Muller.
fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.unit()).cos()
}

#[test]
fn a_seed_that_was_judged_further_on_is_not_sent_back_and_goes_on_from_there() {
    let mut race = Race::new(3, terms(1, None, GLIMPSES));
    let round = race.next().unwrap();
    assert_eq!(round.who, [0, 1, 2]);
    let at = |quality, moment| predicted(quality, 0.3).map(|p| (p, moment));
    let (here, five) = (round.moment, moment(5, false));
    race.report_at(vec![at(0.5, five), at(0.5, here), at(0.52, here)]);
    assert_eq!(race.judged(0).unwrap().1, five);
    assert_eq!(
        race.spent(),
        2,
        "two were judged half-way into the first step"
    );
    while let Some(round) = race.next() {
        let before = race.judged(0).unwrap().1;
        assert!(
            !round.who.contains(&0) || round.moment.steps() > before.steps(),
            "{round:?}"
        );
        let said = round.who.iter().map(|_| predicted(0.5, 0.3)).collect();
        race.report(said);
    }
    assert!(race.judged(0).unwrap().1.steps() >= 5.0);
}
