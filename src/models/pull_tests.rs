use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use sha2::Digest;

use super::*;

/// A hub that serves a repository's files, each holding its own path, and keeps what it was asked.
struct Hub {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// How a hub behaves.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// The status that every question is answered with, if any.
    refusal: Option<&'static str>,
    /// How many parts are sent before the connection breaks in the middle of one, and the hub is gone.
    breaks_after: Option<usize>,
    /// Whether the first byte of what it sends of a large file is another one.
    corrupts: bool,
    /// Whether it sends whole files when it is asked for parts.
    knows_no_ranges: bool,
}

const FILES: [&str; 12] = [
    "model.safetensors",
    "README.md",
    "model_index.json",
    "sd_xl_base_1.0.safetensors",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/model.onnx",
    "vae/diffusion_pytorch_model.safetensors",
];

const NEEDED: [&str; 7] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
];

impl Hub {
    fn start(refusal: Option<&'static str>) -> Self {
        Self::with(Manners {
            refusal,
            ..Manners::default()
        })
    }

    fn with(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || answer(stream, manners, &log));
            }
        });
        Self { endpoint, asked }
    }

    fn client(&self, cache: &Path) -> HFClient {
        HFClient::builder()
            .endpoint(&self.endpoint)
            .token("none")
            .cache_dir(cache)
            .retry_max_attempts(0)
            .build()
            .unwrap()
    }

    fn fetched(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let files = asked.iter().filter_map(|line| {
            let path = line.strip_prefix("GET ")?.split("/resolve/main/").nth(1)?;
            Some(path.split(' ').next()?.to_owned())
        });
        let mut files: Vec<_> = files.collect();
        files.sort();
        // A large one in parts.
        files.dedup();
        files
    }
}

fn answer(stream: TcpStream, manners: Manners, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        let mut range = None;
        while reader.read_line(&mut header).unwrap_or(0) > 2 {
            let lower = header.to_ascii_lowercase();
            if let Some(bytes) = lower.strip_prefix("range: bytes=") {
                let (from, to) = bytes.trim().split_once('-').unwrap();
                range = Some(from.parse::<usize>().unwrap()..to.parse::<usize>().unwrap() + 1);
            }
            header.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let part = range
            .as_ref()
            .map_or(String::new(), |r| format!(" {}", r.start));
        log.lock().unwrap().push(format!("{method} {path}{part}"));
        let body = match path.split_once("/resolve/main/") {
            Some((_, file)) => file.to_owned(),
            None => {
                let entries = FILES.map(|path| {
                    let size = path.len();
                    format!(r#"{{"type":"file","oid":"0","size":{size},"path":"{path}"}}"#)
                });
                format!("[{}]", entries.join(","))
            }
        };
        let (mut status, extra) = match manners.refusal {
            Some(status) => (status, "x-error-code: GatedRepo\r\n".to_owned()),
            None => ("200 OK", format!("etag: \"{}\"\r\n", digest(&body))),
        };
        let mut body = body;
        if let Some(range) = range.filter(|_| !manners.knows_no_ranges) {
            status = "206 Partial Content";
            body = body[range].to_owned();
            if manners.corrupts {
                body.replace_range(..1, "#");
            }
        }
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nx-repo-commit: c0ffee\r\n{extra}\r\n",
            body.len()
        );
        let body = if method == "HEAD" { "" } else { &body };
        let sent = log
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.split(' ').count() > 2)
            .count();
        let whole = format!("{head}{body}");
        let broken = manners.breaks_after.is_some_and(|parts| sent > parts);
        let cut = match broken {
            true => whole.len() - body.len().div_ceil(2).max(1),
            false => whole.len(),
        };
        if stream.write_all(&whole.as_bytes()[..cut]).is_err() || broken {
            return;
        }
    }
}

fn digest(content: &str) -> String {
    let digest = sha2::Sha256::digest(content.as_bytes());
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn sdxl() -> Wanted {
    Wanted::model(Known::named("sdxl").unwrap())
}

#[test]
fn only_the_files_that_a_loader_reads_are_fetched_and_only_once() {
    let hub = Hub::start(None);
    let cache = tempfile::tempdir().unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reports);
    let report: Arc<dyn Fn(Pulled) + Send + Sync> =
        Arc::new(move |pulled| seen.lock().unwrap().push(pulled));
    let folder = fetch(&sdxl(), hub.client(cache.path()), Arc::clone(&report)).unwrap();
    assert_eq!(hub.fetched(), NEEDED);
    for path in NEEDED {
        assert_eq!(std::fs::read_to_string(folder.join(path)).unwrap(), path);
    }
    let reports = std::mem::take(&mut *reports.lock().unwrap());
    assert!(
        reports
            .windows(2)
            .all(|w| w[0].done_bytes <= w[1].done_bytes)
    );
    let last = reports.last().unwrap();
    assert_eq!(last.done_bytes, last.of_bytes);

    hub.asked.lock().unwrap().clear();
    assert_eq!(
        fetch(&sdxl(), hub.client(cache.path()), report).unwrap(),
        folder
    );
    assert!(hub.fetched().is_empty());
}

/// The parts of the largest file that a hub was asked for, by where they begin.
fn parts(hub: &Hub) -> Vec<usize> {
    let asked = hub.asked.lock().unwrap();
    let of_largest = asked
        .iter()
        .filter(|line| line.contains("unet/diffusion_pytorch"));
    let starts = of_largest.filter_map(|line| line.split(' ').nth(2)?.parse().ok());
    starts.collect()
}

