//! Held-out scenes and their wordings.

use foreseed::world::random::Random;
use foreseed::world::wording::{Style, Telling, word};
use foreseed::world::{Scene, Split, sample_from};

/// A scene that pocket and its probe were not trained on, and that `fits`.
pub fn held_out(random: &mut Random, fits: impl Fn(&Scene) -> bool) -> Scene {
    loop {
        let scene = sample_from(Split::HeldOut, random);
        if fits(&scene) {
            return scene;
        }
    }
}

/// Hard enough that seeds differ: three objects or more, and a relation.
pub fn is_hard(scene: &Scene) -> bool {
    scene.objects.len() >= 3 && !scene.relations.is_empty()
}

/// Three objects whose words stand in the prompt once.
pub fn is_plain(scene: &Scene) -> bool {
    let objects = &scene.objects;
    let differ = |i: usize, j: usize| {
        objects[i].shape != objects[j].shape && objects[i].colour != objects[j].colour
    };
    objects.len() == 3
        && scene.relations.is_empty()
        && objects
            .iter()
            .all(|o| o.colour.is_some() && o.size.is_none())
        && differ(0, 1)
        && differ(0, 2)
        && differ(1, 2)
}

/// A wording of the scene, in a style of its own.
pub fn wording(scene: &Scene, random: &mut Random) -> String {
    word(scene, &Style::sample(random), random)
}

/// A wording that says everything once, or some of it again, as one does who wants to be sure.
pub fn any_wording(scene: &Scene, random: &mut Random) -> String {
    let telling = random.weighted(&[
        (0.2, Telling::Once),
        (0.2, Telling::Paired),
        (0.2, Telling::BothEnds),
        (0.2, Telling::Listed),
        (0.2, Telling::Again),
    ]);
    let style = Style {
        telling,
        ..Style::sample(random)
    };
    word(scene, &style, random)
}

/// So many different wordings of the scene.
pub fn wordings(
    scene: &Scene,
    n: usize,
    wording: fn(&Scene, &mut Random) -> String,
    random: &mut Random,
) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    while all.len() < n {
        let next = wording(scene, random);
        if !all.contains(&next) {
            all.push(next);
        }
    }
    all
}
