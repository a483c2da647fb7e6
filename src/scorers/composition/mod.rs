//! `composition`: whether an image shows what its prompt asked for, piece by piece.
//!
//! The scene is read out of the prompt ([`crate::world::parse`]) and the objects out of the image
//! ([`reader`]); the objects are matched so that the score is highest. Each piece is right or
//! wrong: how sharp an edge is does not count. The value is ¾ of the weighted share of what is
//! right, and ¼ where nothing is wrong, so that an image is good (≥ 0.8) when all of it is right.

pub mod doubt;
pub mod outline;
pub mod reader;

use image::RgbImage;

use self::doubt::Signs;
use self::reader::{Found, Sight, read};
use super::{Score, Scorer, Verdict};
use crate::Result;
use crate::world::{self, Object, Reading, Size};

/// The scorer of pocket's world.
#[derive(Debug, Clone, Copy, Default)]
pub struct Composition;

/// At or above this value all that the prompt asked for is there.
pub const GOOD: f64 = 0.8;

/// The share of the value that partial success can reach.
const PARTIAL: f64 = 0.75;

/// The weights of the pieces.
const OBJECT: f64 = 1.0;
const RELATION: f64 = 1.0;
const COUNT: f64 = 0.5;
const BACKGROUND: f64 = 0.5;

/// What an object is worth that has only its colour or only its shape right.
const HALF_RIGHT: f64 = 0.35;

/// What an object is worth that is right but for its size.
const WRONG_SIZE: f64 = 0.75;

/// Between these radii, in 64ths of the shorter side, a size cannot be told from the usual one.
const SMALL_BELOW: f64 = 7.75;
const LARGE_ABOVE: f64 = 10.4;

/// No more of the biggest things in an image are matched.
const MOST_FOUND: usize = 8;

impl Scorer for Composition {
    fn metric(&self) -> &str {
        "composition"
    }

    fn good(&self) -> f64 {
        GOOD
    }

    fn judges_words(&self) -> bool {
        true
    }

    fn score(&self, prompt: &str, image: &RgbImage) -> Result<Score> {
        let reading = world::parse(prompt)?;
        Ok(judge(
            &reading,
            &read(image),
            image.width().min(image.height()),
        ))
    }
}

/// The score of what is seen for what was asked; `side` is the image's shorter one, in pixels.
pub fn judge(reading: &Reading, sight: &Sight, side: u32) -> Score {
    let (mut score, signs) = judge_open(reading, sight, side);
    score.doubt = Some(signs.doubt());
    score
}

/// The score without its doubt, and what tells that.
pub fn judge_open(reading: &Reading, sight: &Sight, side: u32) -> (Score, Signs) {
    let found = &sight.objects[..sight.objects.len().min(MOST_FOUND)];
    let unit = f64::from(side) / 64.0;
    let asked = &reading.scene.objects;
    let credits = Credits::of(asked, found);
    let mut best: Option<(f64, Vec<Option<usize>>)> = None;
    for_each_matching(asked.len(), found.len(), &mut |matching| {
        let value = credits.of_matching(matching).sum::<f64>() * OBJECT
            + relations(reading, found, &credits, matching, unit).sum::<f64>() * RELATION;
        if best.as_ref().is_none_or(|(highest, _)| value > *highest) {
            best = Some((value, matching.to_vec()));
        }
    });
    let matching = best.map_or_else(|| vec![None; asked.len()], |(_, matching)| matching);
    let weighed = verdicts(reading, sight, found, &credits, &matching, unit);
    let total: f64 = weighed.iter().map(|(weight, _)| weight).sum();
    let right: f64 = weighed
        .iter()
        .map(|(weight, verdict)| weight * verdict.credit)
        .sum();
    let all = weighed.iter().all(|(_, verdict)| verdict.ok);
    let score = Score {
        value: PARTIAL * right / total + if all { 1.0 - PARTIAL } else { 0.0 },
        verdicts: weighed.into_iter().map(|(_, verdict)| verdict).collect(),
        doubt: None,
    };
    (score, Signs::of(asked, found, &matching, sight.open, all))
}

/// Every way to give each of `asked` objects one of the `found` or none, each found one once.
fn for_each_matching(asked: usize, found: usize, visit: &mut impl FnMut(&[Option<usize>])) {
    fn go(
        matching: &mut Vec<Option<usize>>,
        asked: usize,
        found: usize,
        visit: &mut impl FnMut(&[Option<usize>]),
    ) {
        if matching.len() == asked {
            visit(matching);
            return;
        }
        for choice in (0..found).map(Some).chain([None]) {
            if choice.is_none() || !matching.contains(&choice) {
                matching.push(choice);
                go(matching, asked, found, visit);
                matching.pop();
            }
        }
    }
    go(&mut Vec::new(), asked, found, visit);
}

