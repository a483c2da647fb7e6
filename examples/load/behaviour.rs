//! What the clients do: call mixed tools, wait for most answers, cancel some calls, vanish in others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::client::Client;

/// What came of all calls.
#[derive(Default)]
pub struct Tally {
    /// Seconds to wait for like calls.
    pub probes: Vec<f64>,
    /// Seconds that a call took beyond what its reply says of the work.
    pub overheads: Vec<f64>,
    pub answered_by_client: Vec<usize>,
    counts: BTreeMap<String, usize>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.probes.extend(other.probes);
        self.overheads.extend(other.overheads);
        self.answered_by_client.extend(other.answered_by_client);
        for (what, count) in other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    pub fn print(&self) {
        for (what, count) in &self.counts {
            println!("  {count:6} {what}");
        }
    }
}

/// A scene that the embedded model can draw.
fn prompt(random: &mut ChaCha8Rng) -> String {
    const COLOURS: [&str; 8] = [
        "red", "green", "blue", "yellow", "purple", "cyan", "orange", "pink",
    ];
    const SHAPES: [&str; 8] = [
        "circle", "square", "triangle", "star", "heart", "diamond", "cross", "ring",
    ];
    let mut pick = |from: &[&'static str]| from[random.next_u32() as usize % from.len()];
    format!(
        "a {} {} left of a {} {}",
        pick(&COLOURS),
        pick(&SHAPES),
        pick(&COLOURS),
        pick(&SHAPES)
    )
}

/// A client from its first call until `until`.
pub async fn live(url: String, number: usize, seed: u64, until: Instant) -> Result<Tally> {
    let mut random = ChaCha8Rng::seed_from_u64(seed << 16 | number as u64);
    let with_session = number.is_multiple_of(2);
    let mut client = Client::connect(&url, with_session).await?;
    let mut tally = Tally::default();
    let mut answered = 0;
    while Instant::now() < until {
        let moment = Duration::from_millis(u64::from(200 + random.next_u32() % 2000));
        let (tool, arguments) = choice(&mut random);
        let params = json!({"name": tool, "arguments": arguments});
        match random.next_u32() % 10 {
            0 => {
                client.cancel_after(params, moment).await?;
                tally.count("cancelled");
            }
            1 => {
                client.vanish_during(params, moment).await?;
                tally.count("vanished in");
                client = Client::connect(&url, with_session).await?;
            }
            _ => {
                let began = Instant::now();
                let result = client.request("tools/call", params).await?;
                let took = began.elapsed().as_secs_f64();
                check(tool, &result)?;
                answered += 1;
                tally.count(&format!("{tool} answered"));
                let reply = &result["structuredContent"];
                if let Some(seconds) = reply["cost"]["seconds"].as_f64() {
                    tally.overheads.push(took - seconds);
                }
                if reply["complete"] == json!(false) {
                    tally.count("of those in part, for patience ended");
                } else if tool == "predict_quality" {
                    tally.probes.push(took);
                }
            }
        }
    }
    tally.answered_by_client.push(answered);
    Ok(tally)
}

/// A tool and arguments for it. Every `predict_quality` is as much work as every other.
fn choice(random: &mut ChaCha8Rng) -> (&'static str, Value) {
    let prompt = prompt(random);
    let seeds = json!([random.next_u32(), random.next_u32()]);
    match random.next_u32() % 20 {
        0..10 => ("predict_quality", json!({"prompt": prompt, "seeds": seeds})),
        10..13 => (
            "rank_seeds",
            json!({"prompt": prompt, "count": 4, "keep": 1}),
        ),
        13..16 => (
            "render",
            json!({"prompt": prompt, "seed": random.next_u32()}),
        ),
        16 => (
            "refine_prompt",
            json!({"prompt": prompt, "count": 2, "rounds": 1}),
        ),
        17 => (
            "predict_quality",
            json!({"prompt": prompt, "seeds": seeds, "negative_prompt": "a ring"}),
        ),
        _ => ("list_models", json!({})),
    }
}

fn check(tool: &str, result: &Value) -> Result<()> {
    ensure!(
        result["isError"] != json!(true),
        "{tool} failed: {}",
        result["content"]
    );
    ensure!(
        result["structuredContent"].is_object(),
        "{tool} gave no reply: {result}"
    );
    Ok(())
}

/// Calls once, again and again while it is told to come back later; how often it was.
pub async fn insist(url: Arc<String>, number: usize) -> Result<usize> {
    let mut client = Client::connect(&url, number.is_multiple_of(2)).await?;
    let arguments = json!({"prompt": "a red circle", "seeds": [number, 1000 + number]});
    let params = json!({"name": "predict_quality", "arguments": arguments});
    for refusals in 0.. {
        let result = client.request("tools/call", params.clone()).await?;
        if result["isError"] != json!(true) {
            check("predict_quality", &result)?;
            return Ok(refusals);
        }
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        let wait = text
            .rsplit_once("about ")
            .and_then(|(_, wait)| wait.strip_suffix(" s"));
        let wait: u64 = wait
            .and_then(|wait| wait.parse().ok())
            .with_context(|| format!("a refusal without a time to come back: {text:?}"))?;
        ensure!((1..=600).contains(&wait), "come back in {wait} s?");
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
    Ok(0)
}
