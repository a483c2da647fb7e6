//! The four jobs on the embedded model, end to end.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use foreseed::Error;
use foreseed::candidate::Seed;
use foreseed::engine::{Engine, Limits};
use foreseed::foresight::replies::{PredictReply, RankReply};
use foreseed::foresight::requests::{
    PredictRequest, PredictingSettings, RankRequest, RefineRequest, RenderRequest, RenderWhat,
    SeedChoice, SharedSettings,
};
use foreseed::foresight::{Caller, Foresight, Learned, Progress};
use foreseed::models::{ModelOptions, Models};
use foreseed::store::Store;

const PROMPT: &str = "a red circle left of a blue square on a white background";

fn foresight(folder: &Path) -> Foresight {
    // By name: another model may be installed where the tests run.
    let options = ModelOptions {
        model: Some("pocket".into()),
        ..Default::default()
    };
    let models = Arc::new(Models::discover(options).unwrap());
    Foresight {
        engine: Engine::start(models.clone(), Limits::default()).unwrap(),
        models,
        store: Arc::new(Store::open(folder).unwrap()),
        out: folder.join("pictures"),
        writes: true,
        learned: Some(Learned::default()),
    }
}

fn fresh() -> (Foresight, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (foresight(folder.path()), folder)
}

fn caller() -> Caller {
    Caller {
        cancel: CancellationToken::new(),
        progress: Arc::new(|_| ()),
        patience: None,
    }
}

fn these(seeds: &[u32]) -> SeedChoice {
    SeedChoice {
        seeds: Some(seeds.iter().copied().map(Seed).collect()),
        count: None,
    }
}

fn predict(seeds: &[u32]) -> PredictRequest {
    PredictRequest {
        prompt: PROMPT.into(),
        seeds: these(seeds),
        attention: false,
        settings: PredictingSettings::default(),
    }
}

fn rank(count: u32, budget: Option<u64>) -> RankRequest {
    RankRequest {
        prompt: PROMPT.into(),
        seeds: SeedChoice {
            seeds: None,
            count: Some(count),
        },
        keep: None,
        budget,
        contact_sheet: false,
        settings: PredictingSettings::default(),
    }
}

fn qualities(reply: &PredictReply) -> Vec<(u32, u64)> {
    reply
        .candidates
        .iter()
        .map(|c| (c.seed.0, c.quality.to_bits()))
        .collect()
}

fn seeds_ranked(reply: &RankReply) -> Vec<u32> {
    reply.ranking.iter().map(|r| r.seed.0).collect()
}

#[tokio::test]
async fn a_prediction_depends_on_its_candidate_alone() {
    let (one, _folder) = fresh();
    let together = one.predict(predict(&[9, 2, 5]), &caller()).await.unwrap();
    assert!(together.common.complete);
    assert_eq!(together.candidates.len(), 3);
    let (other, _folder) = fresh();
    let alone = other.predict(predict(&[5]), &caller()).await.unwrap();
    assert_eq!(qualities(&alone)[0], qualities(&together)[2]);
    assert_eq!(alone.candidates[0].handle, together.candidates[2].handle);
}

#[tokio::test]
async fn what_was_predicted_before_is_not_paid_again() {
    let (it, _folder) = fresh();
    let first = it.predict(predict(&[1, 2]), &caller()).await.unwrap();
    let cost = first.common.cost;
    assert_eq!(cost.evaluations, 2 * 5 * 2, "two seeds, five guided steps");
    assert_eq!(cost.full_evaluations, 2 * 25 * 2);
    assert!((cost.saved_fraction - 0.8).abs() < 1e-9);
    let again = it.predict(predict(&[1, 2]), &caller()).await.unwrap();
    assert_eq!(again.common.cost.evaluations, 0);
    assert_eq!(qualities(&again), qualities(&first));
}

