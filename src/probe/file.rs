//! The probe file: safetensors with the weights of every network in f16, and in its metadata all that
//! is needed to know what it is for and to predict with it.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ProbeCard;
use super::calibration::StepCalibration;
use super::features::Layout;
use super::net::Design;
use super::tensors::{deserialize, serialize};
use crate::error::shortened;
use crate::{Error, Result};

const KEY: &str = "foreseed_probe";
/// Raised when a file of another version cannot be read as this one.
const FORMAT: u32 = 2;

/// One design's networks: the same, trained from different seeds, whose answers are averaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub design: Design,
    /// How many networks were trained.
    pub networks: usize,
    /// By step; empty only while it is being made.
    pub calibration: Vec<StepCalibration>,
}

/// Everything in a probe file that is not weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    pub card: ProbeCard,
    pub layout: Layout,
    /// Mean and deviation of the training scores, which the networks speak in.
    pub scale: (f64, f64),
    /// Between which values the metric lies, where it has bounds.
    pub range: Option<[f64; 2]>,
    /// How often a word's object came out wrong in training: what is said of a word that the text
    /// encoder cut off.
    pub word_base_rate: f64,
    pub members: Vec<Member>,
}

/// Weights by design, network number and name.
pub type Weights = BTreeMap<(Design, usize), BTreeMap<String, Tensor>>;

impl Header {
    pub const FORMAT: u32 = FORMAT;
}

/// The bytes of a probe file.
pub fn write(header: &Header, weights: &Weights) -> Result<Vec<u8>> {
    let mut tensors = BTreeMap::new();
    for ((design, number), network) in weights {
        for (name, tensor) in network {
            tensors.insert(
                format!("{}/{number}/{name}", design.name()),
                tensor.to_dtype(DType::F16)?,
            );
        }
    }
    // The file's own digest cannot be in the file.
    let mut header = header.clone();
    header.card.id = String::new();
    let json = serde_json::to_string(&header).map_err(|e| Error::Internal(e.to_string()))?;
    serialize(&tensors, KEY, json)
}

/// What is said of a probe file that is not one.
pub fn wrong(problem: String) -> Error {
    Error::invalid(
        "probe",
        format!("not a probe file that can be used: {}", shortened(problem)),
        "Train one with `foreseed probe train`",
    )
}

/// Reads a probe file; the card's `id` is the digest of these bytes.
pub fn read(bytes: &[u8]) -> Result<(Header, Weights)> {
    let (tensors, json) = deserialize(bytes, KEY).map_err(wrong)?;
    let format = serde_json::from_str::<serde_json::Value>(&json)
        .ok()
        .and_then(|v| v.get("format")?.as_u64());
    if format != Some(u64::from(FORMAT)) {
        return Err(wrong(format!("format {format:?}, not {FORMAT}")));
    }
    let mut header: Header = serde_json::from_str(&json).map_err(|e| wrong(e.to_string()))?;
    header.card.id = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let mut weights = Weights::new();
    for (name, tensor) in tensors {
        let mut parts = name.splitn(3, '/');
        let (design, number, rest) = (parts.next(), parts.next(), parts.next());
        let design = Design::ALL.into_iter().find(|d| Some(d.name()) == design);
        let number = number.and_then(|n| n.parse::<usize>().ok());
        let (Some(design), Some(number), Some(rest)) = (design, number, rest) else {
            return Err(wrong(format!("a tensor called {name}")));
        };
        weights
            .entry((design, number))
            .or_default()
            .insert(rest.to_string(), tensor.to_dtype(DType::F32)?);
    }
    Ok((header, weights))
}
