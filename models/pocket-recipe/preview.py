"""Distils pocket's VAE into a decoder that costs a fraction of it, for previews (TAESD's architecture):
python preview.py --data DIR --latents DIR --out DIR [--minutes M]; run again, it goes on from what it wrote.

Half of what the student sees are pictures' latents, with the pictures; half are what early previews look
like, blends of two pictures' latents as blurred as a prediction that has not yet decided between them,
with what the VAE makes of those.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

import common
import unet as latents_of
import vae as recipe

CHANNELS, BLOCKS = 32, (2, 1, 0)
BLENDS = 8000


def student():
    return AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS,) * 3,
        decoder_block_out_channels=(CHANNELS,) * 3,
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=BLOCKS,
        latent_channels=4,
        act_fn="relu",
    )


@torch.no_grad()
def blended(teacher, data, random):
    """Means of two pictures' latents, weighted at random, and what the VAE makes of them, as u8."""
    latents, shown = [], []
    for _ in range(BLENDS // 100):
        one, other = (torch.from_numpy(data[random.integers(0, len(data), 100)]).float() for _ in range(2))
        mixed = torch.lerp(one, other, 0.5 * torch.from_numpy(random.random((100, 1, 1, 1), dtype=np.float32)))
        with torch.autocast("cpu", torch.bfloat16):
            made = teacher.decoder(teacher.post_quant_conv(mixed)).float()
        latents.append(mixed.half())
        shown.append(((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    return torch.cat(latents), torch.cat(shown)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--latents", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    folder = Path(arguments.latents)
    factor = json.loads((folder / "scaling_factor.json").read_text())
    teacher = recipe.build().eval().requires_grad_(False)
    teacher.load_state_dict(torch.load(folder / "vae.pt"))
    tiny = student()
    decoder = tiny.decoder
    out = Path(arguments.out)
    kept = out / "diffusion_pytorch_model.safetensors"
    if kept.exists():
        decoder.load_state_dict({name.removeprefix("decoder."): value.float() for name, value in load_file(kept).items()})
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=arguments.rate, weight_decay=0.0)
    learn = torch.compile(decoder)
    data = latents_of.latents(arguments.latents)
    pixels = common.images(arguments.data, len(data))
    random = np.random.default_rng(0)
    blends, shown = blended(teacher, data, random)
    count = arguments.batch // 2
    started, step, total = time.time(), 0, 0.0
    while (share := (time.time() - started) / (60 * arguments.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = arguments.rate * (1 - share) * min(1, (step + 1) / 100)
        chosen, mixed = random.integers(0, len(data), count), random.integers(0, len(blends), count)
        clean = torch.cat([torch.from_numpy(data[chosen]).float(), blends[mixed].float()])
        target = torch.cat([common.to_tensor(pixels[chosen]), shown[mixed].float() / 127.5 - 1])
        with torch.autocast("cpu", torch.bfloat16):
            # What the denoiser speaks of is scaled; the VAE's own latents are not.
            made = learn(clean * factor).float()
        loss = (made - target).abs().mean() + (made - target).pow(2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        step, total = step + 1, total + loss.item()
        if step % 200 == 0:
            print({"step": step, "minutes": round(share * arguments.minutes, 2), "loss": round(total / 200, 4)}, flush=True)
            total = 0.0
    out.mkdir(parents=True, exist_ok=True)
    tiny.save_config(out)
    weights = {f"decoder.{name}": value.half().contiguous() for name, value in decoder.state_dict().items()}
    save_file(weights, kept, metadata={"format": "pt"})
    kept.chmod(0o644)
    print(sum(value.numel() for value in weights.values()), "parameters")


if __name__ == "__main__":
    main()
