//! Reads what is almost JSON. Python's `json` writes `NaN` and `Infinity`, some clients write half
//! of a surrogate pair or `1e999`; a strict parser rejects the whole message, and the agent would
//! wait for an answer that never comes. Here such a number becomes a text, which the schema then
//! refuses by the name of its field.

use serde_json::Value;

/// A message made readable.
pub struct Rescued {
    /// JSON, if it could be saved at all.
    pub text: String,
    /// The value of the outermost `id`, for an answer where it could not.
    pub id: Option<Value>,
}

pub fn rescue(line: &str) -> Rescued {
    let mut rescue = Rescue {
        rest: line,
        out: String::with_capacity(line.len() + 16),
        depth: 0,
    };
    let mut key = None;
    let mut id = None;
    while let Some(next) = rescue.rest.chars().next() {
        match next {
            '"' => {
                let text = rescue.string();
                if rescue.depth == 1 {
                    if rescue.rest.trim_start().starts_with(':') {
                        key = Some(text);
                    } else if key.take().as_deref() == Some("\"id\"") {
                        id = id.or_else(|| serde_json::from_str(&text).ok());
                    }
                }
            }
            c if c.is_ascii_alphanumeric() || "+-.".contains(c) => {
                let word = rescue.word();
                if rescue.depth == 1 && key.take().as_deref() == Some("\"id\"") {
                    id = id.or_else(|| serde_json::from_str(&word).ok());
                }
            }
            c => {
                match c {
                    '{' | '[' => rescue.depth += 1,
                    '}' | ']' => rescue.depth -= 1,
                    _ => {}
                }
                rescue.out.push(c);
                rescue.rest = &rescue.rest[c.len_utf8()..];
            }
        }
    }
    Rescued {
        text: rescue.out,
        id,
    }
}

struct Rescue<'a> {
    rest: &'a str,
    out: String,
    depth: i64,
}

impl Rescue<'_> {
    /// Copies a string literal, mending control characters and lone surrogates; gives what it
    /// wrote.
    fn string(&mut self) -> String {
        let start = self.out.len();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        self.out.push('"');
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.out.push('"');
                    end = at + 1;
                    break;
                }
                '\\' => {
                    let escape = &self.rest[at..];
                    let unit = utf16_unit(escape);
                    let pair = unit.filter(|u| (0xd800..0xdc00).contains(u)).and_then(|_| {
                        utf16_unit(escape.get(6..)?).filter(|u| (0xdc00..0xe000).contains(u))
                    });
                    let (kept, skipped) = match unit {
                        Some(0xd800..0xe000) if pair.is_some() => (&escape[..12], 11),
                        Some(0xd800..0xe000) => (r"\ufffd", 5),
                        Some(_) => (&escape[..6], 5),
                        None => match escape.chars().nth(1) {
                            Some(escaped) => (&escape[..1 + escaped.len_utf8()], 1),
                            None => (r"\\", 0),
                        },
                    };
                    self.out.push_str(kept);
                    for _ in 0..skipped {
                        chars.next();
                    }
                }
                c if c.is_control() && c.is_ascii() => {
                    self.out.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                c => self.out.push(c),
            }
        }
        self.rest = &self.rest[end..];
        self.out[start..].to_owned()
    }

    /// Copies a number or a literal, in quotes if JSON has no such thing.
    fn word(&mut self) -> String {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)))
            .unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let kept = match serde_json::from_str::<Value>(word) {
            Ok(_) => word.to_owned(),
            Err(_) => format!("\"{word}\""),
        };
        self.out.push_str(&kept);
        self.rest = &self.rest[end..];
        kept
    }
}

/// The code unit of an escape like `\u00e9`.
fn utf16_unit(escape: &str) -> Option<u32> {
    let hex = escape.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(hex, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(line: &str) -> Value {
        serde_json::from_str(&rescue(line).text).unwrap()
    }

    #[test]
    fn numbers_that_json_lacks_become_texts() {
        assert_eq!(
            read(
                r#"{"id":1,"a":NaN,"b":-Infinity,"c":1e999,"d":-2.5e-3,"e":[true,null],"f":"NaN"}"#
            ),
            json!({"id":1,"a":"NaN","b":"-Infinity","c":"1e999","d":-2.5e-3,"e":[true,null],"f":"NaN"})
        );
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_a_whole_one_is_kept() {
        assert_eq!(
            read(r#"{"a":"\ud83d\ude00 \ud800x \u00e9 \" \\ \udc00"}"#),
            json!({"a": "\u{1f600} \u{fffd}x é \" \\ \u{fffd}"})
        );
    }

    #[test]
    fn the_id_of_what_cannot_be_read_is_found() {
        assert_eq!(
            rescue(r#"{"params":{"id":7},"id":3,"x":"#).id,
            Some(json!(3))
        );
        assert_eq!(rescue(r#"{"id": "a", "x": }"#).id, Some(json!("a")));
        assert_eq!(rescue("not json").id, None);
        assert_eq!(rescue("").id, None);
    }
}
