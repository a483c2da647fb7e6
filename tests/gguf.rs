//! A quantized denoiser computes what its dequantized weights compute: FLUX.1 in its authors' names,
//! Qwen-Image in diffusers', as such files are shared.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device, Tensor};
use foreseed::backbones::{ModelFiles, load};
use serde_json::Value;

#[allow(dead_code)]
mod parity;

type Tensors = BTreeMap<String, Tensor>;

/// A family's transformer, its manifest's widths made small: heads of 8 channels and 32 in all, so
/// that rows are whole blocks.
struct Small {
    family: &'static str,
    model: &'static str,
    manifest: &'static str,
    widths: &'static [(usize, usize)],
}

const FLUX: Small = Small {
    family: "flux",
    model: "dev",
    manifest: "flux.1-dev",
    widths: &[(4096, 12), (768, 8), (64, 16), (128, 8)],
};
const QWEN: Small = Small {
    family: "qwen",
    model: "plain",
    manifest: "qwen-image",
    widths: &[(3584, 8), (64, 8), (128, 8)],
};
/// Of every family: from the published width's multiples to those of 32.
const INNER: (usize, usize) = (3072, 32);

impl Small {
    fn width(&self, published: usize) -> usize {
        let own = self.widths.iter().find(|(from, _)| *from == published);
        match own {
            Some((_, to)) => *to,
            None if published.is_multiple_of(INNER.0) => published / INNER.0 * INNER.1,
            None => published,
        }
    }

    /// Random weights of two blocks of each kind.
    fn weights(&self) -> Tensors {
        let path = format!("tests/shapes/{}.json", self.manifest);
        let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let manifest: Value = serde_json::from_slice(&text).unwrap();
        let folded = manifest["components"]["transformer"]["tensors"].clone();
        let mut tensors = Tensors::new();
        for (name, shape) in folded.as_object().unwrap() {
            let published: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            let shape: Vec<usize> = published.iter().map(|w| self.width(*w)).collect();
            for block in 0..2 {
                let parts: Vec<String> = name
                    .split('.')
                    .map(|part| match part.starts_with("0-") {
                        true => block.to_string(),
                        false => part.to_owned(),
                    })
                    .collect();
                let name = parts.join(".");
                let tensor = random(&shape, tensors.len() as u64);
                tensors.entry(name).or_insert(tensor);
            }
        }
        tensors
    }

