"""What the two trainings share: data, a schedule that goes by the clock, and checkpoints."""

import copy
import json
import os
import time
from pathlib import Path

import numpy as np
import torch


def images(folder, count=None):
    """The pictures of a folder that `examples/pocket_scenes.rs` wrote: (n, 64, 64, 3) of u8."""
    pixels = np.memmap(Path(folder) / "images.u8", dtype=np.uint8, mode="r").reshape(-1, 64, 64, 3)
    return pixels[:count]


def to_tensor(pixels):
    """u8 pictures, channels last -> floats in -1..1, channels first."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def captions(folder):
    """The wordings of each picture."""
    with open(Path(folder) / "captions.jsonl") as lines:
        return [json.loads(line) for line in lines]


class Average:
    """An exponential moving average of parameters, which starts fast."""

    def __init__(self, modules, decay):
        self.decay, self.step = decay, 0
        self.modules = modules
        self.averages = [copy.deepcopy(module).eval().requires_grad_(False) for module in modules]

    @torch.no_grad()
    def update(self):
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for module, average in zip(self.modules, self.averages):
            torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)


class Run:
    """A training that can be cut off and goes on: model, average, optimizer, step, random state.

    The learning rate falls linearly to 0 over `minutes` of work (the time spent by earlier pieces
    counted in), so that a slow machine gets fewer steps and not an unfinished schedule.
    """

    def __init__(self, folder, modules, rate, minutes, warmup=100, decay=0.999, weight_decay=0.01, seed=0):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.modules, self.rate, self.budget, self.warmup = modules, rate, 60 * minutes, warmup
        self.parameters = [p for module in modules for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=weight_decay, betas=(0.9, 0.99))
        self.average = Average(modules, decay)
        self.random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.step, self.spent = 0, 0.0
        if (self.folder / "state.pt").exists():
            self.load()
        self.started = time.time() - self.spent
        self.saved = time.time()

    @property
    def elapsed(self):
        return time.time() - self.started

    @property
    def done(self):
        return self.elapsed >= self.budget

    def update(self, loss):
        rate = self.rate * max(0.0, 1 - self.elapsed / self.budget) * min(1.0, (self.step + 1) / self.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.update()
        self.step += 1
        if time.time() - self.saved > 120:
            self.save()

    def log(self, **figures):
        record = {"step": self.step, "minutes": round(self.elapsed / 60, 2), **figures}
        with open(self.folder / "log.jsonl", "a") as out:
            out.write(json.dumps(record) + "\n")
        print(record, flush=True)

    def save(self):
        state = {
            "modules": [module.state_dict() for module in self.modules],
            "averages": [average.state_dict() for average in self.average.averages],
            "average_step": self.average.step,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent": self.elapsed,
            "numpy": self.random.bit_generator.state,
            "torch": torch.get_rng_state(),
        }
        torch.save(state, self.folder / "state.tmp")
        os.replace(self.folder / "state.tmp", self.folder / "state.pt")
        self.saved = time.time()

    def load(self):
        state = torch.load(self.folder / "state.pt", weights_only=False)
        for module, weights in zip(self.modules, state["modules"]):
            module.load_state_dict(weights)
        for average, weights in zip(self.average.averages, state["averages"]):
            average.load_state_dict(weights)
        self.average.step = state["average_step"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent = state["step"], state["spent"]
        self.random.bit_generator.state = state["numpy"]
        torch.set_rng_state(state["torch"])
