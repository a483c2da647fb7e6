use std::fs;

use super::folder::tests::write_model;
use super::*;

fn discover(model: Option<&str>, cache: &Path) -> Result<Models> {
    let options = ModelOptions {
        model: model.map(str::to_owned),
        ..ModelOptions::default()
    };
    Models::discover_in(options, cache.to_path_buf())
}

#[test]
fn with_nothing_installed_pocket_is_the_default() {
    let cache = tempfile::tempdir().unwrap();
    let models = discover(None, cache.path()).unwrap();
    assert_eq!(models.default_name(), "pocket");
    let listed: Vec<_> = models
        .list()
        .into_iter()
        .map(|c| (c.name, c.installed))
        .collect();
    let known = KNOWN.iter().filter(|known| known.supported);
    let expected = known.map(|known| (known.name.to_owned(), false));
    let expected: Vec<_> = [("pocket".to_owned(), true)]
        .into_iter()
        .chain(expected)
        .collect();
    assert_eq!(listed, expected);
    let Err(error) = models.load("sdxl") else {
        panic!("sdxl was loaded");
    };
    assert!(
        error.to_string().contains("foreseed models pull sdxl"),
        "{error}"
    );
}

#[test]
fn a_pulled_model_becomes_the_default_and_is_found_while_running() {
    let cache = tempfile::tempdir().unwrap();
    let before = discover(None, cache.path()).unwrap();
    let home = cache
        .path()
        .join("models--stabilityai--stable-diffusion-xl-base-1.0");
    write_model(&home.join("snapshots/old"));
    write_model(&home.join("snapshots/c0ffee"));
    fs::create_dir_all(home.join("snapshots/broken")).unwrap();
    fs::create_dir_all(home.join("refs")).unwrap();
    fs::write(home.join("refs/main"), "c0ffee").unwrap();
    for models in [before, discover(None, cache.path()).unwrap()] {
        let card = models.card("sdxl").unwrap();
        assert_eq!(card.place, Place::Folder(home.join("snapshots/c0ffee")));
        assert!(card.installed && card.fits);
    }
    assert_eq!(discover(None, cache.path()).unwrap().default_name(), "sdxl");
    assert_eq!(
        discover(Some("pocket"), cache.path())
            .unwrap()
            .default_name(),
        "pocket"
    );
}

#[test]
fn a_folder_given_at_start_is_called_by_its_last_component_unless_that_is_taken() {
    let root = tempfile::tempdir().unwrap();
    for (last, taken) in [("my-model", false), ("sdxl", true), ("pocket", true)] {
        let folder = root.path().join(last);
        write_model(&folder);
        let given = folder.display().to_string();
        let models = discover(Some(&given), root.path()).unwrap();
        let whole = folder.canonicalize().unwrap();
        let expected = if taken {
            whole.display().to_string()
        } else {
            last.to_owned()
        };
        assert_eq!(models.default_name(), expected);
        assert_eq!(models.card(&expected).unwrap().place, Place::Folder(whole));
    }
}

#[test]
fn an_unknown_name_is_refused_with_what_there_is() {
    let cache = tempfile::tempdir().unwrap();
    let models = discover(None, cache.path()).unwrap();
    let path = cache.path().display().to_string();
    for name in [
        "",
        "pockets",
        "../../etc/passwd",
        &path,
        &"x".repeat(400_000),
    ] {
        let error = models.card(name).unwrap_err().to_string();
        assert!(error.starts_with("model: "), "{error}");
        assert!(error.contains("Installed: pocket"), "{error}");
        assert!(error.len() < 500);
    }
    assert!(discover(Some("nonsense"), cache.path()).is_err());
    assert!(discover(Some(&path), cache.path()).is_err());
}

#[test]
fn a_folder_of_a_family_that_is_not_supported_says_so() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path());
    let index = folder.path().join("model_index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(&index, text.replace("StableDiffusionXL", "Flux2")).unwrap();
    let Err(error) = discover(Some(&folder.path().display().to_string()), folder.path()) else {
        panic!("a Flux2Pipeline was accepted");
    };
    assert!(
        error
            .to_string()
            .contains("a Flux2Pipeline is not supported"),
        "{error}"
    );
}

#[test]
fn the_embedded_model_loads_and_says_what_it_was_made_for() {
    let cache = tempfile::tempdir().unwrap();
    let models = discover(None, cache.path()).unwrap();
    let backbone = models.load("pocket").unwrap();
    let facts = backbone.facts();
    assert_eq!(facts.family, "sdxl");
    assert_eq!((facts.default_width, facts.default_height), (64, 64));
    for probe in models.probes_of("pocket").unwrap() {
        assert_eq!(probe.card().model_fingerprint, facts.fingerprint);
    }
}

#[test]
fn a_prompt_outside_of_pockets_world_is_refused_with_the_way_to_a_real_model() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("mine");
    write_model(&folder);
    let models = discover(Some(&folder.display().to_string()), cache.path()).unwrap();
    models
        .vocabulary_check("pocket", "a red circle left of a blue square")
        .unwrap();
    let error = models
        .vocabulary_check("pocket", "an astronaut on a horse")
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("foreseed models pull sdxl"), "{text}");
    models
        .vocabulary_check("mine", "an astronaut on a horse")
        .unwrap();
    fs::write(folder.join("foreseed.json"), r#"{"world": "shapes"}"#).unwrap();
    assert!(
        models
            .vocabulary_check("mine", "an astronaut on a horse")
            .is_err()
    );
}
