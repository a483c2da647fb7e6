//! Qwen2's tokenizer: byte-level byte pairs, out of the files that transformers reads.

use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    PostProcessorWrapper, SplitDelimiterBehavior, Tokenizer, TruncationDirection, TruncationParams,
};

use crate::backbones::files::ModelFiles;
use crate::backbones::vocabulary::{Settings, Tokens, vocabulary};
use crate::{Error, Result};

/// What Qwen2 splits a text at before the byte pairs, a constant of its tokenizer in no file of the
/// form with `vocab.json`.
const PIECES: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// transformers' `Qwen2Tokenizer` defaults.
const DEFAULTS: [(&str, &str); 3] = [
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("pad_token", "<|endoftext|>"),
];

const CLASSES: [&str; 2] = ["Qwen2Tokenizer", "Qwen2TokenizerFast"];

/// A text to token ids, cut at a length and not padded.
#[derive(Debug)]
pub struct Qwen2Tokenizer {
    tokenizer: Tokenizer,
}

impl Qwen2Tokenizer {
    /// Reads `folder`'s files: `tokenizer.json`, or `vocab.json` and `merges.txt`, with the special
    /// tokens of `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
    /// `class` is what `model_index.json` calls the tokenizer; a text is cut after `length` tokens.
    pub fn load(files: &ModelFiles, folder: &str, class: &str, length: usize) -> Result<Self> {
        if !CLASSES.contains(&class) {
            return Err(files.error(format!(
                "model_index.json: {folder} is a {class}, which is not supported: {} is",
                CLASSES[0]
            )));
        }
        let bad = |e: tokenizers::Error| files.error(format!("{folder}/: {e}"));
        let settings = Settings::read(files, folder)?;
        // As transformers does, the pipeline is this class's own whatever tokenizer.json says of it.
        let (vocab, merges) = vocabulary(files, folder)?;
        let bpe = BPE::builder()
            .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
            .build()
            .map_err(bad)?;
        let mut tokenizer = Tokenizer::new(bpe);
        tokenizer.with_normalizer(Some(NFC)).map_err(bad)?;
        let split = Split::new(
            SplitPattern::Regex(PIECES.into()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .map_err(bad)?;
        let spaced = settings.flag("add_prefix_space");
        tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
            split.into(),
            ByteLevel::new(spaced, true, false).into(),
        ])));
        tokenizer.with_post_processor(post_processor(files, folder)?);
        tokenizer
            .add_tokens(settings.added(&DEFAULTS))
            .map_err(bad)?;
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
        Ok(Self { tokenizer })
    }

    /// Tokenizes a text as it is.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|e| Error::Internal(format!("the prompt cannot be tokenized: {e}")))?;
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            spans: encoding.get_offsets().iter().map(|&(a, b)| a..b).collect(),
        })
    }
}

/// What `tokenizer.json` puts around every text, which is kept.
fn post_processor(files: &ModelFiles, folder: &str) -> Result<Option<PostProcessorWrapper>> {
    let path = format!("{folder}/tokenizer.json");
    if !files.has(&path) {
        return Ok(None);
    }
    let mut json: serde_json::Map<String, Value> = files.json(&path)?;
    match json.remove("post_processor") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|e| files.error(format!("{path}: its post_processor is not known: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn texts_become_the_ids_that_transformers_gives_them() {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/qwen");
        let ids = std::fs::read(goldens.join("tokens.json")).unwrap();
        let ids: BTreeMap<String, Vec<(String, Vec<u32>)>> = serde_json::from_slice(&ids).unwrap();
        for (model, texts) in ids {
            let files = ModelFiles::folder(goldens.join(&model));
            let tokenizer =
                Qwen2Tokenizer::load(&files, "tokenizer", "Qwen2Tokenizer", 1000).unwrap();
            for (text, ids) in texts {
                let tokens = tokenizer.encode(&text).unwrap();
                assert_eq!(tokens.ids, ids, "{model}: {text:?}");
                assert_eq!(tokens.spans.len(), ids.len());
            }
        }
    }
}
