//! What can go wrong, in words for the agent or person who reads it.

use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Characters of what is wrong with a file; more explain no more.
const LONGEST_PROBLEM: usize = 600;

/// Every error says what was wrong, the value that was seen, and what to do instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument that cannot be served: `field` names it, `help` says what would be right.
    #[error("{field}: {problem}. {help}")]
    Invalid {
        field: &'static str,
        problem: String,
        help: String,
    },

    /// A model folder, or a file in it, that cannot be used.
    #[error("model {model}: {problem}")]
    Model { model: String, problem: String },

    /// A file that could not be read or written.
    #[error("{}: {source}{}", path.display(), what_to_do(source.kind()))]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },

    /// The records' database.
    #[error("the records in {}: {problem}", path.display())]
    Records { path: PathBuf, problem: String },

    /// The work was given up because whoever asked for it cancelled or went away.
    #[error("cancelled")]
    Cancelled,

    /// More work is waiting than the engine takes on.
    #[error("busy: {waiting} requests are waiting; call again in about {seconds} s")]
    Busy { waiting: usize, seconds: u64 },

    /// A look that has no half-way answer took longer than the caller waits.
    #[error("not done after {} s; ask again: what was done is kept", .0.as_secs())]
    TimeOut(std::time::Duration),

    /// The device has too little memory for what was asked.
    #[error("out of memory: {0}")]
    OutOfMemory(String),

    /// A failure inside the tensor library.
    #[error("tensor computation failed: {0}")]
    Tensor(#[source] candle_core::Error),

    /// What `foreseed doctor` found wrong, so many things.
    #[error("{0} of what was looked at is wrong")]
    Unwell(usize),

    /// A bug: a condition that the code itself should have kept.
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

/// How the tensor library's backends say that a device's memory is used up: CUDA's driver, its
/// libraries, Metal.
const OUT_OF_MEMORY: [&str; 5] = [
    "OUT_OF_MEMORY",
    "STATUS_ALLOC_FAILED",
    "out of memory",
    "Failed to allocate",
    "FailedToCreateResource",
];

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let text = error.to_string();
        match OUT_OF_MEMORY.iter().any(|words| text.contains(words)) {
            true => Self::OutOfMemory(format!(
                "the device could not hold what this step needs ({}); {}",
                text.lines().next().unwrap_or_default(),
                crate::device::WAYS_OUT
            )),
            false => Self::Tensor(error),
        }
    }
}

/// What helps against the usual troubles with files; nothing where the trouble says all.
fn what_to_do(kind: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::NotFound => ". Check the path: nothing is there",
        ErrorKind::PermissionDenied => {
            ". Choose a place that you may use, or change its permissions"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            ". A folder is needed there: choose another, or move what is in its place"
        }
        ErrorKind::IsADirectory => ". Name a file: this is a folder",
        ErrorKind::StorageFull => ". Make room on the disk, or choose another one",
        ErrorKind::ReadOnlyFilesystem => ". Choose a place that can be written to",
        _ => "",
    }
}

/// What is wrong with a file, cut where it explains no more: a damaged one may be quoted in it, however
/// long that is.
pub(crate) fn shortened(mut problem: String) -> String {
    if let Some((end, _)) = problem.char_indices().nth(LONGEST_PROBLEM) {
        problem.truncate(end);
        problem.push('…');
    }
    problem
}

impl Error {
    /// An argument `field` that is wrong: `problem` holds the value seen, `help` what to send instead.
    pub fn invalid(
        field: &'static str,
        problem: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
            help: help.into(),
        }
    }

    pub fn model(model: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Model {
            model: model.into(),
            problem: shortened(problem.into()),
        }
    }

    /// Turns an I/O error about `path` into one that names it: `.map_err(Error::file(path))`.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, source }
    }
}
