//! Enforces a published schema: the very document that an agent was shown is what its arguments are
//! held against, before any work is done.

use serde_json::{Map, Value};

use super::schema::Schema;

/// So many problems are reported at once; more would bury the first.
const REPORTED: usize = 4;
/// A value longer than this is cut when it is quoted back.
const QUOTED: usize = 60;

/// Checks `arguments` against `schema` and returns one line for each problem: the field, the value
/// seen, and what would be right. Whole numbers written as `25.0` become `25`.
pub fn enforce(schema: &Schema, arguments: &mut Map<String, Value>) -> Vec<String> {
    let mut problems = Vec::new();
    object("", schema, arguments, &mut problems);
    if problems.len() > REPORTED {
        let more = problems.len() - REPORTED;
        problems.truncate(REPORTED);
        problems.push(format!("and {more} more"));
    }
    problems
}

fn object(
    path: &str,
    schema: &Schema,
    fields: &mut Map<String, Value>,
    problems: &mut Vec<String>,
) {
    let none = Map::new();
    let known = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let names = || {
        known
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    for required in strings(schema.get("required")) {
        if !fields.contains_key(required) {
            let wanted = known.get(required).map(expectation).unwrap_or_default();
            problems.push(format!("{}: missing. Send {wanted}", join(path, required)));
        }
    }
    for (name, value) in fields.iter_mut() {
        match known.get(name) {
            Some(schema) => any(&join(path, name), schema, value, problems),
            None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                let advice = match nearest(name, known.keys()) {
                    Some(near) => format!("Did you mean {near}?"),
                    None if known.is_empty() => "Send no arguments".into(),
                    None => format!("Known are: {}", names()),
                };
                problems.push(format!(
                    "{}: there is no such argument (value {}). {advice}",
                    cut(&join(path, name)),
                    quote(value)
                ));
            }
            None => {}
        }
    }
}

fn any(path: &str, schema: &Value, value: &mut Value, problems: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else {
        return;
    };
    if rules.get("type").and_then(Value::as_str) == Some("integer") {
        whole(value);
    }
    if !fits(rules, value) {
        problems.push(format!(
            "{path}: {} will not do. Send {}",
            quote(value),
            expectation(schema)
        ));
        return;
    }
    match value {
        Value::Array(items) => {
            if let Some(of_items) = rules.get("items") {
                for (i, item) in items.iter_mut().enumerate() {
                    any(&format!("{path}[{i}]"), of_items, item, problems);
                }
            }
            if rules.get("uniqueItems") == Some(&Value::Bool(true))
                && let Some(twice) = repeated(items)
            {
                problems.push(format!(
                    "{path}: {} stands there twice. Send each once",
                    quote(twice)
                ));
            }
        }
        Value::Object(fields) => object(path, rules, fields, problems),
        _ => {}
    }
}

