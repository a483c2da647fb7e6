//! What a client or a person types: messages, the tools' arguments, handles, addresses and cursors of
//! resources, prompts of the embedded world, the command line.

#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use foreseed::backbones::Facts;
use foreseed::candidate::{Candidate, Handle, Seed, Settings};
use foreseed::device::DeviceChoice;
use foreseed::engine::{Engine, Limits};
use foreseed::foresight::{Caller, Foresight, validate};
use foreseed::models::{Machine, ModelOptions, Models};
use foreseed::probe::claims::Share;
use foreseed::server::fuzzed;
use foreseed::store::{RenderRecord, Store};
use foreseed::{Result, cli, world};
use foreseed_fuzz::folders::{scratch, tree};
use foreseed_fuzz::{Reader, said};

foreseed_fuzz::target!(readers);

const MESSAGES: [&str; 9] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}"#,
    r#"{"jsonrpc":"2.0","id":"two","method":"tools/call","params":{"name":"predict_quality","arguments":{"prompt":"a red circle","seeds":[1,2],"steps":25.0,"guidance":NaN}}}"#,
    r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"render","arguments":{"handle":"fs_00000000000000000000000000000000"},"_meta":{"progressToken":1}}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3,"reason":"\ud800 \u0000"}}"#,
    r#"{"jsonrpc":"2.0","id":4,"method":"prompts/get","params":{"name":"pick-a-seed","arguments":{"prompt":"a star","count":"8"}}}"#,
    r#"{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{"uri":"foreseed://candidates/"}}"#,
    r#"{"jsonrpc":"2.0","id":6,"method":"ping"}"#,
    r#"[{"jsonrpc":"2.0","id":7,"method":"ping"}]"#,
    r#"{"jsonrpc":"2.0","id":8,"result":{}}"#,
];

const ARGUMENTS: [&str; 6] = [
    r#"{"prompt":"a red circle","seeds":[0,1,4294967295],"attention":true,"steps":25,"guidance":5.0,"width":64,"height":64,"at_step":5,"metric":"composition"}"#,
    r#"{"prompt":"two stars","count":16,"keep":2,"budget":400,"contact_sheet":true,"model":"pocket"}"#,
    r#"{"prompt":"a ring","variants":["a red ring","one ring"],"count":4,"rounds":2}"#,
    r#"{"prompt":"a ring","seed":7,"negative_prompt":"","rating":0.5}"#,
    r#"{"handle":"fs_0123456789abcdef0123456789abcdef"}"#,
    r#"{"step":1,"Seeds":[1,1],"hight":65,"widht":null,"promt":{},"x":[[]]}"#,
];

const ADDRESSES: [&str; 6] = [
    "foreseed://candidates/fs_0123456789abcdef0123456789abcdef/preview",
    "foreseed://candidates/fs_0123456789abcdef0123456789abcdef/attention",
    "foreseed://pictures/sheet-of-4-0123.png",
    "foreseed://pictures/../a.png",
    "ui://foreseed/gallery.html",
    "file:///etc/passwd",
];

const COMPLETIONS: [&str; 3] = [
    r#"{"ref":{"type":"ref/prompt","name":"pick-a-seed"},"argument":{"name":"prompt","value":"a"}}"#,
    r#"{"ref":{"type":"ref/resource","uri":"foreseed://candidates/{handle}"},"argument":{"name":"handle","value":"fs_"}}"#,
    r#"{"ref":{"type":"ref/resource","uri":"foreseed://pictures/{name}"},"argument":{"name":"name","value":"%"}}"#,
];

const PROMPTS: [&str; 5] = [
    "a red circle left of two small blue squares on a white background",
    "Three large GREEN stars, above a yellow ring.",
    "four shapes: a purple triangle, and an orange cross on the left",
    "two circles, the left one red; on gray",
    "ein rotes Haus – 5 ½ ﬁgures",
];

const LINES: [&str; 4] = [
    "rank\n--seeds\n7,21,42\n--steps\n25\n--guidance\n-1\n--width\n64\na star",
    "predict\n--lora\nfile=0.8\n--scorer\naesthetic=/tmp\n--device\ncuda:1\n--count\n8\na star",
    "probe\ncollect\n--part\n2/4\n--dtype\nbf16\n--vae-tile\n512",
    "serve\n--http\n127.0.0.1:0\n--tools\nrender,rank_seeds\n--read-only",
];

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// A reader of texts; bytes that are none are read as what they resemble.
fn of_text(
    name: &str,
    seeds: Vec<Vec<u8>>,
    read: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
) -> Reader {
    Reader::new(name, seeds, move |bytes| {
        read(&String::from_utf8_lossy(bytes))
    })
}

/// What pocket says of itself, as far as a request is checked against it.
fn facts() -> Facts {
    Facts {
        family: "sdxl",
        fingerprint: "weights".into(),
        latent_channels: 4,
        vae_scale: 8,
        size_multiple: 8,
        default_width: 64,
        default_height: 64,
        default_steps: 25,
        default_guidance: 5.0,
        sampler: "EulerDiscreteScheduler/epsilon".into(),
        tappable: Vec::new(),
        default_tap: Vec::new(),
        glimpsed: Vec::new(),
        weight_bytes: 0,
    }
}

