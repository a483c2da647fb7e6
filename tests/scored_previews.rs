//! A model that is not pocket, with scorers that have no verdicts: what an agent gets before any probe
//! is trained, and the way to one. The model and the scorers are tiny random ones of the goldens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use foreseed::candidate::{Seed, Settings};
use foreseed::engine::{Engine, Limits};
use foreseed::foresight::requests::{
    PredictRequest, PredictingSettings, RankRequest, RenderRequest, RenderWhat, SeedChoice,
    SharedSettings,
};
use foreseed::foresight::{Caller, Foresight, Learned};
use foreseed::models::{ModelOptions, Models};
use foreseed::probe::collect::{Kept, Order};
use foreseed::probe::fit::FitOptions;
use foreseed::probe::prompts::Source;
use foreseed::probe::shard::Collected;
use foreseed::probe::train::{TrainOptions, train};
use foreseed::store::Store;

const PROMPT: &str = "a red circle left of a blue square";
const STEPS: usize = 3;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn models(probes: &Path) -> Arc<Models> {
    let scorers = ["pickscore", "clipscore", "imagereward"];
    let folder = |metric: &str| goldens().join("scorers").join(metric);
    let options = ModelOptions {
        model: Some(goldens().join("sdxl/epsilon").display().to_string()),
        probes: Some(probes.to_path_buf()),
        scorers: scorers.map(|m| (m.to_string(), folder(m))).into(),
        ..ModelOptions::default()
    };
    Arc::new(Models::discover(options).unwrap())
}

fn foresight(folder: &Path) -> Foresight {
    let models = models(folder);
    Foresight {
        engine: Engine::start(models.clone(), Limits::default()).unwrap(),
        models,
        store: Arc::new(Store::open(folder).unwrap()),
        out: folder.join("pictures"),
        writes: true,
        learned: Some(Learned::default()),
    }
}

fn caller() -> Caller {
    Caller {
        cancel: CancellationToken::new(),
        progress: Arc::new(|_| ()),
        patience: None,
    }
}

fn by(metric: &str) -> PredictingSettings {
    PredictingSettings {
        shared: SharedSettings {
            steps: Some(STEPS as u32),
            ..SharedSettings::default()
        },
        at_step: None,
        metric: Some(metric.into()),
    }
}

fn predict(metric: &str) -> PredictRequest {
    PredictRequest {
        prompt: PROMPT.into(),
        seeds: SeedChoice {
            seeds: Some([3, 4, 5].map(Seed).into()),
            count: None,
        },
        attention: false,
        settings: by(metric),
    }
}

#[tokio::test]
async fn before_any_probe_a_scorer_judges_the_preview_and_attention_the_words() {
    let folder = tempfile::tempdir().unwrap();
    let it = foresight(folder.path());
    let attention = it.predict(predict("attention"), &caller()).await.unwrap();
    for metric in ["pickscore", "imagereward"] {
        let reply = it.predict(predict(metric), &caller()).await.unwrap();
        assert_eq!(reply.common.metric, metric);
        assert!(!reply.common.calibrated && reply.common.complete);
        assert_eq!((reply.interval, reply.prompt_risk), (None, None));
        assert!(reply.advice.contains("early preview"), "{}", reply.advice);
        // The words are attention's, the figures the scorer's own.
        assert_eq!(reply.weak_words, attention.weak_words);
        let said: Vec<f64> = reply.candidates.iter().map(|c| c.quality).collect();
        assert!(said[0] != said[1] && said[1] != said[2], "{said:?}");
        assert!(
            said.iter()
                .zip(&attention.candidates)
                .all(|(s, a)| *s != a.quality)
        );
        assert!(reply.candidates.iter().all(|c| c.p_good.is_none()));
        let again = it.predict(predict(metric), &caller()).await.unwrap();
        assert_eq!(again.candidates, reply.candidates);
    }
    let ranked = RankRequest {
        prompt: PROMPT.into(),
        seeds: predict("pickscore").seeds,
        keep: None,
        budget: None,
        contact_sheet: false,
        settings: by("pickscore"),
    };
    let ranked = it.rank(ranked, &caller()).await.unwrap();
    let qualities: Vec<f64> = ranked.ranking.iter().map(|r| r.quality).collect();
    assert!(qualities.is_sorted_by(|a, b| a >= b), "{qualities:?}");

    let refused = it.predict(predict("beauty"), &caller()).await.unwrap_err();
    assert!(refused.to_string().contains("imagereward"), "{refused}");
}

