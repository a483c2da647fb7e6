use image::RgbImage;

use super::*;
use crate::world::random::Random;
use crate::world::{Colour, Layout, Prompt, Scene, Split, place, prompts, render};

fn draw(layout: &Layout, side: usize) -> RgbImage {
    let pixels = render::draw(layout, side, side);
    RgbImage::from_raw(side as u32, side as u32, pixels).expect("the buffer has the image's size")
}

fn laid_out(scene: &Scene, seed: u64) -> Layout {
    place(scene, 64, 64, &mut Random::new(seed))
}

fn score(prompt: &str, image: &RgbImage) -> f64 {
    let score = Composition
        .score(prompt, image)
        .expect("a prompt of the world");
    score.value
}

fn all_splits(n: usize, seed: u64) -> Vec<Prompt> {
    [Split::Train, Split::HeldOut, Split::Family]
        .into_iter()
        .flat_map(|split| prompts(split, n, seed))
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A 3×3 blur: as soft as a VAE draws.
fn blurred(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let mut sums = [0u32; 4];
        for ny in y.saturating_sub(1)..(y + 2).min(height) {
            for nx in x.saturating_sub(1)..(x + 2).min(width) {
                let pixel = image.get_pixel(nx, ny).0;
                (0..3).for_each(|i| sums[i] += u32::from(pixel[i]));
                sums[3] += 1;
            }
        }
        image::Rgb([0, 1, 2].map(|i| (sums[i] / sums[3]) as u8))
    })
}

#[test]
fn renders_of_the_true_scene_score_at_least_95_hundredths() {
    let scores: Vec<f64> = all_splits(120, 11)
        .iter()
        .enumerate()
        .map(|(i, prompt)| score(&prompt.text, &draw(&laid_out(&prompt.scene, i as u64), 64)))
        .collect();
    let wrong = scores.iter().filter(|score| **score < GOOD).count();
    assert!(
        mean(&scores) >= 0.99,
        "{} ({wrong} below good)",
        mean(&scores)
    );
}

#[test]
fn what_is_near_to_being_read_otherwise_is_in_doubt() {
    // Of pictures that differ by a blur, those scored otherwise were in more doubt.
    let (mut doubts, mut other) = (Vec::new(), Vec::new());
    for (i, prompt) in all_splits(400, 21).iter().enumerate() {
        let soft = blurred(&draw(&laid_out(&prompt.scene, i as u64), 64));
        let score = |image: &RgbImage| Composition.score(&prompt.text, image).unwrap();
        let (once, twice) = (score(&soft), score(&blurred(&soft)));
        let doubt = once.doubt.expect("this scorer knows");
        assert!((0.0..=1.0).contains(&doubt));
        doubts.push(doubt);
        other.push(once.value != twice.value);
    }
    let auc = crate::probe::stats::auc(&doubts, &other);
    let share = other.iter().filter(|other| **other).count();
    assert!(share > 10 && auc > 0.8, "{share} otherwise, AUC {auc}");
}

#[test]
fn a_part_of_another_colour_that_is_almost_an_object_is_a_sign() {
    let mut image = RgbImage::from_pixel(64, 64, image::Rgb([255; 3]));
    let paint = |colour: Colour| image::Rgb(render::paint(colour));
    for (x, y) in (0..400).map(|i| (20 + i % 20, 20 + i / 20)) {
        image.put_pixel(x, y, paint(Colour::Red));
    }
    assert_eq!(reader::read(&image).open.split, 0.0);
    // 120 of the 280 that are left would be one of its own: three tenths of the bigger part.
    let mut split = |lines: u32| {
        for (x, y) in (0..20 * lines).map(|i| (20 + i % 20, 20 + i / 20)) {
            image.put_pixel(x, y, paint(Colour::Blue));
        }
        let sight = reader::read(&image);
        (sight.objects.len(), sight.open.split)
    };
    let (objects, near) = split(4);
    assert_eq!(objects, 1);
    assert!((near - 80.0 / 96.0).abs() < 1e-9, "{near}");
    let (objects, near) = split(5);
    assert_eq!(objects, 2);
    assert!((near - 90.0 / 100.0).abs() < 1e-9, "{near}");
}

#[test]
fn softness_does_not_count() {
    let scores: Vec<f64> = all_splits(80, 12)
        .iter()
        .enumerate()
        .map(|(i, prompt)| {
            let image = blurred(&draw(&laid_out(&prompt.scene, i as u64), 64));
            score(&prompt.text, &image)
        })
        .collect();
    assert!(mean(&scores) >= 0.95, "{}", mean(&scores));
}

