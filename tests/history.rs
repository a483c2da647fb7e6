//! What was rendered here corrects what is predicted here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use foreseed::candidate::{Candidate, Seed, Settings};
use foreseed::engine::{Engine, Limits};
use foreseed::foresight::replies::PredictReply;
use foreseed::foresight::requests::{
    PredictRequest, PredictingSettings, RenderRequest, RenderWhat, SeedChoice, SharedSettings,
};
use foreseed::foresight::{Caller, Foresight, Learned};
use foreseed::models::{ModelOptions, Models, POCKET};
use foreseed::probe::collect::Order;
use foreseed::probe::prompts::Source;
use foreseed::probe::recalibration::ENOUGH;
use foreseed::probe::revisit::{Known, Revisit};
use foreseed::probe::shard::{Collected, Group};
use foreseed::probe::{Prediction, Probe};
use foreseed::scorers::Composition;
use foreseed::store::{Asked, PredictionRecord, RenderRecord, Store};
use foreseed::world::Split;

const PROMPT: &str = "a red circle left of a blue square on a white background";
const METRIC: &str = "composition";

fn foresight(folder: &Path, learns: bool) -> Foresight {
    let options = ModelOptions {
        model: Some(POCKET.into()),
        ..Default::default()
    };
    let models = Arc::new(Models::discover(options).unwrap());
    Foresight {
        engine: Engine::start(models.clone(), Limits::default()).unwrap(),
        models,
        store: Arc::new(Store::open(folder).unwrap()),
        out: folder.join("pictures"),
        writes: true,
        learned: learns.then(Learned::default),
    }
}

fn fresh() -> (Foresight, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (foresight(folder.path(), true), folder)
}

fn caller() -> Caller {
    Caller {
        cancel: CancellationToken::new(),
        progress: Arc::new(|_| ()),
        patience: None,
    }
}

fn request(guidance: Option<f64>, seeds: &[u32]) -> PredictRequest {
    PredictRequest {
        prompt: PROMPT.into(),
        seeds: SeedChoice {
            seeds: Some(seeds.iter().copied().map(Seed).collect()),
            count: None,
        },
        attention: false,
        settings: PredictingSettings {
            shared: SharedSettings {
                guidance,
                ..Default::default()
            },
            ..Default::default()
        },
    }
}

fn probe(it: &Foresight) -> Arc<Probe> {
    let probes = it.models.probes_of(POCKET).unwrap();
    let probe = probes.iter().find(|p| p.card().metric == METRIC);
    probe.expect("pocket ships a probe").clone()
}

/// Puts renders of other prompts into the records, each predicted a little differently at every step
/// and measured as `measured` says of its place.
fn rendered(it: &Foresight, guidance: f64, n: usize, measured: impl Fn(usize) -> f64) {
    let probe = probe(it);
    let card = probe.card();
    for i in 0..n {
        let candidate = Candidate {
            prompt: format!("prompt {i}"),
            seed: Seed(i as u32),
            settings: Settings {
                model: POCKET.into(),
                negative_prompt: None,
                steps: card.steps,
                guidance,
                width: card.width,
                height: card.height,
            },
        };
        let handle = candidate.handle(&card.model_fingerprint);
        let named = [(handle.clone(), candidate)];
        it.store.remember(&card.model_fingerprint, &named).unwrap();
        let quality = 0.3 + 0.4 * (i as f64 / n as f64);
        let records: Vec<PredictionRecord> = card
            .at_steps
            .iter()
            .map(|&at_step| PredictionRecord {
                handle: handle.clone(),
                metric: METRIC.into(),
                at_step,
                probe: card.id.clone(),
                prediction: Prediction {
                    quality,
                    interval: Some([quality - 0.2, quality + 0.2]),
                    p_good: Some(quality),
                    word_risks: Vec::new(),
                },
            })
            .collect();
        it.store.keep_predictions(&records).unwrap();
        it.store
            .keep_render(&RenderRecord {
                handle,
                path: "nowhere".into(),
                measured: BTreeMap::from([(METRIC.into(), measured(i))]),
                rendered_at: 1,
                chosen_after: 0,
                told: None,
            })
            .unwrap();
    }
}

