//! What can be read: the pictures under their file names, the records and looks behind the handles,
//! and the gallery. Nothing else in the pictures folder can be read.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents};
use serde_json::json;

use super::app;
use crate::candidate::Handle;
use crate::foresight::{Caller, Foresight, validate};
use crate::store::PredictionRecord;
use crate::{Error, Result, pictures};

mod listing;

pub use listing::{page, templates};

pub const PICTURES: &str = "foreseed://pictures/";
pub const CANDIDATES: &str = "foreseed://candidates/";
const PNG: &str = "image/png";
const JPEG: &str = "image/jpeg";
const JSON: &str = "application/json";

/// What an address stands for.
#[derive(Debug, PartialEq)]
enum Address {
    /// A file's name.
    Picture(String),
    Record(Handle),
    Preview(Handle),
    Attention(Handle),
    Gallery,
}

impl Address {
    fn read(uri: &str) -> Option<Self> {
        if uri == app::URI {
            return Some(Self::Gallery);
        }
        if let Some(name) = uri.strip_prefix(PICTURES) {
            return Some(Self::Picture(name.to_owned()));
        }
        let (handle, what) = match uri.strip_prefix(CANDIDATES)?.split_once('/') {
            None => (uri.strip_prefix(CANDIDATES)?, ""),
            Some(parts) => parts,
        };
        let handle = Handle(handle.to_owned());
        match what {
            "" if !uri.ends_with('/') => Some(Self::Record(handle)),
            "preview" => Some(Self::Preview(handle)),
            "attention" => Some(Self::Attention(handle)),
            _ => None,
        }
    }
}

/// What stands behind `uri`, whole.
pub async fn read(
    foresight: &Foresight,
    uri: &str,
    caller: &Caller,
) -> Result<ReadResourceResult, ErrorData> {
    let unknown = || {
        let problem = format!(
            "there is no resource {}; resources/list and resources/templates/list name what there is",
            validate::shown(uri)
        );
        ErrorData::resource_not_found(problem, None)
    };
    let failed = |error: Error| match error {
        Error::Invalid { .. } => ErrorData::resource_not_found(format!("{uri}: {error}"), None),
        error => ErrorData::internal_error(format!("{uri}: {error}"), None),
    };
    let contents = match Address::read(uri).ok_or_else(unknown)? {
        Address::Gallery => app::contents(),
        Address::Picture(name) => {
            let path = find(foresight, &name).ok_or_else(unknown)?;
            let bytes = std::fs::read(&path).map_err(|_| unknown())?;
            blob(&bytes, uri, PNG)
        }
        Address::Record(handle) => {
            let record = record(foresight, &handle).map_err(failed)?;
            let text = record.ok_or_else(unknown)?.to_string();
            ResourceContents::text(text, uri).with_mime_type(JSON)
        }
        Address::Preview(handle) => {
            let preview = foresight.preview(&handle, caller).await.map_err(failed)?;
            blob(&shown(&preview).map_err(failed)?, uri, JPEG)
        }
        Address::Attention(handle) => {
            let sheet = foresight.attention(&handle, caller).await.map_err(failed)?;
            blob(&shown(&sheet.small()).map_err(failed)?, uri, JPEG)
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

fn blob(bytes: &[u8], uri: &str, mime: &str) -> ResourceContents {
    ResourceContents::blob(BASE64_STANDARD.encode(bytes), uri).with_mime_type(mime)
}

/// The JPEG of a picture that is small enough to stand in an answer, for every client.
pub fn shown(picture: &RgbImage) -> Result<Vec<u8>> {
    pictures::thumbnail(picture, pictures::SHOWN_SIDE, pictures::SHOWN_BASE64)
}

/// The resource that stands for the picture at `path`.
pub fn link(path: &Path, description: &str) -> Resource {
    let name = file_name(path);
    let resource = Resource::new(format!("{PICTURES}{name}"), name)
        .with_description(description)
        .with_mime_type(PNG);
    match std::fs::metadata(path) {
        Ok(file) => resource.with_size(file.len()),
        Err(_) => resource,
    }
}

/// Steps done when it was predicted; half a step is one evaluation of two.
fn after_steps(record: &PredictionRecord) -> serde_json::Value {
    match record.is_of_glimpse() {
        true => json!(record.at_step as f64 - 0.5),
        false => json!(record.at_step),
    }
}

/// What is known of a candidate: what it is, what was predicted of it, and what it came to. `None`:
/// no such handle was ever given out.
fn record(foresight: &Foresight, handle: &Handle) -> Result<Option<serde_json::Value>> {
    let store = &foresight.store;
    let Some(candidate) = store.recall(handle)? else {
        return Ok(None);
    };
    let predictions: Vec<_> = store
        .predictions_of(handle)?
        .into_iter()
        .map(|p| {
            json!({
                "metric": p.metric, "after_steps": after_steps(&p), "probe": p.probe,
                "quality": p.prediction.quality, "interval": p.prediction.interval,
                "p_good": p.prediction.p_good,
            })
        })
        .collect();
    let render = store.render_of(handle)?.map(|render| {
        let there = render.path.is_file();
        json!({
            "path": there.then(|| render.path.display().to_string()),
            "picture": there.then(|| format!("{PICTURES}{}", file_name(&render.path))),
            "rendered_at": render.rendered_at,
            "predicted": render.told.as_ref().and_then(|told| told.predicted),
            "measured": render.measured,
        })
    });
    let of = |what: &str| format!("{CANDIDATES}{handle}/{what}");
    Ok(Some(json!({
        "handle": handle,
        "prompt": candidate.prompt,
        "seed": candidate.seed,
        "settings": candidate.settings,
        "predictions": predictions,
        "render": render,
        "preview": of("preview"),
        "attention": of("attention"),
    })))
}

/// Sheets are told by their names: they are no candidate's picture.
fn is_sheet(name: &str) -> bool {
    let size = ["sheet-of-", "attention-of-"]
        .iter()
        .find_map(|kind| name.strip_prefix(kind)?.split('-').next());
    size.is_some_and(|size| size.parse::<usize>().is_ok()) && name.ends_with(".png")
}

/// A picture of Foreseed's own with this file name.
fn find(foresight: &Foresight, name: &str) -> Option<PathBuf> {
    let plain = Path::new(name).file_name().is_some_and(|file| file == name);
    if !plain || name.contains(['/', '\\', '\0']) {
        return None;
    }
    let path = foresight.out.join(name);
    // Only what says of itself that Foreseed made it: the folder may hold other people's pictures.
    (is_sheet(name) || pictures::read_metadata(&path).is_ok()).then_some(path)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_it_says_and_nothing_else_is_one() {
        let handle = || Handle("fs_00".into());
        for (uri, address) in [
            ("foreseed://candidates/fs_00", Address::Record(handle())),
            (
                "foreseed://candidates/fs_00/preview",
                Address::Preview(handle()),
            ),
            (
                "foreseed://candidates/fs_00/attention",
                Address::Attention(handle()),
            ),
            (
                "foreseed://pictures/a.png",
                Address::Picture("a.png".into()),
            ),
            (app::URI, Address::Gallery),
        ] {
            assert_eq!(Address::read(uri), Some(address));
        }
        for uri in [
            "",
            "file:///etc/passwd",
            "foreseed://candidates/fs_00/",
            "foreseed://candidates/fs_00/preview/",
            "foreseed://candidates/fs_00/other",
            "ui://foreseed/other",
        ] {
            assert_eq!(Address::read(uri), None, "{uri}");
        }
    }
}
