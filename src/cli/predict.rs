use super::shared::{Person, PredictingArgs, SeedArgs, cost, figure, interval, table, words};
use super::{Globals, output};
use crate::Result;
use crate::foresight::replies::PredictReply;
use crate::foresight::requests::PredictRequest;

/// `foreseed predict`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the image should show.
    prompt: String,
    #[command(flatten)]
    seeds: SeedArgs,
    /// Draw where in the first seed's picture each word is attended to.
    #[arg(long)]
    attention: bool,
    #[command(flatten)]
    predicting: PredictingArgs,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let foresight = globals.foresight()?;
    let request = PredictRequest {
        prompt: args.prompt,
        seeds: args.seeds.request(),
        attention: args.attention,
        settings: args.predicting.request(),
    };
    let reply = globals.block_on(async {
        let person = Person::here();
        foresight.predict(request, &person.caller).await
    })?;
    if globals.json {
        output::print_json(&reply)
    } else {
        output::print(&told(&reply))
    }
}

fn told(reply: &PredictReply) -> String {
    let rows = reply
        .candidates
        .iter()
        .map(|c| {
            vec![
                c.seed.to_string(),
                figure(Some(c.quality)),
                interval(c.interval),
                figure(c.p_good),
                c.handle.to_string(),
            ]
        })
        .collect();
    let header = ["seed", "quality", "90 %", "p good", "handle"];
    let mut text = table(&header, &[0, 1, 2, 3], rows);
    text += &format!(
        "\nexpected quality {}  ({})   prompt risk {}\n",
        figure(reply.expected_quality),
        interval(reply.interval),
        figure(reply.prompt_risk)
    );
    if !reply.weak_words.is_empty() {
        text += &format!("weak words: {}\n", words(&reply.weak_words));
    }
    if let Some(path) = &reply.attention {
        text += &format!("attention over the words: {}\n", path.display());
    }
    text + &format!("{}\n{}", reply.advice, cost(&reply.common))
}