/// Whether the value itself (not what is inside it) keeps to the rules.
fn fits(rules: &Schema, value: &Value) -> bool {
    let number = |key: &str| rules.get(key).and_then(Value::as_f64);
    let within = |n: f64, low: &str, high: &str| {
        number(low).is_none_or(|low| n >= low) && number(high).is_none_or(|high| n <= high)
    };
    let of_type = match rules.get("type").and_then(Value::as_str) {
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    let allowed = rules
        .get("enum")
        .and_then(Value::as_array)
        .is_none_or(|allowed| allowed.contains(value));
    let bounded = match value {
        Value::Number(n) => {
            let n = n.as_f64().unwrap_or(f64::NAN);
            let step = number("multipleOf");
            within(n, "minimum", "maximum") && step.is_none_or(|step| n % step == 0.0)
        }
        Value::String(s) => {
            let patterned = match rules.get("pattern").and_then(Value::as_str) {
                Some(HANDLE) => is_handle(s),
                _ => true,
            };
            patterned && within(s.chars().count() as f64, "minLength", "maxLength")
        }
        Value::Array(items) => within(items.len() as f64, "minItems", "maxItems"),
        _ => true,
    };
    of_type && allowed && bounded
}

/// The one pattern that the schemas use: a regular expression engine would be there for it alone.
pub const HANDLE: &str = "^fs_[0-9a-f]{32}$";

fn is_handle(text: &str) -> bool {
    text.strip_prefix("fs_").is_some_and(|hex| {
        hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// What would be right, in words.
fn expectation(schema: &Value) -> String {
    let bound = |key: &str| {
        schema
            .get(key)
            .filter(|v| v.is_number())
            .map(Value::to_string)
    };
    let range = |low: &str, high: &str, unit: &str| match (bound(low), bound(high)) {
        (Some(low), Some(high)) => format!(" from {low} to {high}{unit}"),
        (Some(low), None) => format!(" of at least {low}{unit}"),
        (None, Some(high)) => format!(" of at most {high}{unit}"),
        (None, None) => String::new(),
    };
    let kind = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("value");
    match kind {
        "integer" => {
            let step = bound("multipleOf").map(|m| format!(" that {m} divides"));
            let step = step.unwrap_or_default();
            format!("a whole number{}{step}", range("minimum", "maximum", ""))
        }
        "number" => format!("a number{}", range("minimum", "maximum", "")),
        "boolean" => "true or false".into(),
        "array" => {
            let items = schema.get("items").map(expectation).unwrap_or_default();
            format!(
                "a list{}, each {items}",
                range("minItems", "maxItems", " items")
            )
        }
        "string" => match schema.get("pattern").and_then(Value::as_str) {
            Some(HANDLE) => "a handle as a reply gave it: fs_ and 32 hexadecimal digits".into(),
            _ => format!("a text{}", range("minLength", "maxLength", " characters")),
        },
        other => format!("an {other}"),
    }
}

/// `25.0` is a whole number to JSON Schema, and must be one to the types as well.
fn whole(value: &mut Value) {
    if value.is_f64()
        && let Some(n) = value.as_f64()
        && n.fract() == 0.0
        && n.abs() < 2f64.powi(53)
    {
        *value = Value::from(n as i64);
    }
}

fn repeated(items: &[Value]) -> Option<&Value> {
    let mut seen = std::collections::HashSet::new();
    items.iter().find(|item| !seen.insert(item.to_string()))
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.into()
    } else {
        format!("{path}.{name}")
    }
}

fn quote(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTED) {
        None => text.into(),
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
    }
}

/// The known name that `name` was probably meant to be.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a str> {
    if name.len() > QUOTED {
        return None;
    }
    known
        .map(|k| (edits(name, k), k.as_str()))
        .filter(|(edits, k)| *edits <= k.len().div_ceil(3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, k)| k)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(arguments: Value) -> Vec<String> {
        let schema = json!({
            "type": "object",
            "properties": {
                "prompt": {"type": "string", "minLength": 1, "maxLength": 10},
                "steps": {"type": "integer", "minimum": 1, "maximum": 500},
                "guidance": {"type": "number", "minimum": 0, "maximum": 50},
                "seeds": {"type": "array", "minItems": 1, "uniqueItems": true,
                          "items": {"type": "integer", "minimum": 0, "maximum": 4294967295u32}},
                "handle": {"type": "string", "pattern": HANDLE},
                "width": {"type": "integer", "multipleOf": 8},
            },
            "required": ["prompt"],
            "additionalProperties": false,
        });
        let Value::Object(mut arguments) = arguments else {
            panic!("not an object")
        };
        enforce(schema.as_object().unwrap(), &mut arguments)
    }

    #[test]
    fn what_the_schema_allows_passes() {
        let right = json!({"prompt": "a", "steps": 25.0, "guidance": 5, "seeds": [0, 4294967295u32],
                           "width": 64, "handle": "fs_0123456789abcdef0123456789abcdef"});
        assert_eq!(problems(right), Vec::<String>::new());
    }

    #[test]
    fn a_problem_names_the_field_the_value_and_what_would_be_right() {
        assert_eq!(
            problems(json!({"prompt": "a", "steps": 100000})),
            ["steps: 100000 will not do. Send a whole number from 1 to 500"]
        );
        assert_eq!(
            problems(json!({"prompt": "a", "seeds": [1, -1]})),
            ["seeds[1]: -1 will not do. Send a whole number from 0 to 4294967295"]
        );
        assert_eq!(
            problems(json!({"prompt": "a", "step": 5})),
            ["step: there is no such argument (value 5). Did you mean steps?"]
        );
    }

    #[test]
    fn everything_out_of_bounds_is_refused() {
        for wrong in [
            json!({}),
            json!({"prompt": ""}),
            json!({"prompt": "12345678901"}),
            json!({"prompt": 7}),
            json!({"prompt": "a", "steps": 2.5}),
            json!({"prompt": "a", "steps": "25"}),
            json!({"prompt": "a", "steps": null}),
            json!({"prompt": "a", "steps": 18446744073709551615u64}),
            json!({"prompt": "a", "guidance": -0.1}),
            json!({"prompt": "a", "guidance": "NaN"}),
            json!({"prompt": "a", "seeds": []}),
            json!({"prompt": "a", "seeds": [3, 3]}),
            json!({"prompt": "a", "seeds": [3, 3.0]}),
            json!({"prompt": "a", "seeds": [4294967296u64]}),
            json!({"prompt": "a", "width": 65}),
            json!({"prompt": "a", "handle": "../../etc/passwd"}),
            json!({"prompt": "a", "handle": "fs_0123"}),
        ] {
            assert_eq!(
                problems(wrong.clone()).len(),
                1,
                "{wrong}: {:?}",
                problems(wrong.clone())
            );
        }
    }

    #[test]
    fn however_much_is_wrong_the_answer_stays_short() {
        for card in crate::server::tools::all() {
            let long = |n: u32| (format!("{n}").repeat(900), json!("\u{1f600}".repeat(900)));
            let mut arguments = (0..40).map(long).collect();
            let said = enforce(card.input(), &mut arguments).join("\n");
            let length = said.chars().count();
            assert!(length <= 1500, "{length}: {said}");
        }
    }

    #[test]
    fn a_huge_value_is_cut_when_it_is_quoted() {
        let problem = problems(json!({"prompt": "x".repeat(400_000)})).remove(0);
        assert!(problem.len() < 300, "{}", problem.len());
        assert!(problem.contains("400002 characters"), "{problem}");
    }
}
