//! CLIP's tokenizer, out of the files that transformers reads.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{
    AddedToken, PaddingDirection, PaddingParams, PaddingStrategy, SplitDelimiterBehavior,
    Tokenizer, TruncationDirection, TruncationParams,
};

use crate::Result;
use crate::backbones::files::ModelFiles;

/// What CLIP splits a text at before the byte pairs, a constant of its tokenizer in no file.
const CLIP_PIECES: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

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

/// transformers' `CLIPTokenizer` defaults.
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// A text to exactly as many token ids as the encoder takes.
#[derive(Debug)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    length: usize,
}

/// A text's ids, and where each came from.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub ids: Vec<u32>,
    /// Bytes of the text; empty for start, end and padding.
    pub spans: Vec<Range<usize>>,
}

impl ClipTokenizer {
    /// Reads `folder`'s files: `tokenizer.json`, or `vocab.json` and `merges.txt`, with the special
    /// tokens of `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
    /// `class` is what `model_index.json` calls the tokenizer; `positions`, how many tokens the
    /// encoder takes where the tokenizer's files do not say.
    pub fn load(files: &ModelFiles, folder: &str, class: &str, positions: usize) -> Result<Self> {
        let bad = |e: tokenizers::Error| files.error(format!("{folder}/: {e}"));
        let settings = Settings::read(files, folder)?;
        let json_path = format!("{folder}/tokenizer.json");
        // transformers builds CLIP's own pipeline around the vocabulary whatever tokenizer.json
        // says of it; only for other classes it takes the file as it is.
        let mut tokenizer = if class.starts_with("CLIPTokenizer") {
            clip_pipeline(files, folder, &settings)?
        } else if files.has(&json_path) {
            Tokenizer::from_bytes(files.read(&json_path)?).map_err(bad)?
        } else {
            return Err(files.error(format!(
                "{folder}/: a {class} without tokenizer.json is not supported: CLIPTokenizer is"
            )));
        };
        tokenizer.add_tokens(settings.added()).map_err(bad)?;
        let length = settings.max_length.unwrap_or(positions);
        if length > positions || length < 3 {
            return Err(files.error(format!(
                "{folder}/: model_max_length is {length}, and the text encoder has {positions} positions"
            )));
        }
        if class.starts_with("CLIPTokenizer") {
            let end = settings.special("eos_token").unwrap_or(END).to_owned();
            let start = settings.special("bos_token").unwrap_or(START).to_owned();
            let processing = RobertaProcessing::new(
                (end.clone(), id_of(files, folder, &tokenizer, &end)?),
                (start.clone(), id_of(files, folder, &tokenizer, &start)?),
            )
            .trim_offsets(false)
            .add_prefix_space(false);
            tokenizer.with_post_processor(Some(processing));
        }
        let pad = settings.special("pad_token").unwrap_or(END).to_owned();
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: length,
                direction: match settings.truncate_left {
                    true => TruncationDirection::Left,
                    false => TruncationDirection::Right,
                },
                ..Default::default()
            }))
            .map_err(bad)?;
        let pad_id = id_of(files, folder, &tokenizer, &pad)?;
        tokenizer.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(length),
            direction: match settings.pad_left {
                true => PaddingDirection::Left,
                false => PaddingDirection::Right,
            },
            pad_id,
            pad_token: pad,
            ..Default::default()
        }));
        Ok(Self { tokenizer, length })
    }

    /// Ids of every text.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokenizes a text as it is; what does not fit is cut off before the end token.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|e| crate::Error::Internal(format!("the prompt cannot be tokenized: {e}")))?;
        let spans = encoding
            .get_offsets()
            .iter()
            .zip(encoding.get_special_tokens_mask())
            .map(|(&(start, end), &special)| if special == 1 { 0..0 } else { start..end })
            .collect();
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            spans,
        })
    }
}

fn id_of(files: &ModelFiles, folder: &str, tokenizer: &Tokenizer, token: &str) -> Result<u32> {
    tokenizer.token_to_id(token).ok_or_else(|| {
        files.error(format!(
            "{folder}/: the special token {token} is not in the vocabulary"
        ))
    })
}

fn clip_pipeline(files: &ModelFiles, folder: &str, settings: &Settings) -> Result<Tokenizer> {
    let bad = |e: tokenizers::Error| files.error(format!("{folder}/: {e}"));
    let (vocabulary, merges) = vocabulary(files, folder)?;
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocabulary
                .into_iter()
                .collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".into())
        .fuse_unk(false)
        .unk_token(settings.special("unk_token").unwrap_or(END).into())
        .build()
        .map_err(bad)?;
    let mut tokenizer = Tokenizer::new(bpe);
    let spaces = Replace::new(
        tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()),
        " ",
    )
    .map_err(bad)?;
    tokenizer
        .with_normalizer(Some(Normalizers::new(vec![
            NFC.into(),
            spaces.into(),
            Lowercase.into(),
        ])))
        .map_err(bad)?;
    let split = Split::new(
        SplitPattern::Regex(CLIP_PIECES.into()),
        SplitDelimiterBehavior::Removed,
        true,
    )
    .map_err(bad)?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![
        split.into(),
        ByteLevel::new(false, true, true).into(),
    ])));
    Ok(tokenizer)
}

type Merges = Vec<(String, String)>;

fn vocabulary(files: &ModelFiles, folder: &str) -> Result<(BTreeMap<String, u32>, Merges)> {
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
struct Settings {
    values: serde_json::Map<String, Value>,
    /// By id.
    decoder: BTreeMap<u32, AddedToken>,
    max_length: Option<usize>,
    truncate_left: bool,
    pad_left: bool,
}

impl Settings {
    fn read(files: &ModelFiles, folder: &str) -> Result<Self> {
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
    fn special(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(content)
    }

    /// All tokens to add to the vocabulary, in transformers' order: by id, then the special ones
    /// that have no id yet.
    fn added(&self) -> Vec<AddedToken> {
        let mut tokens: Vec<AddedToken> = self.decoder.values().cloned().collect();
        let defaults = BTreeMap::from([
            ("bos_token", START),
            ("eos_token", END),
            ("unk_token", END),
            ("pad_token", END),
        ]);
        let named = SPECIAL
            .iter()
            .filter_map(|name| match self.values.get(*name) {
                Some(value) => added_token(value, true),
                None => defaults.get(name).map(|t| AddedToken::from(*t, true)),
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