#[tokio::test]
async fn every_interval_holds_its_point_and_there_is_none_without_a_probe() {
    let (it, _folder) = fresh();
    let reply = it.predict(predict(&[0, 1, 2]), &caller()).await.unwrap();
    let calibrated = reply.common.calibrated;
    assert_eq!(reply.interval.is_some(), calibrated);
    assert_eq!(reply.prompt_risk.is_some(), calibrated);
    let holds = |interval: Option<[f64; 2]>, point: f64| {
        interval.is_none_or(|[low, high]| (low..=high).contains(&point))
    };
    assert!(holds(reply.interval, reply.expected_quality.unwrap()));
    for candidate in &reply.candidates {
        assert_eq!(candidate.interval.is_some(), calibrated);
        assert!(
            holds(candidate.interval, candidate.quality),
            "{candidate:?}"
        );
        assert!(
            candidate
                .p_good
                .is_none_or(|chance| (0.0..=1.0).contains(&chance))
        );
    }
}

#[tokio::test]
async fn an_impatient_call_goes_on_where_the_last_one_stopped() {
    let (it, _folder) = fresh();
    // The weights are there: the clock is for the steps.
    it.engine.open(it.models.default_name()).await.unwrap();
    let impatient = Caller {
        patience: Some(Duration::from_millis(250)),
        ..caller()
    };
    let seeds: Vec<u32> = (0..12).collect();
    let (mut calls, mut paid) = (0, 0);
    let last = loop {
        let reply = it.predict(predict(&seeds), &impatient).await.unwrap();
        calls += 1;
        paid += reply.common.cost.evaluations;
        assert!(calls < 200, "no call gets further than the one before");
        if reply.common.complete {
            break reply;
        }
        assert!(reply.advice.contains("same arguments"), "{}", reply.advice);
    };
    assert_eq!(last.candidates.len(), seeds.len());
    let all = seeds.len() as u64 * 5 * 2;
    assert_eq!(
        paid, all,
        "in {calls} calls, the steps in flight at their ends included"
    );
    assert_eq!(paid, it.engine.pulse().evaluations);
    let (patient, _folder) = fresh();
    let reply = patient.predict(predict(&seeds), &caller()).await.unwrap();
    assert_eq!(qualities(&reply), qualities(&last));
}

#[tokio::test]
async fn a_cancelled_call_ends_with_that_error() {
    let (it, _folder) = fresh();
    let caller = caller();
    caller.cancel.cancel();
    let outcome = it.predict(predict(&[0]), &caller).await;
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
}

#[tokio::test]
async fn progress_begins_at_nothing_never_falls_and_ends_at_all() {
    let (it, _folder) = fresh();
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let heard = seen.clone();
    let listening = Caller {
        progress: Arc::new(move |progress| heard.lock().unwrap().push(progress)),
        ..caller()
    };
    it.predict(predict(&[0, 1]), &listening).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.first().unwrap().done, 0);
    let last = seen.last().unwrap();
    assert_eq!(
        (last.done, last.of),
        (11, 11),
        "two seeds, five steps, and the model"
    );
    assert!(seen.windows(2).all(|pair| pair[0].done <= pair[1].done));
    assert!(seen.len() >= 12, "a report a step");
}

#[tokio::test]
async fn a_race_keeps_to_its_budget_and_ranks_every_seed_once() {
    // Every seed once to step 5, and more, up to a race that may take it further.
    for budget in [80, 81, 100, 160] {
        let (it, _folder) = fresh();
        let reply = it.rank(rank(8, Some(budget)), &caller()).await.unwrap();
        assert!(
            reply.common.cost.evaluations <= budget,
            "{budget}: {:?}",
            reply.common.cost
        );
        let mut seeds = seeds_ranked(&reply);
        seeds.sort_unstable();
        assert_eq!(seeds, (0..8).collect::<Vec<_>>());
        let ranks: Vec<u32> = reply.ranking.iter().map(|r| r.rank).collect();
        assert_eq!(ranks, (1..=8).collect::<Vec<_>>());
    }
    let (it, _folder) = fresh();
    let too_little = it.rank(rank(8, Some(7)), &caller()).await.unwrap_err();
    let text = too_little.to_string();
    assert!(
        text.starts_with("budget: 7") && text.contains("at least"),
        "{text}"
    );
}

