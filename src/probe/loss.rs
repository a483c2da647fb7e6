//! What the networks are trained on: the metric, the order of a prompt's seeds, whether the image is
//! good, and which words' objects come out wrong.

use candle_core::{Device, Tensor};

use super::net::{Design, Outputs};
use crate::Result;

const RANK: f64 = 0.5;
const GOOD: f64 = 0.3;
const WORDS: f64 = 0.5;

/// What came out, row by row; `None` in `words` where the scorer has no verdict on a word.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// In units of the training mean and deviation.
    pub quality: Vec<f32>,
    pub good: Vec<bool>,
    /// Rows with the same number are seeds of one prompt, seen at one step.
    pub group: Vec<usize>,
    /// True: the object that the word belongs to is missing or wrong.
    pub words: Vec<Vec<Option<bool>>>,
}

/// The loss of a design on a batch. The paper's design and the baseline learn from the metric alone
/// (and from good or not); the shipped probe from the seeds' order and the words too.
pub fn loss(design: Design, outputs: &Outputs, targets: &Targets) -> Result<Tensor> {
    let cpu = &Device::Cpu;
    let quality = Tensor::new(targets.quality.as_slice(), cpu)?;
    let mut total = (&outputs.quality - &quality)?.sqr()?.mean_all()?;
    if design.learns_all()
        && let Some(rank) = rank_loss(&outputs.quality, targets)?
    {
        total = (total + (rank * RANK)?)?;
    }
    if let Some(good) = &outputs.good {
        let labels: Vec<f32> = targets
            .good
            .iter()
            .map(|&g| f32::from(u8::from(g)))
            .collect();
        let losses = cross_entropy(good, &Tensor::new(labels, cpu)?)?;
        total = (total + (losses.mean_all()? * GOOD)?)?;
    }
    if let Some(words) = &outputs.words {
        let (rows, most) = words.dims2()?;
        let (mut labels, mut known) = (vec![0f32; rows * most], vec![0f32; rows * most]);
        for (row, verdicts) in targets.words.iter().enumerate() {
            for (word, verdict) in verdicts.iter().enumerate().take(most) {
                if let Some(wrong) = verdict {
                    labels[row * most + word] = f32::from(u8::from(*wrong));
                    known[row * most + word] = 1.0;
                }
            }
        }
        // Where nobody said anything of any word the loss is 0, and so is its gradient.
        let count = known.iter().sum::<f32>().max(1.0);
        let labels = Tensor::from_vec(labels, (rows, most), cpu)?;
        let known = Tensor::from_vec(known, (rows, most), cpu)?;
        let losses = (cross_entropy(words, &labels)? * known)?.sum_all()?;
        total = (total + (losses * (WORDS / f64::from(count)))?)?;
    }
    Ok(total)
}

/// ln(1 + eˣ) without overflow.
fn softplus(x: &Tensor) -> Result<Tensor> {
    Ok((x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?)
}

/// Of log-odds against labels of 0 or 1, elementwise.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok((softplus(logits)? - (logits * labels)?)?)
}

/// RankNet's loss (Burges et al. 2005) over the pairs of one prompt's seeds, each pair weighted by
/// how much it matters; `None` where no pair differs.
fn rank_loss(quality: &Tensor, targets: &Targets) -> Result<Option<Tensor>> {
    let n = targets.quality.len();
    let mut weights = vec![0f32; n * n];
    for i in 0..n {
        for j in 0..n {
            let ahead = targets.quality[i] - targets.quality[j];
            if targets.group[i] == targets.group[j] && ahead > 0.0 {
                weights[i * n + j] = ahead;
            }
        }
    }
    let sum: f32 = weights.iter().sum();
    if sum == 0.0 {
        return Ok(None);
    }
    let weights = Tensor::from_vec(weights, (n, n), &Device::Cpu)?;
    let ahead = quality
        .unsqueeze(1)?
        .broadcast_sub(&quality.unsqueeze(0)?)?;
    let losses = softplus(&(ahead * -2.0)?)?;
    Ok(Some(
        ((losses * weights)?.sum_all()? * (1.0 / f64::from(sum)))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(quality: &[f32]) -> Outputs {
        Outputs {
            quality: Tensor::new(quality, &Device::Cpu).unwrap(),
            good: None,
            words: None,
        }
    }

    fn targets(quality: &[f32], group: &[usize]) -> Targets {
        Targets {
            quality: quality.to_vec(),
            good: quality.iter().map(|q| *q > 0.0).collect(),
            group: group.to_vec(),
            words: vec![Vec::new(); quality.len()],
        }
    }

    #[test]
    fn the_right_order_within_a_prompt_costs_less() {
        let truth = targets(&[1.0, -1.0, 0.5, 0.5], &[0, 0, 1, 1]);
        let cost = |q: &[f32]| {
            rank_loss(&outputs(q).quality, &truth)
                .unwrap()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert!(cost(&[1.0, -1.0, 0.0, 0.0]) < cost(&[-1.0, 1.0, 0.0, 0.0]));
        // The order between prompts, and of seeds that came out alike, is not its business.
        assert_eq!(cost(&[1.0, -1.0, 9.0, 0.0]), cost(&[1.0, -1.0, 0.0, 9.0]));
        let alike = targets(&[1.0, 2.0], &[0, 1]);
        assert!(
            rank_loss(&outputs(&[0.0, 0.0]).quality, &alike)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn words_that_nobody_judged_cost_nothing_and_still_have_a_gradient() {
        let words = candle_core::Var::new(&[[0.3f32], [-0.7]], &Device::Cpu).unwrap();
        let silent = Targets {
            words: vec![vec![None]; 2],
            ..targets(&[0.5, -0.5], &[0, 1])
        };
        let with = Outputs {
            words: Some(words.as_tensor().clone()),
            ..outputs(&[0.5, -0.5])
        };
        let loss = loss(Design::Probe, &with, &silent).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 0.0);
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(words.as_tensor()).expect("a gradient");
        assert_eq!(gradient.to_vec2::<f32>().unwrap(), [[0.0], [0.0]]);
    }

    #[test]
    fn a_perfect_paper_probe_has_no_loss() {
        let loss = loss(
            Design::AttentionProbe,
            &outputs(&[0.5, -0.5]),
            &targets(&[0.5, -0.5], &[0, 0]),
        );
        assert_eq!(loss.unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }

    #[test]
    fn words_without_a_verdict_cost_nothing() {
        let mut with = outputs(&[0.0]);
        with.words = Some(Tensor::new(&[[3f32, -2.0]], &Device::Cpu).unwrap());
        let mut truth = targets(&[0.0], &[0]);
        truth.words = vec![vec![None, None]];
        let cost = |truth: &Targets| {
            loss(Design::Probe, &with, truth)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert_eq!(cost(&truth), 0.0);
        truth.words = vec![vec![Some(true), None]];
        // WORDS × ln(1 + e⁻³)
        assert!((cost(&truth) - 0.5 * 0.048_587_35).abs() < 1e-6);
    }
}
