//! Which words of a prompt are likely not to be drawn as they say.

use std::collections::BTreeMap;

use super::replies::WeakWord;
use crate::backbones::Word;
use crate::probe::Prediction;

/// Words that no part of a picture belongs to.
const EMPTY: [&str; 32] = [
    "a",
    "an",
    "the",
    "of",
    "on",
    "in",
    "at",
    "to",
    "and",
    "or",
    "with",
    "is",
    "are",
    "be",
    "by",
    "for",
    "from",
    "as",
    "its",
    "it",
    "this",
    "that",
    "there",
    "background",
    "shape",
    "shapes",
    "object",
    "objects",
    "picture",
    "image",
    "photo",
    "scene",
];

/// An agent acts on the first few; a long prompt's tail is noise.
const AT_MOST: usize = 12;

/// The prompt's meaningful words by their mean risk over the predictions, the riskiest first. A word
/// that stands in the prompt more than once counts by its riskiest place.
pub fn weak_words(words: &[Word], predictions: &[&Prediction]) -> Vec<WeakWord> {
    let mut risks: BTreeMap<String, f64> = BTreeMap::new();
    for (index, word) in words.iter().enumerate() {
        let text = word
            .text
            .trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase();
        if is_empty_word(&text) {
            continue;
        }
        let seen: Vec<f64> = predictions
            .iter()
            .filter_map(|p| p.word_risks.get(index).copied())
            .filter(|risk| risk.is_finite())
            .collect();
        if seen.is_empty() {
            continue;
        }
        let mean = seen.iter().sum::<f64>() / seen.len() as f64;
        let risk = risks.entry(text).or_insert(mean);
        *risk = risk.max(mean);
    }
    let mut weak: Vec<WeakWord> = risks
        .into_iter()
        .map(|(word, risk)| WeakWord { word, risk })
        .collect();
    weak.sort_by(|a, b| b.risk.total_cmp(&a.risk).then_with(|| a.word.cmp(&b.word)));
    weak.truncate(AT_MOST);
    weak
}

/// Whether no part of a picture belongs to this word.
pub fn is_empty_word(word: &str) -> bool {
    word.is_empty() || EMPTY.iter().any(|empty| word.eq_ignore_ascii_case(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<Word> {
        let mut at = 0;
        let mut token = 1;
        texts
            .iter()
            .map(|text| {
                let span = at..at + text.len();
                at += text.len() + 1;
                token += 1;
                Word {
                    text: text.to_string(),
                    span,
                    tokens: token - 1..token,
                }
            })
            .collect()
    }

    fn risks(word_risks: &[f64]) -> Prediction {
        Prediction {
            quality: 0.5,
            interval: None,
            p_good: None,
            word_risks: word_risks.to_vec(),
        }
    }

    #[test]
    fn the_riskiest_word_stands_first_and_empty_words_are_left_out() {
        let words = words(&["A", "red", "circle,", "left", "of", "a", "star"]);
        let (one, two) = (
            risks(&[0.9, 0.1, 0.2, 0.3, 0.9, 0.9, 0.6]),
            risks(&[0.9, 0.3, 0.2, 0.1, 0.9, 0.9, 0.8]),
        );
        let weak = weak_words(&words, &[&one, &two]);
        let names: Vec<&str> = weak.iter().map(|w| w.word.as_str()).collect();
        assert_eq!(names, ["star", "circle", "left", "red"]);
        assert!((weak[0].risk - 0.7).abs() < 1e-12);
    }

    #[test]
    fn a_word_that_stands_twice_counts_by_its_riskiest_place() {
        let weak = weak_words(&words(&["red", "RED"]), &[&risks(&[0.2, 0.5])]);
        assert_eq!(weak.len(), 1);
        assert_eq!(weak[0].risk, 0.5);
    }

    #[test]
    fn words_without_a_risk_are_not_guessed() {
        assert_eq!(weak_words(&words(&["red", "star"]), &[&risks(&[])]), []);
    }
}