#[tokio::test]
async fn the_same_race_has_the_same_ranking_whatever_is_kept() {
    let (it, folder) = fresh();
    let first = it.rank(rank(6, None), &caller()).await.unwrap();
    let again = it.rank(rank(6, None), &caller()).await.unwrap();
    assert_eq!(again.common.cost.evaluations, 0);
    assert_eq!(again.ranking, first.ranking);
    drop(it);
    let restarted = foresight(folder.path());
    let later = restarted.rank(rank(6, None), &caller()).await.unwrap();
    assert_eq!(later.ranking, first.ranking);
}

#[tokio::test]
async fn a_race_begins_where_its_seeds_were_predicted() {
    let (it, _folder) = fresh();
    let seeds: Vec<u32> = (0..6).collect();
    let predicted = it.predict(predict(&seeds), &caller()).await.unwrap();
    let reply = it.rank(rank(6, None), &caller()).await.unwrap();
    // Nobody is sent back to an earlier step: only the first may have gone on.
    assert!(reply.ranking.iter().all(|r| r.stopped_at_step >= 5));
    let further = reply.ranking.iter().filter(|r| r.stopped_at_step > 5);
    let steps: u32 = further.map(|r| r.stopped_at_step - 5).sum();
    assert!(
        reply.common.cost.evaluations <= 2 * u64::from(steps),
        "{:?}",
        reply.common.cost
    );
    for ranked in reply.ranking.iter().filter(|r| r.stopped_at_step == 5) {
        let said = predicted.candidates.iter().find(|c| c.seed == ranked.seed);
        assert_eq!(said.unwrap().quality, ranked.quality);
    }
}

#[tokio::test]
async fn where_all_are_kept_all_are_judged_at_the_step_of_predictions() {
    let (it, _folder) = fresh();
    let mut request = rank(3, None);
    request.keep = Some(3);
    let reply = it.rank(request.clone(), &caller()).await.unwrap();
    assert!(reply.ranking.iter().all(|r| r.stopped_at_step == 5));
    assert!(!reply.next.contains("clear of the rest"), "{}", reply.next);
    // Where the budget does not take them there, as far as it does.
    request.seeds.count = Some(4);
    request.keep = Some(4);
    request.budget = Some(4 * 3 * 2 + 1);
    let (it, _folder) = fresh();
    let reply = it.rank(request, &caller()).await.unwrap();
    assert!(reply.ranking.iter().all(|r| r.stopped_at_step == 3));
    assert!(reply.common.cost.evaluations <= 25);
}

#[tokio::test]
async fn two_contact_sheets_do_not_take_each_others_place() {
    let (it, _folder) = fresh();
    let mut request = rank(4, None);
    request.contact_sheet = true;
    let short = it.rank(request.clone(), &caller()).await.unwrap();
    request.keep = Some(4);
    let long = it.rank(request, &caller()).await.unwrap();
    let (short, long) = (short.contact_sheet.unwrap(), long.contact_sheet.unwrap());
    assert_ne!(short, long);
    assert!(short.is_file() && long.is_file());
    // Every seed is to be seen, also one that was judged half-way into its first step.
    let sheet = image::open(short).unwrap().to_rgb8();
    let gray = sheet.pixels().filter(|p| p.0 == [128, 128, 128]).count();
    assert!(gray * 20 < sheet.pixels().len(), "{gray} gray pixels");
}

