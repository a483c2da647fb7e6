"""Distils pocket's VAE into a decoder that costs a fraction of it, for previews (TAESD's architecture):
python preview.py --data DIR --latents DIR --out DIR [--collected DIR] [--minutes M]; run again, it goes on
from what it wrote.

A quarter of what the student sees are pictures' latents, with the pictures. The rest is what it will be
shown: the predicted x0 of a collection's unfinished images (--collected, from `foreseed probe collect` on
the training split), with what the VAE makes of them. Without a collection they are blends of two pictures'
latents, as blurred as a prediction that has not yet decided between them.
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
EARLY = 16000


def student():
    return AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS,) * 3,
        decoder_block_out_channels=(CHANNELS,) * 3,
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=BLOCKS,
        latent_channels=4,
        act_fn="relu",
    )


def blends(data, random):
    """Means of two pictures' latents, weighted at random."""
    one, other = (torch.from_numpy(data[random.integers(0, len(data), EARLY)]).float() for _ in range(2))
    return torch.lerp(one, other, 0.5 * torch.from_numpy(random.random((EARLY, 1, 1, 1), dtype=np.float32)))


def predictions(folder, factor, random):
    """The x0 that were predicted at every recorded step, of shards drawn at random, as the VAE takes them."""
    shards = sorted(Path(folder).glob("*.safetensors"))
    found = []
    for index in random.permutation(len(shards)):
        # A shard has the latents as 8 x 8 cells of 4 channels x 2 x 2.
        cells = load_file(shards[index])["x0"].float().reshape(-1, 8, 8, 4, 2, 2)
        found.append(cells.permute(0, 3, 1, 4, 2, 5).reshape(-1, 4, 16, 16) / factor)
        if sum(map(len, found)) >= EARLY:
            break
    return torch.cat(found)


@torch.no_grad()
def shown(teacher, latents):
    """What the VAE makes of latents, as u8."""
    made = []
    for part in latents.split(100):
        with torch.autocast("cpu", torch.bfloat16):
            image = teacher.decoder(teacher.post_quant_conv(part)).float()
        made.append(((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    return torch.cat(made)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--latents", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--collected")
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
    early = predictions(arguments.collected, factor, random) if arguments.collected else blends(data, random)
    targets = shown(teacher, early)
    count = arguments.batch // 4
    started, step, total = time.time(), 0, 0.0
    while (share := (time.time() - started) / (60 * arguments.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = arguments.rate * (1 - share) * min(1, (step + 1) / 100)
        chosen = random.integers(0, len(data), count)
        unfinished = random.integers(0, len(early), arguments.batch - count)
        latents = torch.cat([torch.from_numpy(data[chosen]).float(), early[unfinished]])
        target = torch.cat([common.to_tensor(pixels[chosen]), targets[unfinished].float() / 127.5 - 1])
        with torch.autocast("cpu", torch.bfloat16):
            # What the denoiser speaks of is scaled; the VAE's own latents are not.
            made = learn(latents * factor).float()
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
