//! The MCP server: tools, prompts and resources over stdio and HTTP. The only module that knows MCP.
//!
//! It speaks both eras of the protocol: 2026-07-28, where every request stands for itself, and those
//! up to 2025-11-25, which begin with a handshake. Nothing is kept between calls but what the handles
//! stand for, so the same server serves either.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams,
    CompleteResult, CustomRequest, CustomResult, ErrorCode, ExtensionCapabilities,
    GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation,
    ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, Tool, UpdateTaskParams,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

mod app;
mod arguments;
mod call;
mod calls;
mod checks;
mod completion;
#[cfg(feature = "conformance")]
mod conformance;
#[cfg(fuzzing)]
pub mod fuzzed;
pub mod http;
mod lenient;
mod progress;
mod prompts;
mod resources;
mod schema;
mod stdio;
mod tasks;
mod tools;
mod wire;

use crate::foresight::{Caller, Foresight};
use crate::{Error, Result};

/// What does not change while the server runs may be kept this long by a client.
const FRESH: Duration = Duration::from_secs(3600);

const INSTRUCTIONS: &str = "Foreseed tells how a text-to-image prompt and seed will turn out before \
the image is paid for. Predict first; refine the prompt where prompt_risk is high; rank seeds where \
the candidates differ; render only the best handle. A reply with complete false goes on when you \
call again with the same arguments.";

/// The tools, prompts and resources over one [`Foresight`].
#[derive(Clone)]
pub struct Server {
    foresight: Arc<Foresight>,
    /// A call answers with what it has after this long.
    patience: Duration,
    tools: Arc<Vec<tools::ToolCard>>,
    calls: calls::Calls,
    tasks: TaskManager,
}

impl Server {
    pub fn new(foresight: Arc<Foresight>, patience: Duration) -> Self {
        let mut tools = tools::all();
        if !foresight.writes {
            tools.iter_mut().for_each(tools::ToolCard::only_reads);
        }
        Self {
            foresight,
            patience,
            tools: Arc::new(tools),
            calls: calls::Calls::new(),
            tasks: TaskManager::new(),
        }
    }

    /// The same with these tools alone, and the prompts that need no other.
    ///
    /// # Errors
    /// A name that no tool has.
    pub fn with_tools(mut self, names: &[String]) -> Result<Self> {
        let known: Vec<String> = self.tool_names().map(String::from).collect();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
            return Err(Error::invalid(
                "--tools",
                format!("there is no tool {unknown:?}"),
                format!(
                    "Name some of {}, with commas between them",
                    known.join(", ")
                ),
            ));
        }
        let mut tools = tools::all();
        tools.retain(|card| names.iter().any(|name| *name == card.tool.name));
        if !self.foresight.writes {
            tools.iter_mut().for_each(tools::ToolCard::only_reads);
        }
        self.tools = Arc::new(tools);
        Ok(self)
    }

    fn tool_names(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().map(|card| &*card.tool.name)
    }

    /// Whether a prompt can be followed with the tools that are served.
    fn can_follow(&self, prompt: &str) -> bool {
        let served: Vec<&str> = self.tool_names().collect();
        tools::all().iter().all(|card| {
            let name = &*card.tool.name;
            served.contains(&name) || !prompts::names_tool(prompt, name)
        })
    }

    /// Serves over this process's stdin and stdout until the client goes away or `stop` is
    /// cancelled; what is then under way is given up within a step.
    pub async fn serve_stdio(self, stop: CancellationToken) -> Result<()> {
        let gone = self.calls.gone.clone();
        let transport = stdio::Stdio::open(stop.clone(), gone)
            .map_err(|error| Error::Internal(format!("stdio could not be opened: {error}")))?;
        use rmcp::service::ServerInitializeError as Start;
        let running = match self.serve_with_ct(transport, stop).await {
            Ok(running) => running,
            // A client that leaves before it says anything has nothing to complain of.
            Err(Start::ConnectionClosed(_) | Start::Cancelled) => return Ok(()),
            Err(error) => return Err(Error::Internal(format!("no session: {error}"))),
        };
        let ended = running.waiting().await;
        tracing::info!(?ended, "the session is over");
        Ok(())
    }
}

/// What answers over HTTP: the server itself.
#[cfg(not(feature = "conformance"))]
type Served = Server;
#[cfg(not(feature = "conformance"))]
fn served(server: &Server) -> Served {
    server.clone()
}

/// What answers over HTTP: the server with the fixtures of the conformance suite.
#[cfg(feature = "conformance")]
type Served = conformance::WithFixtures;
#[cfg(feature = "conformance")]
fn served(server: &Server) -> Served {
    conformance::WithFixtures::new(server.clone())
}

