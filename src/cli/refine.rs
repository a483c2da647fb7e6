use super::shared::{Person, PredictingArgs, cost, figure, interval, table, words};
use super::{Globals, output};
use crate::Result;
use crate::foresight::replies::RefineReply;
use crate::foresight::requests::RefineRequest;

/// `foreseed refine`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the image should show.
    prompt: String,
    /// A rewrite to try; may be given several times. Without one, rewrites are made.
    #[arg(long = "variant", value_name = "PROMPT")]
    variants: Vec<String>,
    /// Seeds a wording.
    #[arg(long)]
    count: Option<u32>,
    /// Rounds of rewriting, each from the best wording so far [default: 1].
    #[arg(long)]
    rounds: Option<u32>,
    #[command(flatten)]
    predicting: PredictingArgs,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let foresight = globals.foresight()?;
    let request = RefineRequest {
        prompt: args.prompt,
        variants: (!args.variants.is_empty()).then_some(args.variants),
        count: args.count,
        rounds: args.rounds,
        settings: args.predicting.request(),
    };
    let reply = globals.block_on(async {
        let person = Person::here();
        foresight.refine(request, &person.caller).await
    })?;
    if globals.json {
        output::print_json(&reply)
    } else {
        output::print(&told(&reply))
    }
}

fn told(reply: &RefineReply) -> String {
    let rows = reply
        .tried
        .iter()
        .map(|tried| {
            let best = tried.prompt == reply.best.prompt;
            vec![
                if best { "best".into() } else { String::new() },
                figure(Some(tried.expected_quality)),
                interval(tried.interval),
                tried.prompt.clone(),
            ]
        })
        .collect();
    let mut text = table(&["", "expected", "90 %", "prompt"], &[1, 2], rows);
    text += &format!(
        "\ngain {:+.3}  ({})\n",
        reply.best.gain,
        interval(reply.best.gain_interval)
    );
    if !reply.weak_words.is_empty() {
        text += &format!("weak words: {}\n", words(&reply.weak_words));
    }
    text + &format!("{}\n{}", reply.next, cost(&reply.common))
}
