"""Encodes the training pictures: python latents.py --data DIR --vae RUN --out DIR [--count N].

Writes DIR/vae.pt (its latents standardised), DIR/latents.f16 (n, 4, 16, 16; unscaled means) piece by
piece, so that a training can start on the first pieces, and DIR/scaling_factor.json. Run again, it goes on.
"""

import argparse
import json
from pathlib import Path

import torch

import common
import vae as recipe

PIECE = 500


def load(run):
    """The averaged weights of a VAE's run."""
    vae = recipe.build().eval().requires_grad_(False)
    vae.load_state_dict(torch.load(Path(run) / "state.pt", weights_only=False)["averages"][0])
    return vae


@torch.no_grad()
def standardise(vae, pictures):
    """Folds a mean of 0 and a deviation of 1 for each latent channel into the 1×1 convolutions on
    either side of the latents. What is decoded stays the same; but a channel with a tenth of
    another's spread would drown in the noise long after the other, and be decided late.
    """
    latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in pictures.split(100)])
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after = vae.quant_conv, vae.post_quant_conv
    count = len(mean)
    before.weight[:count] /= spread[:, None, None, None]
    before.bias[:count] = (before.bias[:count] - mean) / spread
    before.bias[count:] -= 2 * spread.log()
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= spread[None, :, None, None]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--vae", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--count", type=int, default=120_000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    vae = load(arguments.vae)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    pixels = common.images(arguments.data, arguments.count)
    standard = out / "vae.pt"
    if standard.exists():
        vae.load_state_dict(torch.load(standard))
    else:
        standardise(vae, common.to_tensor(pixels[:2000]))
        torch.save(vae.state_dict(), standard)

    @torch.no_grad()
    def encode(batch):
        with torch.autocast("cpu", torch.bfloat16):
            return vae.quant_conv(vae.encoder(batch)).float().chunk(2, dim=1)[0]

    compiled = torch.compile(encode)
    path, factor = out / "latents.f16", out / "scaling_factor.json"
    if not factor.exists():
        spread = encode(common.to_tensor(pixels[2000:4000])).std()
        factor.write_text(json.dumps(1 / spread.item()))
    done = path.stat().st_size // (2 * 4 * 16 * 16) if path.exists() else 0
    with open(path, "ab") as file:
        for start in range(done - done % PIECE, len(pixels) - PIECE + 1, PIECE):
            piece = [compiled(common.to_tensor(pixels[i : i + 50])) for i in range(start, start + PIECE, 50)]
            file.write(torch.cat(piece).half().numpy().tobytes())
            file.flush()


if __name__ == "__main__":
    main()