#[tokio::test]
async fn a_contact_sheet_is_within_the_budget_too() {
    let (it, folder) = fresh();
    let mut request = rank(4, Some(60));
    request.contact_sheet = true;
    let reply = it.rank(request.clone(), &caller()).await.unwrap();
    assert!(reply.common.cost.evaluations <= 60);
    assert!(reply.contact_sheet.unwrap().is_file());
    drop(it);
    // The predictions are known and the latents are gone.
    let reply = foresight(folder.path())
        .rank(request, &caller())
        .await
        .unwrap();
    assert!(reply.common.cost.evaluations <= 60);
    assert!(reply.contact_sheet.unwrap().is_file());
}

#[tokio::test]
async fn a_render_resumes_and_its_handle_outlives_a_restart() {
    let (it, folder) = fresh();
    let predicted = it.predict(predict(&[3]), &caller()).await.unwrap();
    let request = RenderRequest {
        what: RenderWhat::Handle(predicted.candidates[0].handle.clone()),
        settings: SharedSettings::default(),
        rating: None,
    };
    let resumed = it.render(request.clone(), &caller()).await.unwrap();
    assert_eq!(resumed.resumed_from_step, 5);
    assert_eq!(resumed.common.cost.evaluations, 20 * 2);
    assert_eq!(resumed.predicted, Some(predicted.candidates[0].quality));
    assert!((0.0..=1.0).contains(&resumed.measured["composition"]));
    let picture = image::open(resumed.path.unwrap()).unwrap();
    drop(it);
    let restarted = foresight(folder.path());
    let anew = restarted.render(request, &caller()).await.unwrap();
    assert_eq!(anew.resumed_from_step, 0);
    assert_eq!(anew.predicted, resumed.predicted);
    assert_eq!(image::open(anew.path.unwrap()).unwrap(), picture);
}

#[tokio::test]
async fn a_render_that_nobody_foresaw_is_predicted_on_the_way() {
    let (it, _folder) = fresh();
    let request = RenderRequest {
        what: RenderWhat::Candidate {
            prompt: PROMPT.into(),
            seed: Seed(7),
        },
        settings: SharedSettings::default(),
        rating: None,
    };
    let reply = it.render(request, &caller()).await.unwrap();
    assert_eq!(reply.common.cost.evaluations, 25 * 2);
    let predicted = it.predict(predict(&[7]), &caller()).await.unwrap();
    if reply.common.calibrated {
        assert_eq!(predicted.common.cost.evaluations, 0, "it was kept");
        assert_eq!(reply.predicted, Some(predicted.candidates[0].quality));
    } else {
        assert_eq!(reply.predicted, None, "nobody can say");
    }
}

#[tokio::test]
async fn the_original_wording_always_competes_on_the_same_seeds() {
    let (it, _folder) = fresh();
    let mut request = RefineRequest {
        prompt: "red circle, blue square".into(),
        variants: Some(vec!["a red circle and a blue square".into()]),
        count: Some(2),
        rounds: None,
        settings: PredictingSettings::default(),
    };
    let reply = it.refine(request.clone(), &caller()).await.unwrap();
    assert_eq!(reply.tried.len(), 2);
    assert_eq!(reply.tried[0].prompt, request.prompt);
    let gain = reply.tried[1].expected_quality - reply.tried[0].expected_quality;
    // What may be the seeds' luck is not promised, and next to nothing is not worth a change.
    let taken = usize::from(reply.best.gain > 0.0);
    assert_eq!(reply.best.prompt, reply.tried[taken].prompt);
    assert!((reply.best.gain - gain.max(0.0)).abs() < 0.03, "{gain}");
    if taken == 1 {
        assert!((reply.best.gain - gain).abs() < 1e-9, "{gain}");
    }

    request.variants = None;
    let own = it.refine(request.clone(), &caller()).await.unwrap();
    assert!(own.tried.len() > 3, "rewrites of its own: {:?}", own.tried);

    request.variants = Some(vec!["a photo of a cat".into()]);
    let error = it.refine(request, &caller()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("variants:") && error.contains("cat"),
        "{error}"
    );
}

