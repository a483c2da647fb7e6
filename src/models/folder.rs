//! What a folder in diffusers' layout says of itself before its weights are loaded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// The longest safetensors header that is read: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// `model_index.json`'s `_class_name`.
    pub class: String,
    /// Weights in all parts.
    pub parameters: u64,
    /// Pixels of the picture that the denoiser is made for.
    pub pixels: u64,
}

/// Reads the index and the headers of the weights; an error says what is missing. `denoiser` is a GGUF
/// file that stands for the transformer's.
pub fn survey(folder: &Path, denoiser: Option<&Path>) -> Result<Survey> {
    let error = |problem: String| Error::model(folder.display().to_string(), problem);
    let index_path = folder.join("model_index.json");
    if !index_path.is_file() {
        return Err(error(
            "there is no model_index.json in it; name a folder in diffusers' layout".into(),
        ));
    }
    let index: BTreeMap<String, Value> = json(&index_path)?;
    let class = index
        .get("_class_name")
        .and_then(Value::as_str)
        .ok_or_else(|| error("model_index.json names no _class_name".into()))?;
    let mut parameters = 0;
    for (part, value) in &index {
        let Some([library, class]) = value.as_array().map(Vec::as_slice) else {
            continue;
        };
        // Tokenizers and schedulers have no weights; a null stands for a part that is left out.
        let class = class.as_str().unwrap_or_default();
        let no_weights = [
            "Tokenizer",
            "TokenizerFast",
            "Scheduler",
            "Processor",
            "Extractor",
        ];
        if library.is_null() || class.is_empty() || no_weights.iter().any(|n| class.ends_with(n)) {
            continue;
        }
        if let Some(denoiser) = denoiser.filter(|_| part == "transformer") {
            // As many numbers as its bytes would be in f32.
            parameters += fs::metadata(denoiser).map_err(Error::file(denoiser))?.len() / 4;
            continue;
        }
        let files = weights(&folder.join(part));
        if files.is_empty() {
            return Err(error(format!("there are no safetensors in {part}/")));
        }
        for file in files {
            parameters = u64::saturating_add(parameters, count(&file)?);
        }
    }
    Ok(Survey {
        class: class.to_owned(),
        parameters,
        pixels: pixels(folder),
    })
}

/// Whether the model in this folder knows pocket's world of shapes and nothing else: its
/// `foreseed.json` says `"world": "shapes"`.
pub fn draws_shapes_only(folder: &Path) -> bool {
    let own = json::<Value>(&folder.join("foreseed.json")).ok();
    own.is_some_and(|own| own.get("world").and_then(Value::as_str) == Some("shapes"))
}

/// The safetensors of a part; those that end in `.fp16` only where there are no others.
fn weights(part: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(part) else {
        return Vec::new();
    };
    let named = |path: &PathBuf, end: &str| path.to_string_lossy().ends_with(end);
    let paths = entries.flatten().map(|entry| entry.path());
    let (half, whole): (Vec<_>, Vec<_>) = paths
        .filter(|path| named(path, ".safetensors"))
        .partition(|path| path.to_string_lossy().contains(".fp16"));
    if whole.is_empty() { half } else { whole }
}

