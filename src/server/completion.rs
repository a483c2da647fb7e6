//! What an argument that somebody is still typing may be: model names, prompts and handles known here,
//! names of pictures.

use rmcp::ErrorData;
use rmcp::model::{CompleteRequestParams, CompleteResult, CompletionInfo, Reference};

use super::prompts;
use super::resources::{CANDIDATES, PICTURES, page};
use crate::Result;
use crate::foresight::Foresight;
use crate::foresight::validate::shown;

/// As many as a reply may hold.
const AT_MOST: usize = CompletionInfo::MAX_VALUES;

/// Numbers of seeds that are worth a look.
const COUNTS: [&str; 6] = ["4", "8", "16", "24", "32", "64"];

/// Completes one argument of a prompt or of a resource's template. An argument that can be anything
/// has no completions; a prompt or template that does not exist is an error.
pub fn complete(
    foresight: &Foresight,
    request: &CompleteRequestParams,
) -> Result<CompleteResult, ErrorData> {
    let typed = request.argument.value.as_str();
    let name = request.argument.name.as_str();
    let internal = |error: crate::Error| ErrorData::internal_error(error.to_string(), None);
    let values = match &request.r#ref {
        Reference::Prompt(prompt) => {
            let known = prompts::arguments_of(&prompt.name)?;
            if !known.contains(&name) {
                let (name, known) = (shown(name), known.join(", "));
                let problem = format!("{name}: {} takes {known}", prompt.name);
                return Err(ErrorData::invalid_params(problem, None));
            }
            match name {
                "model" => models(foresight, typed),
                "count" => starting(COUNTS.map(String::from), typed),
                "prompt" | "idea" => {
                    // One more than fits tells that there are more.
                    foresight
                        .store
                        .prompts_like(typed, AT_MOST + 1)
                        .map_err(internal)?
                }
                _ => Vec::new(),
            }
        }
        Reference::Resource(template) => match (template.uri.as_str(), name) {
            (uri, "handle") if uri.starts_with(CANDIDATES) => foresight
                .store
                .handles_like(typed, AT_MOST + 1)
                .map_err(internal)?,
            (uri, "name") if uri.starts_with(PICTURES) => {
                pictures(foresight, typed).map_err(internal)?
            }
            (uri, name) => {
                let problem = format!(
                    "there is no template {} with {} in it; resources/templates/list names what there is",
                    shown(uri),
                    shown(name)
                );
                return Err(ErrorData::invalid_params(problem, None));
            }
        },
        _ => {
            let problem = "ref: complete ref/prompt or ref/resource";
            return Err(ErrorData::invalid_params(problem, None));
        }
    };
    answer(values)
}

fn answer(mut values: Vec<String>) -> Result<CompleteResult, ErrorData> {
    let more = values.len() > AT_MOST;
    values.truncate(AT_MOST);
    let total = (!more).then_some(values.len() as u32);
    let info = CompletionInfo::with_pagination(values, total, more)
        .map_err(|error| ErrorData::internal_error(error, None))?;
    Ok(CompleteResult::new(info))
}

/// The installed first: they are what is usually meant.
fn models(foresight: &Foresight, typed: &str) -> Vec<String> {
    let mut cards = foresight.models.list();
    cards.sort_by_key(|card| !card.installed);
    starting(cards.into_iter().map(|card| card.name), typed)
}

/// The names of the first page of pictures that begin as typed.
fn pictures(foresight: &Foresight, typed: &str) -> Result<Vec<String>> {
    let listed = page(foresight, None)?.resources;
    let names = listed.into_iter().filter(|r| r.uri.starts_with(PICTURES));
    Ok(starting(names.map(|r| r.name), typed))
}

fn starting(values: impl IntoIterator<Item = String>, typed: &str) -> Vec<String> {
    let typed = typed.to_lowercase();
    let begins = |value: &String| value.to_lowercase().starts_with(&typed);
    values.into_iter().filter(begins).collect()
}
