//! The MCP prompts that a person can pick: the markdown files under `prompts/`, each with a front
//! matter that names it and its arguments.
//!
//! In the body `{{name}}` stands for an argument, `{{name|text}}` for an argument or else that text,
//! and `{{#name}}…{{/name}}` for a passage that is there only where the argument is.

use rmcp::ErrorData;
use rmcp::model::{GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};

use crate::foresight::validate::shown;

const FILES: [&str; 3] = [
    include_str!("../../prompts/plan-an-image.md"),
    include_str!("../../prompts/pick-a-seed.md"),
    include_str!("../../prompts/fix-a-weak-prompt.md"),
];

/// An argument longer than this is refused.
const LONGEST_ARGUMENT: usize = 8000;

/// The prompts as they are listed.
pub fn list() -> Vec<Prompt> {
    FILES
        .iter()
        .filter_map(|file| PromptFile::read(file))
        .map(|file| file.card())
        .collect()
}

/// The prompt `name`, filled in; an unknown name or argument, or a missing one, is an error that
/// says what there is.
pub fn get(name: &str, arguments: Option<&JsonObject>) -> Result<GetPromptResult, ErrorData> {
    let files: Vec<PromptFile> = FILES
        .iter()
        .filter_map(|file| PromptFile::read(file))
        .collect();
    let Some(file) = files.iter().find(|file| file.name == name) else {
        return Err(unknown(name));
    };
    let text = file
        .fill(arguments)
        .map_err(|p| ErrorData::invalid_params(p, None))?;
    let message = PromptMessage::new_text(Role::User, text);
    Ok(GetPromptResult::new(vec![message]).with_description(file.description))
}

/// The names of a prompt's arguments.
pub fn arguments_of(name: &str) -> Result<Vec<&'static str>, ErrorData> {
    let mut files = FILES.iter().filter_map(|file| PromptFile::read(file));
    let file = files.find(|file| file.name == name);
    let file = file.ok_or_else(|| unknown(name))?;
    Ok(file.arguments.iter().map(|a| a.name).collect())
}

/// Whether the prompt tells to call this tool.
pub fn names_tool(prompt: &str, tool: &str) -> bool {
    let mut files = FILES.iter().filter_map(|file| PromptFile::read(file));
    files.any(|file| file.name == prompt && file.body.contains(&format!("`{tool}`")))
}

fn unknown(name: &str) -> ErrorData {
    let files = FILES.iter().filter_map(|file| PromptFile::read(file));
    let known: Vec<&str> = files.map(|file| file.name).collect();
    let known = known.join(", ");
    ErrorData::invalid_params(
        format!("there is no prompt {}; there are: {known}", shown(name)),
        None,
    )
}

struct Argument {
    name: &'static str,
    required: bool,
    description: &'static str,
}

struct PromptFile {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    arguments: Vec<Argument>,
    body: &'static str,
}

impl PromptFile {
    /// `None`: the file has no front matter, or no name in it.
    fn read(file: &'static str) -> Option<Self> {
        let (head, body) = file.strip_prefix("---\n")?.split_once("\n---\n")?;
        let mut read = Self {
            name: "",
            title: "",
            description: "",
            arguments: vec![],
            body,
        };
        for line in head.lines() {
            let (key, value) = line.split_once(": ")?;
            match key {
                "name" => read.name = value,
                "title" => read.title = value,
                "description" => read.description = value,
                "argument" => {
                    let (name, rest) = value.split_once(' ')?;
                    let required = rest.strip_prefix("(required) ");
                    read.arguments.push(Argument {
                        name,
                        required: required.is_some(),
                        description: required.unwrap_or(rest),
                    });
                }
                _ => return None,
            }
        }
        (!read.name.is_empty()).then_some(read)
    }

    fn card(&self) -> Prompt {
        let arguments = self.arguments.iter().map(|a| {
            PromptArgument::new(a.name)
                .with_description(a.description)
                .with_required(a.required)
        });
        Prompt::new(self.name, Some(self.description), Some(arguments.collect()))
            .with_title(self.title)
    }

