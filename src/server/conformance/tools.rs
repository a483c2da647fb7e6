//! Tools that answer with each kind of content, tell of their progress, log, fail, and ask the
//! client of the revisions up to 2025-11-25 for something.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rmcp::RoleServer;
use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientResult, ContentBlock, ErrorData,
    ProgressNotificationParam, ServerNotification, ServerRequest, Tool,
};
use rmcp::service::RequestContext;
use serde_json::{Value, json};

use super::super::is_modern;
use super::made;

const PAUSE: Duration = Duration::from_millis(60);

pub fn list() -> Result<Vec<Tool>, ErrorData> {
    let nothing = json!({"type": "object", "properties": {}});
    let text = |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]});
    let tools = [
        ("test_simple_text", "Answers with text", nothing.clone()),
        (
            "test_image_content",
            "Answers with a picture",
            nothing.clone(),
        ),
        (
            "test_audio_content",
            "Answers with a sound",
            nothing.clone(),
        ),
        (
            "test_embedded_resource",
            "Answers with a resource",
            nothing.clone(),
        ),
        (
            "test_multiple_content_types",
            "Answers with text, a picture and a resource",
            nothing.clone(),
        ),
        ("test_error_handling", "Always fails", nothing.clone()),
        (
            "test_tool_with_progress",
            "Tells of its progress",
            nothing.clone(),
        ),
        (
            "test_tool_with_logging",
            "Logs while it runs",
            nothing.clone(),
        ),
        (
            "test_logging_tool",
            "Logs if it is asked to",
            nothing.clone(),
        ),
        ("test_sampling", "Asks the client's model", text("prompt")),
        (
            "test_elicitation",
            "Asks the client's user",
            text("message"),
        ),
        (
            "test_elicitation_sep1034_defaults",
            "Asks with defaults",
            nothing.clone(),
        ),
        (
            "test_elicitation_sep1330_enums",
            "Asks with choices",
            nothing,
        ),
    ];
    let tools = tools.map(
        |(name, about, schema)| json!({"name": name, "description": about, "inputSchema": schema}),
    );
    made(Value::from(tools.to_vec()))
}

/// The answer of a fixture, if `request` calls one.
pub async fn call(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Option<CallToolResult>, ErrorData> {
    let given = |name: &str| {
        let arguments = request.arguments.as_ref();
        arguments
            .and_then(|a| a.get(name))
            .cloned()
            .unwrap_or_default()
    };
    let png = ContentBlock::image(BASE64_STANDARD.encode(picture()?), "image/png");
    let resource = |uri: &str, kind: &str, text: &str| {
        made::<ContentBlock>(json!({
            "type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": text},
        }))
    };
    let content = match &*request.name {
        "test_simple_text" => {
            vec![ContentBlock::text(
                "This is a simple text response for testing.",
            )]
        }
        "test_image_content" => vec![png],
        "test_audio_content" => vec![made(json!({
            "type": "audio", "data": BASE64_STANDARD.encode(silence()), "mimeType": "audio/wav",
        }))?],
        "test_embedded_resource" => vec![resource(
            "test://embedded-resource",
            "text/plain",
            "This is an embedded resource content.",
        )?],
        "test_multiple_content_types" => vec![
            ContentBlock::text("Multiple content types test:"),
            png,
            resource(
                "test://mixed-content-resource",
                "application/json",
                r#"{"test":"data","value":123}"#,
            )?,
        ],
        "test_error_handling" => {
            let problem = "This tool intentionally returns an error for testing";
            return Ok(Some(CallToolResult::error(vec![ContentBlock::text(
                problem,
            )])));
        }
        "test_tool_with_progress" => {
            progress(context).await;
            vec![ContentBlock::text("Progress was reported")]
        }
        "test_tool_with_logging" | "test_logging_tool" => {
            log(context).await?;
            vec![ContentBlock::text("Logging is done")]
        }
        "test_sampling" => {
            let message =
                json!({"role": "user", "content": {"type": "text", "text": given("prompt")}});
            let params = json!({"messages": [message], "maxTokens": 100});
            let answer = ask(context, "sampling/createMessage", params).await?;
            let said = answer.pointer("/content/text").and_then(Value::as_str);
            let said = said.unwrap_or("nothing");
            vec![ContentBlock::text(format!("LLM response: {said}"))]
        }
        "test_elicitation" => {
            let schema = json!({
                "type": "object",
                "properties": {
                    "username": {"type": "string", "description": "User's response"},
                    "email": {"type": "string", "description": "User's email address"},
                },
                "required": ["username", "email"],
            });
            elicited(context, "User response", given("message"), schema).await?
        }
        "test_elicitation_sep1034_defaults" => {
            let message = json!("Every field has a default");
            elicited(context, "Elicitation completed", message, defaults()).await?
        }
        "test_elicitation_sep1330_enums" => {
            let message = json!("Every field is a choice");
            elicited(context, "Elicitation completed", message, choices()).await?
        }
        _ => return Ok(None),
    };
    Ok(Some(CallToolResult::success(content)))
}

