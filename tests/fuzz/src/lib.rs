//! What the fuzz targets share. A target is a list of readers; an input's first byte says whose it is, the
//! rest is what that reader is given. A finding is a reader that panics, takes memory out of proportion,
//! or refuses in words that explain nothing; libFuzzer itself finds what hangs or ends the process.

pub mod folders;
pub mod headers;
#[path = "../../mutated_models/memory.rs"]
pub mod memory;
pub mod samples;
pub mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};

use foreseed::Error;

#[global_allocator]
static COUNTED: memory::Counted = memory::Counted;

/// Of allocations at once, beside a multiple of what is read.
const MEMORY: usize = 48 << 20;
const TIMES_THE_FILES: usize = 24;
/// Characters: a longer explanation explains nothing.
const LONGEST: usize = 1500;
const SHORTEST: usize = 12;

/// Reads bytes, or says what is wrong with them.
pub type Read = Box<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

pub struct Reader {
    pub name: String,
    pub read: Read,
    /// Bytes of the files that are read beside the input.
    pub beside: usize,
    /// What it is known to be given.
    pub seeds: Vec<Vec<u8>>,
}

impl Reader {
    /// One that reads nothing but the input.
    pub fn new(
        name: impl Into<String>,
        seeds: Vec<Vec<u8>>,
        read: impl Fn(&[u8]) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            read: Box::new(read),
            beside: 0,
            seeds,
        }
    }
}

/// What an error says.
pub fn said(error: Error) -> String {
    error.to_string()
}

pub struct Target(Vec<Reader>);

impl Target {
    /// These readers; where `FUZZ_SEEDS` names a folder, their seeds are written there instead.
    pub fn new(readers: Vec<Reader>) -> Self {
        assert!(readers.len() <= 256, "one byte tells the readers apart");
        if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
            let written = seeds::write(&readers, folder.as_ref());
            std::process::exit(match written {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("the seeds cannot be written: {error}");
                    1
                }
            });
        }
        // Some readers catch what a library panics of, and say so in words.
        std::panic::set_hook(Box::new(|_| {}));
        Self(readers)
    }

    /// Gives an input to its reader, and aborts, which libFuzzer reports, where that is a finding.
    pub fn run(&self, input: &[u8]) {
        let Some((first, bytes)) = input.split_first() else {
            return;
        };
        let reader = &self.0[*first as usize % self.0.len()];
        let work = AssertUnwindSafe(|| (reader.read)(bytes));
        let (outcome, peak) = memory::peak_of(|| catch_unwind(work));
        let finding = match outcome {
            Err(panic) => Some(format!("panics: {}", words_of(&*panic))),
            Ok(Err(said)) => about(&said),
            Ok(Ok(())) => None,
        };
        let most = MEMORY + TIMES_THE_FILES * (bytes.len() + reader.beside);
        let greedy = peak > most;
        let greedy = greedy.then(|| format!("takes {peak} bytes of memory for {}", bytes.len()));
        if let Some(finding) = finding.or(greedy) {
            eprintln!("FINDING: the reader of {} {finding}", reader.name);
            std::process::abort();
        }
    }
}

/// What is wrong with the words in which an input was refused.
fn about(said: &str) -> Option<String> {
    let length = said.chars().count();
    let start: String = said.chars().take(300).collect();
    let wrong = length > LONGEST || length < SHORTEST || said.starts_with("internal error");
    wrong.then(|| format!("explains in {length} characters: {start}"))
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without words").to_owned()
}

/// Makes a libFuzzer target of a function that lists readers.
#[macro_export]
macro_rules! target {
    ($readers:path) => {
        static TARGET: std::sync::OnceLock<$crate::Target> = std::sync::OnceLock::new();
        libfuzzer_sys::fuzz_target!(
            init: {
                TARGET.get_or_init(|| $crate::Target::new($readers()));
            },
            |input: &[u8]| {
                TARGET.get_or_init(|| $crate::Target::new($readers())).run(input)
            }
        );
    };
}
