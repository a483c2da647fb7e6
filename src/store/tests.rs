use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;
use crate::probe::Prediction;

fn candidate(seed: u32) -> Candidate {
    Candidate {
        prompt: "a red circle\nand \"quotes\" and é".into(),
        seed: Seed(seed),
        settings: Settings {
            model: "pocket".into(),
            negative_prompt: seed.is_multiple_of(2).then(String::new),
            steps: 25,
            guidance: 0.1 + 0.2,
            width: 64,
            height: 96,
        },
    }
}

fn prediction(handle: &Handle, probe: &str, quality: f64) -> PredictionRecord {
    PredictionRecord {
        handle: handle.clone(),
        metric: "composition".into(),
        at_step: 5,
        probe: probe.into(),
        prediction: Prediction {
            quality,
            interval: Some([quality - 0.1, quality + 0.1]),
            p_good: None,
            word_risks: vec![0.25, 0.5],
        },
    }
}

#[test]
fn what_was_remembered_outlives_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let known: Vec<_> = [0, 1, u32::MAX]
        .map(|seed| (candidate(seed).handle("weights"), candidate(seed)))
        .into();
    {
        let store = Store::open(folder.path()).unwrap();
        store.remember(&known).unwrap();
        store.remember(&known).unwrap();
    }
    let store = Store::open(folder.path()).unwrap();
    for (handle, candidate) in &known {
        assert_eq!(store.recall(handle).unwrap().as_ref(), Some(candidate));
    }
    assert_eq!(store.recall(&Handle("fs_unknown".into())).unwrap(), None);
}

#[test]
fn a_prediction_belongs_to_its_probe_step_and_metric() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let handle = candidate(1).handle("weights");
    let first = prediction(&handle, "one", 0.1 + 0.2);
    store
        .keep_predictions(&[first.clone(), prediction(&handle, "two", 0.9)])
        .unwrap();
    let found =
        |metric: &str, step, probe: &str| store.prediction(&handle, metric, step, probe).unwrap();
    assert_eq!(found("composition", 5, "one"), Some(first));
    assert_eq!(found("composition", 6, "one"), None);
    assert_eq!(found("clip", 5, "one"), None);
    assert_eq!(found("composition", 5, "three"), None);
}

#[test]
fn renders_come_newest_first_and_all_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let handle = candidate(1).handle("weights");
    for at in [10, 30, 20, 20] {
        store
            .keep_render(&RenderRecord {
                handle: handle.clone(),
                path: format!("/pictures/{at}.png").into(),
                measured: BTreeMap::from([("composition".into(), 0.5)]),
                rendered_at: at,
            })
            .unwrap();
    }
    let times = |n| -> Vec<u64> {
        let renders = store.renders(n).unwrap();
        renders.iter().map(|r| r.rendered_at).collect()
    };
    assert_eq!(times(usize::MAX), [30, 20, 20, 10]);
    assert_eq!(times(1), [30]);
}

#[test]
fn several_stores_on_one_folder_write_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4_u32 {
            let path = folder.path();
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                for n in 0..10 {
                    let c = candidate(writer * 1000 + n);
                    store.remember(&[(c.handle("weights"), c)]).unwrap();
                }
            });
        }
    });
    let store = Store::open(folder.path()).unwrap();
    for writer in 0..4 {
        for n in 0..10 {
            let handle = candidate(writer * 1000 + n).handle("weights");
            assert!(store.recall(&handle).unwrap().is_some());
        }
    }
}

#[test]
fn damaged_foreign_newer_and_unwritable_databases_say_where_and_what_to_do() {
    let complaint = |folder: &Path| match Store::open(folder) {
        Ok(_) => panic!("{} was opened", folder.display()),
        Err(error) => error.to_string(),
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("foreseed.sqlite");

    std::fs::write(
        &file,
        "no database at all, but longer than a header is".repeat(50),
    )
    .unwrap();
    let text = complaint(folder.path());
    assert!(
        text.contains("foreseed.sqlite") && text.contains("move it away"),
        "{text}"
    );

    std::fs::remove_file(&file).unwrap();
    let other = Connection::open(&file).unwrap();
    other.execute_batch("CREATE TABLE theirs (a)").unwrap();
    let text = complaint(folder.path());
    assert!(text.contains("another program's"), "{text}");

    drop(other);
    std::fs::remove_file(&file).unwrap();
    drop(Store::open(folder.path()).unwrap());
    let ours = Connection::open(&file).unwrap();
    ours.pragma_update(None, "user_version", 99).unwrap();
    let text = complaint(folder.path());
    assert!(text.contains("newer foreseed"), "{text}");

    let text = complaint(&file.join("below-a-file"));
    assert!(text.contains("choose a data folder"), "{text}");
}

/// Says in the environment that this process is the child that is to be killed.
const CHILD: &str = "FORESEED_TEST_STORE_CHILD";

/// Not a test of its own: the child of the next one, writing until it is killed.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let store = Store::open(Path::new(&folder)).unwrap();
    for seed in 0.. {
        let c = candidate(seed);
        let handle = c.handle("weights");
        store.remember(&[(handle.clone(), c)]).unwrap();
        store
            .keep_predictions(&[prediction(&handle, "p", 0.5)])
            .unwrap();
        println!("\nanswered {seed}");
    }
}

#[test]
fn a_kill_in_the_middle_of_writes_loses_nothing_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::tests::child_that_writes_until_it_is_killed",
        ])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answered = Vec::new();
    let seeds = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in seeds {
        let Some(seed) = line
            .unwrap()
            .strip_prefix("answered ")
            .and_then(|n| n.parse().ok())
        else {
            continue;
        };
        answered.push(seed);
        if answered.len() == 50 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(answered.len() >= 50, "the child stopped by itself");

    let store = Store::open(folder.path()).unwrap();
    for seed in answered {
        let handle = candidate(seed).handle("weights");
        assert_eq!(store.recall(&handle).unwrap(), Some(candidate(seed)));
        let kept = store.prediction(&handle, "composition", 5, "p").unwrap();
        assert!(kept.is_some(), "the prediction of seed {seed} is lost");
    }
    let fine: String = store
        .lock()
        .pragma_query_value(None, "integrity_check", |r| r.get(0))
        .unwrap();
    assert_eq!(fine, "ok");
}