fn qualities(reply: &PredictReply) -> Vec<f64> {
    reply.candidates.iter().map(|c| c.quality).collect()
}

#[tokio::test]
async fn renders_that_came_out_worse_than_foreseen_lower_what_is_foreseen() {
    let (it, folder) = fresh();
    let own = it
        .predict(request(None, &[0, 1, 2]), &caller())
        .await
        .unwrap();
    assert!(own.common.calibrated);
    let guidance = probe(&it).card().guidance;
    rendered(&it, guidance, ENOUGH - 1, |_| 0.0);
    let few = it
        .predict(request(None, &[0, 1, 2]), &caller())
        .await
        .unwrap();
    assert_eq!(qualities(&few), qualities(&own), "too few to go by");

    rendered(&it, guidance, 60, |_| 0.0);
    let corrected = it
        .predict(request(None, &[0, 1, 2]), &caller())
        .await
        .unwrap();
    for (now, before) in corrected.candidates.iter().zip(&own.candidates) {
        assert!(now.quality <= before.quality, "{now:?} {before:?}");
        assert!(now.p_good < before.p_good, "{now:?} {before:?}");
        let [low, high] = now.interval.unwrap();
        assert!((low..=high).contains(&now.quality), "{now:?}");
    }
    let sum = |reply: &PredictReply| qualities(reply).iter().sum::<f64>();
    assert!(sum(&corrected) < sum(&own) - 0.1, "{corrected:?}");

    // What is kept is the probe's own, so the correction is not fitted to itself.
    let again = it
        .predict(request(None, &[0, 1, 2]), &caller())
        .await
        .unwrap();
    assert_eq!(again.candidates, corrected.candidates);

    // What another process renders counts as well.
    let other = foresight(folder.path(), true);
    rendered(&other, guidance, 90, |_| 1.0);
    let risen = it
        .predict(request(None, &[0, 1, 2]), &caller())
        .await
        .unwrap();
    assert!(sum(&risen) > sum(&corrected), "{risen:?}");
    drop(it);
    let shipped = foresight(folder.path(), false);
    let without = shipped
        .predict(request(None, &[0, 1, 2]), &caller())
        .await
        .unwrap();
    assert_eq!(without.candidates, own.candidates);
}

#[tokio::test]
async fn a_candidate_does_not_depend_on_its_company_with_a_history_either() {
    let (it, _folder) = fresh();
    rendered(&it, probe(&it).card().guidance, 40, |i| (i % 2) as f64);
    let together = it.predict(request(None, &[5, 6, 7]), &caller()).await;
    let together = together.unwrap().candidates;
    let (other, _folder) = fresh();
    rendered(&other, probe(&it).card().guidance, 40, |i| (i % 2) as f64);
    let alone = other.predict(request(None, &[6]), &caller()).await;
    assert_eq!(alone.unwrap().candidates[0], together[1]);
}

#[tokio::test]
async fn another_guidance_is_calibrated_by_renders_with_it() {
    let (it, folder) = fresh();
    let other = probe(&it).card().guidance / 2.0;
    let ask = || request(Some(other), &[0, 1]);
    let at_first = it.predict(ask(), &caller()).await.unwrap();
    assert!(!at_first.common.calibrated);
    assert_eq!(at_first.common.metric, METRIC, "the probe's own metric");
    assert!(
        at_first
            .candidates
            .iter()
            .all(|c| c.interval.is_none() && c.p_good.is_none())
    );
    let advice = &at_first.advice;
    assert!(advice.contains("guidance") && advice.contains(&ENOUGH.to_string()));

    // Renders with the probe's own guidance say nothing of this one.
    rendered(&it, probe(&it).card().guidance, 60, |_| 0.0);
    let unmoved = it.predict(ask(), &caller()).await.unwrap();
    assert_eq!(unmoved.candidates, at_first.candidates);

    rendered(&it, other, 60, |i| (i % 2) as f64);
    let later = it.predict(ask(), &caller()).await.unwrap();
    assert!(later.common.calibrated, "{}", later.advice);
    assert!(
        later
            .candidates
            .iter()
            .all(|c| c.interval.is_some() && c.p_good.is_some())
    );
    drop(it);
    let shipped = foresight(folder.path(), false);
    let without = shipped.predict(ask(), &caller()).await.unwrap();
    assert_eq!(without.candidates, at_first.candidates);
}

