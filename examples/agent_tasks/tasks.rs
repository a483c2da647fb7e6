//! The ten tasks: what is asked, what is right, and what somebody would answer who can only render.

use anyhow::{Result, bail};
use foreseed::scorers::composition::GOOD;
use foreseed::world::random::Random;
use foreseed::world::{Scene, parse};

use crate::agent::{Answer, Question};
use crate::measures::{FRESH, Means, drawn, fresh, is_good, max, mean, min, some_of};
use crate::scenes::{any_wording, held_out, is_hard, is_plain, wording, wordings};
use crate::truth::Truth;

/// A mean over fresh seeds that lies less than this below the best is as good: wordings of one scene that
/// say everything once are about 0.03 apart, and a mean is known to about as much.
const AS_GOOD: f64 = 0.02;
/// A better wording is better by at least this.
const BETTER: f64 = 0.02;

/// How an answer did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub right: bool,
    /// What was chosen or delivered, by its measured quality; where nothing was, 1 for right.
    pub quality: f64,
}

impl Outcome {
    fn of(right: bool) -> Self {
        Self {
            right,
            quality: f64::from(u8::from(right)),
        }
    }
}

/// What an answer that took `spent` denoiser evaluations is worth.
type Judge = Box<dyn Fn(&Truth, &Answer, u64) -> Result<Outcome>>;
/// What somebody answers who rendered so many pictures and looked at them.
type Blind = Box<dyn Fn(usize, &mut Random) -> Outcome>;

/// A question, and all that is needed to judge its answer.
pub struct Instance {
    pub question: Question,
    pub judge: Judge,
    pub blind: Blind,
}

/// A kind of question.
pub struct Task {
    pub asks: &'static str,
    /// The fewest pictures that an answer without foresight takes: 0 where guessing is an answer.
    pub least: usize,
    /// Pictures go in multiples of this: one of each thing that is compared.
    pub unit: usize,
    pub make: fn(&Truth, &mut Random) -> Result<Instance>,
}

pub const TASKS: [Task; 10] = [
    task(
        "which of these four wordings should be rendered",
        0,
        4,
        which_wording,
    ),
    task(
        "the best of 32 seeds within 200 evaluations",
        1,
        1,
        best_seed,
    ),
    task(
        "which of three objects will be missing or wrong",
        0,
        1,
        which_object,
    ),
    task(
        "do most seeds of this prompt come out good",
        0,
        1,
        worth_rendering,
    ),
    task("which of two prompts comes out better", 0, 2, which_prompt),
    task(
        "a seed of 16 that is good, with a chance of 0.8",
        1,
        1,
        sure_seed,
    ),
    task("a better wording of a weak prompt", 0, 4, better_wording),
    task(
        "look at a candidate, finish it for one render in all",
        1,
        1,
        finish,
    ),
    task("order 12 seeds within 120 evaluations", 0, 1, order),
    task("a good picture within 120 evaluations", 1, 1, good_picture),
];

const fn task(
    asks: &'static str,
    least: usize,
    unit: usize,
    make: fn(&Truth, &mut Random) -> Result<Instance>,
) -> Task {
    Task {
        asks,
        least,
        unit,
        make,
    }
}

fn which_wording(truth: &Truth, random: &mut Random) -> Result<Instance> {
    let scene = held_out(random, is_hard);
    let wordings = wordings(&scene, 4, any_wording, random);
    let means = Means::of(truth, &wordings)?;
    let known = means.clone();
    Ok(Instance {
        question: Question::WhichWording { wordings },
        judge: Box::new(move |_, answer, _| match answer {
            Answer::Choice(choice) => Ok(means.chosen(*choice, AS_GOOD)),
            _ => bail!("no choice"),
        }),
        blind: Box::new(move |pictures, random| known.blind(pictures, AS_GOOD, random)),
    })
}

fn which_prompt(truth: &Truth, random: &mut Random) -> Result<Instance> {
    let mut draw = || {
        let scene = held_out(random, |_| true);
        wording(&scene, random)
    };
    let prompts = [draw(), draw()];
    let means = Means::of(truth, &prompts)?;
    let known = means.clone();
    Ok(Instance {
        question: Question::WhichPrompt { prompts },
        judge: Box::new(move |_, answer, _| match answer {
            Answer::Choice(choice) => Ok(means.chosen(*choice, BETTER)),
            _ => bail!("no choice"),
        }),
        blind: Box::new(move |pictures, random| known.blind(pictures, BETTER, random)),
    })
}