#[tokio::test]
async fn rewording_looks_early_and_undoes_nothing() {
    let (it, _folder) = fresh();
    let seeds: Vec<u32> = (0..8).collect();
    let before = it.predict(predict(&seeds), &caller()).await.unwrap();
    let request = RefineRequest {
        prompt: PROMPT.into(),
        variants: None,
        count: None,
        rounds: None,
        settings: PredictingSettings::default(),
    };
    let reply = it.refine(request.clone(), &caller()).await.unwrap();
    assert!(reply.tried.len() > 4, "{:?}", reply.tried);
    // What the prompt's own seeds come to is known: they are looked at after the first step, like the
    // other wordings, of which some go on, on 16 seeds at most.
    let others = reply.tried.len() as u64 - 1;
    let (look, trial) = (8 * 2, 10);
    let least = (1 + others) * look;
    let most = least + 8 * trial + others * (16 * trial - look);
    let spent = reply.common.cost.evaluations;
    assert!(least < spent && spent < most, "{least} < {spent} < {most}");
    let again = it.refine(request, &caller()).await.unwrap();
    assert_eq!(again.common.cost.evaluations, 0);
    assert_eq!(
        (again.best, again.tried),
        (reply.best.clone(), reply.tried.clone())
    );
    // All are told as they compare.
    for tried in &reply.tried {
        let [low, high] = tried.interval.unwrap();
        assert!((low..=high).contains(&tried.expected_quality), "{tried:?}");
    }
    let expected = reply.tried[0].expected_quality;
    let [low, high] = before.interval.unwrap();
    // Of more seeds, perhaps.
    assert!(
        (low..=high).contains(&expected),
        "{low} ≤ {expected} ≤ {high}"
    );

    let render = RenderRequest {
        what: RenderWhat::Handle(before.candidates[0].handle.clone()),
        settings: SharedSettings::default(),
        rating: None,
    };
    let rendered = it.render(render, &caller()).await.unwrap();
    assert_eq!(rendered.resumed_from_step, 5);
}

#[tokio::test]
async fn where_no_probe_fits_nothing_is_promised() {
    let (it, _folder) = fresh();
    let mut request = predict(&[0, 1]);
    request.settings.shared.steps = Some(7);
    let reply = it.predict(request, &caller()).await.unwrap();
    assert!(!reply.common.calibrated);
    assert_eq!(reply.common.metric, "attention");
    assert_eq!((reply.interval, reply.prompt_risk), (None, None));
    assert!(
        reply
            .candidates
            .iter()
            .all(|c| c.interval.is_none() && c.p_good.is_none())
    );
    assert!(reply.advice.contains("No probe fits"), "{}", reply.advice);
}

#[tokio::test]
async fn bad_arguments_are_refused_before_any_work() {
    let (it, _folder) = fresh();
    let refuse = async |change: &dyn Fn(&mut PredictRequest)| {
        let mut request = predict(&[0]);
        change(&mut request);
        it.predict(request, &caller())
            .await
            .unwrap_err()
            .to_string()
    };
    let error = refuse(&|r| r.settings.shared.model = Some("../../etc/passwd".into())).await;
    assert!(
        error.starts_with("model:") && error.contains("pocket"),
        "{error}"
    );
    let error = refuse(&|r| r.settings.metric = Some("beauty".into())).await;
    assert!(
        error.starts_with("metric:") && error.contains("Known: "),
        "{error}"
    );
    let error = refuse(&|r| r.prompt = "a photo of a cat".into()).await;
    assert!(error.contains("cat") && error.contains("pocket"), "{error}");
    let error = refuse(&|r| r.settings.at_step = Some(25)).await;
    assert!(
        error.starts_with("at_step:") && error.contains("25"),
        "{error}"
    );
}