    fn fill(&self, given: Option<&JsonObject>) -> Result<String, String> {
        let none = JsonObject::new();
        let given = given.unwrap_or(&none);
        if let Some(unknown) = given
            .keys()
            .find(|k| !self.arguments.iter().any(|a| a.name == **k))
        {
            let known: Vec<&str> = self.arguments.iter().map(|a| a.name).collect();
            let known = known.join(", ");
            return Err(format!("{}: {} takes {known}", shown(unknown), self.name));
        }
        let mut values = Vec::new();
        for argument in &self.arguments {
            let value = match given.get(argument.name) {
                None => "",
                Some(value) => value.as_str().ok_or_else(|| {
                    let value = shown(&value.to_string());
                    format!("{}: {value} is not a text. Send a text", argument.name)
                })?,
            };
            if argument.required && value.trim().is_empty() {
                return Err(format!(
                    "{}: missing. {}",
                    argument.name, argument.description
                ));
            }
            if value.len() > LONGEST_ARGUMENT {
                return Err(format!(
                    "{}: {} bytes. Send at most {LONGEST_ARGUMENT}",
                    argument.name,
                    value.len()
                ));
            }
            if argument.name == "count" && !value.is_empty() && !is_count(value) {
                return Err(format!(
                    "count: {} is no number of seeds. Send one, such as 16",
                    shown(value)
                ));
            }
            values.push((argument.name, value));
        }
        Ok(substitute(self.body, &values))
    }
}

fn is_count(value: &str) -> bool {
    value.trim().parse::<u32>().is_ok_and(|count| count > 0)
}

/// One pass over the body, so that braces inside a value stay what they are.
fn substitute(body: &str, values: &[(&str, &str)]) -> String {
    let value_of = |name: &str| {
        values
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, v)| v)
    };
    let mut out = String::new();
    let mut rest = body;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((tag, after)) = after.split_once("}}") else {
            break;
        };
        rest = after;
        if let Some(name) = tag.strip_prefix('#') {
            if value_of(name).is_empty() {
                let end = format!("{{{{/{name}}}}}");
                rest = after
                    .split_once(end.as_str())
                    .map_or("", |(_, after)| after);
            }
        } else if !tag.starts_with('/') {
            let (name, otherwise) = tag.split_once('|').unwrap_or((tag, ""));
            let value = value_of(name);
            out.push_str(if value.is_empty() { otherwise } else { value });
        }
    }
    out.push_str(rest);
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(value: serde_json::Value) -> JsonObject {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_file_is_a_prompt_and_names_tools_that_exist() {
        let listed = list();
        assert_eq!(listed.len(), FILES.len());
        let tools: Vec<String> = super::super::tools::all()
            .iter()
            .map(|c| c.tool.name.to_string())
            .collect();
        for file in FILES {
            let called = file
                .split("all `")
                .skip(1)
                .filter_map(|t| t.split('`').next());
            for tool in called {
                assert!(tools.iter().any(|t| t == tool), "{tool} is not a tool");
            }
        }
    }

    #[test]
    fn what_is_given_stands_in_the_text_as_it_was_given() {
        let given = arguments(json!({"idea": "a {{model}} of {{#idea}} a ring"}));
        let text = serde_json::to_string(&get("plan-an-image", Some(&given)).unwrap()).unwrap();
        assert!(text.contains("a {{model}} of {{#idea}} a ring"), "{text}");
        assert!(!text.contains("Use the model"), "{text}");
        let given = arguments(json!({"idea": "a ring", "model": "pocket"}));
        let text = serde_json::to_string(&get("plan-an-image", Some(&given)).unwrap()).unwrap();
        assert!(text.contains("Use the model `pocket`"), "{text}");
    }

    #[test]
    fn a_default_stands_in_for_what_is_left_out() {
        let given = arguments(json!({"prompt": "a ring"}));
        let text = serde_json::to_string(&get("pick-a-seed", Some(&given)).unwrap()).unwrap();
        assert!(text.contains("`count` 16"), "{text}");
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (given, named) in [
            (json!({}), "prompt"),
            (json!({"prompt": 3}), "prompt"),
            (json!({"prompt": "a", "colour": "red"}), "colour"),
            (json!({"prompt": "a", "count": "many"}), "count"),
            (json!({"prompt": "a", "count": "0"}), "count"),
            (json!({"prompt": "a".repeat(9000)}), "prompt"),
            (json!({"prompt": ["a".repeat(9000)]}), "prompt"),
            (json!({"prompt": "a", "b".repeat(9000): "c"}), "bbb"),
        ] {
            let error = get("pick-a-seed", Some(&arguments(given))).unwrap_err();
            assert!(error.message.contains(named), "{}", error.message);
            assert!(error.message.len() < 300, "{}", error.message);
        }
        assert!(
            get("nothing", None)
                .unwrap_err()
                .message
                .contains("pick-a-seed")
        );
    }
}
