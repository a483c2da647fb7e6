//! BERT's tokenizer (Devlin et al. 2019) with the two tokens that BLIP adds.

use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer};

use super::super::files::ScorerFiles;
use crate::{Error, Result};

/// The special tokens of BERT's vocabulary, and those that BLIP's code adds after it.
const OWN: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const ADDED: [&str; 2] = ["[DEC]", "[ENC]"];

/// A text to ids.
#[derive(Debug)]
pub struct WordPieces {
    tokenizer: Tokenizer,
    start: u32,
    end: u32,
}

impl WordPieces {
    /// Reads `vocab.txt`, one piece a line; the network knows `known` ids.
    pub fn load(files: &ScorerFiles, known: usize) -> Result<Self> {
        let path = files.find(&["vocab.txt"])?;
        let bad = |problem: String| files.error(format!("{}: {problem}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(Error::file(&path))?;
        let vocabulary = text
            .lines()
            .enumerate()
            .map(|(id, piece)| (piece.to_owned(), id as u32));
        let model = WordPiece::builder()
            .vocab(vocabulary.collect::<Vocab>())
            .unk_token("[UNK]".into())
            .build()
            .map_err(|e| bad(e.to_string()))?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer
            .with_normalizer(Some(BertNormalizer::new(true, true, None, true)))
            .map_err(|e| bad(e.to_string()))?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        let special = OWN.iter().chain(&ADDED);
        let special = special.map(|token| AddedToken::from(*token, true));
        tokenizer
            .add_special_tokens(special)
            .map_err(|e| bad(e.to_string()))?;
        let size = tokenizer.get_vocab_size(true);
        if size > known {
            return Err(bad(format!(
                "with BLIP's two it has {size} pieces, and the network knows {known}"
            )));
        }
        let id = |token: &str| {
            let id = tokenizer.token_to_id(token);
            id.ok_or_else(|| bad(format!("{token} is not in it")))
        };
        let (start, end) = (id("[CLS]")?, id("[SEP]")?);
        Ok(Self {
            tokenizer,
            start,
            end,
        })
    }

    /// At most `most` ids, the start and the end among them; what does not fit is cut off.
    pub fn encode(&self, text: &str, most: usize) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|e| Error::Internal(format!("the prompt cannot be tokenized: {e}")))?;
        let inner = encoding.get_ids().iter().copied().take(most - 2);
        let ids = std::iter::once(self.start).chain(inner);
        Ok(ids.chain([self.end]).collect())
    }
}
