use super::shared::{Person, PredictingArgs, SeedArgs, cost, figure, interval, table};
use super::{Globals, output};
use crate::Result;
use crate::foresight::replies::RankReply;
use crate::foresight::requests::RankRequest;

/// `foreseed rank`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the image should show.
    prompt: String,
    #[command(flatten)]
    seeds: SeedArgs,
    /// How many of the best must be told apart from the rest [default: 1].
    #[arg(long)]
    keep: Option<u32>,
    /// Denoiser evaluations to spend at most (a guided step is 2).
    #[arg(long)]
    budget: Option<u64>,
    /// Draw what each seed's picture was going to be.
    #[arg(long)]
    contact_sheet: bool,
    #[command(flatten)]
    predicting: PredictingArgs,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let foresight = globals.foresight()?;
    let request = RankRequest {
        prompt: args.prompt,
        seeds: args.seeds.request(),
        keep: args.keep,
        budget: args.budget,
        contact_sheet: args.contact_sheet,
        settings: args.predicting.request(),
    };
    let reply = globals.block_on(async {
        let person = Person::here();
        foresight.rank(request, &person.caller).await
    })?;
    if globals.json {
        output::print_json(&reply)
    } else {
        output::print(&told(&reply))
    }
}

fn told(reply: &RankReply) -> String {
    let rows = reply
        .ranking
        .iter()
        .map(|r| {
            vec![
                r.rank.to_string(),
                r.seed.to_string(),
                figure(Some(r.quality)),
                interval(r.interval),
                figure(r.p_good),
                r.stopped_at_step.to_string(),
                r.handle.to_string(),
            ]
        })
        .collect();
    let header = [
        "",
        "seed",
        "quality",
        "90 %",
        "p good",
        "stopped at",
        "handle",
    ];
    let mut text = table(&header, &[0, 1, 2, 3, 4, 5], rows);
    if let Some(path) = &reply.contact_sheet {
        text += &format!("\ncontact sheet: {}", path.display());
    }
    text + &format!("\n{}\n{}", reply.next, cost(&reply.common))
}
