//! Resources, a resource template, and prompts with fixed contents.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rmcp::model::{
    ErrorData, GetPromptRequestParams, GetPromptResult, Prompt, PromptMessage, ReadResourceResult,
    Reference, Resource, ResourceTemplate,
};
use serde_json::json;

use super::made;
use super::tools::picture;

pub fn resources() -> Result<Vec<Resource>, ErrorData> {
    made(json!([
        {"uri": "test://static-text", "name": "static text", "mimeType": "text/plain"},
        {"uri": "test://static-binary", "name": "static picture", "mimeType": "image/png"},
        {"uri": "test://watched-resource", "name": "watched text", "mimeType": "text/plain"},
    ]))
}

pub fn templates() -> Result<Vec<ResourceTemplate>, ErrorData> {
    made(json!([
        {"uriTemplate": "test://template/{id}/data", "name": "data by id", "mimeType": "application/json"},
    ]))
}

/// The fixture under this URI, if there is one.
pub fn read(uri: &str) -> Result<Option<ReadResourceResult>, ErrorData> {
    let text = |kind: &str, text: &str| json!({"uri": uri, "mimeType": kind, "text": text});
    let page = match uri {
        "test://static-text" => text(
            "text/plain",
            "This is the content of the static text resource.",
        ),
        "test://watched-resource" => text("text/plain", "This text never changes."),
        "test://static-binary" => {
            let png = BASE64_STANDARD.encode(picture()?);
            json!({"uri": uri, "mimeType": "image/png", "blob": png})
        }
        _ => {
            let id = uri
                .strip_prefix("test://template/")
                .and_then(|rest| rest.strip_suffix("/data"));
            let Some(id) = id else {
                return Ok(None);
            };
            let data =
                json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            text("application/json", &data.to_string())
        }
    };
    Ok(Some(ReadResourceResult::new(vec![made(page)?])))
}

pub fn prompts() -> Result<Vec<Prompt>, ErrorData> {
    let argument = |name: &str| json!({"name": name, "required": true});
    made(json!([
        {"name": "test_simple_prompt", "description": "Without arguments"},
        {
            "name": "test_prompt_with_arguments",
            "description": "With two arguments",
            "arguments": [argument("arg1"), argument("arg2")],
        },
        {
            "name": "test_prompt_with_embedded_resource",
            "description": "With a resource in it",
            "arguments": [argument("resourceUri")],
        },
        {"name": "test_prompt_with_image", "description": "With a picture in it"},
        {"name": "test_input_required_result_prompt", "description": "Asks before it answers"},
    ]))
}

/// The fixture of this name, if there is one.
pub fn prompt(request: &GetPromptRequestParams) -> Result<Option<GetPromptResult>, ErrorData> {
    let given = |name: &str| {
        let arguments = request.arguments.as_ref().map(|arguments| json!(arguments));
        let value = arguments.and_then(|arguments| arguments.get(name).cloned());
        value
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let text = |text: String| json!({"type": "text", "text": text});
    let contents = match request.name.as_str() {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.".into())],
        "test_prompt_with_arguments" => {
            let (one, two) = (given("arg1"), given("arg2"));
            vec![text(format!(
                "Prompt with arguments: arg1='{one}', arg2='{two}'"
            ))]
        }
        "test_prompt_with_embedded_resource" => {
            let embedded = json!({
                "uri": given("resourceUri"),
                "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            });
            vec![
                json!({"type": "resource", "resource": embedded}),
                text("Please process the embedded resource above.".into()),
            ]
        }
        "test_prompt_with_image" => vec![
            json!({"type": "image", "data": BASE64_STANDARD.encode(picture()?), "mimeType": "image/png"}),
            text("Please analyze the image above.".into()),
        ],
        _ => return Ok(None),
    };
    let messages: Result<Vec<PromptMessage>, ErrorData> = contents
        .into_iter()
        .map(|content| made(json!({"role": "user", "content": content})))
        .collect();
    Ok(Some(GetPromptResult::new(messages?)))
}

/// Whether this stands for one of the fixtures here.
pub fn is_of_a_fixture(reference: &Reference) -> bool {
    let said = json!(reference);
    let name = said["name"].as_str().or(said["uri"].as_str());
    name.is_some_and(|name| name.starts_with("test_") || name.starts_with("test://"))
}
