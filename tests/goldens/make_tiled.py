"""Makes the goldens of decoding in tiles: latents, and what diffusers' VAEs of the tiny pipelines beside
this file make of them with `enable_tiling`. `tests/placement.rs` compares.

    python tests/goldens/make_tiled.py
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage
from safetensors.torch import save_file

HERE = Path(__file__).parent
# Folder of the pipeline, pixels of a tile. Neither side is a whole number of tiles.
MODELS = [("sdxl/epsilon", 32), ("sdxl/velocity", 24), ("flux/dev", 32), ("qwen/published", 32)]
SIZE = (21, 13)


def of_kl(folder, side, latents):
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    vae.enable_tiling()
    vae.tile_sample_min_size = side
    vae.tile_latent_min_size = side // 2 ** (len(vae.config.block_out_channels) - 1)
    config = vae.config
    if config.latents_mean is not None and config.latents_std is not None:
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (config.latents_mean, config.latents_std))
        scaled = latents * std / config.scaling_factor + mean
    else:
        scaled = latents / config.scaling_factor
    if folder.parent.name == "flux":
        scaled = scaled + config.shift_factor
    return vae.decode(scaled, return_dict=False)[0]


def of_qwen(folder, side, latents):
    vae = AutoencoderKLQwenImage.from_pretrained(folder / "vae").eval()
    vae.spatial_compression_ratio = 2 ** len(vae.config.temperal_downsample)
    vae.enable_tiling(side, side, side * 3 // 4, side * 3 // 4)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    return vae.decode(latents.unsqueeze(2) * std + mean, return_dict=False)[0][:, :, 0]


@torch.no_grad()
def main():
    torch.manual_seed(11)
    shutil.rmtree(HERE / "tiled", ignore_errors=True)
    (HERE / "tiled").mkdir()
    for model, side in MODELS:
        folder = HERE / model
        decode = of_qwen if model.startswith("qwen") else of_kl
        latents = torch.randn(1, 4, *SIZE)
        image = (decode(folder, side, latents) / 2 + 0.5).clamp(0, 1)
        path = HERE / "tiled" / f"{model.replace('/', '-')}-{side}.safetensors"
        save_file({"latents": latents, "image": image.contiguous()}, path)
        path.chmod(0o644)


if __name__ == "__main__":
    main()
