//! PNG files that carry what they were made from.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use image::RgbImage;
use sha2::{Digest, Sha256};

use super::PictureMetadata;
use crate::candidate::{Candidate, Handle};
use crate::{Error, Result};

/// The text chunk that holds [`PictureMetadata`] as JSON.
const KEYWORD: &str = "foreseed";

/// The text chunk that other image tools show: prompt, negative prompt, then `Key: value` pairs.
const PARAMETERS: &str = "parameters";

/// A file name for a candidate's picture, e.g. `a-red-circle-seed7-0123456789abcdef.png`: its prompt
/// for the eye, and enough of its handle that no two candidates share one.
pub fn picture_name(candidate: &Candidate, handle: &Handle) -> String {
    let mut slug = String::new();
    for c in candidate.prompt.chars() {
        if slug.len() >= 40 {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    let slug = if slug.is_empty() { "picture" } else { slug };
    let digits: String = handle
        .0
        .trim_start_matches("fs_")
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(16)
        .collect();
    format!("{slug}-seed{}-{digits}.png", candidate.seed)
}

/// Writes a PNG whole or not at all, with `metadata` in its text chunks.
pub fn write_png(path: &Path, picture: &RgbImage, metadata: &PictureMetadata) -> Result<()> {
    let json = serde_json::to_string(metadata)
        .map_err(|error| Error::Internal(format!("metadata that is not JSON: {error}")))?;
    let texts = [(KEYWORD, json), (PARAMETERS, parameters(metadata))];
    let bytes = encode(picture, texts).map_err(Error::file(path))?;
    write_whole(path, &bytes)
}

/// Writes a PNG whole or not at all, with nothing in it but the picture: a contact sheet.
pub fn write_plain_png(path: &Path, picture: &RgbImage) -> Result<()> {
    let bytes = encode(picture, []).map_err(Error::file(path))?;
    write_whole(path, &bytes)
}

/// [`write_plain_png`] at `path` with a digest of the picture at the end of its name, so that another
/// picture gets another name; gives the path.
pub fn write_named_by_content(path: &Path, picture: &RgbImage) -> Result<PathBuf> {
    let digest = Sha256::digest(picture.as_raw());
    let digest: String = digest[..4].iter().map(|b| format!("{b:02x}")).collect();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let path = path.with_file_name(format!("{stem}-{digest}.png"));
    write_plain_png(&path, picture)?;
    Ok(path)
}

/// Writes `bytes` to `path` whole or not at all, replacing what was there; missing folders are made.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
    let write = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".foreseed-").suffix(".part");
        // Temporary files are private by default; a picture is as readable as any other file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(&folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The name itself is on the disk only once its folder is.
        #[cfg(unix)]
        File::open(&folder)?.sync_all()?;
        Ok(())
    };
    write().map_err(Error::file(path))
}

/// What [`write_png`] put into a picture; an error for a picture that is not Foreseed's.
pub fn read_metadata(path: &Path) -> Result<PictureMetadata> {
    let not_ours =
        |problem: String| Error::file(path)(io::Error::new(io::ErrorKind::InvalidData, problem));
    let file = File::open(path).map_err(Error::file(path))?;
    let mut reader = png::Decoder::new(BufReader::new(file))
        .read_info()
        .map_err(|error| not_ours(format!("not a PNG: {error}")))?;
    let find = |info: &png::Info| {
        let mut texts = info.utf8_text.iter();
        texts.find(|text| text.keyword == KEYWORD).cloned()
    };
    let mut chunk = find(reader.info());
    if chunk.is_none() && reader.finish().is_ok() {
        chunk = find(reader.info());
    }
    let text = chunk
        .ok_or_else(|| not_ours("no Foreseed metadata in this PNG".into()))?
        .get_text()
        .map_err(|error| not_ours(format!("unreadable metadata: {error}")))?;
    serde_json::from_str(&text).map_err(|error| not_ours(format!("unreadable metadata: {error}")))
}

