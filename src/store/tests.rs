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
        store.remember("weights", &known).unwrap();
        store.remember("weights", &known).unwrap();
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
                chosen_after: 0,
                told: None,
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

fn render(handle: &Handle, chosen_after: usize, composition: f64, at: u64) -> RenderRecord {
    RenderRecord {
        handle: handle.clone(),
        path: format!("/pictures/{at}.png").into(),
        measured: BTreeMap::from([("composition".into(), composition)]),
        rendered_at: at,
        chosen_after,
        told: Some(Told {
            metric: "composition".into(),
            calibrated: true,
            predicted: Some(0.25),
            full_evaluations: 50,
        }),
    }
}

fn predicted_at(handle: &Handle, at_step: usize) -> PredictionRecord {
    PredictionRecord {
        at_step,
        ..prediction(handle, "p", 0.5)
    }
}

#[test]
fn the_version_of_the_pairs_changes_with_them_and_not_without() {
    let folder = tempfile::tempdir().unwrap();
    let [store, other] = [0, 1].map(|_| Store::open(folder.path()).unwrap());
    let named = [0, 1].map(|seed| (candidate(seed).handle("weights"), candidate(seed)));
    let [first, second] = [&named[0].0, &named[1].0];
    let version = || store.pairs_version().unwrap();
    let mut before = version();
    let mut changed = || {
        let now = version();
        std::mem::replace(&mut before, now) != now
    };
    store.remember("weights", &named).unwrap();
    store.keep_predictions(&[predicted_at(first, 5)]).unwrap();
    assert!(!changed(), "nothing is scored");
    store.keep_render(&render(first, 0, 0.9, 10)).unwrap();
    assert!(changed());
    store.keep_predictions(&[predicted_at(second, 5)]).unwrap();
    assert!(!changed(), "this one is not scored");
    store.keep_predictions(&[predicted_at(first, 10)]).unwrap();
    assert!(changed(), "one more of the scored candidate's predictions");
    store.keep_score(second, "composition", 0.5).unwrap();
    assert!(changed());
    other.keep_score(second, "composition", 0.25).unwrap();
    assert!(changed(), "by another process");
    assert!(!changed());
}

#[test]
fn a_score_is_paired_with_every_prediction_from_the_choice_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let named: Vec<(Handle, Candidate)> = (0..3)
        .map(|seed| (candidate(seed).handle("weights"), candidate(seed)))
        .collect();
    store.remember("weights", &named).unwrap();
    // Rendered for what step 5 said; rendered unseen; predicted and never rendered.
    for (handle, _) in &named {
        let predictions = [1, 5, 10].map(|step| predicted_at(handle, step));
        store.keep_predictions(&predictions).unwrap();
    }
    assert_eq!(store.predicted_up_to(&named[0].0).unwrap(), 10);
    store.keep_render(&render(&named[0].0, 5, 0.9, 10)).unwrap();
    store.keep_render(&render(&named[1].0, 0, 0.2, 20)).unwrap();
    let asked = Asked {
        probe: Some("p"),
        metric: Some("composition"),
        ..Asked::default()
    };
    let seen = |asked: Asked<'_>, n| -> Vec<(u32, usize, f64)> {
        let pairs = store.pairs(asked, n).unwrap();
        pairs
            .iter()
            .map(|p| (p.candidate.seed.0, p.predicted.at_step, p.measured))
            .collect()
    };
    let all = [
        (1, 1, 0.2),
        (1, 5, 0.2),
        (1, 10, 0.2),
        (0, 5, 0.9),
        (0, 10, 0.9),
    ];
    assert_eq!(seen(asked, 100), all, "the newest first");
    assert_eq!(seen(asked, 2), all[..2]);
    assert_eq!(store.paired(asked).unwrap(), 2);
    let at_step = Some(1);
    assert_eq!(seen(Asked { at_step, ..asked }, 9), all[..1]);
    for nothing in [
        Asked {
            fingerprint: Some("others"),
            ..asked
        },
        Asked {
            probe: Some("another"),
            ..asked
        },
        Asked {
            metric: Some("clip"),
            ..asked
        },
        Asked {
            settings: Some(&Settings {
                guidance: 2.5,
                ..candidate(0).settings
            }),
            ..asked
        },
    ] {
        assert_eq!(store.paired(nothing).unwrap(), 0, "{nothing:?}");
    }
    let renamed = Settings {
        model: "by another name".into(),
        ..candidate(0).settings
    };
    let settings = Some(&renamed);
    assert_eq!(
        store.paired(Asked { settings, ..asked }).unwrap(),
        1,
        "another negative prompt is another group, another name is not"
    );
    let pair = &store.pairs(asked, 1).unwrap()[0];
    assert_eq!(pair.fingerprint.as_deref(), Some("weights"));
    assert_eq!(pair.predicted, predicted_at(&named[1].0, 1));
}

