//! The five tools as they are shown: what each is for and when to use it, what it takes and gives.

use std::sync::Arc;

use rmcp::model::{Tool, ToolAnnotations};
use schemars::JsonSchema;

use super::schema::{self, Schema};
use super::{app, arguments};
use crate::foresight::replies::{ModelsReply, PredictReply, RankReply, RefineReply, RenderReply};

/// Which of the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Predict,
    Rank,
    Refine,
    Render,
    ListModels,
}

impl Job {
    pub fn name(self) -> &'static str {
        match self {
            Self::Predict => "predict_quality",
            Self::Rank => "rank_seeds",
            Self::Refine => "refine_prompt",
            Self::Render => "render",
            Self::ListModels => "list_models",
        }
    }
}

/// A tool: its job, and its entry in the tool list.
pub struct ToolCard {
    pub job: Job,
    pub tool: Tool,
}

impl ToolCard {
    fn new<Arguments: JsonSchema, Reply: JsonSchema>(job: Job, description: &'static str) -> Self {
        // Nothing reaches out of the machine. A render adds a file; everything else only computes,
        // and what only computes is neither destructive nor in need of being idempotent.
        let annotations = ToolAnnotations::new().open_world(false);
        let annotations = match job {
            Job::Render => annotations
                .read_only(false)
                .destructive(false)
                .idempotent(true),
            _ => annotations.read_only(true),
        };
        let tool = Tool::new(
            job.name(),
            description,
            Arc::new(schema::of_arguments::<Arguments>()),
        )
        .with_raw_output_schema(Arc::new(schema::of_reply::<Reply>()))
        .with_annotations(annotations);
        let tool = match job {
            Job::Rank => tool.with_meta(app::shows()),
            _ => tool,
        };
        Self { job, tool }
    }

    /// Says of itself that it changes nothing.
    pub fn only_reads(&mut self) {
        self.tool.annotations = Some(ToolAnnotations::new().open_world(false).read_only(true));
    }

    pub fn input(&self) -> &Schema {
        &self.tool.input_schema
    }
}

/// All tools, in the order in which an agent uses them.
pub fn all() -> Vec<ToolCard> {
    vec![
        ToolCard::new::<arguments::Predict, PredictReply>(
            Job::Predict,
            "Predict how good a prompt's images will be from their first denoising steps, far \
             cheaper than rendering. Use it first: is the prompt worth rendering, which words \
             are weak, what does each seed promise?",
        ),
        ToolCard::new::<arguments::Rank, RankReply>(
            Job::Rank,
            "Order seeds of a prompt best first without rendering; weak ones are dropped early. Use it \
             once the wording stands, to choose what to render.",
        ),
        ToolCard::new::<arguments::Refine, RefineReply>(
            Job::Refine,
            "Compare wordings on the same seeds; the original always competes. Use it when \
             prompt_risk is high.",
        ),
        ToolCard::new::<arguments::Render, RenderReply>(
            Job::Render,
            "Finish one image, from a handle (resumed where it was paused; never expires) or a \
             prompt and seed. Use it last, on what is worth the cost.",
        ),
        ToolCard::new::<arguments::ListModels, ModelsReply>(
            Job::ListModels,
            "List models, whether they fit, and how well their probes predict. Use it before naming a \
             model, or when a reply is not calibrated.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_tool_says_when_to_use_it_in_less_than_two_kilobytes() {
        for card in all() {
            let description = card.tool.description.unwrap();
            assert!(description.contains("Use it"), "{}", card.tool.name);
            assert!(description.len() < 2048, "{}", card.tool.name);
        }
    }

    #[test]
    fn no_schema_holds_a_null_a_format_or_a_reference() {
        fn look(value: &Value, at: &str) {
            match value {
                Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                    assert!(
                        !["format", "$ref", "$defs", "nullable"].contains(&key.as_str()),
                        "{at}"
                    );
                    look(value, &format!("{at}.{key}"));
                }),
                Value::Array(items) => items.iter().for_each(|item| look(item, at)),
                Value::String(text) => assert_ne!(text, "null", "{at}"),
                _ => {}
            }
        }
        for card in all() {
            look(&Value::Object(card.input().clone()), &card.tool.name);
            let output = card.tool.output_schema.unwrap();
            look(&Value::Object((*output).clone()), &card.tool.name);
        }
    }
}
