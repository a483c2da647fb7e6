use super::*;

fn facts() -> Facts {
    Facts {
        family: "sdxl",
        fingerprint: "f".into(),
        latent_channels: 4,
        vae_scale: 4,
        size_multiple: 8,
        default_width: 64,
        default_height: 64,
        default_steps: 25,
        default_guidance: 5.0,
        sampler: "EulerDiscreteScheduler/v_prediction".into(),
        tappable: Vec::new(),
        default_tap: Vec::new(),
        glimpsed: Vec::new(),
        weight_bytes: 0,
    }
}

/// The error must be about `field` and show `value`.
fn refused<T: std::fmt::Debug>(outcome: Result<T>, field: &str, value: &str) {
    let error = outcome.expect_err(&format!("{field} {value} is taken"));
    let Error::Invalid { field: named, .. } = &error else {
        panic!("not about an argument: {error}");
    };
    let text = error.to_string();
    assert_eq!(*named, field, "{text}");
    assert!(text.contains(value), "does not show {value}: {text}");
    assert!(text.len() < 500, "too long for an agent: {text}");
}

fn with(change: impl FnOnce(&mut SharedSettings)) -> Result<Settings> {
    let mut settings = SharedSettings::default();
    change(&mut settings);
    complete(&settings, "pocket", &facts())
}

#[test]
fn what_is_left_out_is_the_models_own() {
    let settings = with(|_| ()).unwrap();
    assert_eq!(
        (
            settings.steps,
            settings.guidance,
            settings.width,
            settings.height
        ),
        (25, 5.0, 64, 64)
    );
    assert_eq!(settings.negative_prompt, None);
}

#[test]
fn a_prompt_says_something_and_is_not_a_book() {
    refused(prompt("prompt", ""), "prompt", "\"\"");
    refused(prompt("prompt", " \n\t"), "prompt", "\\n");
    refused(
        prompt("prompt", &"x".repeat(400_000)),
        "prompt",
        "400000 characters",
    );
    prompt("prompt", &"ä".repeat(MAX_PROMPT_CHARS)).unwrap();
}

#[test]
fn settings_out_of_range_are_named_with_their_values() {
    refused(with(|s| s.steps = Some(0)), "steps", "0");
    refused(with(|s| s.steps = Some(100_000)), "steps", "100000");
    refused(with(|s| s.guidance = Some(-1.0)), "guidance", "-1");
    refused(with(|s| s.guidance = Some(f64::NAN)), "guidance", "NaN");
    refused(
        with(|s| s.guidance = Some(f64::INFINITY)),
        "guidance",
        "inf",
    );
    refused(with(|s| s.guidance = Some(50.1)), "guidance", "50.1");
    refused(with(|s| s.width = Some(0)), "width", "0");
    refused(with(|s| s.width = Some(65)), "width", "65");
    refused(with(|s| s.height = Some(u32::MAX)), "height", "4294967295");
    refused(with(|s| s.height = Some(2048)), "height", "2048");
    refused(
        with(|s| s.negative_prompt = Some("n".repeat(5000))),
        "negative_prompt",
        "5000 characters",
    );
}

#[test]
fn a_size_may_be_stretched_but_not_beyond_memory() {
    let settings = with(|s| (s.width, s.height) = (Some(256), Some(64))).unwrap();
    assert_eq!((settings.width, settings.height), (256, 64));
    refused(
        with(|s| (s.width, s.height) = (Some(256), Some(128))),
        "width",
        "256×128",
    );
}

#[test]
fn a_model_made_for_less_than_the_least_side_keeps_its_own_size() {
    let tiny = Facts {
        default_width: 32,
        default_height: 48,
        ..facts()
    };
    let asked = SharedSettings {
        width: Some(32),
        height: Some(48),
        ..Default::default()
    };
    let settings = complete(&asked, "tiny", &tiny).unwrap();
    assert_eq!((settings.width, settings.height), (32, 48));
}

#[test]
fn seeds_are_unique_and_not_too_many() {
    let these = |seeds: &[u32]| {
        seeds_of(SeedChoice {
            seeds: Some(seeds.iter().copied().map(Seed).collect()),
            count: None,
        })
    };
    fn seeds_of(choice: SeedChoice) -> Result<Vec<Seed>> {
        seeds(&choice, 4)
    }
    let so_many = |count| {
        seeds_of(SeedChoice {
            seeds: None,
            count: Some(count),
        })
    };
    assert_eq!(these(&[7, 3]).unwrap(), [Seed(7), Seed(3)]);
    assert_eq!(so_many(2).unwrap(), [Seed(0), Seed(1)]);
    assert_eq!(seeds_of(SeedChoice::default()).unwrap().len(), 4);
    refused(these(&[]), "seeds", "0 seeds");
    refused(these(&[5, 6, 5]), "seeds", "5 was sent twice");
    refused(these(&(0..257).collect::<Vec<_>>()), "seeds", "257");
    refused(so_many(0), "count", "0");
    refused(so_many(1_000_000), "count", "1000000");
    refused(
        seeds_of(SeedChoice {
            seeds: Some(vec![Seed(1)]),
            count: Some(1),
        }),
        "count",
        "together",
    );
}

#[test]
fn a_prediction_stands_between_two_steps() {
    at_step(Some(24), 25).unwrap();
    at_step(None, 2).unwrap();
    refused(at_step(Some(0), 25), "at_step", "0");
    refused(at_step(Some(25), 25), "at_step", "25");
    refused(at_step(None, 1), "steps", "1");
}

#[test]
fn keep_and_budget_are_within_what_can_be_done() {
    assert_eq!(keep(None, 3).unwrap(), 1);
    assert_eq!(keep(Some(3), 3).unwrap(), 3);
    refused(keep(Some(0), 3), "keep", "0");
    refused(keep(Some(4), 3), "keep", "4");
    budget(None, 32, 1, 16).unwrap();
    budget(Some(32), 32, 1, 16).unwrap();
    refused(budget(Some(31), 32, 1, 16), "budget", "31");
}

#[test]
fn rewrites_and_rounds_are_bounded() {
    let request = |variants: Option<Vec<String>>, rounds| RefineRequest {
        prompt: "a red circle".into(),
        variants,
        count: None,
        rounds,
        settings: Default::default(),
    };
    refinement(&request(None, Some(4))).unwrap();
    refused(refinement(&request(None, Some(0))), "rounds", "0");
    refused(refinement(&request(None, Some(5))), "rounds", "5");
    refused(refinement(&request(Some(vec![]), None)), "variants", "0");
    refused(
        refinement(&request(Some(vec![" ".into()]), None)),
        "variants",
        "empty",
    );
    refused(
        refinement(&request(Some(vec!["a".into(); 17]), None)),
        "variants",
        "17",
    );
}

#[test]
fn a_forged_handle_is_refused_by_its_form_alone() {
    handle(&Handle(format!("fs_{}", "0a".repeat(16)))).unwrap();
    for forged in [
        "",
        "fs_",
        "../../etc/passwd",
        "/etc/passwd",
        "fs_../../../../../../../etc/passwd",
        "fs_0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A0A",
    ] {
        refused(handle(&Handle(forged.into())), "handle", forged);
    }
    refused(
        handle(&Handle("f".repeat(10_000))),
        "handle",
        "10000 characters",
    );
}

#[test]
fn a_handle_stands_alone() {
    no_settings(&SharedSettings::default()).unwrap();
    let steps = SharedSettings {
        steps: Some(25),
        ..Default::default()
    };
    refused(no_settings(&steps), "steps", "handle");
}
