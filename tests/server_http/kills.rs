//! A power cut in the middle of renders, predictions and collections, again and again over the same
//! records: nothing is half-written, and nothing is lost that was answered.
//!
//! `FORESEED_KILLS=50` cuts that often; without it a few times.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Era};
use crate::house::{House, PATIENCE};

const PROMPT: &str = "a green star right of a pink ring";

/// What was answered before a cut.
#[derive(Default)]
struct Answered {
    /// Arguments of predictions, and what was predicted.
    predictions: Vec<(Value, Value)>,
    pictures: Vec<PathBuf>,
}

fn kills() -> u32 {
    let asked = std::env::var("FORESEED_KILLS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(6)
}

/// Renders and predicts at once until the process is killed, `moment` after so many answers as the
/// round says, on however slow a machine.
async fn served_until_killed(data: &Path, round: u32, moment: Duration, kept: &mut Answered) {
    let mut house = House::start(data);
    let mut lives = tokio::task::JoinSet::new();
    let answers = Arc::new(AtomicU32::new(0));
    for client_number in 0..4 {
        let mut client = Client::start(&house, Era::Stateless).await;
        let answers = Arc::clone(&answers);
        lives.spawn(async move {
            let mut answered = Answered::default();
            for call in 0.. {
                let seed = round * 1000 + client_number * 100 + call;
                let (tool, arguments) = match client_number {
                    0 | 1 => ("render", json!({"prompt": PROMPT, "seed": seed})),
                    _ => (
                        "predict_quality",
                        json!({"prompt": PROMPT, "seeds": [seed]}),
                    ),
                };
                let params = json!({"name": tool, "arguments": arguments});
                let message = client.message("tools/call", params);
                let Some(answer) = answer_of(&client, &message).await else {
                    return answered;
                };
                let reply = &answer["result"]["structuredContent"];
                if reply["complete"] != json!(true) {
                    continue;
                }
                answers.fetch_add(1, Ordering::Relaxed);
                match reply["path"].as_str() {
                    Some(path) => answered.pictures.push(path.into()),
                    None => {
                        let predicted = reply["candidates"].clone();
                        answered.predictions.push((arguments, predicted));
                    }
                }
            }
            answered
        });
    }
    let until = Instant::now() + PATIENCE;
    while answers.load(Ordering::Relaxed) < round % 5 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(moment).await;
    house.kill();
    while let Some(answered) = lives.join_next().await {
        let answered = answered.unwrap();
        kept.predictions.extend(answered.predictions);
        kept.pictures.extend(answered.pictures);
    }
}

/// The last message of an answer, if it arrives whole.
async fn answer_of(client: &Client, message: &Value) -> Option<Value> {
    let text = client.post(message).send().await.ok()?.text().await.ok()?;
    let line = text.lines().rfind(|line| line.starts_with("data: {"));
    serde_json::from_str(line.map_or(&*text, |line| &line["data: ".len()..])).ok()
}

/// Collects until the process is killed after `lifetime`.
async fn collected_until_killed(data: &Path, folder: &Path, lifetime: Duration) {
    let mut collecting = collect(data, folder).spawn().unwrap();
    tokio::time::sleep(lifetime).await;
    // It may have come to its end.
    let _ = collecting.kill();
    collecting.wait().unwrap();
}

fn collect(data: &Path, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreseed"));
    command
        .args([
            "probe", "collect", "--scenes", "6", "--seeds", "2", "--at", "1,2",
        ])
        .args(["--data".as_ref(), data.as_os_str()])
        .args(["--out".as_ref(), folder.as_os_str()])
        .env_remove("FORESEED_DATA")
        .stderr(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Every picture can be read, and the database is sound.
fn nothing_is_half_written(data: &Path) {
    for file in std::fs::read_dir(data.join("pictures"))
        .into_iter()
        .flatten()
    {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "png") {
            image::open(&path)
                .unwrap_or_else(|e| panic!("{} is half written: {e}", path.display()));
        }
    }
    for file in std::fs::read_dir(data).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_some_and(|kind| kind == "sqlite" || kind == "db")
        {
            let records = rusqlite::Connection::open(&path).unwrap();
            let sound: String = records
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .unwrap();
            assert_eq!(sound, "ok", "{}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_lose_nothing_that_was_answered_and_leave_nothing_half_written() {
    let data = tempfile::tempdir().unwrap();
    let collection = tempfile::tempdir().unwrap();
    let mut kept = Answered::default();
    let kills = kills();
    for round in 0..kills {
        let moment = Duration::from_millis(u64::from((round * 613) % 700));
        match round % 3 {
            2 => collected_until_killed(data.path(), collection.path(), moment * 4).await,
            _ => served_until_killed(data.path(), round, moment, &mut kept).await,
        }
        nothing_is_half_written(data.path());
    }
    for picture in &kept.pictures {
        assert!(
            image::open(picture).is_ok(),
            "{} was answered",
            picture.display()
        );
    }
    let house = House::start(data.path());
    let mut client = Client::start(&house, Era::Session).await;
    for (arguments, predicted) in &kept.predictions {
        let again = client.done("predict_quality", arguments.clone()).await;
        assert_eq!(again["cost"]["evaluations"], 0, "{arguments} was forgotten");
        assert_eq!(again["candidates"][0]["handle"], predicted[0]["handle"]);
    }
    assert!(
        collect(data.path(), collection.path())
            .status()
            .unwrap()
            .success()
    );
    println!(
        "{kills} kills: {} pictures and {} predictions were answered, and all are there",
        kept.pictures.len(),
        kept.predictions.len()
    );
}
