//! Rewrites of a prompt that ask for the same picture in other words.
//!
//! For any model: the templates in `prompts/rewrites.txt`. For a model that draws pocket's world:
//! other wordings of the very scene that the prompt asks for, its background named where it is open.

use super::replies::WeakWord;
use super::rewordings::rewordings;
use super::uncertainty::wordings::Usual;

const TEMPLATES: &str = include_str!("../../prompts/rewrites.txt");

/// A prompt in other words.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    pub prompt: String,
    /// What such rewrites gain on other prompts.
    pub usual: Usual,
}

/// Up to `at_most` rewrites of `prompt`, each different from it and from one another, those aimed at
/// its weak words first.
pub fn rewrites(
    prompt: &str,
    weak_words: &[WeakWord],
    closed_world: bool,
    at_most: usize,
) -> Vec<Rewrite> {
    let candidates = if closed_world {
        rewordings(prompt, weak_words)
    } else {
        from_templates(prompt, weak_words)
    };
    let mut rewrites: Vec<Rewrite> = Vec::new();
    for candidate in candidates {
        if rewrites.len() == at_most {
            break;
        }
        // Text encoders read capitals as small letters.
        let new = |other: &str| !candidate.prompt.eq_ignore_ascii_case(other);
        if new(prompt) && rewrites.iter().all(|other| new(&other.prompt)) {
            rewrites.push(candidate);
        }
    }
    rewrites
}

fn from_templates(prompt: &str, weak_words: &[WeakWord]) -> Vec<Rewrite> {
    let mut fillers: Vec<&str> = Vec::new();
    let mut templates: Vec<&str> = Vec::new();
    for line in TEMPLATES.lines().map(str::trim) {
        if let Some(list) = line.strip_prefix("filler:") {
            fillers.extend(list.split(',').map(str::trim));
        } else if !line.is_empty() && !line.starts_with('#') {
            templates.push(line);
        }
    }
    let lean = without(prompt, &fillers);
    let weak = weak_words.first().map(|w| w.word.as_str());
    templates
        .into_iter()
        .filter_map(|template| {
            let text = template.replace("{prompt}", &lean);
            match weak {
                Some(weak) => Some(
                    text.replace("{weak}", weak)
                        .replace("{phrase}", &phrase_around(&lean, weak)),
                ),
                None => (!text.contains('{')).then_some(text),
            }
        })
        .map(|prompt| Rewrite {
            prompt,
            usual: Usual::UNKNOWN,
        })
        .collect()
}

/// `prompt` without `fillers`, and without the commas and spaces that they leave behind.
fn without(prompt: &str, fillers: &[&str]) -> String {
    let parts: Vec<String> = prompt
        .split(',')
        .map(|part| {
            let mut words: Vec<&str> = part.split_whitespace().collect();
            for filler in fillers {
                let filler: Vec<&str> = filler.split_whitespace().collect();
                while let Some(at) = words.windows(filler.len()).position(|run| {
                    run.iter()
                        .zip(&filler)
                        .all(|(a, b)| a.eq_ignore_ascii_case(b))
                }) {
                    words.drain(at..at + filler.len());
                }
            }
            words.join(" ")
        })
        .filter(|part| !part.is_empty())
        .collect();
    match parts.join(", ") {
        lean if lean.is_empty() => prompt.trim().to_string(),
        lean => lean,
    }
}

/// The word with what describes it: the words before it in the same clause, back to an article, a
/// preposition or a comma, three at most.
fn phrase_around(prompt: &str, word: &str) -> String {
    const ENDS: [&str; 24] = [
        "a", "an", "the", "of", "on", "in", "at", "to", "and", "or", "with", "is", "are", "by",
        "for", "from", "above", "below", "left", "right", "under", "over", "behind", "near",
    ];
    let bare = |w: &str| {
        w.trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase()
    };
    let words: Vec<&str> = prompt.split_whitespace().collect();
    let Some(at) = words.iter().position(|w| bare(w) == word) else {
        return word.to_string();
    };
    let mut phrase = vec![bare(words[at])];
    for before in words[..at].iter().rev().take(3) {
        let ends_clause = before.ends_with([',', '.', ';', ':']);
        if ends_clause || ENDS.contains(&bare(before).as_str()) {
            break;
        }
        phrase.insert(0, bare(before));
    }
    phrase.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weak(words: &[&str]) -> Vec<WeakWord> {
        words
            .iter()
            .map(|word| WeakWord {
                word: word.to_string(),
                risk: 0.5,
            })
            .collect()
    }

    fn texts(prompt: &str, weak_words: &[&str], at_most: usize) -> Vec<String> {
        let made = rewrites(prompt, &weak(weak_words), false, at_most);
        made.into_iter().map(|r| r.prompt).collect()
    }

    #[test]
    fn rewrites_differ_from_the_prompt_and_from_one_another() {
        let prompt = "a beautiful small red fox behind an old, very rusty gate";
        let made = texts(prompt, &["gate", "fox"], 10);
        assert!(made.len() >= 5, "{made:#?}");
        for (i, rewrite) in made.iter().enumerate() {
            assert_ne!(rewrite, prompt);
            assert!(!made[..i].contains(rewrite));
            assert!(!rewrite.contains('{'), "a hole is left in {rewrite}");
            assert!(
                rewrite.contains("fox") && rewrite.contains("gate"),
                "{rewrite}"
            );
        }
    }

    #[test]
    fn filler_is_dropped_with_its_commas() {
        let made = texts("a fox, 8k, highly detailed", &[], 1);
        assert_eq!(made, ["a fox"]);
        let all_filler = texts("masterpiece, best quality", &[], 1);
        assert!(all_filler[0].contains("masterpiece"), "{all_filler:?}");
    }

    #[test]
    fn the_weak_word_moves_with_what_describes_it() {
        assert_eq!(
            phrase_around("a dog and a small red fox", "fox"),
            "small red fox"
        );
        assert_eq!(phrase_around("an old, rusty gate", "gate"), "rusty gate");
        assert_eq!(phrase_around("a dog", "cat"), "cat");
    }

    #[test]
    fn no_weak_word_still_gives_a_rewrite() {
        let made = texts("a fox", &[], 10);
        assert!(!made.is_empty());
        assert!(made.iter().all(|m| !m.contains('{')), "{made:?}");
    }

    #[test]
    fn no_more_than_asked_for() {
        assert_eq!(texts("a fox", &["fox"], 2).len(), 2);
    }
}
