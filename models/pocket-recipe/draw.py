"""Draws prompts in PyTorch: python draw.py --model DIR --prompts FILE --out DIR [--seeds 8].

FILE has a prompt a line (or, in a .jsonl file, a list of wordings, of which the first is taken). Writes OUT/images.u8, pictures of 64×64×3 bytes, all seeds of the first
prompt first, which `cargo run --release --example pocket_scores` scores; with --sheet FILE.png also
a sheet of pictures to look at.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image


@torch.no_grad()
def draw(pipe, prompts, seeds, steps, guidance):
    """u8 pictures, (prompts × seeds, 64, 64, 3)."""
    embeds, _, pooled, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False)
    embeds, pooled = embeds.repeat_interleave(seeds, 0), pooled.repeat_interleave(seeds, 0)
    count, side = len(embeds), pipe.unet.config.sample_size
    noise = [torch.randn(4, side, side, generator=torch.Generator().manual_seed(seed)) for seed in range(seeds)]
    scheduler = pipe.scheduler
    scheduler.set_timesteps(steps)
    latents = torch.stack(noise).repeat(len(prompts), 1, 1, 1) * scheduler.init_noise_sigma
    pixels = side * pipe.vae_scale_factor
    times = torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]], dtype=torch.float32).repeat(2 * count, 1)
    condition = {"text_embeds": torch.cat([torch.zeros_like(pooled), pooled]), "time_ids": times}
    embeds = torch.cat([torch.zeros_like(embeds), embeds])
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(torch.cat([latents, latents]), time)
        without, given = pipe.unet(scaled, time, embeds, added_cond_kwargs=condition, return_dict=False)[0].chunk(2)
        latents = scheduler.step(without + guidance * (given - without), time, latents, return_dict=False)[0]
    pictures = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return (pictures.clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=5.0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--sheet")
    arguments = parser.parse_args()
    pipe = StableDiffusionXLPipeline.from_pretrained(arguments.model, torch_dtype=torch.float32)
    pipe.unet.set_attn_processor(AttnProcessor())
    lines = Path(arguments.prompts).read_text().splitlines()[: arguments.count]
    prompts = [json.loads(line)[0] for line in lines] if arguments.prompts.endswith(".jsonl") else lines
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    pieces = []
    with open(out / "images.u8", "wb") as file:
        for start in range(0, len(prompts), 8):
            pieces.append(draw(pipe, prompts[start : start + 8], arguments.seeds, arguments.steps, arguments.guidance))
            file.write(pieces[-1].tobytes())
            file.flush()
    if arguments.sheet:
        pictures = np.concatenate(pieces)
        side = pictures.shape[1]
        rows = pictures.reshape(-1, arguments.seeds, side, side, 3)
        sheet = rows.transpose(0, 2, 1, 3, 4).reshape(-1, arguments.seeds * side, 3)
        Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2), Image.NEAREST).save(arguments.sheet)


if __name__ == "__main__":
    main()
