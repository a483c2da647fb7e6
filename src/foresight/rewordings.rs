//! Other wordings of the very scene that a prompt of pocket's world asks for.

use super::replies::WeakWord;
use crate::world::parse::parse;
use crate::world::random::Random;
use crate::world::wording::{Counts, Form, Ground, Opening, Sides, Style, Telling, word};

/// Orders of what is said that are looked at for one with the weak word in front.
const ORDERS: u64 = 16;

/// The styles that are tried, the first first.
///
/// Wordings that name everything once draw nearly the same; those that name things again differ by a
/// tenth of the scale, for some prompts for the better and for some for the worse.
fn styles() -> [Style; 10] {
    let plain = Style::PLAIN;
    let told = |telling| Style { telling, ..plain };
    [
        told(Telling::Paired),
        Style {
            inverted: true,
            ..told(Telling::Paired)
        },
        told(Telling::Listed),
        told(Telling::Again),
        told(Telling::BothEnds),
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
            opening: Opening::Total("shapes"),
            ..plain
        },
        Style {
            form: Form::Terse,
            ground: Ground::Comma,
            ..plain
        },
    ]
}

/// Each style's wording of the prompt's scene, with the weakest word as far in front as the style
/// allows. None where the prompt is not of this world.
pub fn rewordings(prompt: &str, weak_words: &[WeakWord]) -> Vec<String> {
    let Ok(reading) = parse(prompt) else {
        return Vec::new();
    };
    let scene = reading.scene;
    let weakest_at = |text: &str| {
        let found = weak_words.first().and_then(|weak| text.find(&weak.word));
        found.unwrap_or(text.len())
    };
    styles()
        .into_iter()
        .filter_map(|style| {
            let orders = (0..ORDERS).map(|order| word(&scene, &style, &mut Random::new(order)));
            // The first of those that are alike, so that the same call tries the same wordings.
            orders
                .filter(|text| parse(text).is_ok_and(|read| read.scene.asks_the_same_as(&scene)))
                .min_by_key(|text| weakest_at(text))
        })
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

    #[test]
    fn every_rewording_asks_for_the_same_scene() {
        for prompt in prompts(Split::Train, 200, 7) {
            let made = rewordings(&prompt.text, &[]);
            assert!(made.len() >= 4, "{}: {made:#?}", prompt.text);
            for text in made {
                let read = parse(&text).unwrap().scene;
                assert!(
                    read.asks_the_same_as(&prompt.scene),
                    "{} → {text}",
                    prompt.text
                );
            }
        }
    }

    #[test]
    fn the_weak_word_comes_first_where_the_style_allows() {
        let made = rewordings(
            "a red circle, a blue square and a green star",
            &weak("star"),
        );
        assert!(made[0].starts_with("a green star"), "{made:#?}");
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
