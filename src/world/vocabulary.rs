//! The words of pocket's world, and what each of them means.

use std::ops::Range;

use super::scene::{Background, Colour, Scene, Shape, Side, Size};
use super::wording::NUMBERS;

/// What a word of the prompt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A shape, and whether its word is the plural.
    Shape(Shape, bool),
    /// "shapes", "objects": whatever was listed or will be.
    AnyShape,
    /// The colour of a shape.
    Colour(Colour),
    /// The colour of a background.
    Ground(Background),
    /// The size of a shape.
    Size(Size),
    /// How many.
    Count(usize),
    /// Where the last shape stands.
    Side(Side),
    /// "background".
    GroundNoun,
    /// What parts one phrase from the next.
    Comma,
    /// "it", as in "with a blue square below it".
    It,
    /// A word that changes nothing.
    Filler,
}

/// What a lower-case word means, if the world knows it.
pub fn meaning(word: &str) -> Option<Meaning> {
    for &shape in Shape::ALL {
        if word == shape.word() {
            return Some(Meaning::Shape(shape, false));
        }
        if word == shape.plural() {
            return Some(Meaning::Shape(shape, true));
        }
    }
    if let Some(&colour) = Colour::ALL.iter().find(|colour| colour.word() == word) {
        return Some(Meaning::Colour(colour));
    }
    if let Some(count) = NUMBERS.iter().position(|number| *number == word) {
        return Some(Meaning::Count(count));
    }
    if let Ok(count) = word.parse::<usize>() {
        return Some(Meaning::Count(count));
    }
    Some(match word {
        "white" => Meaning::Ground(Background::White),
        "black" => Meaning::Ground(Background::Black),
        "gray" | "grey" => Meaning::Ground(Background::Gray),
        "small" | "tiny" | "little" => Meaning::Size(Size::Small),
        "large" | "big" | "huge" => Meaning::Size(Size::Large),
        "left" => Meaning::Side(Side::LeftOf),
        "right" => Meaning::Side(Side::RightOf),
        "above" | "over" => Meaning::Side(Side::Above),
        "below" | "under" | "beneath" | "underneath" => Meaning::Side(Side::Below),
        "background" | "backdrop" => Meaning::GroundNoun,
        "shape" | "shapes" | "object" | "objects" | "figure" | "figures" => Meaning::AnyShape,
        "five" | "six" | "seven" | "eight" | "nine" | "ten" | "several" | "many" | "some" => {
            Meaning::Count(Scene::MAX_OBJECTS + 1)
        }
        "it" => Meaning::It,
        "," | ";" | ":" | "." => Meaning::Comma,
        "a" | "an" | "the" | "and" | "of" | "to" | "on" | "in" | "at" | "with" | "is" | "are"
        | "there" | "picture" | "image" | "drawing" | "photo" | "illustration" | "scene"
        | "showing" | "shows" | "that" | "which" | "against" | "its" | "plain" | "solid"
        | "side" | "side's" | "colored" | "coloured" | "both" | "also" | "plus" | "one's"
        | "draw" | "placed" | "positioned" | "located" | "single" | "flat" | "simple" => {
            Meaning::Filler
        }
        _ => return None,
    })
}

/// The words and the commas of a text, with their bytes; any other punctuation parts words.
pub fn words(text: &str) -> Vec<(Range<usize>, String)> {
    let mut found: Vec<(Range<usize>, String)> = Vec::new();
    let mut open = false;
    for (at, letter) in text.char_indices() {
        let bytes = at..at + letter.len_utf8();
        if letter.is_alphanumeric() || (letter == '\'' && open) {
            match found.last_mut() {
                Some((range, word)) if open => {
                    range.end = bytes.end;
                    word.extend(letter.to_lowercase());
                }
                _ => found.push((bytes, letter.to_lowercase().collect())),
            }
            open = true;
        } else {
            open = false;
            if matches!(letter, ',' | ';' | ':' | '.') {
                found.push((bytes, letter.to_string()));
            }
        }
    }
    found
}
