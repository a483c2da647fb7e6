//! The pictures as MCP resources: what was rendered, and the contact sheets, under their file names.
//! Nothing else in the pictures folder can be read.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::RgbImage;
use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};

use crate::foresight::Foresight;
use crate::{Error, Result, pictures};

const SCHEME: &str = "foreseed://pictures/";
const PNG: &str = "image/png";
/// So many pictures are listed, the newest first.
const LISTED: usize = 100;

/// The resource that stands for the picture at `path`.
pub fn link(path: &Path, description: &str) -> Resource {
    let name = file_name(path);
    let resource = Resource::new(format!("{SCHEME}{name}"), name)
        .with_description(description)
        .with_mime_type(PNG);
    match std::fs::metadata(path) {
        Ok(file) => resource.with_size(file.len()),
        Err(_) => resource,
    }
}

/// The pictures that were rendered and are still there, and the contact sheets.
pub fn list(foresight: &Foresight) -> Result<Vec<Resource>> {
    let mut listed = Vec::new();
    for render in foresight.store.renders(LISTED)? {
        if render.path.is_file() {
            let candidate = foresight.store.recall(&render.handle)?;
            let about = candidate.map(|c| format!("{} (seed {})", c.prompt, c.seed));
            listed.push(link(&render.path, &about.unwrap_or_default()));
        }
    }
    // Without a folder nothing was drawn yet.
    let files = std::fs::read_dir(&foresight.out)
        .into_iter()
        .flatten()
        .flatten();
    let sheets = files
        .map(|file| file.path())
        .filter(|path| is_sheet(&file_name(path)));
    listed.extend(
        sheets
            .take(LISTED)
            .map(|path| link(&path, "contact sheet of a ranking")),
    );
    Ok(listed)
}

/// Contact sheets are told by their names: they are no candidate's picture.
fn is_sheet(name: &str) -> bool {
    let size = name
        .strip_prefix("sheet-of-")
        .and_then(|rest| rest.split('-').next());
    size.is_some_and(|size| size.parse::<usize>().is_ok()) && name.ends_with(".png")
}

pub fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(format!("{SCHEME}{{name}}"), "picture")
            .with_description("A rendered picture or contact sheet, by its file name")
            .with_mime_type(PNG),
    ]
}

/// The picture behind `uri`, whole.
pub fn read(foresight: &Foresight, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let unknown = || {
        let problem = format!("there is no picture {uri:?}; resources/list names what there is");
        ErrorData::resource_not_found(problem, None)
    };
    let name = uri.strip_prefix(SCHEME).ok_or_else(unknown)?;
    let path = find(foresight, name).ok_or_else(unknown)?;
    let bytes = std::fs::read(&path).map_err(|_| unknown())?;
    let blob = ResourceContents::blob(BASE64_STANDARD.encode(bytes), uri).with_mime_type(PNG);
    Ok(ReadResourceResult::new(vec![blob]))
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

/// A picture small enough to go inline with an answer: base64 of a JPEG.
pub fn inline(path: &Path) -> Result<String> {
    /// As much as clients take without cutting it.
    const BASE64_BYTES: usize = 100_000;
    const SIDE: u32 = 512;
    let picture: RgbImage = image::open(path)
        .map_err(|error| Error::file(path)(std::io::Error::other(error)))?
        .into_rgb8();
    let jpeg = pictures::thumbnail(&picture, SIDE, BASE64_BYTES)?;
    Ok(BASE64_STANDARD.encode(jpeg))
}