/// What `found` is worth as `asked`.
fn credit(asked: &Object, found: &Found) -> f64 {
    let colour = asked.colour.is_none_or(|colour| colour == found.colour);
    let shape = found.is(asked.shape);
    let size = match asked.size {
        None => true,
        Some(Size::Small) => found.radius < SMALL_BELOW,
        Some(Size::Large) => found.radius > LARGE_ABOVE,
    };
    match (colour, shape, size) {
        (true, true, true) => 1.0,
        (true, true, false) => WRONG_SIZE,
        // An object without a named colour is not half right for having one.
        (true, false, _) if asked.colour.is_some() => HALF_RIGHT,
        (false, true, _) => HALF_RIGHT,
        _ => 0.0,
    }
}

/// What each found object is worth as each of the asked.
struct Credits(Vec<Vec<f64>>);

impl Credits {
    fn of(asked: &[Object], found: &[Found]) -> Self {
        let row = |object| found.iter().map(|one| credit(object, one)).collect();
        Self(asked.iter().map(row).collect())
    }

    /// What each of the asked is worth in a matching.
    fn of_matching(&self, matching: &[Option<usize>]) -> impl Iterator<Item = f64> {
        let own = self.0.iter().zip(matching);
        own.map(|(credits, choice)| choice.map_or(0.0, |index| credits[index]))
    }
}

/// 1 for each relation whose two objects are there and stand as asked, else 0.
fn relations(
    reading: &Reading,
    found: &[Found],
    credits: &Credits,
    matching: &[Option<usize>],
    unit: f64,
) -> impl Iterator<Item = f64> {
    let there = move |index: usize| {
        let choice = matching[index]?;
        (credits.0[index][choice] >= WRONG_SIZE).then_some(found[choice].centre)
    };
    reading.scene.relations.iter().map(move |relation| {
        match (there(relation.subject), there(relation.object)) {
            (Some(subject), Some(object)) => {
                let (along, off) = relation.side.offset(subject, object);
                f64::from(u8::from(along >= 3.0 * unit && along >= 0.4 * off))
            }
            _ => 0.0,
        }
    })
}

/// A verdict for each piece, with its weight.
fn verdicts(
    reading: &Reading,
    sight: &Sight,
    found: &[Found],
    credits: &Credits,
    matching: &[Option<usize>],
    unit: f64,
) -> Vec<(f64, Verdict)> {
    let scene = &reading.scene;
    let mut weighed = Vec::new();
    let mut add = |weight, what: String, words, credit: f64| {
        let ok = credit >= 1.0;
        weighed.push((
            weight,
            Verdict {
                what,
                words,
                ok,
                credit,
            },
        ));
    };
    let named = |object: &Object| match object.size {
        Some(size) => format!("{} {}", size.word(), object.name()),
        None => object.name(),
    };
    for ((object, words), credit) in scene
        .objects
        .iter()
        .zip(&reading.words)
        .zip(credits.of_matching(matching))
    {
        add(OBJECT, named(object), words.all(), credit);
    }
    for ((relation, words), credit) in scene
        .relations
        .iter()
        .zip(&reading.relations)
        .zip(relations(reading, found, credits, matching, unit))
    {
        let what = format!(
            "{} {} {}",
            scene.objects[relation.subject].name(),
            relation.side.word(),
            scene.objects[relation.object].name()
        );
        add(RELATION, what, vec![words.clone()], credit);
    }
    let (asked, seen) = (scene.objects.len() as f64, sight.objects.len() as f64);
    let what = match scene.objects.len() {
        1 => "1 object".to_string(),
        n => format!("{n} objects"),
    };
    let counts = reading.words.iter().filter_map(|words| words.count.clone());
    let mut words: Vec<_> = counts.collect();
    words.dedup();
    add(
        COUNT,
        what,
        words,
        (1.0 - (asked - seen).abs() / asked).max(0.0),
    );
    if let Some(background) = scene.background {
        let right = sight.background == Some(background);
        let words = reading.background.iter().cloned().collect();
        let what = format!("{} background", background.word());
        add(BACKGROUND, what, words, f64::from(u8::from(right)));
    }
    weighed
}

#[cfg(test)]
mod tests;
