//! Other wordings of the very scene that a prompt of pocket's world asks for, its background named where
//! the prompt leaves it open.

use super::replies::WeakWord;
use super::rewrites::Rewrite;
use super::uncertainty::wordings::Usual;
use crate::world::parse::parse;
use crate::world::random::Random;
use crate::world::scene::{Background, Scene};
use crate::world::wording::{Counts, Form, Ground, Opening, Sides, Style, Telling, restate, word};

/// Orders of what is said that are looked at for one with the weak word in front.
const ORDERS: u64 = 16;

/// The styles that are tried, as many of them as are asked for: a plain one, then those that differ most
/// from prompt to prompt, so that picking among them pays.
fn styles() -> [Style; 11] {
    let plain = Style::PLAIN;
    let told = |telling| Style { telling, ..plain };
    [
        Style {
            opening: Opening::Total("shapes"),
            ..plain
        },
        told(Telling::Again),
        told(Telling::Paired),
        Style {
            form: Form::Ands,
            ..told(Telling::Again)
        },
        told(Telling::BothEnds),
        told(Telling::Listed),
        Style {
            form: Form::Terse,
            ground: Ground::Comma,
            ..told(Telling::Again)
        },
        plain,
        Style {
            counts: Counts::Repeated,
            ..plain
        },
        Style {
            inverted: true,
            sides: Sides::ToThe,
            ..plain
        },
        Style {
            form: Form::Terse,
            ground: Ground::Comma,
            ..plain
        },
    ]
}

/// What rewording a prompt so gains, and how much that differs from prompt to prompt: of 60 prompts of the
/// training split that promised little (`models/pocket-recipe/README.md`), rounded by hand.
fn usual(style: &Style, telling: Telling) -> Usual {
    let (gain, variance) = match (telling, style.opening) {
        (Telling::Once, Opening::Total(_)) => (0.03, 0.02),
        (Telling::Once, _) => (0.0, 0.03),
        (Telling::Paired, _) => (0.0, 0.04),
        (Telling::Listed, _) => (-0.12, 0.15),
        (Telling::Again, _) => (-0.12, 0.1),
        (Telling::BothEnds, _) => (-0.15, 0.1),
    };
    Usual { gain, variance }
}

/// The same of a prompt to which one of its relations is added from the other end.
const RESTATED: Usual = Usual {
    gain: 0.0,
    variance: 0.07,
};

/// The same of the plainest wording on a white background, where the prompt leaves the background open.
const ON_WHITE: Usual = Usual {
    gain: 0.0,
    variance: 0.04,
};

/// The plainest wording on a white background where the prompt names none: still a picture that it asks
/// for, and one of the things less that the model is left to choose.
fn on_white(scene: &Scene) -> Option<Rewrite> {
    if scene.background.is_some() {
        return None;
    }
    let scene = Scene {
        background: Some(Background::White),
        ..scene.clone()
    };
    let prompt = word(&scene, &Style::PLAIN, &mut Random::new(0));
    let read = parse(&prompt).ok()?.scene;
    read.asks_the_same_as(&scene).then_some(Rewrite {
        prompt,
        usual: ON_WHITE,
    })
}

/// Where the prompt names no background, its scene on a white one; the prompt with its relations restated;
/// and each style's wording of its scene with the weakest word as far in front as the style allows. None
/// where the prompt is not of this world.
pub fn rewordings(prompt: &str, weak_words: &[WeakWord]) -> Vec<Rewrite> {
    let Ok(reading) = parse(prompt) else {
        return Vec::new();
    };
    let scene = reading.scene;
    let same = |text: &String| parse(text).is_ok_and(|read| read.scene.asks_the_same_as(&scene));
    let own = prompt.trim_end_matches(['.', ' ']);
    let restated = scene
        .relations
        .iter()
        .map(|relation| format!("{own}, {}", restate(&scene, relation.inverse())))
        .filter(|text| same(text))
        .map(|prompt| Rewrite {
            prompt,
            usual: RESTATED,
        });
    let weakest_at = |text: &str| {
        let found = weak_words.first().and_then(|weak| text.find(&weak.word));
        found.unwrap_or(text.len())
    };
    // Where nothing is related, naming things again only has them drawn again.
    let makes_sense = |style: &Style| style.telling == Telling::Once || !scene.relations.is_empty();
    let told = styles()
        .into_iter()
        .filter(makes_sense)
        .filter_map(|style| {
            let orders = (0..ORDERS).map(|order| word(&scene, &style, &mut Random::new(order)));
            // The first of those that are alike, so that the same call tries the same wordings.
            let prompt = orders.filter(same).min_by_key(|text| weakest_at(text))?;
            // Without relations there is nothing to tell apart.
            let telling = match prompt.contains("the ") {
                true => style.telling,
                false => Telling::Once,
            };
            Some(Rewrite {
                prompt,
                usual: usual(&style, telling),
            })
        });
    on_white(&scene)
        .into_iter()
        .chain(restated)
        .chain(told)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Split, prompts};

    fn weak(word: &str) -> Vec<WeakWord> {
        vec![WeakWord {
            word: word.into(),
            risk: 0.5,
        }]
    }

    fn texts(prompt: &str, weak_words: &[WeakWord]) -> Vec<String> {
        let made = rewordings(prompt, weak_words);
        made.into_iter().map(|r| r.prompt).collect()
    }

    #[test]
    fn every_rewording_asks_for_the_same_scene_and_at_most_for_a_white_background() {
        for prompt in prompts(Split::Train, 200, 7) {
            let made = texts(&prompt.text, &[]);
            assert!(made.len() >= 4, "{}: {made:#?}", prompt.text);
            let on_white = made.iter().filter(|text| text.contains("white")).count();
            if prompt.scene.background.is_none() {
                assert_eq!(on_white, 1, "{}: {made:#?}", prompt.text);
            }
            for text in made {
                let mut read = parse(&text).unwrap().scene;
                if prompt.scene.background.is_none() {
                    read.background = None;
                }
                assert!(
                    read.asks_the_same_as(&prompt.scene),
                    "{} → {text}",
                    prompt.text
                );
            }
        }
    }

    #[test]
    fn a_relation_is_said_again_from_the_other_end() {
        let made = texts("A red circle left of a blue square.", &[]);
        assert_eq!(
            made[1],
            "A red circle left of a blue square, the blue square right of the red circle"
        );
    }

    #[test]
    fn the_weak_word_comes_first_where_the_style_allows() {
        let made = texts(
            "a red circle, a blue square and a green star",
            &weak("star"),
        );
        let first = "three shapes: a green star";
        assert!(made[1].starts_with(first), "{made:#?}");
    }

    #[test]
    fn the_same_call_gives_the_same_wordings() {
        let prompt = "two red circles left of a blue square on a white background";
        assert_eq!(
            rewordings(prompt, &weak("blue")),
            rewordings(prompt, &weak("blue"))
        );
    }
}
