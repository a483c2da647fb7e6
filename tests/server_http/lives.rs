//! What happens around a call: progress, cancellation, a client that vanishes or comes back, and the
//! end of the process.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, Era};
use crate::house::House;

const PROMPT: &str = "a red circle left of a blue square on a white background";
/// Longer than a step takes, far shorter than the work that is given up.
const A_STEP: Duration = Duration::from_secs(5);

fn long_call() -> Value {
    json!({"name": "predict_quality", "arguments": {"prompt": PROMPT, "count": 100},
           "_meta": {"progressToken": "mine"}})
}

#[tokio::test]
async fn progress_rises_from_its_first_to_its_last_and_comes_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    for era in [Era::Session, Era::Stateless] {
        let mut client = Client::start(&house, era).await;
        let call = json!({"name": "predict_quality", "_meta": {"progressToken": "mine"},
                          "arguments": {"prompt": PROMPT, "count": 4}});
        let mut messages = client.ask("tools/call", call).await.1.all().await;
        assert!(messages.pop().unwrap().get("result").is_some());
        let told: Vec<f64> = messages
            .iter()
            .map(|note| note["params"]["progress"].as_f64().unwrap())
            .collect();
        assert!(told.len() >= 2 && told[0] == 0.0, "{told:?}");
        assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        let last = &messages.last().unwrap()["params"];
        assert_eq!(last["progress"], last["total"], "{last}");
    }
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_work_with_it() {
    for era in [Era::Session, Era::Stateless] {
        let folder = tempfile::tempdir().unwrap();
        let house = House::start(folder.path());
        let mut client = Client::start(&house, era).await;
        let (_, mut events) = client.ask("tools/call", long_call()).await;
        events.next().await.unwrap();
        house.busy().await;
        drop((events, client));
        let took = house.idle().await;
        assert!(took < A_STEP, "{era:?}: it worked on for {took:?}");
        let ended =
            house.figure(r#"foreseed_calls_total{tool="predict_quality",outcome="Cancelled"}"#);
        assert_eq!(ended.await, 1.0);
    }
}

#[tokio::test]
async fn a_cancelled_or_deleted_session_frees_its_work() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let mut client = Client::start(&house, Era::Session).await;
    let (id, events) = client.ask("tools/call", long_call()).await;
    house.busy().await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                        "params": {"requestId": id, "reason": "enough"}});
    assert_eq!(client.post(&cancel).send().await.unwrap().status(), 202);
    assert!(house.idle().await < A_STEP);
    let left = events.all().await;
    assert!(left.iter().all(|m| m.get("result").is_none()), "{left:?}");

    let (_, _events) = client.ask("tools/call", long_call()).await;
    house.busy().await;
    client.leave().await;
    assert!(house.idle().await < A_STEP);
}

#[tokio::test]
async fn a_client_of_2025_that_comes_back_in_time_gets_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let mut client = Client::start(&house, Era::Session).await;
    let mut call = long_call();
    call["arguments"]["count"] = json!(12);
    let (id, mut events) = client.ask("tools/call", call).await;
    let first = events.next().await.unwrap().id.expect("no event id");
    house.busy().await;
    drop(events);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let messages = client.come_back(&first).await.all().await;
    let answer = messages.last().expect("nothing came");
    assert_eq!(answer["id"], json!(id), "{answer}");
    assert_ne!(answer["result"]["isError"], true, "{answer}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_that_is_told_to_end_finishes_what_runs() {
    for era in [Era::Session, Era::Stateless] {
        let folder = tempfile::tempdir().unwrap();
        let mut house = House::with(folder.path(), &["--grace-seconds", "100"], &[]);
        let mut client = Client::start(&house, era).await;
        let mut call = long_call();
        call["arguments"]["count"] = json!(12);
        let (_, events) = client.ask("tools/call", call).await;
        house.busy().await;
        house.terminate();
        let answer = events.answer().await;
        assert_eq!(
            answer["result"]["structuredContent"]["complete"], true,
            "{answer}"
        );
        let status = house
            .ended(Duration::from_secs(20))
            .await
            .expect("it stays");
        assert!(status.success(), "{status}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn what_does_not_finish_in_time_is_cancelled_and_told_so() {
    for era in [Era::Session, Era::Stateless] {
        let folder = tempfile::tempdir().unwrap();
        let mut house = House::with(folder.path(), &["--grace-seconds", "0.5"], &[]);
        let mut client = Client::start(&house, era).await;
        let (_, events) = client.ask("tools/call", long_call()).await;
        house.busy().await;
        house.terminate();
        let answer = events.answer().await;
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        let status = house
            .ended(Duration::from_secs(20))
            .await
            .expect("it stays");
        assert!(status.success(), "{status}");
    }
}
