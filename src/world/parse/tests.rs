use super::*;
use crate::world::{Split, prompts};

fn scene(text: &str) -> Scene {
    parse(text)
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
        .scene
}

#[test]
fn every_wording_of_a_scene_reads_as_that_scene() {
    for split in [Split::Train, Split::HeldOut, Split::Family] {
        for prompt in prompts(split, 1500, 5) {
            let read = scene(&prompt.text);
            assert!(
                read.asks_the_same_as(&prompt.scene),
                "{:?} read as {read:?}, not {:?}",
                prompt.text,
                prompt.scene
            );
        }
    }
}

#[test]
fn what_is_named_again_is_not_asked_for_twice() {
    use crate::world::random::Random;
    use crate::world::wording::{Style, Telling, word};
    let mut same = 0;
    let all = prompts(Split::Train, 300, 6);
    for prompt in &all {
        for telling in [
            Telling::Paired,
            Telling::BothEnds,
            Telling::Listed,
            Telling::Again,
        ] {
            let style = Style {
                telling,
                ..Style::PLAIN
            };
            let text = word(&prompt.scene, &style, &mut Random::new(3));
            // Of two objects that are alike, "the red circle" does not say which.
            let distinct = |i: usize| {
                let objects = &prompt.scene.objects;
                objects[..i].iter().all(|other| *other != objects[i])
            };
            if (0..prompt.scene.objects.len()).all(distinct) {
                same += 1;
                let read = scene(&text);
                assert!(read.asks_the_same_as(&prompt.scene), "{text:?}: {read:?}");
            }
        }
    }
    assert!(same > all.len(), "{same}");
}

#[test]
fn case_punctuation_and_filler_do_not_matter() {
    let plain = scene("a red circle left of a blue square on a white background");
    for text in [
        "A RED CIRCLE LEFT OF A BLUE SQUARE ON A WHITE BACKGROUND",
        "red circle to the left of blue square, white background.",
        "There is a red circle; it is on the left of a blue square! White background",
        "An image of a red circle on the left side of a blue square on white",
        "the blue square is right of the red circle - white background",
        "a red circle and a blue square on a white background, the red circle is left of the blue square",
        "a red circle on the left and a blue square on the right, white background",
    ] {
        assert!(
            scene(text).asks_the_same_as(&plain),
            "{text:?}: {:?}",
            scene(text)
        );
    }
}

#[test]
fn counts_are_words_or_digits_and_relate_as_groups() {
    let scene = scene("two red circles above 1 blue square");
    assert_eq!(scene.objects.len(), 3);
    assert_eq!(scene.relations.len(), 2);
    assert_eq!(
        parse("three shapes: a cyan cross, a pink diamond and a red star")
            .map(|r| r.scene.objects.len())
            .ok(),
        Some(3)
    );
    let it = self::scene("a red circle with a blue square below it");
    assert!(it.asks_the_same_as(&self::scene("blue square below red circle")));
}

#[test]
fn what_the_world_does_not_know_is_named() {
    for (text, named) in [
        ("a dog", "\"dog\""),
        ("", "no shape"),
        ("red", "\"red\""),
        ("five red circles", "5 objects"),
        ("two red circles and three blue squares", "5 objects"),
        ("a white circle", "white circle"),
        ("a circle on a red background", "no red background"),
        ("three shapes: a red circle", "\"three\""),
        ("red circles", "\"circles\""),
        ("a red circle left of", "\"left\""),
        ("above a red circle", "\"above\""),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(named), "{text:?}: {error}");
        assert!(error.contains("triangle"), "{text:?}: {error}");
    }
}

#[test]
fn words_are_mapped_to_their_objects() {
    let prompt = "Two small RED circles, and a star.";
    let reading = parse(prompt).expect("a prompt of the world");
    let words: Vec<Vec<&str>> = reading
        .words
        .iter()
        .map(|words| {
            words
                .all()
                .into_iter()
                .map(|range| &prompt[range])
                .collect()
        })
        .collect();
    let circles = vec!["Two", "small", "RED", "circles"];
    assert_eq!(words, [circles.clone(), circles, vec!["star"]]);
}

#[test]
fn a_count_beyond_all_numbers_is_refused() {
    for count in ["5", "9999999999", "18446744073709551615"] {
        let refusal = parse(&format!("a star and {count} red rings")).unwrap_err();
        assert!(refusal.to_string().contains("draws one to"), "{refusal}");
    }
}

#[test]
fn two_things_that_exclude_each_other_are_refused() {
    for (prompt, pair) in [
        ("a red blue circle", ["red", "blue"]),
        ("a large small red circle", ["large", "small"]),
        ("one two red circles", ["one", "two"]),
        (
            "a red circle on a white background on a black background",
            ["white", "black"],
        ),
    ] {
        let error = parse(prompt).unwrap_err().to_string();
        let [one, other] = pair;
        assert!(
            error.contains(&format!("{one:?} and {other:?}")),
            "{prompt}: {error}"
        );
    }
    for fine in [
        "a red red circle",
        "a red circle on white, white background",
        "a large drawing of a small red circle",
        "one picture of two red circles",
    ] {
        parse(fine).unwrap();
    }
}
