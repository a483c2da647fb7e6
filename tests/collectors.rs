//! Several processes collect into one set, one of them is killed, and parts of several machines are
//! copied together: the set is always what one process alone collects.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use foreseed::probe::shard::Collected;

const PROMPTS: usize = 8;

fn collector(folder: &Path, data: &Path, more: &[&str]) -> Child {
    let prompts = PROMPTS.to_string();
    Command::new(env!("CARGO_BIN_EXE_foreseed"))
        .args([
            "probe", "collect", "--model", "pocket", "--scenes", &prompts,
        ])
        .args(["--seeds", "2", "--steps", "8", "--at", "2,4", "--out"])
        .arg(folder)
        .args(more)
        .env("FORESEED_DATA", data)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(collector: Child) {
    let done = collector.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "a collector failed: {said}");
}

/// The shards of a set by name.
fn shards(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let shards = paths.filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    shards
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap())
        })
        .collect()
}

/// Until so many shards are there.
fn wait_for(folder: &Path, count: usize) {
    let begun = Instant::now();
    while shards(folder).len() < count {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "nothing was collected"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_collectors_share_a_set_and_one_that_is_killed_loses_at_most_its_prompt() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let (alone, together) = (
        scratch.path().join("alone"),
        scratch.path().join("together"),
    );
    finish(collector(&alone, &data, &[]));

    let (mut killed, left) = (
        collector(&together, &data, &[]),
        collector(&together, &data, &[]),
    );
    wait_for(&together, 2);
    // What is there is whole, and can be learned from while the others go on.
    let partial = Collected::read(std::slice::from_ref(&together)).unwrap();
    assert!(partial.groups.len() >= 2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    finish(left);

    let (alone, together) = (shards(&alone), shards(&together));
    assert_eq!(alone.len(), PROMPTS);
    assert!(
        alone == together,
        "{:?}, {:?}",
        alone.keys(),
        together.keys()
    );
}

#[test]
fn the_parts_of_two_machines_copied_into_one_folder_are_the_whole_set() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let folder = |name: &str| scratch.path().join(name);
    let one = collector(&folder("one"), &data, &["--part", "1/2"]);
    finish(collector(&folder("other"), &data, &["--part", "2/2"]));
    finish(one);
    for entry in fs::read_dir(folder("other")).unwrap().flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), folder("one").join(entry.file_name())).unwrap();
        }
    }
    assert_eq!(shards(&folder("one")).len(), PROMPTS);
    assert_eq!(
        Collected::read(&[folder("one")]).unwrap().groups.len(),
        PROMPTS
    );
    // Nothing is left to do; another draw has other names, and never overwrites.
    let names = |folder: &Path| shards(folder).into_keys().collect::<Vec<_>>();
    let before = names(&folder("one"));
    finish(collector(&folder("one"), &data, &[]));
    assert_eq!(names(&folder("one")), before);
    finish(collector(
        &folder("another"),
        &data,
        &["--draw", "2", "--part", "1/2"],
    ));
    assert!(
        names(&folder("another"))
            .iter()
            .all(|name| !before.contains(name))
    );
}
