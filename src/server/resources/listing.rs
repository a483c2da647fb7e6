//! What there is to be read, page by page: each render's picture and record, the newest first, then
//! the sheets by their names.

use rmcp::model::{Resource, ResourceTemplate};

use super::{CANDIDATES, JPEG, JSON, PICTURES, PNG, file_name, is_sheet, link};
use crate::foresight::Foresight;
use crate::foresight::validate::shown;
use crate::{Error, Result};

/// So many renders or sheets stand on a page.
const ON_A_PAGE: usize = 50;

/// A page, and the cursor of the next.
pub struct Page {
    pub resources: Vec<Resource>,
    pub next: Option<String>,
}

/// Where a page begins.
enum From {
    /// After the render in this place.
    Render(Option<i64>),
    /// After the sheet with this name.
    Sheet(Option<String>),
}

impl From {
    fn read(cursor: Option<&str>) -> Result<Self> {
        let Some(cursor) = cursor else {
            return Ok(Self::Render(None));
        };
        let read = match cursor.split_once(':') {
            Some(("r", place)) => place.parse().ok().map(|place| Self::Render(Some(place))),
            Some(("s", "")) => Some(Self::Sheet(None)),
            Some(("s", name)) => Some(Self::Sheet(Some(name.to_owned()))),
            _ => None,
        };
        read.ok_or_else(|| {
            Error::invalid(
                "cursor",
                format!("{} is none of this server's", shown(cursor)),
                "Send the nextCursor of an earlier page, or none for the first",
            )
        })
    }
}

/// The page at `cursor`; without one, the first. Renders whose file is gone are left out.
pub fn page(foresight: &Foresight, cursor: Option<&str>) -> Result<Page> {
    match From::read(cursor)? {
        From::Render(after) => renders(foresight, after),
        From::Sheet(after) => Ok(sheets(foresight, after.as_deref())),
    }
}

fn renders(foresight: &Foresight, after: Option<i64>) -> Result<Page> {
    let renders = foresight.store.renders_after(after, ON_A_PAGE)?;
    let more = renders.len() == ON_A_PAGE;
    let last = renders.last().map(|(place, _)| *place);
    let mut resources = Vec::new();
    for (_, render) in renders {
        let Some(candidate) = foresight.store.recall(&render.handle)? else {
            continue;
        };
        let about = format!("{} (seed {})", candidate.prompt, candidate.seed);
        if render.path.is_file() {
            resources.push(link(&render.path, &about));
        }
        resources.push(
            Resource::new(
                format!("{CANDIDATES}{}", render.handle),
                format!("{}.json", render.handle),
            )
            .with_description(format!("What was predicted and measured of {about}"))
            .with_mime_type(JSON),
        );
    }
    if let (true, Some(last)) = (more, last) {
        return Ok(Page {
            resources,
            next: Some(format!("r:{last}")),
        });
    }
    let next = match resources.len() {
        // A short list is one page.
        few if few < ON_A_PAGE => {
            let sheets = sheets(foresight, None);
            resources.extend(sheets.resources);
            sheets.next
        }
        _ => Some("s:".into()),
    };
    Ok(Page { resources, next })
}

fn sheets(foresight: &Foresight, after: Option<&str>) -> Page {
    // Without a folder nothing was drawn yet.
    let files = std::fs::read_dir(&foresight.out).ok();
    let mut sheets: Vec<_> = files
        .into_iter()
        .flatten()
        .flatten()
        .map(|file| file.path())
        .filter(|path| {
            let name = file_name(path);
            is_sheet(&name) && after.is_none_or(|after| *name > *after)
        })
        .collect();
    sheets.sort();
    let more = sheets.len() > ON_A_PAGE;
    sheets.truncate(ON_A_PAGE);
    let about = |name: &str| match name.starts_with("sheet") {
        true => "contact sheet of a ranking",
        false => "where each word of a prompt is attended to",
    };
    let next = sheets.last().map(|last| format!("s:{}", file_name(last)));
    Page {
        resources: sheets
            .iter()
            .map(|path| link(path, about(&file_name(path))))
            .collect(),
        next: next.filter(|_| more),
    }
}

pub fn templates() -> Vec<ResourceTemplate> {
    let of_candidate = |what: &str| format!("{CANDIDATES}{{handle}}{what}");
    vec![
        ResourceTemplate::new(format!("{PICTURES}{{name}}"), "picture")
            .with_description("A rendered picture or sheet, by its file name")
            .with_mime_type(PNG),
        ResourceTemplate::new(of_candidate(""), "candidate")
            .with_description("What a candidate is, what was predicted of it, and what it came to")
            .with_mime_type(JSON),
        ResourceTemplate::new(of_candidate("/preview"), "preview")
            .with_description("What the picture of a candidate was going to be when it was judged")
            .with_mime_type(JPEG),
        ResourceTemplate::new(of_candidate("/attention"), "attention")
            .with_description("Where in that picture each word of the prompt is attended to")
            .with_mime_type(JPEG),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_somebody_elses_is_refused_briefly() {
        for cursor in ["", "r:", "r:x", "7", &"x".repeat(100_000)] {
            let Err(error) = From::read(Some(cursor)) else {
                panic!("{cursor} was read");
            };
            assert!(error.to_string().len() < 300, "{error}");
        }
        assert!(From::read(Some("r:-1")).is_ok());
        assert!(From::read(Some("s:")).is_ok());
    }
}