/// The numbers in a safetensors file, by its header.
pub fn count(path: &Path) -> Result<u64> {
    #[derive(Deserialize)]
    struct Head {
        shape: Vec<u64>,
    }
    let mut file = File::open(path).map_err(Error::file(path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(Error::file(path))?;
    let length = u64::from_le_bytes(length);
    let broken = |what: String| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        Error::file(path)(source)
    };
    if length > MAX_HEADER {
        return Err(broken(format!(
            "a header of {length} bytes: no safetensors file"
        )));
    }
    // Memory is taken for what is there, not for what is claimed.
    let whole = file.metadata().map_err(Error::file(path))?.len();
    if length > whole.saturating_sub(8) {
        return Err(broken(format!(
            "a header of {length} bytes in a file of {whole}: it is cut off or no safetensors file"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(Error::file(path))?;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&header)
        .map_err(|e| broken(format!("no safetensors header: {e}")))?;
    let mut numbers = 0_u64;
    for (name, value) in header {
        if name == "__metadata__" {
            continue;
        }
        let head: Head = serde_json::from_value(value)
            .map_err(|e| broken(format!("the tensor {name} has no shape: {e}")))?;
        // An empty tensor may claim any count of rows.
        let shape = match head.shape.contains(&0) {
            true => Some(0),
            false => head
                .shape
                .iter()
                .try_fold(1_u64, |n, &side| n.checked_mul(side)),
        };
        numbers = shape
            .and_then(|shape| numbers.checked_add(shape))
            .ok_or_else(|| broken(format!("the tensor {name} claims too many numbers")))?;
    }
    Ok(numbers)
}

/// `sample_size` of the denoiser times what the VAE enlarges it by; 1024² where that is not said.
fn pixels(folder: &Path) -> u64 {
    let read = |part: &str| json::<Value>(&folder.join(part).join("config.json")).ok();
    let side = || {
        let denoiser = read("unet").or_else(|| read("transformer"))?;
        let vae = read("vae")?;
        let levels = vae.get("block_out_channels")?.as_array()?.len() as u32;
        let sample = denoiser.get("sample_size")?.as_u64()?;
        sample.checked_mul(2_u64.checked_pow(levels.checked_sub(1)?)?)
    };
    let side: u64 = side().unwrap_or(1024).min(1 << 16);
    side * side
}

fn json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(Error::file(path))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        Error::file(path)(source)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A safetensors file of one tensor of zeros in bytes.
    fn safetensors(shape: &[u64]) -> Vec<u8> {
        let bytes: u64 = shape.iter().product();
        let header = format!(
            r#"{{"__metadata__":{{"a":"b"}},"w":{{"dtype":"U8","shape":{shape:?},"data_offsets":[0,{bytes}]}}}}"#
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.resize(file.len() + bytes as usize, 0);
        file
    }

    /// A folder that looks like SDXL from afar.
    pub fn write_model(folder: &Path) {
        let write = |path: &str, content: &[u8]| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write(
            "model_index.json",
            br#"{"_class_name": "StableDiffusionXLPipeline", "image_encoder": [null, null],
                "scheduler": ["diffusers", "EulerDiscreteScheduler"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", "AutoencoderKL"]}"#,
        );
        write("unet/config.json", br#"{"sample_size": 8}"#);
        write(
            "unet/diffusion_pytorch_model.safetensors",
            &safetensors(&[10, 7]),
        );
        write(
            "unet/diffusion_pytorch_model.fp16.safetensors",
            &safetensors(&[10, 7]),
        );
        write("vae/config.json", br#"{"block_out_channels": [1, 2, 3]}"#);
        write(
            "vae/diffusion_pytorch_model.fp16.safetensors",
            &safetensors(&[30]),
        );
    }

    #[test]
    fn a_folder_tells_its_class_size_and_weights_once() {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path());
        let expected = Survey {
            class: "StableDiffusionXLPipeline".into(),
            parameters: 100,
            pixels: 32 * 32,
        };
        assert_eq!(survey(folder.path(), None).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let complaint = || survey(folder.path(), None).unwrap_err().to_string();
        assert!(complaint().contains("no model_index.json"));
        write_model(folder.path());
        let vae = folder
            .path()
            .join("vae/diffusion_pytorch_model.fp16.safetensors");
        fs::write(&vae, [255; 64]).unwrap();
        let text = complaint();
        assert!(
            text.contains("no safetensors file") && text.contains("vae"),
            "{text}"
        );
        let mut claims = 80_000_000_u64.to_le_bytes().to_vec();
        claims.extend(br#"{"w":{"dtype":"U8"}}"#);
        fs::write(&vae, claims).unwrap();
        let text = complaint();
        assert!(text.contains("80000000 bytes in a file of 28"), "{text}");
        fs::remove_file(vae).unwrap();
        assert!(complaint().contains("no safetensors in vae/"));
    }

    #[test]
    fn numbers_that_no_file_can_hold_are_refused_and_none_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let counted = |shape: &str| {
            let header = format!(r#"{{"w":{{"shape":{shape}}},"b":{{"shape":[9]}}}}"#);
            let mut file = (header.len() as u64).to_le_bytes().to_vec();
            file.extend(header.bytes());
            fs::write(&path, file).unwrap();
            count(&path)
        };
        for shape in ["[4294967296,4294967296]", "[18446744073709551615]"] {
            let text = counted(shape).unwrap_err().to_string();
            assert!(text.contains("too many numbers"), "{text}");
        }
        assert_eq!(counted("[18446744073709551615,3,0]").unwrap(), 9);
    }
}