#[tokio::test]
async fn a_render_is_measured_by_what_is_predicted_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let it = foresight(folder.path());
    let request = RenderRequest {
        what: RenderWhat::Candidate {
            prompt: PROMPT.into(),
            seed: Seed(3),
        },
        settings: by("pickscore").shared,
        rating: None,
    };
    let reply = it.render(request, &caller()).await.unwrap();
    let picture = image::open(reply.path.unwrap()).unwrap().to_rgb8();
    let metric = reply.common.metric;
    let scorer = it.models.scorer(&metric).unwrap();
    let score = scorer.score(PROMPT, &picture).unwrap().value;
    assert_eq!(reply.measured, BTreeMap::from([(metric, score)]));
}

fn collect(folder: &Path, models: &Models, metrics: &[&str]) -> foreseed::Result<Kept> {
    let backbone = models.load(models.default_name())?;
    let facts = backbone.facts();
    let settings = Settings {
        model: models.default_name().into(),
        negative_prompt: None,
        steps: STEPS,
        guidance: facts.default_guidance,
        width: facts.default_width,
        height: facts.default_height,
    };
    let prompts = folder.with_extension("txt");
    let lines: Vec<String> = (0..30).map(|i| format!("star {i} above a heart")).collect();
    std::fs::write(&prompts, lines.join("\n")).unwrap();
    let scorers = metrics.iter().map(|metric| models.scorer(metric));
    let scorers = scorers.collect::<foreseed::Result<Vec<_>>>()?;
    let order = Order {
        backbone: backbone.as_ref(),
        scorers: &scorers,
        settings: &settings,
        at_steps: &[1],
        seeds: 2,
        seed: 5,
        tap: &facts.default_tap,
        source: &Source::file(&prompts)?,
        decoding: Default::default(),
        share: foreseed::probe::claims::Share::WHOLE,
    };
    order.collect(folder, &|_| ())
}

#[test]
fn several_metrics_are_collected_at_once_and_a_probe_learns_any_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (both, one) = (folder.path().join("both"), folder.path().join("one"));
    let models = models(folder.path());
    collect(&both, &models, &["pickscore", "clipscore"]).unwrap();
    collect(&one, &models, &["clipscore"]).unwrap();

    // What is read by a metric is what would have been collected by it alone.
    let alone = Collected::read(std::slice::from_ref(&one)).unwrap();
    let picked = Collected::read_by(std::slice::from_ref(&both), Some("clipscore")).unwrap();
    assert_eq!(alone.manifest, picked.manifest);
    for (alone, picked) in alone.groups.iter().zip(&picked.groups) {
        assert_eq!(alone.scores, picked.scores);
        assert_eq!(alone.words_wrong, picked.words_wrong);
        assert!(alone.words_wrong.iter().flatten().all(Option::is_none));
        for seed in 0..2 {
            let seen = |g: &foreseed::probe::shard::Group| g.features(seed, 0).unwrap().seen;
            assert_eq!(seen(alone), seen(picked));
        }
    }
    let first = Collected::read(std::slice::from_ref(&both)).unwrap();
    assert_eq!(first.manifest.metric, "pickscore");
    assert_ne!(first.groups[0].scores, picked.groups[0].scores);
    // Previews of an unbounded metric reach the networks in deviations.
    assert!(first.layout().unwrap().preview_scale.is_some());

    let error = Collected::read_by(std::slice::from_ref(&both), Some("imagereward"));
    let error = error.err().unwrap().to_string();
    assert!(error.contains("pickscore, clipscore"), "{error}");
    let error = collect(&both, &models, &["pickscore"]).unwrap_err();
    assert!(error.to_string().contains("also"), "{error}");

    let options = TrainOptions {
        networks: 1,
        fit: FitOptions {
            epochs: 1,
            ..FitOptions::default()
        },
        range: None,
        checkpoints: None,
    };
    let out = folder.path().join("probe.safetensors");
    let probe = train(&picked, &options, &out, &|_, _, _| ()).unwrap();
    assert_eq!(probe.card().metric, "clipscore");
    assert_eq!(probe.card().preview.as_deref(), Some("clipscore"));

    // Its predictions are calibrated, and no word is said to be weak that nobody judged.
    let it = foresight(folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut request = predict("clipscore");
    request.settings.at_step = Some(1);
    let reply = runtime.block_on(it.predict(request, &caller())).unwrap();
    assert!(reply.common.calibrated, "{}", reply.advice);
    assert_eq!(reply.common.metric, "clipscore");
    let [low, high] = reply.interval.unwrap();
    let expected = reply.expected_quality.unwrap();
    assert!((low..=high).contains(&expected), "{low} {expected} {high}");
}
