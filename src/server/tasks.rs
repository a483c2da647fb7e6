//! Calls that outlive the client's patience, where the client speaks of tasks (SEP-2663): instead of
//! an answer in part, it gets a task that goes on, and asks for it when it likes.

use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CreateTaskResult, ErrorData,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskExit, TaskOptions};
use tokio_util::sync::CancellationToken;

use super::progress::Reporter;
use super::{Server, call};

/// A task is kept so long; what it did is kept by its candidates' handles in any case.
const KEPT: Duration = Duration::from_secs(3600);
const POLL: Duration = Duration::from_secs(2);

/// Whether whoever asks can be given a task.
pub fn are_spoken(context: &RequestContext<RoleServer>) -> bool {
    context
        .client_capabilities()
        .is_some_and(|able| able.supports_tasks())
}

/// Answers a call, or gives a task for it where that takes longer than the server's patience.
pub async fn answer(
    server: &Server,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let reporter = Reporter::start(&context, &server.calls.gone);
    // The request's own token ends with its answer, and the task goes on.
    let cancel = CancellationToken::new();
    let terms = call::Terms {
        cancel: cancel.clone(),
        progress: reporter.callback(),
        patience: None,
    };
    let working = server.clone();
    let mut work = tokio::spawn(async move { call::counted(&working, request, terms).await });
    tokio::select! {
        answer = &mut work => {
            let answer = of(answer);
            reporter.finish(call::is_completed(&answer)).await;
            return answer.map(Into::into);
        }
        () = context.ct.cancelled() => {
            cancel.cancel();
            reporter.finish(false).await;
            return of(work.await).map(Into::into);
        }
        () = tokio::time::sleep(server.patience) => reporter.finish(false).await,
    }
    let options = TaskOptions::new()
        .with_ttl_ms(KEPT.as_millis() as u64)
        .with_poll_interval_ms(POLL.as_millis() as u64)
        .with_status_message("the engine works on it");
    let task = server.tasks.spawn(options, |task| {
        Box::pin(async move {
            tokio::select! {
                answer = &mut work => of(answer).map_err(TaskExit::Error),
                () = task.cancelled() => {
                    cancel.cancel();
                    // It ends within a step.
                    drop(work.await);
                    Err(TaskExit::Cancelled)
                }
            }
        })
    });
    Ok(CreateTaskResult::new(task).into())
}

fn of(
    answer: Result<Result<CallToolResult, ErrorData>, tokio::task::JoinError>,
) -> Result<CallToolResult, ErrorData> {
    answer.unwrap_or_else(|error| {
        let problem = format!("the work broke off: {error}; please report it");
        Err(ErrorData::internal_error(problem, None))
    })
}