fn encode<'a>(
    picture: &RgbImage,
    texts: impl IntoIterator<Item = (&'a str, String)>,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        encoder
            .add_itxt_chunk(keyword.to_owned(), text)
            .map_err(io::Error::other)?;
    }
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer
        .write_image_data(picture.as_raw())
        .map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)?;
    Ok(bytes)
}

fn parameters(metadata: &PictureMetadata) -> String {
    // A zero byte ends a text in many readers.
    let plain = |text: &str| text.replace('\0', " ");
    let Candidate {
        prompt,
        seed,
        settings: s,
    } = &metadata.candidate;
    let mut text = plain(prompt);
    if let Some(negative) = &s.negative_prompt {
        text += "\nNegative prompt: ";
        text += &plain(negative);
    }
    let model = plain(&s.model);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\nSteps: {}, CFG scale: {}, Seed: {seed}, Size: {}x{}, Model: {model}",
        s.steps, s.guidance, s.width, s.height
    );
    if let Some(predicted) = metadata.predicted {
        let _ = write!(text, ", Predicted: {predicted:.3}");
    }
    for (metric, score) in &metadata.measured {
        let _ = write!(text, ", {metric}: {score:.3}");
    }
    let _ = write!(text, ", Version: {}", metadata.software);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use image::Rgb;

    use super::*;
    use crate::candidate::{Seed, Settings};

    fn metadata(prompt: &str) -> PictureMetadata {
        PictureMetadata {
            candidate: Candidate {
                prompt: prompt.into(),
                seed: Seed(7),
                settings: Settings {
                    model: "pocket".into(),
                    negative_prompt: Some("blurry".into()),
                    steps: 25,
                    guidance: 5.0,
                    width: 3,
                    height: 2,
                },
            },
            handle: "fs_0123456789abcdef0123456789abcdef".into(),
            predicted: Some(0.1 + 0.2),
            measured: BTreeMap::from([("composition".into(), 0.875)]),
            software: "foreseed 0.1.0".into(),
        }
    }

    #[test]
    fn a_written_picture_gives_back_its_pixels_and_what_it_was_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/picture.png");
        let picture = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8 * 80, y as u8 * 200, 17]));
        for prompt in ["a red circle", "ünïcode 星, \"quotes\"\nand\0zero", ""] {
            write_png(&path, &picture, &metadata(prompt)).unwrap();
            assert_eq!(read_metadata(&path).unwrap(), metadata(prompt));
            assert_eq!(image::open(&path).unwrap().to_rgb8(), picture);
        }
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "temporary files were left behind");
    }

    #[test]
    fn other_tools_find_the_settings_where_they_look() {
        assert_eq!(
            parameters(&metadata("a red circle")),
            "a red circle\nNegative prompt: blurry\nSteps: 25, CFG scale: 5, Seed: 7, Size: 3x2, \
             Model: pocket, Predicted: 0.300, composition: 0.875, Version: foreseed 0.1.0"
        );
    }

    #[test]
    fn a_picture_that_cannot_be_written_leaves_nothing_and_names_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        let error = write_png(&taken, &RgbImage::new(1, 1), &metadata("x")).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn pictures_of_others_are_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("foreign.png");
        RgbImage::new(2, 2).save(&foreign).unwrap();
        let text = folder.path().join("text.png");
        std::fs::write(&text, "no picture").unwrap();
        for (path, reason) in [(&foreign, "no Foreseed metadata"), (&text, "not a PNG")] {
            let error = read_metadata(path).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_name_is_safe_on_every_file_system_and_differs_between_candidates() {
        let name = |prompt: &str, handle: &str| {
            picture_name(&metadata(prompt).candidate, &Handle(handle.into()))
        };
        assert_eq!(
            name(
                "A red circle, left of a blue square on white!",
                "fs_00ff00ff00ff00ff00"
            ),
            "a-red-circle-left-of-a-blue-square-on-wh-seed7-00ff00ff00ff00ff.png"
        );
        assert_eq!(name("../../星", "fs_ab"), "picture-seed7-ab.png");
        assert_ne!(name("x", "fs_00000001"), name("x", "fs_00000002"));
    }
}
