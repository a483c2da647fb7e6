//! What libFuzzer starts from: the readers' seeds as inputs, and the words in them as a dictionary.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::Reader;

/// libFuzzer's own limit of a dictionary's entry.
const LONGEST_WORD: usize = 60;

/// What no file in the tree holds, and readers stumble over.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1e999",
    "-0.0",
    "4294967296",
    "18446744073709551615",
    "9223372036854775807",
    "1099511627776",
    "NaN",
    "-Infinity",
    "null",
    "[]",
    "{}",
    "\"\"",
];

/// Writes each seed as a file of `FOLDER/seeds`, and `FOLDER/words.dict`.
pub fn write(readers: &[Reader], folder: &Path) -> io::Result<()> {
    let place = folder.join("seeds");
    fs::create_dir_all(&place)?;
    let mut words: BTreeSet<String> = NUMBERS.iter().map(|n| n.to_string()).collect();
    for (index, reader) in readers.iter().enumerate() {
        for (number, seed) in reader.seeds.iter().enumerate() {
            let input = [&[index as u8], &seed[..]].concat();
            let name: String = reader
                .name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect();
            fs::write(place.join(format!("{index:03}-{name}-{number}")), input)?;
            if let Ok(json) = serde_json::from_slice(seed) {
                collect(&json, &mut words);
            }
        }
    }
    let lines: Vec<String> = words.iter().map(|word| entry(word)).collect();
    fs::write(folder.join("words.dict"), lines.join("\n") + "\n")?;
    let count: usize = readers.iter().map(|reader| reader.seeds.len()).sum();
    println!(
        "{} readers, {count} seeds, {} words",
        readers.len(),
        lines.len()
    );
    Ok(())
}

/// The names and texts in a JSON value, in their quotes; tokens of a vocabulary are none.
fn collect(json: &Value, words: &mut BTreeSet<String>) {
    let mut keep = |text: &str| {
        if (3..LONGEST_WORD - 2).contains(&text.len()) {
            words.insert(Value::from(text).to_string());
        }
    };
    match json {
        Value::String(text) => keep(text),
        Value::Array(items) if items.len() < 40 => items.iter().for_each(|i| collect(i, words)),
        Value::Object(fields) if fields.len() < 80 => {
            fields.keys().for_each(|name| keep(name));
            fields.values().for_each(|value| collect(value, words));
        }
        _ => {}
    }
}

/// A word as libFuzzer's dictionaries have it.
fn entry(word: &str) -> String {
    let bytes: String = word
        .bytes()
        .map(|b| match b {
            b'"' | b'\\' => format!("\\{}", b as char),
            b' '..=b'~' => (b as char).to_string(),
            b => format!("\\x{b:02x}"),
        })
        .collect();
    format!("\"{bytes}\"")
}
