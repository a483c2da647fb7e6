//! Tensors out of what `torch.save` wrote, for the one scorer that is published in no other form.
//! Such a file is a pickle, a program for a stack machine that in Python can call anything. The
//! reader here is candle's, which builds a description of the calls and makes none of them; what is
//! no tensor is passed over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use candle_core::pickle::PthTensors;
use candle_core::{DType, Device, Tensor};
use zip::ZipArchive;

use crate::{Error, Result};

/// No file of a scorer's head is larger.
const MOST_BYTES: u64 = 64 << 20;

/// The floating-point tensors in the file by name, as f32.
///
/// # Errors
/// A file that is too large, broken, or holds no such tensor.
pub fn tensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let bad = |problem: String| Error::model(path.display().to_string(), problem);
    let bytes = std::fs::metadata(path).map_err(Error::file(path))?.len();
    if bytes > MOST_BYTES {
        return Err(bad(format!(
            "it has {bytes} bytes and a scorer's head has some millions; larger ones are not read"
        )));
    }
    // candle takes some shapes of a description for granted and panics where a file was forged.
    let read = catch_unwind(AssertUnwindSafe(|| read(path, bytes, device)));
    let found = read
        .unwrap_or_else(|_| Err("it is no description of tensors".into()))
        .map_err(|problem| bad(format!("it cannot be read as tensors: {problem}")))?;
    match found.is_empty() {
        true => Err(bad(
            "it holds no tensors, or none in torch's zip format".into()
        )),
        false => Ok(found),
    }
}

/// Refuses a description that claims more text than it holds: candle makes room for a text of any
/// length before it reads it, up to 4 GiB for a file of a few bytes.
fn check_texts(path: &Path, bytes: u64) -> std::result::Result<(), String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| e.to_string())?;
    for index in 0..archive.len() {
        let mut description = Vec::new();
        // As long as the file at most: torch compresses nothing.
        let entry = archive.by_index(index).map_err(|e| e.to_string())?;
        let is_description = entry.name().is_ok_and(|name| name.ends_with("data.pkl"));
        if !is_description {
            continue;
        }
        let read = entry.take(bytes + 1).read_to_end(&mut description);
        let length = read.map_err(|e| e.to_string())? as u64;
        if length > bytes {
            return Err("its description is longer than the whole file".into());
        }
        texts_fit(&description)?;
    }
    Ok(())
}

/// Walks over the instructions, by the lengths of what follows each of those that candle knows; at one
/// that it does not know it stops, and so does candle.
fn texts_fit(description: &[u8]) -> std::result::Result<(), String> {
    let mut at = 0;
    while let Some(&code) = description.get(at) {
        let rest = &description[at + 1..];
        let line = |from: usize| {
            let end = rest.get(from..)?.iter().position(|byte| *byte == b'\n')?;
            Some(from + end + 1)
        };
        let follows = match code {
            b'X' => {
                let Some(length) = rest.first_chunk::<4>() else {
                    return Ok(());
                };
                let length = u32::from_le_bytes(*length) as usize;
                if length > rest.len() - 4 {
                    return Err(format!(
                        "it claims a text of {length} bytes where {} are left",
                        rest.len() - 4
                    ));
                }
                Some(4 + length)
            }
            // Two names, a line each.
            b'c' => line(0).and_then(line),
            0x8a => rest.first().map(|length| 1 + usize::from(*length)),
            b'G' => Some(8),
            b'J' | b'r' | b'j' => Some(4),
            b'M' => Some(2),
            0x80 | b'q' | b'h' | b'K' => Some(1),
            b')'
            | b'R'
            | b'('
            | b't'
            | b'Q'
            | b'N'
            | 0x81
            | 0x85..=0x89
            | b's'
            | b'u'
            | b'}'
            | b'd'
            | b'b'
            | b']'
            | b'a'
            | b'e' => Some(0),
            _ => return Ok(()),
        };
        match follows {
            Some(follows) => at += 1 + follows,
            None => return Ok(()),
        }
    }
    Ok(())
}

fn read(
    path: &Path,
    bytes: u64,
    device: &Device,
) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let text = |e: candle_core::Error| e.to_string();
    check_texts(path, bytes)?;
    let file = PthTensors::new(path, None).map_err(text)?;
    let mut found = BTreeMap::new();
    for (name, info) in file.tensor_infos() {
        // Checked before room is made for it.
        let fits = info
            .layout
            .dims()
            .iter()
            .try_fold(info.dtype.size_in_bytes() as u64, |size, length| {
                size.checked_mul(*length as u64)
            })
            .is_some_and(|size| size <= bytes);
        if !fits {
            return Err(format!(
                "{name} claims the shape {:?}, more than the file holds",
                info.layout.dims()
            ));
        }
        if !info.dtype.is_float() {
            continue;
        }
        if let Some(tensor) = file.get(name).map_err(text)? {
            let tensor = tensor
                .to_dtype(DType::F32)
                .and_then(|t| t.to_device(device));
            found.insert(name.clone(), tensor.map_err(text)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_longer_than_the_description_is_refused_and_all_else_is_walked_over() {
        let mut description = vec![0x80, 2, b'c'];
        description.extend(b"torch\nFloatStorage\nq\x00X\x03\0\0\0cpuK\x01M\x01\x00J\0\0\0\0G");
        description.extend([0; 8]);
        description.extend(b"\x8a\x02\x01\x01)R");
        assert_eq!(texts_fit(&description), Ok(()));
        description.extend(b"X\xff\xff\xff\xf0abc");
        let refusal = texts_fit(&description).unwrap_err();
        assert!(refusal.contains("where 3 are left"), "{refusal}");
        // What candle refuses by itself.
        for cut in [&b"X\x01"[..], b"c no line", b"\xff", b"\x8a", b""] {
            assert_eq!(texts_fit(cut), Ok(()));
        }
    }
}
