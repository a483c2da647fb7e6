//! The words of a prompt, and the tokens that carry them.

use std::ops::Range;

use super::Word;

/// The text's words, runs of letters and digits, each with the tokens that carry it. `spans`: the
/// bytes of the text that each token covers, empty for special tokens and padding. A word that the
/// encoder cut off is left out.
pub fn words_of(text: &str, spans: &[Range<usize>]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut start = None;
    let end_of_text = [(text.len(), ' ')];
    for (at, c) in text.char_indices().chain(end_of_text) {
        match (start, c.is_alphanumeric()) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                words.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    words
        .into_iter()
        .filter_map(|span| {
            let touches = |i: &usize| {
                let token = &spans[*i];
                token.start < span.end && token.end > span.start
            };
            let first = (0..spans.len()).find(touches)?;
            let last = (0..spans.len()).rev().find(touches)?;
            Some(Word {
                text: text[span.clone()].to_owned(),
                span,
                tokens: first..last + 1,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_their_bytes_and_tokens_and_what_was_cut_off_is_no_word() {
        let spans = [0..0, 0..1, 2..5, 5..6, 0..0];
        let words = words_of("a réd? cut", &spans);
        let seen: Vec<_> = words
            .iter()
            .map(|w| (w.text.as_str(), w.span.clone(), w.tokens.clone()))
            .collect();
        assert_eq!(seen, [("a", 0..1, 1..2), ("réd", 2..6, 2..4)]);
    }
}
