//! What the fuzz targets in `tests/fuzz` read a client's words with: they alone are built with
//! `--cfg fuzzing`.

use rmcp::model::{ClientJsonRpcMessage, ClientRequest, CompleteRequestParams, JsonRpcMessage};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::tools::{self, Job, ToolCard};
use super::wire::{self, Heard};
use super::{arguments, checks, completion, prompts, resources};
use crate::backbones::Facts;
use crate::foresight::requests::{
    PredictRequest, RankRequest, RefineRequest, RenderRequest, RenderWhat, SharedSettings,
};
use crate::foresight::{Caller, Foresight, validate};
use crate::{Error, Result};

/// A message as it comes over either transport, to where a tool's work would begin.
pub fn message(bytes: &[u8], facts: &Facts) -> Result<(), String> {
    match wire::parse(bytes) {
        Heard::Nothing => Ok(()),
        Heard::Refused(error, _) => Err(error.message.into_owned()),
        Heard::Message(message, mended) => {
            if let Some(mended) = mended {
                let strictly = serde_json::from_slice::<ClientJsonRpcMessage>(&mended);
                assert!(strictly.is_ok(), "what was mended is still no message");
            }
            let JsonRpcMessage::Request(request) = *message else {
                return Ok(());
            };
            match request.request {
                ClientRequest::CallToolRequest(call) => {
                    let arguments = call.params.arguments.unwrap_or_default();
                    call_of(&call.params.name, arguments, facts)
                }
                ClientRequest::GetPromptRequest(get) => {
                    prompts::get(&get.params.name, get.params.arguments.as_ref())
                        .map(drop)
                        .map_err(|error| error.message.into_owned())
                }
                _ => Ok(()),
            }
        }
    }
}

/// A tool's arguments, checked as a call checks them.
pub fn call_of(name: &str, mut arguments: Map<String, Value>, facts: &Facts) -> Result<(), String> {
    let tools = tools::all();
    let Some(card) = tools.iter().find(|card| card.tool.name == name) else {
        return Ok(());
    };
    let problems = checks::enforce(card.input(), &mut arguments);
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let again = checks::enforce(card.input(), &mut arguments);
    assert!(
        again.is_empty(),
        "what was let through is refused: {again:?}"
    );
    requested(card, Value::Object(arguments), facts).map_err(|error| error.to_string())
}

/// What can be told of a request before its model runs.
fn requested(card: &ToolCard, arguments: Value, facts: &Facts) -> Result<()> {
    let complete = |settings: &SharedSettings| validate::complete(settings, "pocket", facts);
    match card.job {
        Job::Predict => {
            let r = PredictRequest::from(read::<arguments::Predict>(arguments)?);
            validate::prompt("prompt", &r.prompt)?;
            validate::seeds(&r.seeds, 8)?;
            let settings = complete(&r.settings.shared)?;
            validate::at_step(r.settings.at_step, settings.steps)
        }
        Job::Rank => {
            let r = RankRequest::from(read::<arguments::Rank>(arguments)?);
            validate::prompt("prompt", &r.prompt)?;
            let seeds = validate::seeds(&r.seeds, 8)?;
            validate::keep(r.keep, seeds.len())?;
            complete(&r.settings.shared).map(drop)
        }
        Job::Refine => {
            let r = RefineRequest::from(read::<arguments::Refine>(arguments)?);
            validate::refinement(&r)?;
            complete(&r.settings.shared).map(drop)
        }
        Job::Render => {
            let r = RenderRequest::try_from(read::<arguments::Render>(arguments)?)?;
            validate::rating(r.rating)?;
            match &r.what {
                RenderWhat::Handle(handle) => validate::handle(handle),
                RenderWhat::Candidate { prompt, .. } => validate::prompt("prompt", prompt),
            }?;
            complete(&r.settings).map(drop)
        }
        Job::ListModels => read::<arguments::ListModels>(arguments).map(drop),
    }
}

fn read<T: DeserializeOwned>(arguments: Value) -> Result<T> {
    serde_json::from_value(arguments)
        .map_err(|error| Error::Internal(format!("the schema let through: {error}")))
}

/// The names of the tools.
pub fn tools() -> Vec<&'static str> {
    tools::all().iter().map(|card| card.job.name()).collect()
}

/// What stands behind an address.
pub async fn resource(foresight: &Foresight, uri: &str, caller: &Caller) -> Result<(), String> {
    let read = resources::read(foresight, uri, caller).await;
    read.map(drop).map_err(|error| error.message.into_owned())
}

/// The page at a cursor.
pub fn page(foresight: &Foresight, cursor: &str) -> Result<()> {
    resources::page(foresight, Some(cursor)).map(drop)
}

/// What completes the argument that these parameters, JSON, are about.
pub fn completion(foresight: &Foresight, parameters: &[u8]) -> Result<(), String> {
    let Ok(parameters) = serde_json::from_slice::<CompleteRequestParams>(parameters) else {
        return Ok(());
    };
    completion::complete(foresight, &parameters)
        .map(drop)
        .map_err(|error| error.message.into_owned())
}
