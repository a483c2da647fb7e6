use super::shared::{Person, SettingsArgs, cost, figure};
use super::{Globals, output};
use crate::candidate::{Handle, Seed};
use crate::foresight::replies::RenderReply;
use crate::foresight::requests::{RenderRequest, RenderWhat};
use crate::{Error, Result};

/// `foreseed render`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the image should show, with --seed; or what `predict` or `rank` called a candidate.
    #[arg(
        value_name = "PROMPT|HANDLE",
        conflicts_with = "handle",
        required_unless_present = "handle"
    )]
    prompt: Option<String>,
    /// The seed to render; with a prompt.
    #[arg(long, conflicts_with = "handle")]
    seed: Option<u32>,
    /// What `predict` or `rank` called a candidate.
    #[arg(long)]
    handle: Option<String>,
    /// How good the picture is to you, from 0 to 1. One that is there already is rated, not rendered.
    #[arg(long, value_name = "0-1", allow_hyphen_values = true)]
    rating: Option<f64>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// What a handle begins with, and no prompt does by chance.
const HANDLE: &str = "fs_";

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let what = match (args.handle, args.prompt, args.seed) {
        (Some(handle), _, _) => RenderWhat::Handle(Handle(handle)),
        (None, Some(handle), None) if handle.starts_with(HANDLE) => {
            RenderWhat::Handle(Handle(handle))
        }
        (None, Some(prompt), Some(seed)) => RenderWhat::Candidate {
            prompt,
            seed: Seed(seed),
        },
        _ => {
            return Err(Error::invalid(
                "seed",
                "there is none",
                "Name one with --seed, or a candidate with --handle",
            ));
        }
    };
    let foresight = globals.foresight()?;
    let request = RenderRequest {
        what,
        settings: args.settings.request(),
        rating: args.rating,
    };
    let reply = globals.block_on(async {
        let person = Person::here();
        foresight.render(request, &person.caller).await
    })?;
    if globals.json {
        output::print_json(&reply)
    } else {
        output::print(&told(&reply))
    }
}

fn told(reply: &RenderReply) -> String {
    let mut text = String::new();
    if let Some(path) = &reply.path {
        text += &format!("{}\n", path.display());
    }
    text += &format!("{:?}, seed {}", reply.prompt, reply.seed);
    text += &format!("\npredicted {}", figure(reply.predicted));
    for (metric, score) in &reply.measured {
        text += &format!("   measured {metric} {score:.3}");
    }
    if reply.resumed_from_step > 0 {
        text += &format!("   resumed from step {}", reply.resumed_from_step);
    }
    if let Some(next) = &reply.next {
        text += &format!("\n{next}");
    }
    text + &format!("\n{}", cost(&reply.common))
}
