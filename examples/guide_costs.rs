//! What the way from `models pull` to a trained probe costs on a GPU, computed: nothing here was measured.
//!
//! ```text
//! cargo run --release --example guide_costs [-- --memory 24 --tflops 66 --prompts 300 --seeds 8]
//! ```
//!
//! Memory is the sum of the weights in bf16 (the denoiser in GGUF's Q8_0 and Q4_K as well), and of the
//! estimated activations of a step. Time is the work of the published shapes over `--tflops`, what the GPU
//! is taken to sustain: by default two fifths of an RTX 4090's peak in bf16 (165). Disk is what a
//! collection keeps of each look, for prompts of 20 tokens.

use candle_core::{DType, Device};
use foreseed::backbones::{Needs, Placement};
use foreseed::models::{KNOWN, KNOWN_SCORERS, Known};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What the guide runs a model with, and what a probe looks at.
struct Plan {
    name: &'static str,
    steps: f64,
    /// Evaluations a step.
    evaluations: f64,
    /// Cells of the probe's grid at 1024² (a probe reads no more), blocks that are read by default, channels of the middle.
    cells: f64,
    blocks: f64,
    middle: f64,
    /// Channels of the latents.
    latents: f64,
}

const PLANS: [Plan; 4] = [
    Plan {
        name: "sdxl",
        steps: 30.0,
        evaluations: 2.0,
        cells: 32.0 * 32.0,
        blocks: 10.0,
        middle: 1280.0,
        latents: 4.0,
    },
    Plan {
        name: "flux-schnell",
        steps: 4.0,
        evaluations: 1.0,
        cells: 32.0 * 32.0,
        blocks: 2.0,
        middle: 3072.0,
        latents: 16.0,
    },
    Plan {
        name: "flux-dev",
        steps: 28.0,
        evaluations: 1.0,
        cells: 32.0 * 32.0,
        blocks: 2.0,
        middle: 3072.0,
        latents: 16.0,
    },
    Plan {
        name: "qwen-image",
        steps: 50.0,
        evaluations: 1.0,
        cells: 32.0 * 32.0,
        blocks: 2.0,
        middle: 3072.0,
        latents: 16.0,
    },
];

/// Bits of a weight, by how the denoiser is stored.
const STORED: [(&str, f64); 3] = [("bf16", 16.0), ("Q8_0", 8.5), ("Q4_K", 4.5)];
/// Looks into each trajectory.
const LOOKS: f64 = 1.0;
/// Tokens of a prompt.
const KEYS: f64 = 20.0;
/// 10¹² operations that PickScore takes for a picture.
const SCORING: f64 = 0.33;

fn main() -> Result<()> {
    let (mut memory, mut tflops, mut prompts, mut seeds) = (24.0, 66.0, 300.0, 8.0);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args
            .next()
            .ok_or_else(|| format!("{arg} needs a value"))?
            .parse()?;
        match arg.as_str() {
            "--memory" => memory = value,
            "--tflops" => tflops = value,
            "--prompts" => prompts = value,
            "--seeds" => seeds = value,
            _ => {
                return Err(
                    format!("{arg}: known are --memory, --tflops, --prompts, --seeds").into(),
                );
            }
        }
    }
    let placement = Placement::new(&Device::Cpu, DType::BF16);
    println!(
        "| model | to fetch | memory at least: {} | fits into {memory:.0} GB as | a step | a render | \
         {prompts:.0} prompts × {seeds:.0} seeds | on disk |",
        STORED.map(|(name, _)| name).join(", ")
    );
    println!("| --- | --: | --: | --- | --: | --: | --: | --: |");
    for plan in &PLANS {
        let known = Known::named(plan.name).ok_or("an unknown model")?;
        let needs = known.needs(&placement)?;
        let stored: Vec<(&str, f64)> = STORED
            .iter()
            // No SDXL is published as GGUF that could be read here.
            .filter(|(name, _)| *name == "bf16" || known.family != "sdxl")
            .map(|(name, bits)| (*name, least(&needs, *bits)))
            .collect();
        let fits = stored.iter().find(|(_, bytes)| *bytes <= memory * 1e9);
        let step = plan.evaluations * needs.evaluation_tflop / tflops;
        let decode = needs.decode_tflop / tflops;
        let render = plan.steps * step + decode;
        // Each look decodes and scores two previews: its own, and that of the step before.
        let collecting = render + (2.0 * LOOKS * (needs.decode_tflop + SCORING) + SCORING) / tflops;
        let latents = 128.0 * 128.0 * plan.latents;
        let a_look = 2.0 * (plan.cells * (plan.blocks * KEYS + plan.middle) + 2.0 * latents);
        println!(
            "| {} | {:.1} GB | {} GB | {} | {:.2} s | {:.1} s | {:.1} h | {:.0} GB |",
            known.name,
            2.0 * known.parameters() as f64 / 1e9,
            stored
                .iter()
                .map(|(_, bytes)| format!("{:.1}", bytes / 1e9))
                .collect::<Vec<_>>()
                .join(", "),
            fits.map_or("nothing", |(name, _)| name),
            step,
            render,
            prompts * seeds * collecting / 3600.0,
            prompts * seeds * LOOKS * a_look / 1e9,
        );
    }
    let scorer = KNOWN_SCORERS
        .iter()
        .find(|known| known.metric == "pickscore");
    let scorer = scorer.ok_or("no pickscore")?;
    println!(
        "\nPickScore: {:.1} GB in f32 beside the model, on the same device.",
        4.0 * scorer.parameters as f64 / 1e9
    );
    Ok(())
}

/// Bytes that a model needs at least where a number of its denoiser takes so many bits.
fn least(needs: &Needs, bits: f64) -> f64 {
    let denoiser = needs
        .weights
        .iter()
        .find(|part| !part.is_text && part.component != "vae");
    let denoiser = denoiser.map_or(0, |part| part.bytes) as f64;
    needs.least() as f64 - denoiser * (1.0 - bits / 16.0)
}

const _: () = assert!(PLANS.len() == KNOWN.len());
