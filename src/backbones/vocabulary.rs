//! The files that tokenizers are kept in, as transformers reads them, and what a text becomes.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

use super::files::ModelFiles;
use crate::Result;

/// A text's ids, and where each came from.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// Bytes of the text; empty for start, end and padding.
    pub spans: Vec<Range<usize>>,
}

/// transformers' names of the special tokens, in the order in which it adds them.
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// Pairs of tokens that become one, in order.
type Merges = Vec<(String, String)>;

/// The tokens by name and the merges of a byte-pair vocabulary, out of `tokenizer.json`, or of
/// `vocab.json` and `merges.txt`.
pub fn vocabulary(files: &ModelFiles, folder: &str) -> Result<(BTreeMap<String, u32>, Merges)> {
    #[derive(Deserialize)]
    struct File {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        vocab: BTreeMap<String, u32>,
        merges: Vec<Merge>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Merge {
        Pair(String, String),
        Line(String),
    }
    let pair = |line: &str| {
        line.split_once(' ')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .ok_or_else(|| files.error(format!("{folder}/: {line:?} is no merge of two tokens")))
    };
    let json = format!("{folder}/tokenizer.json");
    if files.has(&json) {
        let file: File = files.json(&json)?;
        let merges = file.model.merges.into_iter().map(|merge| match merge {
            Merge::Pair(a, b) => Ok((a, b)),
            Merge::Line(line) => pair(&line),
        });
        return Ok((file.model.vocab, merges.collect::<Result<_>>()?));
    }
    let vocab_path = format!("{folder}/vocab.json");
    let merges_path = format!("{folder}/merges.txt");
    if !files.has(&vocab_path) || !files.has(&merges_path) {
        return Err(files.error(format!(
            "{folder}/ has neither tokenizer.json nor vocab.json with merges.txt"
        )));
    }
    let bytes = files.read(&merges_path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| files.error(format!("{merges_path} is not UTF-8: {e}")))?;
    let merges = text
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty())
        .map(pair)
        .collect::<Result<_>>()?;
    Ok((files.json(&vocab_path)?, merges))
}

/// The special and added tokens, and the lengths, of a tokenizer folder.
pub struct Settings {
    values: serde_json::Map<String, Value>,
    /// By id.
    decoder: BTreeMap<u32, AddedToken>,
    pub max_length: Option<usize>,
    pub truncate_left: bool,
    pub pad_left: bool,
}

impl Settings {
    pub fn read(files: &ModelFiles, folder: &str) -> Result<Self> {
        let object = |name: &str| -> Result<serde_json::Map<String, Value>> {
            let path = format!("{folder}/{name}");
            if files.has(&path) {
                files.json(&path)
            } else {
                Ok(serde_json::Map::new())
            }
        };
        let mut values = object("tokenizer_config.json")?;
        let mut decoder = BTreeMap::new();
        if let Some(Value::Object(known)) = values.get("added_tokens_decoder") {
            for (id, token) in known {
                if let (Ok(id), Some(token)) = (id.parse(), added_token(token, false)) {
                    decoder.insert(id, token);
                }
            }
        } else {
            values.extend(object("special_tokens_map.json")?);
            let specials: Vec<String> = SPECIAL
                .iter()
                .filter_map(|name| content(values.get(*name)?).map(str::to_owned))
                .collect();
            for (token, id) in object("added_tokens.json")? {
                if let Some(id) = id.as_u64() {
                    let special = specials.contains(&token);
                    decoder.insert(id as u32, AddedToken::from(token, special));
                }
            }
            let mut json = object("tokenizer.json")?;
            if let Some(Value::Array(tokens)) = json.remove("added_tokens") {
                for token in tokens {
                    let id = token.get("id").and_then(Value::as_u64);
                    if let (Some(id), Some(token)) = (id, added_token(&token, false)) {
                        decoder.insert(id as u32, token);
                    }
                }
            }
        }
        let is_left = |name: &str| values.get(name).and_then(Value::as_str) == Some("left");
        // transformers writes 1e30 for "no limit".
        let max_length = values
            .get("model_max_length")
            .and_then(Value::as_f64)
            .filter(|n| *n < 1e9)
            .map(|n| n as usize);
        Ok(Self {
            max_length,
            truncate_left: is_left("truncation_side"),
            pad_left: is_left("padding_side"),
            values,
            decoder,
        })
    }

    /// What a special token is called.
    pub fn special(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(content)
    }

    /// A switch, off where nothing is said of it.
    pub fn flag(&self, name: &str) -> bool {
        self.values.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// All tokens to add to the vocabulary, in transformers' order: by id, then the special ones
    /// that have no id yet. `defaults` names those that the tokenizer's class has where its files
    /// name none.
    pub fn added(&self, defaults: &[(&str, &str)]) -> Vec<AddedToken> {
        let mut tokens: Vec<AddedToken> = self.decoder.values().cloned().collect();
        let default = |name: &str| {
            let (_, token) = defaults.iter().find(|(key, _)| *key == name)?;
            Some(AddedToken::from(*token, true))
        };
        let named = SPECIAL
            .iter()
            .filter_map(|name| match self.values.get(*name) {
                Some(value) => added_token(value, true),
                None => default(name),
            });
        let extra = ["additional_special_tokens", "extra_special_tokens"]
            .iter()
            .filter_map(|name| self.values.get(*name)?.as_array())
            .flatten()
            .filter_map(|value| added_token(value, true));
        for token in named.chain(extra) {
            if !tokens.iter().any(|t| t.content == token.content) {
                tokens.push(token);
            }
        }
        tokens
    }
}

/// A token's text, which is a string or in an object's `content`.
fn content(value: &Value) -> Option<&str> {
    value
        .as_str()
        .or_else(|| value.get("content").and_then(Value::as_str))
}

/// An added token as JSON writes it; `special` holds unless the JSON says otherwise.
fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = special || flag("special").unwrap_or(false);
    Some(
        AddedToken::from(content(value)?, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}
