//! Readers of folders: a copy of one, made of links, in which the input stands for one of the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use foreseed::Result;

use crate::{Reader, said};

/// A path below the tree's root.
pub fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

pub fn golden(path: &str) -> PathBuf {
    tree("tests/goldens").join(path)
}

/// A folder of this process's own; who runs the target removes `TMPDIR` when it has ended.
pub fn scratch(name: &str) -> PathBuf {
    let own = format!("foreseed-fuzz-{}", std::process::id());
    let folder = std::env::temp_dir().join(own).join(name);
    fs::create_dir_all(&folder).expect("a scratch folder can be made");
    folder
}

/// A copy that readers share, one at a time.
#[derive(Clone)]
pub struct Copy {
    name: String,
    original: PathBuf,
    folder: Arc<Mutex<PathBuf>>,
    bytes: usize,
}

impl Copy {
    pub fn of(name: &str, original: PathBuf) -> Self {
        let folder = scratch(&name.replace('/', "-"));
        let bytes = link(&original, &folder);
        Self {
            name: name.into(),
            original,
            folder: Arc::new(Mutex::new(folder)),
            bytes,
        }
    }

    /// An empty folder.
    pub fn empty(name: &str) -> Self {
        Self::of(name, scratch(&format!("nothing-of-{name}")))
    }

    /// The reader of the folder in which the input is `file`. What the folder has there is a seed.
    pub fn with(
        &self,
        file: &str,
        mut seeds: Vec<Vec<u8>>,
        read: impl Fn(&Path) -> Result<()> + Send + Sync + 'static,
    ) -> Reader {
        let copy = self.clone();
        let original = self.original.join(file);
        seeds.extend(fs::read(&original).ok());
        let path = file.to_owned();
        let with_input = move |bytes: &[u8]| {
            let folder = copy.folder.lock().unwrap_or_else(PoisonError::into_inner);
            let at = folder.join(&path);
            let _ = fs::remove_file(&at);
            if let Some(parent) = at.parent() {
                fs::create_dir_all(parent).expect("a folder can be made");
            }
            fs::write(&at, bytes).expect("the input can be written");
            let outcome = read(&folder);
            fs::remove_file(&at).expect("the input can be removed");
            if original.is_file() {
                std::os::unix::fs::symlink(&original, &at).expect("a link can be made");
            }
            outcome.map_err(said)
        };
        Reader {
            name: format!("{}: {file}", self.name),
            read: Box::new(with_input),
            beside: self.bytes,
            seeds,
        }
    }
}

/// Links every file of a folder and below it; the bytes in them all.
fn link(from: &Path, to: &Path) -> usize {
    let mut bytes = 0;
    for (file, length) in files(from) {
        let there = to.join(&file);
        if let Some(parent) = there.parent() {
            fs::create_dir_all(parent).expect("a folder can be made");
        }
        let original = from.canonicalize().expect("it is there").join(&file);
        std::os::unix::fs::symlink(original, there).expect("a link can be made");
        bytes += length;
    }
    bytes
}

/// The files in a folder and below it, relative to it, and their lengths, in an order that does not
/// depend on the disk.
pub fn files(folder: &Path) -> Vec<(PathBuf, usize)> {
    fn walk(folder: &Path, below: &Path, found: &mut Vec<(PathBuf, usize)>) {
        for entry in fs::read_dir(folder).expect("the tree is whole") {
            let path = entry.expect("the tree is whole").path();
            let name = below.join(path.file_name().unwrap_or_default());
            match path.is_dir() {
                true => walk(&path, &name, found),
                false => {
                    let length = fs::metadata(&path).map_or(0, |m| m.len() as usize);
                    found.push((name, length));
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, Path::new(""), &mut found);
    found.sort();
    found
}