fn better_wording(truth: &Truth, random: &mut Random) -> Result<Instance> {
    let (scene, prompt) = loop {
        let scene = held_out(random, |scene| scene.objects.len() > 1);
        let prompt = wording(&scene, random);
        // A third of the fresh seeds first: most prompts are not weak.
        let first: Vec<u32> = FRESH.take(4).collect();
        let weak = |scores: Vec<f64>| mean(&scores.iter().map(is_good).collect::<Vec<_>>()) <= 0.5;
        if weak(truth.scores(&prompt, &first)?) && weak(truth.scores(&prompt, &fresh())?) {
            break (scene, prompt);
        }
    };
    let mut others = wordings(&scene, 4, wording, random);
    others.retain(|other| *other != prompt);
    others.truncate(3);
    others.insert(0, prompt.clone());
    let known = Means::of(truth, &others)?;
    let before = known.means[0];
    let asked = prompt.clone();
    let improved = move |mean: f64| Outcome {
        right: mean >= before + BETTER,
        quality: mean,
    };
    Ok(Instance {
        question: Question::BetterWording { prompt },
        judge: Box::new(move |truth, answer, _| match answer {
            // Another scene may be easier, and is not what was asked for.
            Answer::Text(text) if !asks_for(text, &scene) => Ok(Outcome::default()),
            Answer::Text(text) => Ok(improved(mean(&truth.scores_for(&asked, text, &fresh())?))),
            _ => bail!("no wording"),
        }),
        blind: Box::new(move |pictures, random| {
            let choice = match pictures {
                0 => 1 + random.below(known.means.len() - 1),
                n => known.looked_best(n, random),
            };
            improved(known.means[choice])
        }),
    })
}

fn which_object(truth: &Truth, random: &mut Random) -> Result<Instance> {
    loop {
        let scene = held_out(random, is_plain);
        let objects: Vec<String> = scene.objects.iter().map(|o| o.name()).collect();
        let prompt = format!("a {}, a {} and a {}", objects[0], objects[1], objects[2]);
        let seeds: Vec<u32> = (0..4).map(|_| random.next_u64() as u32).collect();
        for (seed, finished) in seeds.iter().zip(truth.finished(&prompt, &seeds)?) {
            let verdicts = &finished.score.verdicts;
            let wrong: Vec<usize> = (0..objects.len())
                .filter(|&i| verdicts.iter().any(|v| v.what == objects[i] && !v.ok))
                .collect();
            if let [wrong] = wrong[..] {
                return Ok(Instance {
                    question: Question::WhichObject {
                        prompt,
                        seed: *seed,
                        objects,
                    },
                    judge: Box::new(move |_, answer, _| match answer {
                        Answer::Choice(choice) => Ok(Outcome::of(*choice == wrong)),
                        _ => bail!("no choice"),
                    }),
                    blind: Box::new(|pictures, random| {
                        Outcome::of(pictures > 0 || random.below(3) == 0)
                    }),
                });
            }
        }
    }
}

fn worth_rendering(truth: &Truth, random: &mut Random) -> Result<Instance> {
    let scene = held_out(random, |_| true);
    let prompt = wording(&scene, random);
    let good: Vec<f64> = truth.scores(&prompt, &fresh())?;
    let good: Vec<f64> = good.iter().map(is_good).collect();
    let worth = mean(&good) > 0.5;
    Ok(Instance {
        question: Question::WorthRendering { prompt },
        judge: Box::new(move |_, answer, _| match answer {
            Answer::Yes(yes) => Ok(Outcome::of(*yes == worth)),
            _ => bail!("neither yes nor no"),
        }),
        blind: Box::new(move |pictures, random| {
            let yes = match pictures {
                0 => random.chance(0.5),
                n => mean(&drawn(&good, n, random)) > 0.5,
            };
            Outcome::of(yes == worth)
        }),
    })
}

fn best_seed(truth: &Truth, random: &mut Random) -> Result<Instance> {
    let prompt = wording(&held_out(random, is_hard), random);
    let scores = truth.scores(&prompt, &(0..32).collect::<Vec<_>>())?;
    // The eighth best of 32: the best quarter begins there.
    let mut sorted = scores.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    delivering(prompt, 32, 200, scores, sorted[7])
}

fn good_picture(truth: &Truth, random: &mut Random) -> Result<Instance> {
    let prompt = wording(&held_out(random, is_hard), random);
    let scores = truth.scores(&prompt, &(0..16).collect::<Vec<_>>())?;
    delivering(prompt, 0, 120, scores, GOOD)
}

/// A picture that is to score `bar` within so many evaluations; of any seed where `seeds` is 0.
fn delivering(
    prompt: String,
    seeds: u32,
    evaluations: u64,
    scores: Vec<f64>,
    bar: f64,
) -> Result<Instance> {
    let asked = prompt.clone();
    let outcome = move |score: f64| Outcome {
        right: score >= bar,
        quality: score,
    };
    Ok(Instance {
        question: match seeds {
            0 => Question::GoodPicture {
                prompt,
                evaluations,
            },
            seeds => Question::BestSeed {
                prompt,
                seeds,
                evaluations,
            },
        },
        judge: Box::new(move |truth, answer, spent| {
            let Answer::Picture { path, seed } = answer else {
                bail!("no picture");
            };
            let kept_to_it = spent <= evaluations && truth.is_picture_of(path, &asked, *seed)?;
            let outcome = outcome(truth.scores(&asked, &[*seed])?[0]);
            Ok(match kept_to_it {
                true => outcome,
                false => Outcome::default(),
            })
        }),
        blind: Box::new(move |pictures, random| {
            let seen = some_of(&scores, pictures.max(1), random);
            outcome(seen.into_iter().fold(0.0, f64::max))
        }),
    })
}

