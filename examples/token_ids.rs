//! What a tokenizer folder makes of texts: a JSON array of strings on stdin to an array of arrays of ids
//! on stdout.
//!
//!     echo '["a red circle"]' | cargo run --release --example token_ids -- MODEL/tokenizer CLIPTokenizer 77
//!
//! `tests/goldens/compare_tokenizers.py` holds them against transformers.

use std::path::Path;

use anyhow::{Context, Result};
use foreseed::backbones::{ModelFiles, token_ids};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, class, length] = &arguments[..] else {
        anyhow::bail!(
            "three are needed: FOLDER CLASS LENGTH, as in MODEL/tokenizer CLIPTokenizer 77"
        );
    };
    let length = length.parse().context("LENGTH is a number of tokens")?;
    let texts: Vec<String> = serde_json::from_reader(std::io::stdin().lock())
        .context("stdin is not a JSON array of strings")?;
    let folder = Path::new(folder)
        .canonicalize()
        .with_context(|| format!("{folder} cannot be opened"))?;
    let (Some(model), Some(name)) = (folder.parent(), folder.file_name()) else {
        anyhow::bail!("{} is no tokenizer's folder", folder.display());
    };
    let files = ModelFiles::folder(model);
    let ids = token_ids(&files, &name.to_string_lossy(), class, length, &texts)?;
    serde_json::to_writer(std::io::stdout().lock(), &ids)?;
    Ok(())
}