    /// The golden model with four heads instead of two.
    fn folder(&self, to: &Path) {
        parity::copy(&parity::goldens(self.family).join(self.model), to);
        let path = to.join("transformer/config.json");
        let text = fs::read_to_string(&path).unwrap();
        let heads = "\"num_attention_heads\": 2";
        assert!(text.contains(heads));
        fs::write(&path, text.replace(heads, "\"num_attention_heads\": 4")).unwrap();
        for entry in fs::read_dir(to.join("transformer")).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("config.json") {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

/// Numbers around 0 that give activations of a sensible size.
fn random(shape: &[usize], seed: u64) -> Tensor {
    let count: usize = shape.iter().product();
    let scale = 1.0 / (*shape.last().unwrap() as f32).sqrt();
    let values: Vec<f32> = (0..count as u64)
        .map(|i| {
            let mixed = (i * 2_654_435_761 + seed * 40_503 + 12_345) % 1_000_003;
            (mixed as f32 / 500_001.5 - 1.0) * scale
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// How the tensor is stored: matrices in blocks where their rows are whole ones.
fn dtype(name: &str, tensor: &Tensor) -> GgmlDType {
    let fused = ["attn", "proj_mlp", "linear1"];
    match tensor.dims() {
        [_, columns] if columns % 256 == 0 => GgmlDType::Q4K,
        [_, columns] if columns % 32 == 0 && fused.iter().any(|f| name.contains(f)) => {
            GgmlDType::Q8_0
        }
        [_, columns] if columns % 32 == 0 => GgmlDType::Q5_0,
        [_, _] => GgmlDType::F16,
        _ => GgmlDType::F32,
    }
}

/// The weights by the names of FLUX's authors, with what they wrote as one.
fn original_flux(mut weights: Tensors) -> Tensors {
    let mut original = Tensors::new();
    let mut fuse = |to: String, parts: &[String]| {
        let parts: Vec<Tensor> = parts.iter().map(|p| weights.remove(p).unwrap()).collect();
        original.insert(to, Tensor::cat(&parts, 0).unwrap());
    };
    for kind in ["weight", "bias"] {
        for block in 0..2 {
            let own = |names: &[&str], place: &str| -> Vec<String> {
                let name = |n: &&str| format!("{place}.{block}.{n}.{kind}");
                names.iter().map(name).collect()
            };
            let double = "transformer_blocks";
            fuse(
                format!("double_blocks.{block}.img_attn.qkv.{kind}"),
                &own(&["attn.to_q", "attn.to_k", "attn.to_v"], double),
            );
            fuse(
                format!("double_blocks.{block}.txt_attn.qkv.{kind}"),
                &own(
                    &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
                    double,
                ),
            );
            let names = ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"];
            fuse(
                format!("single_blocks.{block}.linear1.{kind}"),
                &own(&names, "single_transformer_blocks"),
            );
        }
    }
    for kind in ["weight", "bias"] {
        let scale_shift = weights.remove(&format!("norm_out.linear.{kind}")).unwrap();
        let parts = scale_shift.chunk(2, 0).unwrap();
        original.insert(
            format!("final_layer.adaLN_modulation.1.{kind}"),
            Tensor::cat(&[&parts[1], &parts[0]], 0).unwrap(),
        );
    }
    const RENAMED: [(&str, &str); 21] = [
        (
            "time_text_embed.timestep_embedder.linear_1",
            "time_in.in_layer",
        ),
        (
            "time_text_embed.timestep_embedder.linear_2",
            "time_in.out_layer",
        ),
        (
            "time_text_embed.text_embedder.linear_1",
            "vector_in.in_layer",
        ),
        (
            "time_text_embed.text_embedder.linear_2",
            "vector_in.out_layer",
        ),
        (
            "time_text_embed.guidance_embedder.linear_1",
            "guidance_in.in_layer",
        ),
        (
            "time_text_embed.guidance_embedder.linear_2",
            "guidance_in.out_layer",
        ),
        ("context_embedder", "txt_in"),
        ("x_embedder", "img_in"),
        (".norm1_context.linear", ".txt_mod.lin"),
        (".norm1.linear", ".img_mod.lin"),
        (".norm.linear", ".modulation.lin"),
        (
            ".attn.norm_added_q.weight",
            ".txt_attn.norm.query_norm.scale",
        ),
        (".attn.norm_added_k.weight", ".txt_attn.norm.key_norm.scale"),
        (".attn.to_out.0", ".img_attn.proj"),
        (".attn.to_add_out", ".txt_attn.proj"),
        (".ff.net.0.proj", ".img_mlp.0"),
        (".ff.net.2", ".img_mlp.2"),
        (".ff_context.net.0.proj", ".txt_mlp.0"),
        (".ff_context.net.2", ".txt_mlp.2"),
        (".proj_out", ".linear2"),
        ("single_transformer_blocks.", "single_blocks."),
    ];
    for (mut name, tensor) in weights {
        let norm = if name.starts_with("single") {
            ""
        } else {
            "img_attn."
        };
        for (which, long) in [("q", "query"), ("k", "key")] {
            name = name.replace(
                &format!(".attn.norm_{which}.weight"),
                &format!(".{norm}norm.{long}_norm.scale"),
            );
        }
        if name.starts_with("proj_out") {
            name = name.replace("proj_out", "final_layer.linear");
        }
        for (from, to) in RENAMED {
            name = name.replace(from, to);
        }
        name = name.replace("transformer_blocks.", "double_blocks.");
        original.insert(name, tensor);
    }
    original
}

/// What `trace` writes for a short call.
fn traced(folder: &Path, more: &[&str]) -> HashMap<String, Tensor> {
    let out = folder.join("out.safetensors");
    let mut arguments = vec![
        "--prompt",
        "a red circle",
        "--steps",
        "2",
        "--seed",
        "3",
        "--width",
        "16",
        "--height",
        "24",
        "--guidance",
        "3",
    ];
    arguments.extend(more);
    let done = parity::trace(folder, &arguments, &out);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    candle_core::safetensors::load(&out, &Device::Cpu).unwrap()
}

fn bytes(folder: &Path, denoiser: Option<&Path>) -> u64 {
    let mut files = ModelFiles::folder(folder);
    if let Some(denoiser) = denoiser {
        files = files.with_denoiser(denoiser).unwrap();
    }
    let model = load(files, "golden", &Device::Cpu, DType::F32).unwrap();
    model.facts().weight_bytes
}

fn assert_quantized_is_dequantized(small: &Small, original: fn(Tensors) -> Tensors) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("model");
    small.folder(&folder);
    let weights = small.weights();
    // Codes are of blocks within a row: fused matrices have those of their parts.
    let coded = |(name, tensor): (String, Tensor)| {
        let coded = QTensor::quantize(&tensor, dtype(&name, &tensor)).unwrap();
        (name, coded)
    };
    let quantized: Vec<(String, QTensor)> =
        original(weights.clone()).into_iter().map(coded).collect();
    let decoded: HashMap<String, Tensor> = weights
        .into_iter()
        .map(coded)
        .map(|(name, coded)| (name, coded.dequantize(&Device::Cpu).unwrap()))
        .collect();
    let gguf = scratch.path().join("denoiser.gguf");
    let tensors: Vec<(&str, &QTensor)> = quantized.iter().map(|(n, t)| (n.as_str(), t)).collect();
    gguf_file::write(&mut File::create(&gguf).unwrap(), &[], &tensors).unwrap();
    let denoiser = gguf.display().to_string();
    let ours = traced(&folder, &["--denoiser", &denoiser]);
    let few = bytes(&folder, Some(&gguf));

    let path = folder.join("transformer/diffusion_pytorch_model.safetensors");
    candle_core::safetensors::save(&decoded, path).unwrap();
    let theirs = traced(&folder, &[]);
    assert!(few < bytes(&folder, None));
    assert_eq!(ours.len(), theirs.len());
    for (name, reference) in &theirs {
        let difference = parity::relative_difference(&ours[name], reference);
        assert!(difference <= 2e-4, "{name} differs by {difference:.1e}");
    }
}

#[test]
fn flux_runs_from_a_gguf_file_of_its_authors_names() {
    assert_quantized_is_dequantized(&FLUX, original_flux);
}

#[test]
fn qwen_image_runs_from_a_gguf_file() {
    assert_quantized_is_dequantized(&QWEN, |weights| weights);
}

#[test]
fn a_file_that_is_no_gguf_and_a_model_without_a_transformer_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("denoiser.gguf");
    fs::write(&file, b"GGUF, but no more").unwrap();
    let denoiser = file.display().to_string();
    for (family, model, what) in [
        ("flux", "dev", "no GGUF file"),
        ("sdxl", "epsilon", "FLUX.1's"),
    ] {
        let out = scratch.path().join("out.safetensors");
        let arguments = ["--prompt", "a", "--seed", "1", "--denoiser", &denoiser];
        let done = parity::trace(&parity::goldens(family).join(model), &arguments, &out);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(what), "{said}");
    }
}
