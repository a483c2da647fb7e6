"""The diffusers side of `cargo run --release --example peak_memory`. Needs torch, diffusers and transformers.

    make FOLDER TOKENIZERS   an SDXL-sized UNet and VAE with random weights in bf16, and text encoders of
                             SDXL's widths and one layer, as a folder in diffusers' layout
    step FOLDER DTYPE SIDE   one guided step of the UNet at SIDE² pixels
    decode FOLDER DTYPE SIDE / tiled FOLDER DTYPE SIDE   a picture by the VAE, whole or in tiles of 512 pixels

The last three print one JSON line: bytes after loading, the most bytes while it ran, seconds.
"""

import json
import shutil
import sys
import time
from pathlib import Path

import torch

UNET = dict(
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    attention_head_dim=[5, 10, 20],
    block_out_channels=[320, 640, 1280],
    cross_attention_dim=2048,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    layers_per_block=2,
    projection_class_embeddings_input_dim=2816,
    sample_size=128,
    transformer_layers_per_block=[1, 2, 10],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    use_linear_projection=True,
)
VAE = dict(
    block_out_channels=[128, 256, 512, 512],
    down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4,
    latent_channels=4,
    layers_per_block=2,
    sample_size=1024,
    scaling_factor=0.13025,
)


def random(build, dtype):
    with torch.device("meta"):
        module = build()
    module = module.to(dtype).to_empty(device="cpu")
    for name, value in module.named_parameters():
        if "norm" in name and name.endswith("weight"):
            value.fill_(1)
        elif name.endswith("bias"):
            value.zero_()
        else:
            value.normal_(0, 0.02)
    return module


def make(folder, tokenizers):
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    random(lambda: UNet2DConditionModel(**UNET), torch.bfloat16).save_pretrained(folder / "unet")
    random(lambda: AutoencoderKL(**VAE), torch.bfloat16).save_pretrained(folder / "vae")
    for name, width, kind in [("text_encoder", 768, CLIPTextModel), ("text_encoder_2", 1280, CLIPTextModelWithProjection)]:
        config = CLIPTextConfig(
            vocab_size=2000, hidden_size=width, projection_dim=width, intermediate_size=width,
            num_hidden_layers=1, num_attention_heads=8, max_position_embeddings=77, eos_token_id=2,
        )
        kind(config).save_pretrained(folder / name)
    for name in ["tokenizer", "tokenizer_2"]:
        shutil.copytree(Path(tokenizers) / name, folder / name)
    EulerDiscreteScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def load(kind, folder, dtype):
    # By copies: what is only mapped is counted when it is first read, and that is during the step.
    module = kind.from_pretrained(folder, torch_dtype=dtype).eval()
    for value in module.parameters():
        value.data = value.data.clone()
    return module


@torch.no_grad()
def measured(job, folder, dtype, side):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    latent = side // 8
    if job == "step":
        unet = load(UNet2DConditionModel, folder / "unet", dtype)
        inputs = torch.randn(2, 4, latent, latent, dtype=dtype)
        text = torch.randn(2, 77, 2048, dtype=dtype)
        added = {
            "text_embeds": torch.randn(2, 1280, dtype=dtype),
            "time_ids": torch.tensor([[side, side, 0, 0, side, side]] * 2, dtype=dtype),
        }
        run = lambda: unet(inputs, 500, text, added_cond_kwargs=added)
    else:
        vae = load(AutoencoderKL, folder / "vae", torch.float32)
        if job == "tiled":
            vae.enable_tiling()
            vae.tile_sample_min_size, vae.tile_latent_min_size = 512, 64
        latents = torch.randn(1, 4, latent, latent)
        run = lambda: vae.decode(latents / VAE["scaling_factor"])
    loaded = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    began = time.perf_counter()
    run()
    print(json.dumps({"loaded": loaded, "peak": status("VmHWM"), "seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    job, folder = sys.argv[1], Path(sys.argv[2])
    if job == "make":
        torch.set_grad_enabled(False)
        make(folder, sys.argv[3])
    else:
        measured(job, folder, sys.argv[3], int(sys.argv[4]))
