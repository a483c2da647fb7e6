//! One tool call, from its arguments to its result.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock};
use rmcp::service::RequestContext;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::calls::Outcome;
use super::progress::Reporter;
use super::tools::Job;
use super::{Server, arguments, checks, resources};
use crate::foresight::requests::{PredictRequest, RankRequest, RefineRequest, RenderRequest};
use crate::foresight::{Caller, Progress, validate};
use crate::{Error, Result};

/// A reply, and the picture that is shown with it.
struct Answer {
    reply: Value,
    picture: Option<Picture>,
}

/// A picture as it is shown inline and, where it was written, where to.
struct Picture {
    shown: Arc<RgbImage>,
    path: Option<PathBuf>,
    about: String,
}

impl Picture {
    fn of(shown: &Option<Arc<RgbImage>>, path: &Option<PathBuf>, about: String) -> Option<Self> {
        Some(Self {
            shown: shown.clone()?,
            path: path.clone(),
            about,
        })
    }
}

/// How a call is to be worked on.
pub struct Terms {
    /// Cancelled: it is given up within a step.
    pub cancel: CancellationToken,
    pub progress: Arc<dyn Fn(Progress) + Send + Sync>,
    /// After this long it is answered with what there is.
    pub patience: Option<Duration>,
}

/// Answers a call within the server's patience. What the agent can mend is a result that says so; only
/// a tool that does not exist is an error of the protocol.
pub async fn answer(
    server: &Server,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let reporter = Reporter::start(&context, &server.calls.gone);
    let terms = Terms {
        cancel: context.ct.child_token(),
        progress: reporter.callback(),
        patience: Some(server.patience),
    };
    let answer = counted(server, request, terms).await;
    reporter.finish(is_completed(&answer)).await;
    answer
}

/// Whether the job got to its end.
pub fn is_completed(answer: &Result<CallToolResult, ErrorData>) -> bool {
    matches!(answer, Ok(result) if result.is_error != Some(true))
}

/// Answers a call, and counts it.
pub async fn counted(
    server: &Server,
    request: CallToolRequestParams,
    terms: Terms,
) -> Result<CallToolResult, ErrorData> {
    // Names that a client made up are not for the books.
    let known = server
        .tools
        .iter()
        .find(|card| card.tool.name == request.name);
    let mut call = server
        .calls
        .begin(known.map_or("unknown", |card| card.job.name()));
    let cancel = terms.cancel.clone();
    let answer = work(server, request, terms).await;
    if !cancel.is_cancelled() {
        call.outcome = match is_completed(&answer) {
            true => Outcome::Answered,
            false => Outcome::Refused,
        };
    }
    answer
}

/// Works on a call. What the agent can mend is a result that says so; only a tool that does not exist
/// is an error of the protocol.
async fn work(
    server: &Server,
    request: CallToolRequestParams,
    terms: Terms,
) -> Result<CallToolResult, ErrorData> {
    let Some(card) = server
        .tools
        .iter()
        .find(|card| card.tool.name == request.name)
    else {
        let known: Vec<&str> = server.tools.iter().map(|card| &*card.tool.name).collect();
        let problem = format!(
            "there is no tool {}; there are: {}",
            validate::shown(&request.name),
            known.join(", ")
        );
        return Err(ErrorData::invalid_params(problem, None));
    };
    let mut arguments = request.arguments.unwrap_or_default();
    let problems = checks::enforce(card.input(), &mut arguments);
    if !problems.is_empty() {
        return Ok(refusal(problems.join("\n")));
    }
    let caller = Caller {
        cancel: terms.cancel.clone(),
        progress: terms.progress,
        patience: terms.patience,
    };
    let (working, job) = (server.clone(), card.job);
    // A task of its own, so that a bug in a job is answered like any other failure.
    let mut task = tokio::spawn(async move {
        let answer = run(&working, job, Value::Object(arguments), &caller).await?;
        result(answer).await
    });
    let outcome = tokio::select! {
        outcome = &mut task => outcome,
        // Nobody is left to wait for it, whatever the request's own token says.
        () = server.calls.gone.cancelled() => {
            terms.cancel.cancel();
            task.await
        }
    };
    let outcome = outcome
        .unwrap_or_else(|error| Err(Error::Internal(format!("the work broke off: {error}"))));
    Ok(outcome.unwrap_or_else(|error| {
        if matches!(error, Error::Cancelled) && server.calls.gone.is_cancelled() {
            let why = "cancelled: the client closed its side, or the server is ending. What was \
                       done is kept: the same call goes on where this one stopped";
            return refusal(why.into());
        }
        if !matches!(error, Error::Cancelled | Error::Invalid { .. }) {
            tracing::warn!(tool = %card.tool.name, %error, "a call failed");
        }
        refusal(error.to_string())
    }))
}

async fn run(server: &Server, job: Job, arguments: Value, caller: &Caller) -> Result<Answer> {
    let foresight = &server.foresight;
    match job {
        Job::Predict => {
            let request = read::<arguments::Predict>(arguments)?;
            let request = PredictRequest::from(request);
            let reply = foresight.predict(request, caller).await?;
            let about = "where the first seed attends to each word".into();
            Ok(Answer {
                picture: Picture::of(&reply.shown, &reply.attention, about),
                ..plain(&reply)?
            })
        }
        Job::Rank => {
            let request = read::<arguments::Rank>(arguments)?;
            let reply = foresight.rank(RankRequest::from(request), caller).await?;
            let about = "contact sheet of the ranking".into();
            Ok(Answer {
                picture: Picture::of(&reply.shown, &reply.contact_sheet, about),
                ..plain(&reply)?
            })
        }
        Job::Refine => {
            let request = read::<arguments::Refine>(arguments)?;
            plain(
                &foresight
                    .refine(RefineRequest::from(request), caller)
                    .await?,
            )
        }
        Job::Render => {
            let request = RenderRequest::try_from(read::<arguments::Render>(arguments)?)?;
            let reply = foresight.render(request, caller).await?;
            let about = format!("{} (seed {})", reply.prompt, reply.seed);
            Ok(Answer {
                picture: Picture::of(&reply.shown, &reply.path, about),
                ..plain(&reply)?
            })
        }
        Job::ListModels => plain(&foresight.list_models()?),
    }
}

/// The schema was enforced before: what fails here is a schema that promises too much.
fn read<T: DeserializeOwned>(arguments: Value) -> Result<T> {
    serde_json::from_value(arguments)
        .map_err(|error| Error::Internal(format!("the arguments could not be read: {error}")))
}

fn plain(reply: &impl Serialize) -> Result<Answer> {
    let reply = serde_json::to_value(reply)
        .map_err(|error| Error::Internal(format!("the reply could not be written: {error}")))?;
    Ok(Answer {
        reply,
        picture: None,
    })
}

/// The reply as structured content with its copy in text; a picture stands beside it inline, small,
/// and as a link to the whole.
async fn result(answer: Answer) -> Result<CallToolResult> {
    let mut result = CallToolResult::structured(answer.reply);
    let Some(Picture { shown, path, about }) = answer.picture else {
        return Ok(result);
    };
    let jpeg = tokio::task::spawn_blocking(move || resources::shown(&shown))
        .await
        .map_err(|error| Error::Internal(format!("the thumbnail was not made: {error}")))??;
    let jpeg = BASE64_STANDARD.encode(jpeg);
    result.content.push(ContentBlock::image(jpeg, "image/jpeg"));
    if let Some(path) = path {
        let link = resources::link(&path, &about);
        result.content.push(ContentBlock::resource_link(link));
    }
    Ok(result)
}

fn refusal(problem: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(problem)])
}
