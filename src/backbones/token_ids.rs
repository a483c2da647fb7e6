//! What texts become for the text encoders, without their weights.

use super::clip::ClipTokenizer;
use super::files::ModelFiles;
use super::qwen_text::Qwen2Tokenizer;
use super::t5::T5Tokenizer;
use super::vocabulary::Tokens;
use crate::Result;

/// The ids of each text by the tokenizer in `folder`, as the family that has such a one feeds them to
/// its text encoder, template aside. `class` is transformers' name of it, as `model_index.json` has it;
/// `length`, how many tokens the encoder takes: CLIP's and T5's texts are filled up to it, and no text
/// is longer.
///
/// # Errors
///
/// A class that no supported family has; a folder whose files do not make a tokenizer.
pub fn token_ids(
    files: &ModelFiles,
    folder: &str,
    class: &str,
    length: usize,
    texts: &[String],
) -> Result<Vec<Vec<u32>>> {
    let ids = |encode: &dyn Fn(&str) -> Result<Tokens>| {
        texts.iter().map(|text| Ok(encode(text)?.ids)).collect()
    };
    if class.starts_with("T5Tokenizer") {
        let tokenizer = T5Tokenizer::load(files, folder, length)?;
        ids(&|text| tokenizer.encode(text))
    } else if class.starts_with("CLIPTokenizer") {
        let tokenizer = ClipTokenizer::load(files, folder, class, length)?;
        ids(&|text| tokenizer.encode(text))
    } else {
        let tokenizer = Qwen2Tokenizer::load(files, folder, class, length)?;
        ids(&|text| tokenizer.encode(text))
    }
}
