//! T5's tokenizer, out of the files that transformers reads.

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{
    AddedToken, PaddingDirection, PaddingParams, PaddingStrategy, Tokenizer, TruncationDirection,
    TruncationParams,
};

use super::sentencepiece::SentencePieces;
use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::vocabulary::Tokens;

/// transformers' `T5Tokenizer` defaults.
const END: &str = "</s>";
const PAD: &str = "<pad>";
const UNKNOWN: &str = "<unk>";
const EXTRA_IDS: u64 = 100;

/// A text to exactly as many token ids as the denoiser reads.
#[derive(Debug)]
pub struct T5Tokenizer {
    tokenizer: Tokenizer,
}

impl T5Tokenizer {
    /// Reads `folder`'s `tokenizer.json`, or its `spiece.model`, with the names of the special tokens
    /// out of `tokenizer_config.json` and `special_tokens_map.json`. Every text becomes `length`
    /// tokens.
    pub fn load(files: &ModelFiles, folder: &str, length: usize) -> Result<Self> {
        let bad = |e: tokenizers::Error| files.error(format!("{folder}/: {e}"));
        let names = special_tokens(files, folder)?;
        let name = |key: &str, default: &str| {
            let value = names.get(key);
            let text = value.and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str()));
            text.unwrap_or(default).to_owned()
        };
        let (end, pad) = (name("eos_token", END), name("pad_token", PAD));
        let (mut tokenizer, normalizer) = if files.has(&format!("{folder}/tokenizer.json")) {
            from_json(files, folder)?
        } else {
            let extra = names.get("extra_ids").and_then(Value::as_u64);
            let unknown = name("unk_token", UNKNOWN);
            let special = [pad.as_str(), &end, &unknown];
            from_sentencepiece(files, folder, &special, extra.unwrap_or(EXTRA_IDS))?
        };
        let id = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| {
                files.error(format!(
                    "{folder}/: the special token {token} is not in the vocabulary"
                ))
            })
        };
        let (end_id, pad_id) = (id(&end)?, id(&pad)?);
        // transformers takes vocabulary and character map out of the file, and builds T5's own
        // pipeline around them whatever else it says.
        tokenizer.with_normalizer(normalizer).map_err(bad)?;
        let spaces = Metaspace::new('▁', PrependScheme::Always, true);
        tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![
            WhitespaceSplit.into(),
            spaces.into(),
        ])));
        let template = TemplateProcessing::builder()
            .try_single(vec!["$A".to_owned(), end.clone()])
            .map_err(|e| files.error(format!("{folder}/: {e}")))?
            .special_tokens(vec![(end, end_id)])
            .build()
            .map_err(|e| files.error(format!("{folder}/: {e}")))?;
        tokenizer.with_post_processor(Some(template));
        tokenizer
            .with_truncation(Some(TruncationParams {
                max_length: length,
                direction: TruncationDirection::Right,
                ..Default::default()
            }))
            .map_err(bad)?;
        tokenizer.with_padding(Some(PaddingParams {
            strategy: PaddingStrategy::Fixed(length),
            direction: PaddingDirection::Right,
            pad_id,
            pad_token: pad,
            ..Default::default()
        }));
        Ok(Self { tokenizer })
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

/// What the special tokens are called.
fn special_tokens(files: &ModelFiles, folder: &str) -> Result<Map<String, Value>> {
    let mut names = Map::new();
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let path = format!("{folder}/{name}");
        if files.has(&path) {
            names.extend(files.json::<Map<String, Value>>(&path)?);
        }
    }
    Ok(names)
}

/// The tokenizer that `tokenizer.json` describes, and its character map.
fn from_json(files: &ModelFiles, folder: &str) -> Result<(Tokenizer, Option<Precompiled>)> {
    let path = format!("{folder}/tokenizer.json");
    let tokenizer = Tokenizer::from_bytes(files.read(&path)?)
        .map_err(|e| files.error(format!("{path}: {e}")))?;
    Ok((tokenizer, character_map(files, &path)?))
}

/// The tokenizer of a SentencePiece vocabulary with T5's sentinels behind it, and its character map.
fn from_sentencepiece(
    files: &ModelFiles,
    folder: &str,
    special: &[&str],
    extra_ids: u64,
) -> Result<(Tokenizer, Option<Precompiled>)> {
    let path = format!("{folder}/spiece.model");
    if !files.has(&path) {
        return Err(files.error(format!(
            "{folder}/ has neither tokenizer.json nor spiece.model"
        )));
    }
    let bad = |e: String| files.error(format!("{path}: {e}"));
    let found = SentencePieces::parse(&files.read(&path)?)
        .ok_or_else(|| bad("it is no whole SentencePiece model".into()))?;
    let sentinels: Vec<String> = (0..extra_ids)
        .rev()
        .map(|i| format!("<extra_id_{i}>"))
        .collect();
    let mut pieces = found.pieces;
    pieces.extend(sentinels.iter().map(|token| (token.clone(), 0.0)));
    let model = Unigram::from(pieces, found.unknown, false).map_err(|e| bad(e.to_string()))?;
    let mut tokenizer = Tokenizer::new(model);
    let special = special
        .iter()
        .copied()
        .chain(sentinels.iter().map(String::as_str));
    let special: Vec<AddedToken> = special.map(|t| AddedToken::from(t, true)).collect();
    tokenizer
        .add_special_tokens(special)
        .map_err(|e| bad(e.to_string()))?;
    let map = match found.character_map.as_slice() {
        [] => None,
        map => Some(Precompiled::from(map).map_err(|e| bad(e.to_string()))?),
    };
    Ok((tokenizer, map))
}

/// The character map of `tokenizer.json`'s normalizer, alone or among others; `None` where it has
/// none.
fn character_map(files: &ModelFiles, path: &str) -> Result<Option<Precompiled>> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        normalizer: Value,
    }
    let File { normalizer } = files.json(path)?;
    let all = match normalizer.get("normalizers").and_then(Value::as_array) {
        Some(several) => several.clone(),
        None => vec![normalizer],
    };
    let map = all
        .into_iter()
        .find(|n| n.get("type").and_then(Value::as_str) == Some("Precompiled"));
    // Out of text, since the map itself is read as a part of it and not as a string of its own.
    map.map(|map| serde_json::from_str(&map.to_string()))
        .transpose()
        .map_err(|e| files.error(format!("{path}: its character map cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn texts_become_the_ids_that_transformers_gives_them_from_either_file() {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/t5");
        let ids = std::fs::read(goldens.join("tokens.json")).unwrap();
        let ids: Vec<(String, Vec<u32>)> = serde_json::from_slice(&ids).unwrap();
        let files = ModelFiles::folder(&goldens);
        for form in ["sentencepiece", "json"] {
            let tokenizer = T5Tokenizer::load(&files, form, 24).unwrap();
            for (text, ids) in &ids {
                let tokens = tokenizer.encode(text).unwrap();
                assert_eq!(&tokens.ids, ids, "{form}: {text:?}");
                assert_eq!(tokens.spans.len(), ids.len());
            }
        }
    }
}
