//! JSON schemas as they are published: made from the types, then brought down to what every client
//! understands and no more than an agent has to read.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// A JSON object, as rmcp carries schemas.
pub type Schema = Map<String, Value>;

/// The schema of a tool's arguments: bounds and descriptions stay, and fields that it does not name
/// are refused.
pub fn of_arguments<T: JsonSchema>() -> Schema {
    let mut schema = generate::<T>();
    schema.insert("additionalProperties".into(), json!(false));
    // Some clients reject an object that names no properties at all.
    schema.entry("properties").or_insert_with(|| json!({}));
    // That of the tool itself stands beside it.
    schema.remove("description");
    schema
}

/// The schema of a reply: names and types. Every agent pays for each word of it in every session, so
/// what only an argument needs (bounds, descriptions, what is required) is left out.
pub fn of_reply<T: JsonSchema>() -> Schema {
    let mut schema = Value::Object(generate::<T>());
    each_schema(&mut schema, &mut |s| {
        const FOR_ARGUMENTS: [&str; 6] = [
            "minimum",
            "maximum",
            "minItems",
            "maxItems",
            "description",
            "required",
        ];
        for keyword in FOR_ARGUMENTS {
            s.remove(keyword);
        }
        if holds_numbers_alone(s) {
            s.remove("properties");
            s.insert("additionalProperties".into(), json!({"type": "number"}));
        }
    });
    into_object(schema)
}

/// A record of figures, such as a cost, explains itself by its names where it is read.
fn holds_numbers_alone(schema: &Schema) -> bool {
    let fields = schema.get("properties").and_then(Value::as_object);
    fields.is_some_and(|fields| {
        let is_number = |s: &Value| s["type"] == "number" || s["type"] == "integer";
        fields.len() > 2 && fields.values().all(is_number)
    })
}

fn generate<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    each_schema(&mut schema, &mut tidy);
    into_object(schema)
}

/// Takes out what clients stumble over: `format` names that they do not know, and `null` beside the
/// type of a field that may simply be left out.
fn tidy(schema: &mut Schema) {
    for noise in ["$schema", "title", "format", "default"] {
        schema.remove(noise);
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|c| c.get("type") != Some(&json!("null")));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                schema.entry(key).or_insert(value);
            }
        }
    }
}

/// Visits a schema and all schemas inside it, the inner ones first. Names of fields are not taken
/// for keywords.
fn each_schema(value: &mut Value, visit: &mut impl FnMut(&mut Schema)) {
    let Value::Object(schema) = value else { return };
    for (keyword, inner) in schema.iter_mut() {
        match (keyword.as_str(), inner) {
            ("properties", Value::Object(fields)) => {
                fields.values_mut().for_each(|f| each_schema(f, visit));
            }
            ("items" | "additionalProperties", inner) => each_schema(inner, visit),
            ("anyOf" | "oneOf" | "allOf", Value::Array(choices)) => {
                choices.iter_mut().for_each(|c| each_schema(c, visit));
            }
            _ => {}
        }
    }
    visit(schema);
}

fn into_object(schema: Value) -> Schema {
    match schema {
        Value::Object(object) => object,
        _ => Schema::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Example {
        /// What it is called.
        title: String,
        #[schemars(range(min = 1, max = 9))]
        count: Option<u32>,
        share: f64,
    }

    #[test]
    fn an_optional_field_is_neither_null_nor_required_and_carries_no_format() {
        let schema = Value::Object(of_arguments::<Example>());
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "title": {"type": "string", "description": "What it is called."},
                    "count": {"type": "integer", "minimum": 1, "maximum": 9},
                    "share": {"type": "number"},
                },
                "required": ["title", "share"],
                "additionalProperties": false,
            })
        );
    }

    #[test]
    fn a_reply_keeps_its_types_alone() {
        let schema = of_reply::<Example>();
        assert_eq!(schema["properties"]["count"], json!({"type": "integer"}));
        assert!(schema.get("additionalProperties").is_none());
    }
}