const UNET: &str = "unet/diffusion_pytorch_model.fp16.safetensors";

#[test]
fn a_pull_that_broke_goes_on_where_it_stopped() {
    let cache = tempfile::tempdir().unwrap();
    let quiet: Arc<dyn Fn(Pulled) + Send + Sync> = Arc::new(|_| {});
    // All that is sent in parts before the UNet's is sent, and two of its three parts.
    let before: usize = {
        let hub = Hub::start(None);
        let scratch = tempfile::tempdir().unwrap();
        fetch(&sdxl(), hub.client(scratch.path()), Arc::clone(&quiet)).unwrap();
        assert_eq!(parts(&hub), [0, 16, 32]);
        let asked = hub.asked.lock().unwrap();
        let sent = asked.iter().filter(|line| line.split(' ').count() > 2);
        sent.take_while(|line| !line.contains(UNET)).count()
    };
    let breaking = Hub::with(Manners {
        breaks_after: Some(before + 2),
        ..Manners::default()
    });
    let error = fetch(&sdxl(), breaking.client(cache.path()), Arc::clone(&quiet)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("what was fetched so far is kept"),
        "{error}"
    );

    let hub = Hub::start(None);
    let reports = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&reports);
    let report = Arc::new(move |pulled: Pulled| seen.lock().unwrap().push(pulled.done_bytes));
    let folder = fetch(&sdxl(), hub.client(cache.path()), report).unwrap();
    assert_eq!(parts(&hub), [32]);
    assert_eq!(std::fs::read_to_string(folder.join(UNET)).unwrap(), UNET);
    let reports = reports.lock().unwrap();
    assert!(reports.windows(2).all(|w| w[0] <= w[1]), "{reports:?}");
}

#[test]
fn what_came_out_corrupt_is_not_kept_and_is_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    let quiet: Arc<dyn Fn(Pulled) + Send + Sync> = Arc::new(|_| {});
    let corrupting = Hub::with(Manners {
        corrupts: true,
        ..Manners::default()
    });
    let error = fetch(&sdxl(), corrupting.client(cache.path()), Arc::clone(&quiet)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("came out corrupt") && text.contains("pull it again"),
        "{text}"
    );
    let hub = Hub::start(None);
    let folder = fetch(&sdxl(), hub.client(cache.path()), Arc::clone(&quiet)).unwrap();
    for path in NEEDED {
        assert_eq!(std::fs::read_to_string(folder.join(path)).unwrap(), path);
    }
    // One that was cut short after it was fetched is fetched again.
    let blob = folder.join(UNET).canonicalize().unwrap();
    std::fs::write(&blob, "cut").unwrap();
    let folder = fetch(&sdxl(), hub.client(cache.path()), quiet).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join(UNET)).unwrap(), UNET);
}

#[test]
fn a_hub_that_knows_no_ranges_serves_as_well() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::with(Manners {
        knows_no_ranges: true,
        ..Manners::default()
    });
    let folder = fetch(&sdxl(), hub.client(cache.path()), Arc::new(|_| {})).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join(UNET)).unwrap(), UNET);
}

#[test]
fn of_a_scorer_only_the_files_that_it_reads_are_fetched() {
    let hub = Hub::start(None);
    let cache = tempfile::tempdir().unwrap();
    let hps = Wanted::scorer(KnownScorer::named("hpsv2.1").unwrap());
    let folder = fetch(&hps[0], hub.client(cache.path()), Arc::new(|_| {})).unwrap();
    assert_eq!(hub.fetched(), ["model.safetensors"]);
    assert!(folder.join("model.safetensors").is_file());
    // What a scorer cannot do without is missed before anything is fetched.
    let error = fetch(&hps[1], hub.client(cache.path()), Arc::new(|_| {})).unwrap_err();
    assert!(error.to_string().contains("no vocab.json"), "{error}");
    assert_eq!(hub.fetched(), ["model.safetensors"]);
}

#[test]
fn a_refusal_says_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let complaint = |endpoint: Hub| {
        let error = fetch(&sdxl(), endpoint.client(cache.path()), Arc::new(|_| {})).unwrap_err();
        error.to_string()
    };
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let text = complaint(Hub::start(Some(status)));
        assert!(text.contains("HF_TOKEN"), "{text}");
    }
    let nobody = Hub {
        endpoint: "http://127.0.0.1:1".into(),
        asked: Arc::default(),
    };
    let text = complaint(nobody);
    assert!(text.contains("cannot be reached"), "{text}");
}

#[test]
fn a_disk_that_is_too_small_is_told_before_anything_is_fetched() {
    let cache = tempfile::tempdir().unwrap();
    let error = check_space(&sdxl(), &cache.path().join("not/yet"), u64::MAX).unwrap_err();
    assert!(error.to_string().contains("HF_HOME"), "{error}");
    check_space(&sdxl(), cache.path(), 1).unwrap();
}

#[test]
fn names_that_cannot_be_pulled_say_which_can() {
    for name in ["nonsense", "../../etc"] {
        let error = pull(name, Arc::new(|_| {})).unwrap_err().to_string();
        assert!(error.contains("Pull one of: sdxl"), "{error}");
    }
}

#[test]
fn offline_is_what_the_hubs_libraries_take_for_it() {
    for value in ["1", "true", "YES", "on"] {
        assert!(is_offline(Some(value)));
    }
    for value in [None, Some(""), Some("0"), Some("false")] {
        assert!(!is_offline(value));
    }
}
