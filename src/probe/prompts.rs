//! Which prompts are collected or evaluated: a file's, or the embedded world's.

use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::shortened;
use crate::world::{self, Split};
use crate::{Error, Result};

/// A prompt, and the scene that all its wordings share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub prompt: String,
    pub scene: String,
}

/// Prompts and a short text that names their source.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub prompts: Vec<Asked>,
}

#[derive(Deserialize)]
struct Line {
    prompt: String,
    scene: Option<String>,
}

impl Source {
    /// `n` prompts of one side of the embedded model's world; more of the same seed begin with them.
    pub fn world(split: Split, n: usize, seed: u64) -> Self {
        let prompts = world::prompts(split, n, seed)
            .into_iter()
            .map(|p| Asked {
                scene: p.scene.content(),
                prompt: p.text,
            })
            .collect();
        Self {
            name: format!("world {split:?}, seed {seed}"),
            prompts,
        }
    }

    /// One prompt a line, or one JSON object a line, `{"prompt": …, "scene": …}`: wordings of one
    /// scene share its `scene`, and fall on one side of every split. Empty lines are skipped.
    pub fn file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        let prompts: Vec<Asked> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let parsed = line.starts_with('{').then(|| serde_json::from_str(line));
                let Line { prompt, scene } = match parsed {
                    Some(Ok(line)) => line,
                    Some(Err(e)) => {
                        return Err(Error::invalid(
                            "prompts",
                            shortened(format!("{line:?} in {} is not JSON: {e}", path.display())),
                            "Write {\"prompt\": \"…\", \"scene\": \"…\"}, or the bare prompt",
                        ));
                    }
                    None => Line {
                        prompt: line.into(),
                        scene: None,
                    },
                };
                let scene = scene.unwrap_or_else(|| prompt.to_lowercase());
                Ok(Asked { prompt, scene })
            })
            .collect::<Result<_>>()?;
        if prompts.is_empty() {
            return Err(Error::invalid(
                "prompts",
                format!("{} has no prompt", path.display()),
                "Write one a line",
            ));
        }
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self {
            name: format!("file {hex}"),
            prompts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_bare_prompts_or_scenes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "A Cat\n\n{\"prompt\": \"a dog\", \"scene\": \"dog\"}\n";
        std::fs::write(file.path(), text).unwrap();
        let source = Source::file(file.path()).unwrap();
        let scenes: Vec<&str> = source.prompts.iter().map(|p| p.scene.as_str()).collect();
        assert_eq!(scenes, ["a cat", "dog"]);
        std::fs::write(file.path(), "{\"prompt\": 3}").unwrap();
        let error = Source::file(file.path()).unwrap_err().to_string();
        assert!(error.contains("invalid type: integer `3`"), "{error}");
        std::fs::write(file.path(), format!("{{{}", "long".repeat(5000))).unwrap();
        let error = Source::file(file.path()).unwrap_err().to_string();
        assert!(error.chars().count() < 1000, "{error}");
    }

    #[test]
    fn more_prompts_of_a_world_begin_with_the_same() {
        let few = Source::world(Split::Train, 5, 1);
        let many = Source::world(Split::Train, 9, 1);
        assert_eq!(few.prompts, many.prompts[..5]);
    }
}
