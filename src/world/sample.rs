//! Random scenes, and the split between what training saw and what it never saw.

use super::random::{Random, hash};
use super::scene::{Background, Colour, Object, Relation, Scene, Shape, Side, Size};
use super::wording::{Style, word};

/// Which scenes a prompt is drawn from. All wordings, sizes, relations and backgrounds of the same
/// coloured shapes are on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What pocket and its probe were trained on.
    Train,
    /// A tenth of the other scenes, by a hash of their coloured shapes.
    HeldOut,
    /// Every scene with both a heart and a cross: a family that training never saw.
    Family,
}

/// The side that a scene is on.
pub fn split_of(scene: &Scene) -> Split {
    let has = |shape| scene.objects.iter().any(|object| object.shape == shape);
    if has(Shape::Heart) && has(Shape::Cross) {
        Split::Family
    } else if hash(&scene.content()) >= u64::MAX / 10 * 9 {
        Split::HeldOut
    } else {
        Split::Train
    }
}

/// A random scene of one split.
pub fn sample_from(split: Split, random: &mut Random) -> Scene {
    loop {
        let mut scene = sample_scene(random);
        if split == Split::Family && scene.objects.len() > 1 {
            // One scene in thirty is of the family by chance.
            scene.objects[0].shape = Shape::Heart;
            scene.objects[1].shape = Shape::Cross;
        }
        if split_of(&scene) == split {
            return scene;
        }
    }
}

/// A prompt and the scene that it asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The wording.
    pub text: String,
    /// What it asks for.
    pub scene: Scene,
}

/// `n` prompts of a split, the same for the same `seed`; the first of more are the same as fewer.
pub fn prompts(split: Split, n: usize, seed: u64) -> Vec<Prompt> {
    (0..n as u64)
        .map(|index| {
            let mut random = Random::nth(seed, index);
            let scene = sample_from(split, &mut random);
            let text = word(&scene, &Style::sample(&mut random), &mut random);
            Prompt { text, scene }
        })
        .collect()
}

/// A random scene: one to four objects, some alike, some related, some sized.
pub fn sample_scene(random: &mut Random) -> Scene {
    let count = random.weighted(&[(0.15, 1), (0.40, 2), (0.30, 3), (0.15, 4)]);
    let uncoloured = random.chance(0.03);
    let mut objects: Vec<Object> = Vec::with_capacity(count);
    while objects.len() < count {
        if let Some(&last) = objects.last()
            && random.chance(0.16)
        {
            objects.push(last);
            continue;
        }
        let colour = Colour::ALL[random.below(Colour::ALL.len())];
        objects.push(Object {
            shape: Shape::ALL[random.below(Shape::ALL.len())],
            colour: (!(uncoloured && random.chance(0.5))).then_some(colour),
            size: random.weighted(&[
                (0.76, None),
                (0.12, Some(Size::Small)),
                (0.12, Some(Size::Large)),
            ]),
        });
    }
    let relations = sample_relations(&objects, random);
    let background = random
        .chance(0.45)
        .then(|| Background::ALL[random.below(Background::ALL.len())]);
    Scene {
        objects,
        relations,
        background,
    }
}

/// Relations between neighbours in the list, never between two that are alike: a pair, a chain of
/// three, or two pairs.
fn sample_relations(objects: &[Object], random: &mut Random) -> Vec<Relation> {
    let wanted: &[(usize, usize)] = match objects.len() {
        2 => random.weighted(&[(0.35, &[][..]), (0.65, &[(0, 1)])]),
        3 => random.weighted(&[
            (0.50, &[][..]),
            (0.35, &[(0, 1)]),
            (0.15, &[(0, 1), (1, 2)]),
        ]),
        4 => random.weighted(&[
            (0.65, &[][..]),
            (0.25, &[(0, 1)]),
            (0.10, &[(0, 1), (2, 3)]),
        ]),
        _ => &[],
    };
    let alone = |i: usize| objects.iter().filter(|other| **other == objects[i]).count() == 1;
    wanted
        .iter()
        .filter(|&&(a, b)| alone(a) && alone(b))
        .map(|&(subject, object)| Relation {
            subject,
            side: Side::ALL[random.below(Side::ALL.len())],
            object,
        })
        .collect()
}
