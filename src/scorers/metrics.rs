//! What can be measured, and what is known of each measure before any weights are loaded.

/// A metric.
#[derive(Debug, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    /// At or above this value an image is good, unless a training says otherwise.
    pub good: f64,
    /// Between which values it lies, where it has bounds that matter.
    pub range: Option<[f64; 2]>,
    /// What it says, in a sentence.
    pub about: &'static str,
}

/// Whether what was asked for is there, piece by piece; needs no weights.
pub static COMPOSITION: Metric = Metric {
    name: "composition",
    good: super::composition::GOOD,
    range: Some([0.0, 1.0]),
    about: "whether the picture shows what its prompt asked for, in pocket's world of shapes",
};

/// Good: chosen by hand, near what a picture with its own caption reaches.
pub static CLIPSCORE: Metric = Metric {
    name: "clipscore",
    good: 25.0,
    range: None,
    about: "100 × the cosine that CLIP ViT-L/14 finds between picture and prompt; 15–35",
};

/// Good: what LAION-5B (Schuhmann et al. 2022) kept English captions from, by the very network.
pub static CLIPSCORE_B32: Metric = Metric {
    name: "clipscore-b32",
    good: 28.0,
    range: None,
    about: "100 × the cosine that CLIP ViT-B/32 finds between picture and prompt; 20–40",
};

/// Good: chosen by hand, near what current models reach; no published threshold stands behind it.
pub static PICKSCORE: Metric = Metric {
    name: "pickscore",
    good: 21.5,
    range: None,
    about: "which picture people would pick for the prompt; 18–24",
};

/// Good: at or above the mean, which its authors put at 0.
pub static IMAGE_REWARD: Metric = Metric {
    name: "imagereward",
    good: 0.0,
    range: None,
    about: "how people would rank the picture for the prompt, in deviations from the mean; −2–2",
};

/// Good: where LAION's own subset of good-looking pictures, "6+", begins.
pub static AESTHETIC: Metric = Metric {
    name: "aesthetic",
    good: 6.0,
    range: None,
    about: "how much people would like the picture, whatever the prompt; 1–10",
};

/// Good: chosen by hand, near what current models reach; no published threshold stands behind it.
pub static HPS: Metric = Metric {
    name: "hpsv2.1",
    good: 0.28,
    range: None,
    about: "which picture people would prefer for the prompt; 0.15–0.35",
};

/// All of them. Those that judge without a closed world stand in the order in which they are taken
/// when none is named: what people prefer before what a network finds alike, a picture's looks last.
pub static METRICS: [&Metric; 7] = [
    &COMPOSITION,
    &PICKSCORE,
    &HPS,
    &IMAGE_REWARD,
    &CLIPSCORE,
    &CLIPSCORE_B32,
    &AESTHETIC,
];

/// The metric of this name, if a scorer measures it.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().copied().find(|metric| metric.name == name)
}

/// Between which values a metric lies, where it has bounds that matter; an unknown one has none.
pub fn range(name: &str) -> Option<[f64; 2]> {
    metric(name)?.range
}
