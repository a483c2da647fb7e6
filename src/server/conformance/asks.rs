//! Tools and a prompt that cannot answer before the client has: since 2026-07-28 a server says what
//! it still needs, and the client calls again with it (SEP-2322).

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock,
    ErrorData, GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequiredResult,
    InputResponses, Tool,
};
use rmcp::service::RequestContext;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::made;

pub fn list() -> Result<Vec<Tool>, ErrorData> {
    let names = [
        "test_missing_capability",
        "test_streaming_elicitation",
        "test_input_required_result_elicitation",
        "test_input_required_result_sampling",
        "test_input_required_result_list_roots",
        "test_input_required_result_request_state",
        "test_input_required_result_multiple_inputs",
        "test_input_required_result_multi_round",
        "test_input_required_result_tampered_state",
        "test_input_required_result_capabilities",
    ];
    let tools = names.map(|name| {
        json!({
            "name": name,
            "description": "Asks before it answers",
            "inputSchema": {"type": "object", "properties": {}},
        })
    });
    made(Value::from(tools.to_vec()))
}

fn question(message: &str, field: &str, kind: &str) -> Value {
    let properties = json!({field: {"type": kind}});
    let schema = json!({"type": "object", "properties": properties, "required": [field]});
    let params = json!({"mode": "form", "message": message, "requestedSchema": schema});
    json!({"method": "elicitation/create", "params": params})
}

fn sampling(text: &str) -> Value {
    let message = json!({"role": "user", "content": {"type": "text", "text": text}});
    json!({"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}})
}

fn roots() -> Value {
    json!({"method": "roots/list"})
}

/// The answer of a fixture, if `request` calls one.
pub fn call(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Option<CallToolResponse>, ErrorData> {
    let responses = request.input_responses.clone().unwrap_or_default();
    let said = |key: &str| responses.get(key).filter(|said| said.is_object());
    let name = question("What is your name?", "name", "string");
    let confirm = json!({"confirm": question("Please confirm", "ok", "boolean")});
    let done = |text: String| {
        Ok(Some(
            CallToolResult::success(vec![ContentBlock::text(text)]).into(),
        ))
    };
    let needs =
        |requests: Value, state: Option<&str>| Ok(Some(asked(requests, state.map(seal))?.into()));
    match &*request.name {
        "test_missing_capability" => {
            let able = context.client_capabilities().unwrap_or_default();
            if able.sampling.is_some() {
                return done("The client can sample".into());
            }
            let needed: ClientCapabilities = made(json!({"sampling": {}}))?;
            Err(ErrorData::missing_required_client_capability(needed))
        }
        "test_streaming_elicitation" | "test_input_required_result_elicitation" => {
            match accepted(&responses, "user_name", "name") {
                Some(name) => done(format!("Hello, {name}!")),
                None => needs(json!({"user_name": name}), None),
            }
        }
        "test_input_required_result_sampling" => match said("capital_question") {
            Some(said) => done(format!("The client's model said {said}")),
            None => needs(
                json!({"capital_question": sampling("What is the capital of France?")}),
                None,
            ),
        },
        "test_input_required_result_list_roots" => match said("client_roots") {
            Some(said) => done(format!("The client's roots are {}", said["roots"])),
            None => needs(json!({"client_roots": roots()}), None),
        },
        "test_input_required_result_request_state"
        | "test_input_required_result_tampered_state" => {
            match (said("confirm"), opened(request.request_state.as_deref())?) {
                (Some(_), Some(_)) => done("state-ok".into()),
                _ => needs(confirm, Some("confirm")),
            }
        }
        "test_input_required_result_multiple_inputs" => {
            let keys = ["user_name", "greeting", "client_roots"];
            match opened(request.request_state.as_deref())? {
                Some(_) if keys.iter().all(|key| said(key).is_some()) => {
                    done("All is known".into())
                }
                _ => {
                    let greeting = sampling("Generate a greeting");
                    let all =
                        json!({"user_name": name, "greeting": greeting, "client_roots": roots()});
                    needs(all, Some("all"))
                }
            }
        }
        "test_input_required_result_multi_round" => {
            let state = opened(request.request_state.as_deref())?;
            match state.as_deref() {
                Some("step2") if said("step2").is_some() => done("Both steps are done".into()),
                Some("step1") if said("step1").is_some() => {
                    let next = question("Step 2: What is your favorite color?", "color", "string");
                    needs(json!({"step2": next}), Some("step2"))
                }
                _ => {
                    let first = question("Step 1: What is your name?", "name", "string");
                    needs(json!({"step1": first}), Some("step1"))
                }
            }
        }
        "test_input_required_result_capabilities" => {
            let able = context.client_capabilities().unwrap_or_default();
            let mut requests = serde_json::Map::new();
            if able.sampling.is_some() {
                requests.insert("greeting".into(), sampling("Generate a greeting"));
            }
            if able.elicitation.is_some() {
                requests.insert("user_name".into(), name);
            }
            if able.roots.is_some() {
                requests.insert("client_roots".into(), roots());
            }
            match requests.keys().all(|key| said(key).is_some()) {
                true => done("Nothing is missing".into()),
                false => needs(requests.into(), None),
            }
        }
        _ => Ok(None),
    }
}

/// The prompt that asks first, if `request` gets it.
pub fn prompt(request: &GetPromptRequestParams) -> Result<Option<GetPromptResponse>, ErrorData> {
    if request.name != "test_input_required_result_prompt" {
        return Ok(None);
    }
    let responses = request.input_responses.clone().unwrap_or_default();
    let Some(given) = accepted(&responses, "user_context", "context") else {
        let ask = question("What context should the prompt use?", "context", "string");
        return Ok(Some(asked(json!({"user_context": ask}), None)?.into()));
    };
    let text = json!({"type": "text", "text": format!("Use this context: {given}")});
    let message = made(json!({"role": "user", "content": text}))?;
    Ok(Some(GetPromptResult::new(vec![message]).into()))
}

/// The text that a user gave for `field` in answer to `key`.
fn accepted(responses: &InputResponses, key: &str, field: &str) -> Option<String> {
    let answer = responses.get(key)?;
    let given = answer["content"][field].as_str()?;
    (answer["action"] == "accept").then(|| given.to_owned())
}

fn asked(requests: Value, state: Option<String>) -> Result<InputRequiredResult, ErrorData> {
    Ok(InputRequiredResult::new(Some(made(requests)?), state))
}

/// Known to this process alone, so that a client cannot make up a state.
static KEY: LazyLock<[u64; 4]> =
    LazyLock::new(|| std::array::from_fn(|i| RandomState::new().hash_one(i)));

fn seal(state: &str) -> String {
    let mut digest = Sha256::new();
    // The key on both sides: a digest cannot be continued by who knows only the state.
    for part in [key(), state.as_bytes().to_vec(), key()] {
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let tag: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{state}.{tag}")
}

fn key() -> Vec<u8> {
    KEY.iter().flat_map(|part| part.to_le_bytes()).collect()
}

/// The state that a client sent back, as it was sealed; an error if it is another.
fn opened(sealed: Option<&str>) -> Result<Option<String>, ErrorData> {
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    match sealed.split_once('.') {
        Some((state, _)) if seal(state) == sealed => Ok(Some(state.to_owned())),
        _ => {
            let problem = "requestState is not what this server gave out: send it back unchanged";
            Err(ErrorData::invalid_params(problem, None))
        }
    }
}
