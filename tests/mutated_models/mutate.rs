//! Damage as it happens, and as somebody would do it on purpose: the same for the same number.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Splitmix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n.max(1) as u64) as usize
    }
}

/// Damages one of `files` and says how.
pub fn damage(files: &[PathBuf], dice: &mut Dice) -> String {
    let path = &files[dice.below(files.len())];
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let bytes = fs::read(path).unwrap();
    let json = serde_json::from_slice::<Value>(&bytes).ok();
    let how = match (json, header(&bytes)) {
        (Some(mut value), _) if dice.below(4) > 0 => {
            let how = in_json(&mut value, dice);
            put(path, &serde_json::to_vec(&value).unwrap());
            how
        }
        (_, Some((mut value, data))) if dice.below(2) > 0 => {
            let how = format!("header: {}", in_json(&mut value, dice));
            let text = serde_json::to_vec(&value).unwrap();
            let mut whole = (text.len() as u64).to_le_bytes().to_vec();
            whole.extend(text);
            whole.extend(data);
            put(path, &whole);
            how
        }
        _ => in_bytes(path, bytes, files, dice),
    };
    format!("{name}: {how}")
}

/// The header of a safetensors file, and what follows it.
fn header(bytes: &[u8]) -> Option<(Value, Vec<u8>)> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(8)?;
    let value: Value = serde_json::from_slice(bytes.get(8..end)?).ok()?;
    Some((value, bytes[end..].to_vec()))
}

/// A file of its own: what lies there may be a link to the undamaged one.
fn put(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Goes down to some place in the value and puts something else there.
fn in_json(at: &mut Value, dice: &mut Dice) -> String {
    let deeper = dice.below(6) > 0;
    match at {
        Value::Object(fields) if !fields.is_empty() && deeper => {
            let key = fields.keys().nth(dice.below(fields.len())).unwrap().clone();
            if dice.below(12) == 0 {
                fields.remove(&key);
                return format!(".{key} is gone");
            }
            format!(".{key}{}", in_json(&mut fields[&key], dice))
        }
        Value::Array(items) if !items.is_empty() && deeper => {
            let n = dice.below(items.len());
            format!("[{n}]{}", in_json(&mut items[n], dice))
        }
        _ => instead_of(at, dice),
    }
}

fn instead_of(at: &mut Value, dice: &mut Dice) -> String {
    let nested = || (0..100).fold(json!(1), |inner, _| json!([inner]));
    let instead = [
        json!(null),
        json!(0),
        json!(1),
        json!(-1),
        json!(7),
        json!(1e308),
        json!(0.5),
        json!(1_u64 << 20),
        json!(u32::MAX),
        json!(1_u64 << 40),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("x".repeat(100_000)),
        json!("../../../etc/passwd"),
        json!("F64"),
        json!([]),
        json!({}),
        json!([0, 0]),
        json!([u64::MAX, 2]),
        json!([1_u64 << 32, 1_u64 << 32]),
        json!([0, 1_u64 << 40]),
        json!(true),
        nested(),
        Value::Array(vec![json!(1); 10_000]),
    ];
    *at = instead[dice.below(instead.len())].clone();
    let mut said = at.to_string();
    said.truncate(40);
    format!(" = {said}")
}

fn in_bytes(path: &Path, mut bytes: Vec<u8>, files: &[PathBuf], dice: &mut Dice) -> String {
    const NUMBERS: [u64; 8] = [
        0,
        1,
        u64::MAX,
        1 << 20,
        1 << 32,
        1 << 40,
        i64::MAX as u64,
        u32::MAX as u64,
    ];
    let length = bytes.len();
    let start = dice.below(length);
    let how = match dice.below(9) {
        0 => {
            bytes.truncate(start);
            format!("cut at {start} of {length}")
        }
        1 => {
            bytes.clear();
            "empty".into()
        }
        2 => {
            fs::remove_file(path).unwrap();
            return "gone".into();
        }
        3 => {
            let other = &files[dice.below(files.len())];
            bytes = fs::read(other).unwrap();
            format!("is {}", other.file_name().unwrap().to_string_lossy())
        }
        4 => {
            let more = dice.below(4096);
            bytes.extend((0..more).map(|_| dice.roll() as u8));
            format!("{more} bytes more")
        }
        5 => {
            // Where the lengths of most formats stand.
            let start = dice.below(length.min(256));
            let number = NUMBERS[dice.below(NUMBERS.len())];
            let width = [4, 8][dice.below(2)].min(length - start.min(length));
            bytes[start..start + width].copy_from_slice(&number.to_le_bytes()[..width]);
            format!("{number} at {start}")
        }
        6 => {
            let end = (start + dice.below(64)).min(length);
            bytes[start..end]
                .iter_mut()
                .for_each(|b| *b = dice.roll() as u8);
            format!("noise from {start} to {end}")
        }
        7 => {
            let end = (start + dice.below(512)).min(length);
            let twice = bytes[start..end].to_vec();
            bytes.splice(end..end, twice);
            format!("{start} to {end} twice")
        }
        _ => {
            let bits = 1 + dice.below(8);
            for _ in 0..bits {
                if let Some(byte) = bytes.get_mut(dice.below(length)) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            format!("{bits} bits turned")
        }
    };
    put(path, &bytes);
    how
}
