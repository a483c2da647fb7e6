"""Distils pocket's VAE into a decoder that costs a fifth of it, for previews:
python preview.py --model DIR --collected DIR --out DIR [--minutes M] [--plain-minutes M]

The student sees what it will be shown: the predicted x0 of a collection's unfinished images
(`foreseed probe collect` on the training split), late ones also as they are carried on by their last change,
and the same mirrored, turned and blurred by a blend with another; its target is what the VAE makes of them.

What is read out of a preview are outlines and colours of things, not the ground. So, after the first
minutes, what is wrong near an edge or within a thing counts several times, and squares count twice: with the
plain mean of differences, students that came nearer to the VAE's pixels were read worse.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors import safe_open

from subpixel import SubPixelDecoder

# From here on the probe reads predictions that are carried on.
LATE = 9
# How much a pixel counts anywhere, and how much more at an edge and within a thing.
GROUND, EDGE, THING = 0.5, 4.0, 4.0
WARMUP, DECAY = 100, 0.999


def laid_out(cells):
    """A shard has latents as 8 x 8 cells of 4 channels x 2 x 2."""
    return cells.float().reshape(-1, 8, 8, 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(-1, 4, 16, 16)


def predictions(folder):
    """(early, late) predicted x0, as the denoiser speaks of them; the late ones also carried on."""
    early, late = [], []
    for shard in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            steps = json.loads(file.metadata()["foreseed"])["at_steps"]
            x0, before = file.get_tensor("x0"), file.get_tensor("before")
        for i, step in enumerate(steps):
            now, then = laid_out(x0[:, i]), laid_out(before[:, i])
            if step < LATE:
                early += [now, then]
            else:
                late += [now, 2 * now - then]
    return torch.cat(early), torch.cat(late)


def shown(vae, latents):
    """What the VAE makes of latents, as u8."""
    made = []
    for part in latents.split(100):
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            image = vae.decoder(vae.post_quant_conv(part / vae.config.scaling_factor)).float()
        made.append(((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    return torch.cat(made)


def varied(early, late):
    """The student's latents: late ones in four orientations, some of them with a little noise, early ones,
    and blends of two early ones."""
    mirrored, turned = late.flip(-1), late.transpose(-1, -2)
    noisy = [part + 0.03 * torch.randn_like(part) for part in (mirrored, turned.flip(-1))]
    share, less = (torch.rand(len(early), 1, 1, 1) for _ in range(2))
    blends = torch.lerp(early, early[torch.randperm(len(early))], share / 2) * (1 + less) / 2
    return torch.cat([late, noisy[0], turned, noisy[1], early, blends]).contiguous()


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, matrix by matrix (Jordan et al. 2024), as large as Adam's."""

    def __init__(self, parameters, rate):
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 0.05)
                update = weight.grad.lerp(momentum, 0.95).flatten(1)
                update = orthogonal(update).reshape(weight.shape)
                weight.add_(update, alpha=-0.2 * group["lr"] * max(weight.flatten(1).shape) ** 0.5)


def orthogonal(matrix, steps=5):
    """The nearest orthogonal matrix, about, by Newton and Schulz's iteration in the paper's coefficients."""
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()


def weights(target):
    """How much each pixel counts, 1 on average: more where the picture changes, and where it is not as its
    middle pixel."""
    change = F.max_pool2d(target, 3, 1, 1) + F.max_pool2d(-target, 3, 1, 1)
    edge = change.amax(1, keepdim=True).clamp(0, 1)
    ground = target.flatten(2).median(-1).values[:, :, None, None]
    thing = (2 * (target - ground).abs().amax(1, keepdim=True)).clamp(0, 1)
    weight = GROUND + EDGE * edge + THING * thing
    return weight / weight.mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--collected", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--plain-minutes", type=float, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    vae = AutoencoderKL.from_pretrained(Path(arguments.model) / "vae").eval().requires_grad_(False)
    latents = varied(*predictions(arguments.collected))
    targets = shown(vae, latents)
    torch.set_num_threads(arguments.threads)
    student = SubPixelDecoder().to(memory_format=torch.channels_last)
    average = copy.deepcopy(student).requires_grad_(False)
    matrices = [p for p in student.parameters() if p.dim() == 4]
    others = [p for p in student.parameters() if p.dim() != 4]
    optimizers = [Muon(matrices, arguments.rate), torch.optim.AdamW(others, lr=arguments.rate, weight_decay=0.0)]
    learn = torch.compile(student)
    started, step, total = time.time(), 0, 0.0
    while (minutes := (time.time() - started) / 60) < arguments.minutes:
        rate = arguments.rate * min(1, (step + 1) / WARMUP) * (1 - minutes / arguments.minutes)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        chosen = torch.from_numpy(random.integers(0, len(latents), arguments.batch))
        target = targets[chosen].float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            made = learn(latents[chosen].contiguous(memory_format=torch.channels_last)).float()
        off = made - target
        if minutes < arguments.plain_minutes:
            loss = off.abs().mean() + off.pow(2).mean()
        else:
            loss = (weights(target) * (off.abs() + 2 * off.pow(2))).mean()
        student.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step, total = step + 1, total + loss.item()
        kept = min(DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - kept)
        if step % 300 == 0:
            print({"step": step, "minutes": round(minutes, 2), "loss": round(total / 300, 4)}, flush=True)
            total = 0.0
    average.save(arguments.out)
    print(sum(value.numel() for value in average.parameters()), "parameters")


if __name__ == "__main__":
    main()
