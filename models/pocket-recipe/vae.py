"""Trains pocket's VAE: python vae.py --data DIR --run DIR [--minutes M]; run again, it goes on."""

import argparse

import torch
from diffusers import AutoencoderKL

import common


def build():
    """SDXL's autoencoder, small: 64×64 pixels to 4 channels of 16×16."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[16, 32, 64],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def measure(vae, batch, noise):
    """The mean absolute and squared errors of a reconstruction, and the latents' divergence."""
    with torch.autocast("cpu", torch.bfloat16):
        moments = vae.quant_conv(vae.encoder(batch))
        mean, logvar = moments.float().chunk(2, dim=1)
        logvar = logvar.clamp(-30, 20)
        latents = mean + torch.exp(0.5 * logvar) * noise
        decoded = vae.decoder(vae.post_quant_conv(latents))
    difference = decoded.float() - batch
    divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar)
    return difference.abs().mean(), difference.pow(2).mean(), divergence.mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--minutes", type=float, default=13)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    vae = build()
    run = common.Run(arguments.run, [vae], arguments.rate, arguments.minutes, weight_decay=1e-4)
    pixels = common.images(arguments.data, arguments.images)
    losses = torch.compile(lambda batch, noise: measure(vae, batch, noise))
    total = 0.0
    while not run.done:
        batch = common.to_tensor(pixels[run.random.integers(0, len(pixels), arguments.batch)])
        l1, mse, kl = losses(batch, torch.randn(arguments.batch, 4, 16, 16))
        run.update(l1 + 2 * mse + 1e-4 * kl)
        total += l1.item()
        if run.step % 100 == 0:
            run.log(l1=round(total / 100, 4), kl=round(kl.item(), 2))
            total = 0.0
    run.save()


if __name__ == "__main__":
    main()
