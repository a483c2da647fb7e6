"""Makes random pipelines of a family, runs diffusers and `foreseed trace` on each, and prints the worst
relative difference a tensor. Some random models blow up whatever is changed; where the difference is over
the bar, diffusers runs four times more on latents that are a bit away, and what it then differs from
itself is no failure of ours.

    cargo build --release
    python tests/goldens/compare.py [--family sdxl] [--count 20] [--seed 0]
        [--as-file]
        [--binary target/release/foreseed]
"""

import argparse
import importlib
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from diffusers.utils import logging as diffusers_logging
from make_owned import to_single_file
from random_sdxl import relative

BAR = 2e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="sdxl", choices=["sdxl", "flux", "qwen"])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--binary", default="target/release/foreseed")
    parser.add_argument("--as-file", action="store_true", help="SDXL as one file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    family = importlib.import_module(f"random_{args.family}")
    worst_of_all, failures = 0.0, 0
    for i in range(args.seed, args.seed + args.count):
        r = random.Random(i)
        spec = family.random_spec(r)
        with tempfile.TemporaryDirectory() as scratch:
            if args.as_file:
                spec.shard, spec.variant = None, None
            folder = family.build(spec, Path(scratch) / "model")
            model = ["--model", folder]
            if args.as_file:
                if not isinstance(spec.unet["layers_per_block"], int):
                    continue
                model = ["--model", Path(scratch) / "one.safetensors", "--model-config", folder]
                to_single_file(folder, model[1], spec)
            for _ in range(args.calls):
                call = family.random_call(r, spec)
                tap = r.choice([None, family.prefixes(spec)])
                answer = compare(args.binary, family, folder, spec, call, tap, scratch, model)
                problem, worst, where = answer
                worst_of_all = max(worst_of_all, worst)
                state = problem or ""
                if worst > BAR:
                    own = own_difference(family, folder, spec, call, tap)
                    where += f" (diffusers' own by a bit of the latents: {own:.2e})"
                    state = "FAILS" if worst > own else ""
                failures += bool(state)
                print(f"seed {i}: {worst:.2e} {where} {state}", flush=True)
                if state:
                    shown = {k: v for k, v in call.items() if k not in ("latents", "noise")}
                    spec.scheduler.pop("trained_betas", None)
                    print(f"    {spec}\n    {shown} tap={tap}")
    print(f"worst {worst_of_all:.2e}, {failures} failures")
    sys.exit(failures > 0)


def compare(binary, family, folder, spec, call, tap, scratch, model):
    """(problem, worst relative difference, its tensor) of one call."""
    try:
        theirs = family.run(folder, spec, call, tap)
    except Exception as e:  # what diffusers itself cannot run is no case
        return None, 0.0, f"(diffusers refuses: {type(e).__name__}: {str(e)[:100]})"
    latents, out = Path(scratch) / "in.safetensors", Path(scratch) / "out.safetensors"
    out.unlink(missing_ok=True)
    noise = {f"noise.{i}": noise for i, noise in enumerate(call.get("noise", []))}
    save_file({"latents": call["latents"], **noise}, latents)
    command = [binary, "trace", *model, "--prompt", call["prompt"]]
    if call.get("negative_prompt") is not None:
        command += ["--negative-prompt", call["negative_prompt"]]
    for name in ("steps", "guidance", "height", "width"):
        command += [f"--{name}", str(call[name])]
    if tap is not None:
        command += ["--tap", ",".join(tap)]
    command += ["--latents", latents, "--out", out]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        return f"trace failed: {done.stderr.strip()}", 0.0, ""
    ours = load_file(out)
    if sorted(ours) != sorted(theirs):
        return f"tensors differ: {sorted(set(ours) ^ set(theirs))}", 0.0, ""
    shapes = [k for k in ours if ours[k].shape != theirs[k].shape]
    if shapes:
        return f"shapes differ: {[(k, ours[k].shape, theirs[k].shape) for k in shapes]}", 0.0, ""
    finite = {k: v for k, v in theirs.items() if torch.isfinite(v).all()}
    if not finite:
        return None, 0.0, "(diffusers gives no finite numbers)"
    worst = max(finite, key=lambda k: relative(ours[k], finite[k]))
    return None, relative(ours[worst], theirs[worst]), worst


def own_difference(family, folder, spec, call, tap, times=4):
    """The most that diffusers differs from itself where every latent is the next f32, up or down by
    chance."""
    theirs = family.run(folder, spec, call, tap)
    finite = [k for k in theirs if torch.isfinite(theirs[k]).all()]
    random = torch.Generator().manual_seed(0)
    most = 0.0
    for _ in range(times):
        signs = torch.randn(call["latents"].shape, generator=random)
        beyond = torch.full_like(call["latents"], float("inf")).copysign(signs)
        near = family.run(folder, spec, {**call, "latents": call["latents"].nextafter(beyond)}, tap)
        most = max(most, *(relative(near[k], theirs[k]) for k in finite))
    return most


if __name__ == "__main__":
    main()