/// Records of candidates whose model is not here: nothing is computed for any of them.
fn foresight() -> Result<(Arc<Foresight>, Vec<Handle>)> {
    let models = Models::discover(ModelOptions {
        machine: Some(Machine::open(DeviceChoice::Cpu, None, None, true)?),
        ..ModelOptions::default()
    })?;
    let models = Arc::new(models);
    let store = Store::in_memory(&scratch("records"))?;
    let mut handles = Vec::new();
    for seed in 0..60 {
        let candidate = Candidate {
            prompt: format!("a {seed}% star"),
            seed: Seed(seed),
            settings: Settings {
                model: "absent".into(),
                negative_prompt: None,
                steps: 25,
                guidance: 5.0,
                width: 64,
                height: 64,
            },
        };
        let handle = candidate.handle("weights");
        store.remember("weights", &[(handle.clone(), candidate)])?;
        store.keep_render(&RenderRecord {
            handle: handle.clone(),
            path: PathBuf::from(format!("{seed}.png")),
            measured: BTreeMap::new(),
            rendered_at: 1,
            chosen_after: 0,
            told: None,
        })?;
        handles.push(handle);
    }
    let foresight = Foresight {
        engine: Engine::start(models.clone(), Limits::default())?,
        models,
        store: Arc::new(store),
        out: scratch("pictures"),
        writes: false,
        learned: None,
    };
    Ok((Arc::new(foresight), handles))
}

fn readers() -> Vec<Reader> {
    let (foresight, handles) = foresight().expect("the records can be made");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let caller = Caller {
        cancel: Default::default(),
        progress: Arc::new(|_| {}),
        patience: None,
    };
    let mut known = bytes(&["fs_'; DROP TABLE candidates", "fs_", "../x"]);
    known.push(handles[0].0.clone().into_bytes());
    let mut addresses = bytes(&ADDRESSES);
    addresses.push(format!("foreseed://candidates/{}", handles[0]).into_bytes());
    let rewrites = std::fs::read(tree("prompts/rewrites.txt")).expect("the tree is whole");
    let wordings = rewrites.split(|b| *b == b'\n').take(20).map(<[u8]>::to_vec);

    let mut readers = vec![Reader::new("a message", bytes(&MESSAGES), |bytes| {
        fuzzed::message(bytes, &facts())
    })];
    for tool in fuzzed::tools() {
        readers.push(Reader::new(
            format!("the arguments of {tool}"),
            bytes(&ARGUMENTS),
            move |bytes| match serde_json::from_slice(bytes) {
                Ok(arguments) => fuzzed::call_of(tool, arguments, &facts()),
                Err(_) => Ok(()),
            },
        ));
    }
    let of = foresight.clone();
    readers.push(of_text("a handle", known, move |text| {
        let handle = Handle(text.into());
        let store = &of.store;
        store.recall(&handle).map_err(said)?;
        store.predictions_of(&handle).map_err(said)?;
        store.handles_like(text, 10).map_err(said)?;
        store.prompts_like(text, 10).map_err(said)?;
        validate::handle(&handle).map_err(said)
    }));
    let of = foresight.clone();
    readers.push(of_text("an address", addresses, move |uri| {
        runtime.block_on(fuzzed::resource(&of, uri, &caller))
    }));
    let of = foresight.clone();
    let cursors = bytes(&["r:50", "s:", "s:sheet-of-4-x.png", "r:-1"]);
    readers.push(of_text("a cursor", cursors, move |cursor| {
        fuzzed::page(&of, cursor).map_err(said)
    }));
    readers.push(Reader::new(
        "a completion",
        bytes(&COMPLETIONS),
        move |bytes| fuzzed::completion(&foresight, bytes),
    ));
    let mut prompts = bytes(&PROMPTS);
    prompts.extend(wordings);
    readers.push(of_text("a prompt", prompts, |prompt| {
        validate::prompt("prompt", prompt).map_err(said)?;
        let reading = world::parse(prompt).map_err(said)?;
        let words = reading.words.iter().flat_map(|words| words.all());
        for span in words.chain(reading.relations).chain(reading.background) {
            assert!(prompt.get(span.clone()).is_some(), "{span:?} is no word");
        }
        Ok(())
    }));
    readers.push(of_text("a command line", bytes(&LINES), |line| {
        cli::fuzzed::read(line.lines());
        Ok(())
    }));
    readers.push(of_text(
        "a part or a device",
        bytes(&["2/4", "cuda:1", "0/0", "auto"]),
        |text| {
            let share = text.parse::<Share>().map(|share| share.holds(7));
            let device = text.parse::<DeviceChoice>();
            share.map(drop).or(device.map(drop))
        },
    ));
    readers
}
