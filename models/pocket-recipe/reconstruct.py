"""Passes pictures through pocket's VAE: python reconstruct.py --model DIR --data DIR --out DIR [--count N]."""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL

import common


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--count", type=int, default=96)
    arguments = parser.parse_args()
    vae = AutoencoderKL.from_pretrained(arguments.model, subfolder="vae", torch_dtype=torch.float32)
    pictures = common.to_tensor(common.images(arguments.data, arguments.count))
    decoded = torch.cat([vae.decode(vae.encode(batch).latent_dist.mean).sample for batch in pictures.split(32)])
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    drawn = (decoded.clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1)
    (out / "images.u8").write_bytes(drawn.numpy().tobytes())
    print(f"mean absolute error {(decoded - pictures).abs().mean().item() / 2 * 255:.2f} of 255")


if __name__ == "__main__":
    main()
