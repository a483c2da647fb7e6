//! The sentences that tell an agent what to do now. Each names the tool, and the figure it rests on.

use crate::probe::recalibration::ENOUGH;

use super::replies::{BestWording, CandidatePrediction, Ranked, WeakWord};

/// A seed with at least this chance of coming out good is worth rendering.
const WORTH_RENDERING: f64 = 0.6;
/// Above this risk most seeds fail, and another wording helps more than another seed.
const MOST_FAIL: f64 = 0.5;
/// A word with at least this risk is named.
const WEAK: f64 = 0.3;

/// To be said wherever patience ended first.
pub fn go_on(tool: &str) -> String {
    format!(
        "Not finished within this call's time: call {tool} again with the same arguments to go on \
         where it stopped; what was done is kept."
    )
}

/// To be said wherever nothing is calibrated.
pub fn uncalibrated(because: &str, model: &str) -> String {
    format!(
        "No probe fits ({because}), so these figures say only how concentrated the words' attention \
         is, with no interval and no chance of success: use them to compare, not as a quality. For \
         calibrated ones use settings that list_models names for {model}, or train a probe with \
         `foreseed probe collect` and `foreseed probe train`."
    )
}

/// To be said where a scorer judged the previews and no probe did.
pub fn preview_only(because: &str, metric: &str, model: &str) -> String {
    format!(
        "No probe fits ({because}), so these figures are the {metric} of each seed's early preview, \
         and a word's risk is how spread its attention is: use them to compare seeds of one prompt. \
         Finished pictures score otherwise, so there is no interval and no chance of success. For \
         those train a probe for {model} with `foreseed probe collect --metric {metric}` and \
         `foreseed probe train`."
    )
}

/// To be said where there is a probe, and nothing has calibrated it for these settings yet.
pub fn uncalibrated_here(because: &str, model: &str) -> String {
    format!(
        "The probe is not calibrated here ({because}), so these figures order candidates and \
         promise nothing: no interval and no chance of success. It calibrates itself once {ENOUGH} \
         pictures with these settings are rendered; for calibrated ones at once use settings that \
         list_models names for {model}."
    )
}

/// What to do about a prompt whose candidates were predicted.
pub fn about_prompt(
    risk: f64,
    candidates: &[CandidatePrediction],
    weak_words: &[WeakWord],
) -> String {
    let Some(best) = candidates
        .iter()
        .max_by(|a, b| a.quality.total_cmp(&b.quality))
    else {
        return go_on("predict_quality");
    };
    let chance = best.p_good.unwrap_or(0.0);
    let weak: Vec<String> = weak_words
        .iter()
        .filter(|w| w.risk >= WEAK)
        .take(3)
        .map(|w| format!("\"{}\"", w.word))
        .collect();
    let weak = match weak.as_slice() {
        [] => String::new(),
        words => format!(" Likely to go wrong: {}.", words.join(", ")),
    };
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    if chance >= WORTH_RENDERING {
        format!(
            "Render seed {} (handle {}): {} to come out good, where a random seed of this prompt \
             has {}.{weak}",
            best.seed,
            best.handle,
            percent(chance),
            percent(1.0 - risk),
        )
    } else if risk > MOST_FAIL {
        format!(
            "A random seed of this prompt fails with {}: the wording matters more than the seed. \
             Call refine_prompt before rendering.{weak}",
            percent(risk)
        )
    } else {
        format!(
            "None of these seeds is sure ({} at best, seed {}), but {} of all seeds come out good: \
             call rank_seeds with more of them.{weak}",
            percent(chance),
            best.seed,
            percent(1.0 - risk),
        )
    }
}

/// What to do with a ranking; `clear` where the best were told apart from the rest, if there is a rest.
pub fn about_ranking(ranking: &[Ranked], clear: Option<bool>) -> String {
    let Some(best) = ranking.first() else {
        return go_on("rank_seeds");
    };
    let chance = best.p_good.unwrap_or(0.0);
    let sure = match clear {
        Some(true) => "The best are clear of the rest",
        Some(false) => "The best are not clear of the rest by their 90 % intervals",
        None => "All were to be kept",
    };
    if chance >= WORTH_RENDERING {
        format!(
            "{sure}. Render seed {} (handle {}): {:.0} % to come out good.",
            best.seed,
            best.handle,
            chance * 100.0
        )
    } else {
        format!(
            "{sure}, and the first (seed {}, handle {}) has only {:.0} % to come out good: render \
             two or three of the first and keep the best, or call refine_prompt for a better wording.",
            best.seed,
            best.handle,
            chance * 100.0
        )
    }
}

/// To be said where the best of the wordings tried is judged by what it asks for itself.
pub const ANOTHER_PICTURE: &str = "The best wording asks for another picture than the prompt does, and \
     is predicted by what it asks for: take it only if that picture will do.";

/// What to do with the wordings tried; `original` where none beat it.
pub fn about_wordings(best: &BestWording, original: bool, weak_words: &[WeakWord]) -> String {
    let weak: Vec<String> = weak_words
        .iter()
        .take(2)
        .map(|w| format!("\"{}\"", w.word))
        .collect();
    let weak = match weak.as_slice() {
        [] => "its weakest part".to_string(),
        words => words.join(" and "),
    };
    if original {
        return format!(
            "No wording beat the original: keep it and call rank_seeds, or send variants that say \
             {weak} in another way."
        );
    }
    let [low, high] = best
        .gain_interval
        .unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
    if low > 0.0 {
        format!(
            "Use the best wording: it gains {:+.3} over the original ({low:+.3} to {high:+.3}). \
             Call rank_seeds with it.",
            best.gain
        )
    } else {
        format!(
            "The best wording gains {:+.3}, which may be chance ({low:+.3} to {high:+.3}): call \
             again with a larger count to be surer, send variants that say {weak} in another way, \
             or call rank_seeds with it.",
            best.gain
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::{Handle, Seed};

    fn candidate(seed: u32, p_good: f64) -> CandidatePrediction {
        CandidatePrediction {
            seed: Seed(seed),
            quality: p_good,
            interval: None,
            p_good: Some(p_good),
            handle: Handle(format!("fs_{seed}")),
        }
    }

    #[test]
    fn a_likely_seed_is_to_be_rendered_by_its_handle() {
        let advice = about_prompt(0.6, &[candidate(1, 0.2), candidate(2, 0.9)], &[]);
        assert!(
            advice.starts_with("Render seed 2 (handle fs_2)"),
            "{advice}"
        );
        assert!(
            advice.contains("90 %") && advice.contains("40 %"),
            "{advice}"
        );
    }

    #[test]
    fn a_prompt_that_mostly_fails_is_to_be_reworded_and_its_weak_words_are_named() {
        let weak = |word: &str, risk| WeakWord {
            word: word.into(),
            risk,
        };
        let words = [weak("star", 0.7), weak("red", 0.1)];
        let advice = about_prompt(0.8, &[candidate(1, 0.2)], &words);
        assert!(
            advice.contains("refine_prompt") && advice.contains("\"star\""),
            "{advice}"
        );
        assert!(!advice.contains("\"red\""), "{advice}");
    }

    #[test]
    fn a_prompt_that_mostly_works_needs_another_seed() {
        let advice = about_prompt(0.4, &[candidate(1, 0.3)], &[]);
        assert!(advice.contains("rank_seeds"), "{advice}");
    }
}
