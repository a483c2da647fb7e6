//! A thousand damaged model folders: each is read or refused in words, none ends the process, hangs or
//! takes memory out of proportion to its files. The damage is the same in every run;
//! `MUTATIONS=20000` does more of it, `MUTATION=123` that one alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use foreseed::Error;

mod memory;
mod mutate;
mod subjects;

#[global_allocator]
static COUNTED: memory::Counted = memory::Counted;

const MUTATIONS: u64 = 1000;
/// Of allocations at once, beside a multiple of what lies in the folder.
const MEMORY: usize = 48 << 20;
const TIMES_THE_FILES: usize = 24;
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer explanation explains nothing.
const LONGEST: usize = 1500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn what_is_whole_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    for subject in subjects::all(scratch.path()) {
        let copy = tempfile::tempdir().unwrap();
        subjects::link(&subject.folder, copy.path());
        if let Err(error) = (subject.read)(copy.path()) {
            panic!("{}: {error}", subject.name);
        }
    }
}

#[test]
fn a_thousand_damaged_folders_are_read_or_refused_in_words() {
    let scratch = tempfile::tempdir().unwrap();
    let subjects = subjects::all(scratch.path());
    let cases = match number("MUTATION") {
        Some(one) => one..one + 1,
        None => 0..number("MUTATIONS").unwrap_or(MUTATIONS),
    };
    // What was going on, should the process end.
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutated-models.log");
    let (mut refused, mut read, mut faults) = (0, 0, Vec::new());
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for case in cases.clone() {
        let subject = &subjects[(case % subjects.len() as u64) as usize];
        let copy = tempfile::tempdir().unwrap();
        subjects::link(&subject.folder, copy.path());
        let mut dice = mutate::Dice(case);
        let how = mutate::damage(&subjects::files(copy.path()), &mut dice);
        let what = format!("{case}, {}: {how}", subject.name);
        std::fs::write(&log, &what).unwrap();

        let bytes: usize = subjects::files(copy.path())
            .iter()
            .map(|file| std::fs::metadata(file).unwrap().len() as usize)
            .sum();
        let began = Instant::now();
        let work = AssertUnwindSafe(|| (subject.read)(copy.path()));
        let (outcome, peak) = memory::peak_of(|| catch_unwind(work));
        (most, slowest) = (most.max(peak), slowest.max(began.elapsed()));
        match outcome {
            Ok(Ok(())) => read += 1,
            Ok(Err(error)) => {
                refused += 1;
                let said = error.to_string();
                if matches!(error, Error::Internal(_)) || said.len() > LONGEST || said.len() < 12 {
                    let said: String = said.chars().take(300).collect();
                    faults.push(format!("{what}\n    is explained by: {said}"));
                }
            }
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
                faults.push(format!("{what}\n    panics: {}", said.unwrap_or_default()));
            }
        }
        if peak > MEMORY + TIMES_THE_FILES * bytes {
            faults.push(format!("{what}\n    takes {peak} bytes for {bytes}"));
        }
        if began.elapsed() > PATIENCE {
            faults.push(format!("{what}\n    takes {:?}", began.elapsed()));
        }
    }
    println!(
        "{} damaged folders: {refused} refused in words, {read} read all the same; at most {:.1} MB \
         and {slowest:.1?}",
        cases.end - cases.start,
        most as f64 / 1e6
    );
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    assert!(cases.end - cases.start == 1 || refused > read);
}
