//! Safetensors whole, in shards and as a checkpoint; GGUF, LoRA and probe files; what `torch.save` wrote.

#![no_main]

use std::fs;
use std::path::Path;

use candle_core::Device;
use foreseed::backbones::fuzzed::tensors;
use foreseed::backbones::{Adapter, ModelFiles};
use foreseed::models::folder::survey;
use foreseed::probe::Probe;
use foreseed::scorers::pickle;
use foreseed_fuzz::folders::{Copy, golden, scratch};
use foreseed_fuzz::{Reader, headers, said, samples};

foreseed_fuzz::target!(readers);

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    headers::mutate(data, size, max_size, seed)
});

fn read(paths: &[&str]) -> Vec<Vec<u8>> {
    let read = |path: &&str| fs::read(golden(path)).expect("the tree is whole");
    paths.iter().map(read).collect()
}

fn readers() -> Vec<Reader> {
    let made = |sample: Result<_, _>| vec![sample.expect("a sample can be made")];
    let one = Copy::empty("a component");
    let sharded = Copy::of("flux", golden("flux/dev"));
    let qwen = Copy::of("qwen-image", golden("qwen/plain"));
    let owned = Copy::of("a checkpoint", golden("owned/single"));
    let sdxl = Copy::of("sdxl", golden("sdxl/sample"));
    let pickles = Copy::empty("a pickle");
    let transformer = |folder: &Path| tensors(&ModelFiles::folder(folder), "transformer");
    let gguf = |names: &[&str]| made(samples::gguf(&scratch("samples"), names));
    let mut ggufs = gguf(&[
        "transformer_blocks.0.attn.to_q.weight",
        "transformer_blocks.0.attn.to_q.bias",
        "transformer_blocks.0.img_mlp.net.2.weight",
        "proj_out.weight",
    ]);
    ggufs.extend(gguf(&[
        "double_blocks.0.img_attn.qkv.weight",
        "single_blocks.0.linear1.weight",
        "final_layer.adaLN_modulation.1.weight",
        "final_layer.linear.weight",
        "img_in.weight",
    ]));
    vec![
        one.with(
            "part/model.safetensors",
            made(samples::safetensors()),
            |folder| tensors(&ModelFiles::folder(folder), "part"),
        ),
        sharded.with(
            "transformer/diffusion_pytorch_model.safetensors.index.json",
            Vec::new(),
            transformer,
        ),
        sharded.with(
            "transformer/diffusion_pytorch_model-00003-of-00003.safetensors",
            Vec::new(),
            transformer,
        ),
        qwen.with("denoiser.gguf", ggufs, |folder| {
            let files = ModelFiles::folder(folder);
            tensors(
                &files.with_denoiser(&folder.join("denoiser.gguf"))?,
                "transformer",
            )
        }),
        owned.with("model.safetensors", made(samples::checkpoint()), |folder| {
            let file = folder.join("model.safetensors");
            let files = ModelFiles::checkpoint(file, &[folder.to_owned()]);
            let parts = ["unet", "vae", "text_encoder", "text_encoder_2"];
            parts.iter().try_for_each(|part| tensors(&files, part))
        }),
        sdxl.with(
            "lora.safetensors",
            read(&[
                "owned/lora-kohya.safetensors",
                "owned/lora-kohya-original.safetensors",
                "owned/lora-noted.safetensors",
                "owned/lora-peft.safetensors",
            ]),
            |folder| {
                let lora = Adapter {
                    file: folder.join("lora.safetensors"),
                    weight: 0.7,
                };
                let files = ModelFiles::folder(folder).adapted(&[lora])?;
                let parts = ["text_encoder", "text_encoder_2", "unet"];
                parts.iter().try_for_each(|part| tensors(&files, part))
            },
        ),
        sdxl.with(
            "text_encoder/model.fp16.safetensors",
            Vec::new(),
            |folder| survey(folder, None).map(drop),
        ),
        pickles.with(
            "head.pth",
            read(&[
                "scorers/aesthetic/sac+logos+ava1-l14-linearMSE.pth",
                "scorers/forged/evil.pth",
                "scorers/forged/short.pth",
            ]),
            |folder| pickle::tensors(&folder.join("head.pth"), &Device::Cpu).map(drop),
        ),
        Reader::new("a probe", made(samples::probe()), |bytes| {
            Probe::from_bytes(bytes).map(drop).map_err(said)
        }),
    ]
}