async fn progress(context: &RequestContext<RoleServer>) {
    let Some(token) = context.meta.get_progress_token() else {
        return;
    };
    for progress in [0.0, 50.0, 100.0] {
        let note = ProgressNotificationParam::new(token.clone(), progress).with_total(100.0);
        // The suite tells by what it heard whether this went well.
        let _ = context.peer.notify_progress(note).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Since 2026-07-28 a request that wants to hear the log says so.
async fn log(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    if is_modern(context) && context.meta.log_level().is_none() {
        return Ok(());
    }
    for said in [
        "Tool execution started",
        "Tool processing data",
        "Tool execution completed",
    ] {
        let params = json!({"level": "info", "logger": "conformance", "data": said});
        let note = json!({"method": "notifications/message", "params": params});
        let note: ServerNotification = made(note)?;
        // As above.
        let _ = context.peer.send_notification(note).await;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Asks the client for something and gives what it says.
async fn ask(
    context: &RequestContext<RoleServer>,
    method: &str,
    params: Value,
) -> Result<Value, ErrorData> {
    let request: ServerRequest = made(json!({"method": method, "params": params}))?;
    let answer: ClientResult = context.peer.send_request(request).await.map_err(|error| {
        ErrorData::internal_error(format!("the client did not answer {method}: {error}"), None)
    })?;
    serde_json::to_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

async fn elicited(
    context: &RequestContext<RoleServer>,
    heading: &str,
    message: Value,
    schema: Value,
) -> Result<Vec<ContentBlock>, ErrorData> {
    let params = json!({"mode": "form", "message": message, "requestedSchema": schema});
    let answer = ask(context, "elicitation/create", params).await?;
    let (action, content) = (&answer["action"], &answer["content"]);
    let action = action.as_str().unwrap_or("cancel");
    Ok(vec![ContentBlock::text(format!(
        "{heading}: action={action}, content={content}"
    ))])
}

fn defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": true},
        },
        "required": [],
    })
}

fn choices() -> Value {
    let titled = |what: &str| {
        json!([
            {"const": "value1", "title": format!("First {what}")},
            {"const": "value2", "title": format!("Second {what}")},
            {"const": "value3", "title": format!("Third {what}")},
        ])
    };
    let plain = json!(["option1", "option2", "option3"]);
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": plain},
            "titledSingle": {"type": "string", "oneOf": titled("Option")},
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
        },
        "required": [],
    })
}

/// One red pixel as a PNG.
pub fn picture() -> Result<Vec<u8>, ErrorData> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(1, 1, image::Rgb([255, 0, 0]))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    Ok(bytes.into_inner())
}

/// A WAV file without a sample: 44.1 kHz, 16 bits, one channel.
fn silence() -> Vec<u8> {
    let mut wav = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0".to_vec();
    let (channels, rate, sample) = (1_u16, 44_100_u32, 2_u16);
    wav.extend(1_u16.to_le_bytes());
    wav.extend(channels.to_le_bytes());
    wav.extend(rate.to_le_bytes());
    wav.extend((rate * u32::from(sample)).to_le_bytes());
    wav.extend(sample.to_le_bytes());
    wav.extend((sample * 8).to_le_bytes());
    wav.extend(b"data\0\0\0\0");
    wav
}