#[test]
fn renders_of_another_scene_score_at_most_30_hundredths() {
    let prompts = all_splits(120, 13);
    let scores: Vec<f64> = prompts
        .iter()
        .zip(prompts.iter().cycle().skip(7))
        .enumerate()
        .map(|(i, (prompt, other))| {
            score(&prompt.text, &draw(&laid_out(&other.scene, i as u64), 64))
        })
        .collect();
    assert!(mean(&scores) <= 0.30, "{}", mean(&scores));
}

#[test]
fn the_score_falls_with_every_object_removed() {
    let mut totals = [0.0; 5];
    let mut counts = [0.0; 5];
    for (i, prompt) in all_splits(40, 14).iter().enumerate() {
        let mut layout = laid_out(&prompt.scene, i as u64);
        let mut last = f64::INFINITY;
        for removed in 0..=prompt.scene.objects.len() {
            let value = score(&prompt.text, &draw(&layout, 64));
            if last < 0.99 || removed == 1 {
                assert!(
                    value <= last + 1e-9,
                    "{:?}: {last} then {value}",
                    prompt.text
                );
            }
            totals[removed] += value;
            counts[removed] += 1.0;
            last = value;
            layout.objects.pop();
        }
        assert!(last < 0.3, "{:?} of an empty picture: {last}", prompt.text);
    }
    let means: Vec<f64> = (0..5).map(|i| totals[i] / counts[i]).collect();
    assert!(means.windows(2).all(|pair| pair[1] < pair[0]), "{means:?}");
}

#[test]
fn the_score_falls_with_every_object_recoloured() {
    for (i, prompt) in prompts(Split::Train, 60, 15).iter().enumerate() {
        if prompt
            .scene
            .objects
            .iter()
            .any(|object| object.colour.is_none())
        {
            continue;
        }
        let used: Vec<_> = prompt.scene.objects.iter().map(|o| o.colour).collect();
        let Some(&free) = Colour::ALL
            .iter()
            .find(|colour| !used.contains(&Some(**colour)))
        else {
            continue;
        };
        let mut layout = laid_out(&prompt.scene, i as u64);
        let whole = score(&prompt.text, &draw(&layout, 64));
        layout.objects[0].colour = free;
        let value = score(&prompt.text, &draw(&layout, 64));
        assert!(
            value < whole - 0.2,
            "{:?}: {whole} then {value}",
            prompt.text
        );
    }
}

#[test]
fn each_piece_has_its_verdict_and_its_words() {
    let prompt = "a red circle left of a blue square on a white background";
    let shown = "a red circle right of a green square on a black background";
    let scene = world::parse(shown).expect("a prompt of the world").scene;
    let score = Composition
        .score(prompt, &draw(&laid_out(&scene, 3), 64))
        .expect("a prompt of the world");
    let told: Vec<(&str, bool, Vec<&str>)> = score
        .verdicts
        .iter()
        .map(|verdict| {
            let words = verdict.words.iter().map(|range| &prompt[range.clone()]);
            (verdict.what.as_str(), verdict.ok, words.collect())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("red circle", true, vec!["red", "circle"]),
            ("blue square", false, vec!["blue", "square"]),
            ("red circle left of blue square", false, vec!["left"]),
            ("2 objects", true, vec![]),
            ("white background", false, vec!["white"]),
        ]
    );
}

#[test]
fn sides_sizes_and_extra_objects_are_judged() {
    let shown = |text: &str, seed| {
        let scene = world::parse(text).expect("a prompt of the world").scene;
        draw(&laid_out(&scene, seed), 64)
    };
    for seed in 0..20 {
        let image = shown("a small pink heart above a large cyan ring", seed);
        assert!(score("a small pink heart above a large cyan ring", &image) > 0.99);
        assert!(score("a large cyan ring below a small pink heart", &image) > 0.99);
        assert!(score("pink heart, cyan ring", &image) > 0.99);
        assert!(score("a pink heart below a cyan ring", &image) < GOOD);
        assert!(score("a large pink heart and a cyan ring", &image) < GOOD);
        assert!(score("a cyan ring", &image) < GOOD);
        assert!(score("a ring and a heart", &image) > 0.99);
    }
}

#[test]
fn other_sizes_of_picture_are_read_as_well() {
    for prompt in prompts(Split::HeldOut, 20, 16) {
        let layout = place(&prompt.scene, 128, 128, &mut Random::new(1));
        let value = score(&prompt.text, &draw(&layout, 128));
        assert!(value > 0.99, "{:?}: {value}", prompt.text);
    }
}

#[test]
fn a_prompt_outside_the_world_is_an_error_that_says_what_the_world_is() {
    let image = RgbImage::new(64, 64);
    let error = Composition
        .score("a dog left of a red circle", &image)
        .expect_err("no dogs")
        .to_string();
    for part in ["\"dog\"", "triangle", "purple", "left of", "gray"] {
        assert!(error.contains(part), "{error}");
    }
}