#[tokio::test]
async fn every_render_is_held_against_its_predictions_from_the_choice_on() {
    let (it, _folder) = fresh();
    let steps = probe(&it).card().at_steps.clone();
    let render = |seed: u32| RenderRequest {
        what: RenderWhat::Candidate {
            prompt: PROMPT.into(),
            seed: Seed(seed),
        },
        settings: SharedSettings::default(),
        rating: None,
    };
    it.render(render(0), &caller()).await.unwrap();
    let paired = |at_step| {
        let asked = Asked {
            metric: Some(METRIC),
            at_step: Some(at_step),
            ..Default::default()
        };
        it.store.paired(asked).unwrap()
    };
    assert!(steps.iter().all(|&s| paired(s) == 1), "at every step");
    it.predict(request(None, &[1]), &caller()).await.unwrap();
    it.render(render(1), &caller()).await.unwrap();
    for &step in &steps {
        assert_eq!(paired(step), if step < 5 { 1 } else { 2 }, "step {step}");
    }
    let listed = it.list_models().unwrap();
    let pocket = listed.models.iter().find(|m| m.name == POCKET).unwrap();
    assert_eq!(pocket.probes[0].local_renders, 2);
}

#[test]
fn a_second_look_sees_what_the_first_saw_and_follows_the_scores() {
    let models = Models::discover(ModelOptions {
        model: Some(POCKET.into()),
        ..Default::default()
    })
    .unwrap();
    let backbone = models.load(POCKET).unwrap();
    let facts = backbone.facts();
    let settings = Settings {
        model: POCKET.into(),
        negative_prompt: None,
        steps: 4,
        guidance: facts.default_guidance,
        width: facts.default_width,
        height: facts.default_height,
    };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let source = Source::world(Split::Train, 2, 7);
    Order {
        backbone: backbone.as_ref(),
        scorers: &[Arc::new(Composition)],
        settings: &settings,
        at_steps: &[1, 3],
        seeds: 2,
        seed: 5,
        tap: &facts.default_tap,
        source: &source,
        decoding: Default::default(),
        share: foreseed::probe::claims::Share::WHOLE,
    }
    .collect(&first, &|_| ())
    .unwrap();
    let first = Collected::read(&[first]).unwrap();
    let mut known: Vec<Known> = Vec::new();
    for group in &first.groups {
        known.extend(
            group
                .seeds
                .iter()
                .zip(&group.scores)
                .map(|(seed, score)| Known {
                    prompt: group.prompt.clone(),
                    seed: Seed(*seed),
                    score: *score,
                    picture: None,
                }),
        );
    }
    let revisit = Revisit {
        backbone: backbone.as_ref(),
        settings: &settings,
        manifest: &first.manifest,
        besides: BTreeMap::new(),
        scorer: &|metric| models.scorer(metric),
    };
    revisit.collect(&known, &second, &|| ()).unwrap();
    let again = Collected::read(std::slice::from_ref(&second)).unwrap();
    for group in &first.groups {
        let same = again.groups.iter().find(|g| g.prompt == group.prompt);
        let same = same.expect("every prompt");
        assert_eq!((&same.scene, &same.scores), (&group.scene, &group.scores));
        for seed in 0..2 {
            for step in 0..2 {
                let seen = |g: &Group| g.features(seed, step).unwrap().seen;
                assert_eq!(seen(same), seen(group));
            }
        }
    }

    known[0].score = 0.125;
    known.truncate(2);
    revisit.collect(&known, &second, &|| ()).unwrap();
    let changed = Collected::read(&[second]).unwrap();
    assert_eq!(
        changed.groups.len(),
        1,
        "what is not known any more is gone"
    );
    assert!(changed.groups[0].scores.contains(&0.125));

    let refusal = revisit.is_enough(&known).unwrap_err().to_string();
    assert!(
        refusal.contains("2 in all") && refusal.contains("missing"),
        "{refusal}"
    );
}