/// Since 2026-07-28 lists say how long they hold; older clients never heard of it.
fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context
        .protocol_version()
        .is_some_and(|v| v >= ProtocolVersion::V_2026_07_28)
}

/// An error that says which resource it is about, for a client that asked for many.
fn about(mut error: ErrorData, uri: &str) -> ErrorData {
    error.data.get_or_insert_with(|| json!({"uri": uri}));
    error
}

/// Every list is whole on its first page, so that no cursor was ever given out.
fn only_page(page: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match page.and_then(|page| page.cursor) {
        None => Ok(()),
        Some(cursor) => {
            let cursor: String = cursor.chars().take(40).collect();
            let problem =
                format!("there is no page {cursor:?}: the list is whole without a cursor");
            Err(ErrorData::invalid_params(problem, None))
        }
    }
}

macro_rules! list {
    ($list:ident, $items:expr, $context:expr, $ttl:expr) => {{
        let list = $list::with_all_items($items);
        if is_modern(&$context) {
            let ttl = u64::try_from($ttl.as_millis()).unwrap_or(u64::MAX);
            list.with_ttl_ms(ttl).with_cache_scope(CacheScope::Private)
        } else {
            list
        }
    }};
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_completions()
            .enable_extensions_with(ExtensionCapabilities::from([(
                app::EXTENSION.to_owned(),
                app::settings(),
            )]))
            // After them, to which it adds its own.
            .enable_tasks()
            .build();
        let about = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .with_title("Foreseed")
            .with_description(env!("CARGO_PKG_DESCRIPTION"));
        ServerConfig::new(capabilities)
            .with_server_info(about)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        only_page(page)?;
        let tools = self.tools.iter().map(|card| card.tool.clone()).collect();
        Ok(list!(ListToolsResult, tools, context, FRESH))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools
            .iter()
            .find(|card| card.tool.name == name)
            .map(|card| card.tool.clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match tasks::are_spoken(&context) {
            true => tasks::answer(self, request, context).await,
            false => call::answer(self, request, context).await.map(Into::into),
        }
    }

    async fn list_prompts(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        only_page(page)?;
        let mut prompts = prompts::list();
        prompts.retain(|prompt| self.can_follow(&prompt.name));
        Ok(list!(ListPromptsResult, prompts, context, FRESH))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&request.name, request.arguments.as_ref()).map(Into::into)
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let cursor = page.and_then(|page| page.cursor);
        let page =
            resources::page(&self.foresight, cursor.as_deref()).map_err(|error| match error {
                Error::Invalid { .. } => ErrorData::invalid_params(error.to_string(), None),
                error => ErrorData::internal_error(error.to_string(), None),
            })?;
        let mut list = list!(ListResourcesResult, page.resources, context, Duration::ZERO);
        list.next_cursor = page.next;
        Ok(list)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        completion::complete(&self.foresight, &request)
    }

    async fn list_resource_templates(
        &self,
        page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        only_page(page)?;
        Ok(list!(
            ListResourceTemplatesResult,
            resources::templates(),
            context,
            FRESH
        ))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let caller = Caller {
            cancel: context.ct.clone(),
            progress: Arc::new(|_| ()),
            patience: Some(self.patience),
        };
        let result = resources::read(&self.foresight, &request.uri, &caller)
            .await
            .map_err(|error| about(error, &request.uri))?;
        let result = if is_modern(&context) {
            result.with_ttl_ms(0).with_cache_scope(CacheScope::Private)
        } else {
            result
        };
        Ok(result.into())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        let task = self.tasks.get_task(&request.task_id)?;
        Ok(GetTaskResult::new(task))
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks
            .update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }

    /// What rmcp could not read as a request of its method ends up here, beside unknown methods.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        const SERVED: [&str; 10] = [
            "initialize",
            "server/discover",
            "tools/list",
            "tools/call",
            "prompts/list",
            "prompts/get",
            "resources/list",
            "resources/templates/list",
            "resources/read",
            "completion/complete",
        ];
        // Since 2026-07-28 nobody shakes hands.
        let gone = request.method == "initialize" && is_modern(&context);
        if SERVED.contains(&request.method.as_str()) && !gone {
            let problem = format!(
                "the params of {} are malformed: {}",
                request.method,
                match request.method.as_str() {
                    "tools/call" => "send name, a text, and arguments, an object",
                    "prompts/get" => "send name, a text, and arguments, an object of texts",
                    "resources/read" => "send uri, a text",
                    "completion/complete" => {
                        "send ref, a prompt or a resource template, and argument, its name and value"
                    }
                    _ => "they do not have the form that the protocol gives them",
                }
            );
            return Err(ErrorData::invalid_params(problem, None));
        }
        Err(ErrorData::new(
            ErrorCode::METHOD_NOT_FOUND,
            request.method,
            None,
        ))
    }
}