fn sure_seed(truth: &Truth, random: &mut Random) -> Result<Instance> {
    let prompt = wording(&held_out(random, is_hard), random);
    let scores = truth.scores(&prompt, &(0..16).collect::<Vec<_>>())?;
    let known = scores.clone();
    Ok(Instance {
        question: Question::SureSeed {
            prompt,
            seeds: 16,
            chance: 0.8,
        },
        judge: Box::new(move |_, answer, _| match answer {
            Answer::Seed(Some(seed)) => {
                let quality = scores.get(*seed as usize).copied().unwrap_or(0.0);
                Ok(Outcome {
                    right: quality >= GOOD,
                    quality,
                })
            }
            // Right where there was nothing to find, and all that was to be had.
            Answer::Seed(None) => Ok(Outcome {
                right: max(&scores) < GOOD,
                quality: mean(&scores),
            }),
            _ => bail!("no seed"),
        }),
        blind: Box::new(move |pictures, random| {
            let seen = some_of(&known, pictures.max(1), random);
            let quality = seen.into_iter().fold(0.0, f64::max);
            Outcome {
                right: quality >= GOOD,
                quality,
            }
        }),
    })
}

fn finish(_: &Truth, random: &mut Random) -> Result<Instance> {
    let prompt = wording(&held_out(random, |_| true), random);
    let seed = random.next_u64() as u32;
    let asked = prompt.clone();
    Ok(Instance {
        question: Question::Finish { prompt, seed },
        judge: Box::new(move |truth, answer, spent| match answer {
            Answer::Picture { path, seed: drawn } => Ok(Outcome::of(
                *drawn == seed
                    && spent <= truth.full_evaluations()
                    && truth.is_picture_of(path, &asked, seed)?,
            )),
            _ => bail!("no picture"),
        }),
        blind: Box::new(|pictures, _| Outcome::of(pictures > 0)),
    })
}

fn order(truth: &Truth, random: &mut Random) -> Result<Instance> {
    const SEEDS: usize = 12;
    let (prompt, scores) = loop {
        let prompt = wording(&held_out(random, is_hard), random);
        let seeds: Vec<u32> = (0..SEEDS as u32).collect();
        let scores = truth.scores(&prompt, &seeds)?;
        // Where all come out alike there is nothing to order.
        let (least, most) = (min(&scores), max(&scores));
        if most > least {
            break (prompt, scores);
        }
    };
    let known = scores.clone();
    let judged = |scores: &[f64], order: &[usize]| {
        let of = |places: &[usize]| mean(&places.iter().map(|&i| scores[i]).collect::<Vec<_>>());
        let third = SEEDS / 3;
        Outcome {
            right: of(&order[..third]) > of(&order[SEEDS - third..]),
            quality: of(&order[..third]),
        }
    };
    Ok(Instance {
        question: Question::Order {
            prompt,
            seeds: SEEDS as u32,
            evaluations: 120,
        },
        judge: Box::new(move |_, answer, spent| {
            let Answer::Order(seeds) = answer else {
                bail!("no order");
            };
            let order: Vec<usize> = seeds.iter().map(|s| *s as usize).collect();
            let mut each = order.clone();
            each.sort_unstable();
            Ok(
                match each == (0..SEEDS).collect::<Vec<_>>() && spent <= 120 {
                    true => judged(&scores, &order),
                    false => Outcome::default(),
                },
            )
        }),
        blind: Box::new(move |pictures, random| {
            let mut order: Vec<usize> = (0..SEEDS).collect();
            random.shuffle(&mut order);
            // Those that were not looked at are taken to be as good as the mean of the others.
            let seen = &order[..pictures.min(SEEDS)];
            let guess = mean(&seen.iter().map(|&i| known[i]).collect::<Vec<_>>());
            let value = |i: usize| if seen.contains(&i) { known[i] } else { guess };
            let mut by_value = order.clone();
            by_value.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
            judged(&known, &by_value)
        }),
    })
}

/// Whether a picture of this text is one that the scene asks for; a background that the scene leaves open
/// may be any.
fn asks_for(text: &str, scene: &Scene) -> bool {
    parse(text).is_ok_and(|reading| {
        let mut said = reading.scene;
        if scene.background.is_none() {
            said.background = None;
        }
        said.asks_the_same_as(scene)
    })
}
