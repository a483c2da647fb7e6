//! CLIP's tokenizer, out of the files that transformers reads.

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{
    PaddingDirection, PaddingParams, PaddingStrategy, SplitDelimiterBehavior, Tokenizer,
    TruncationDirection, TruncationParams,
};

use crate::Result;
use crate::backbones::files::ModelFiles;
use crate::backbones::vocabulary::{Settings, Tokens, vocabulary};

/// What CLIP splits a text at before the byte pairs, a constant of its tokenizer in no file.
const CLIP_PIECES: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// transformers' `CLIPTokenizer` defaults.
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const DEFAULTS: [(&str, &str); 4] = [
    ("bos_token", START),
    ("eos_token", END),
    ("unk_token", END),
    ("pad_token", END),
];

/// A text to exactly as many token ids as the encoder takes.
#[derive(Debug)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    length: usize,
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
        tokenizer
            .add_tokens(settings.added(&DEFAULTS))
            .map_err(bad)?;
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