#[test]
fn a_later_score_replaces_an_earlier_one_and_outlives_another_render() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let handle = candidate(1).handle("weights");
    assert_eq!(store.render_of(&handle).unwrap(), None);
    store
        .remember("weights", &[(handle.clone(), candidate(1))])
        .unwrap();
    store.keep_render(&render(&handle, 5, 0.9, 10)).unwrap();
    store.keep_score(&handle, RATING, 0.3).unwrap();
    store.keep_score(&handle, RATING, 0.1 + 0.2).unwrap();
    store.keep_render(&render(&handle, 0, 0.8, 20)).unwrap();
    let latest = store.render_of(&handle).unwrap().unwrap();
    let scores = BTreeMap::from([("composition".into(), 0.8), (RATING.into(), 0.1 + 0.2)]);
    assert_eq!(latest.measured, scores);
    assert_eq!(latest.rendered_at, 20);
    assert_eq!(latest.told.unwrap().predicted, Some(0.25));
    let rated = store.scored("weights", RATING).unwrap();
    assert_eq!(rated.len(), 1);
    assert_eq!(
        (&rated[0].handle, &rated[0].candidate, rated[0].score),
        (&handle, &candidate(1), 0.1 + 0.2)
    );
    assert!(store.scored("other weights", RATING).unwrap().is_empty());
}

#[test]
fn a_database_from_before_the_history_keeps_all_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (rendered, unseen) = (candidate(1).handle("weights"), candidate(2).handle("old"));
    let old = Connection::open(folder.path().join("foreseed.sqlite")).unwrap();
    schema::first_version(&old).unwrap();
    for (handle, c) in [(&rendered, candidate(1)), (&unseen, candidate(2))] {
        old.execute(
            "INSERT INTO candidates VALUES (?1, ?2, ?3, 'pocket', ?4, 25, ?5, 64, 96, 7)",
            params![
                handle.0,
                c.prompt,
                c.seed.0,
                c.settings.negative_prompt,
                c.settings.guidance
            ],
        )
        .unwrap();
    }
    let json = serde_json::to_string(&prediction(&rendered, "p", 0.5).prediction).unwrap();
    for (step, at) in [(1, 5), (5, 9), (10, 11)] {
        old.execute(
            "INSERT INTO predictions VALUES (?1, 'composition', ?2, 'p', 0.5, ?3, ?4)",
            params![rendered.0, step, json, at],
        )
        .unwrap();
    }
    for (at, score) in [(10, "0.30000000000000004"), (10, "0.75")] {
        let measured = format!("{{\"composition\":{score}}}");
        old.execute(
            "INSERT INTO renders (handle, path, measured, rendered_at) VALUES (?1, 'a', ?2, ?3)",
            params![rendered.0, measured, at],
        )
        .unwrap();
    }
    drop(old);

    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.recall(&rendered).unwrap(), Some(candidate(1)));
    let renders = store.renders(9).unwrap();
    assert_eq!(renders.len(), 2);
    assert_eq!(renders[0].measured["composition"], 0.75);
    assert_eq!((renders[0].chosen_after, &renders[0].told), (5, &None));
    let pairs = store.pairs(Asked::default(), 9).unwrap();
    let steps: Vec<usize> = pairs.iter().map(|p| p.predicted.at_step).collect();
    assert_eq!(steps, [5, 10], "step 1 did not choose it");
    assert_eq!(pairs[0].fingerprint, None);
    assert_eq!(store.scored("weights", "composition").unwrap().len(), 1);
    assert!(store.scored("others", "composition").unwrap().is_empty());
    store
        .remember("weights", &[(rendered, candidate(1))])
        .unwrap();
    let pairs = store.pairs(Asked::default(), 9).unwrap();
    assert_eq!(pairs[0].fingerprint.as_deref(), Some("weights"));
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
                    store
                        .remember("weights", &[(c.handle("weights"), c)])
                        .unwrap();
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
fn a_new_folder_is_opened_by_several_at_once() {
    // One round in thirty failed while the change of the journal's mode was not waited for.
    for _ in 0..100 {
        let folder = tempfile::tempdir().unwrap();
        let together = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    Store::open(folder.path()).unwrap();
                });
            }
        });
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
        store.remember("weights", &[(handle.clone(), c)]).unwrap();
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
