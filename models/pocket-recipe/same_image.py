"""Shows that diffusers loads pocket unchanged and draws what Foreseed draws:
python same_image.py --model DIR --foreseed BINARY

The same initial latents go through StableDiffusionXLPipeline and through `foreseed trace`, in f32,
with and without a negative prompt; prints max|ours − reference| / max|reference| of each.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

CASES = [
    ("a red circle left of a blue square on a white background", None),
    ("THREE SHAPES: a cyan cross, a pink diamond and a red star!", None),
    ("two small yellow hearts above a large green ring, black background", "gray background"),
    ("purple triangle", ""),
]
BAR = 2e-4


def difference(ours, reference):
    return ((ours - reference).abs().max() / reference.abs().max()).item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--foreseed", required=True)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=5.0)
    arguments = parser.parse_args()
    pipe = StableDiffusionXLPipeline.from_pretrained(arguments.model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    worst = 0.0
    for number, (prompt, negative) in enumerate(CASES):
        latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(number))
        reference = pipe(
            prompt, negative_prompt=negative, num_inference_steps=arguments.steps, guidance_scale=arguments.guidance,
            height=64, width=64, latents=latents.clone(), output_type="pt",
        ).images
        with tempfile.TemporaryDirectory() as folder:
            start, out = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
            save_file({"latents": latents}, start)
            command = [
                arguments.foreseed, "trace", "--model", arguments.model, "--prompt", prompt,
                "--steps", str(arguments.steps), "--guidance", str(arguments.guidance),
                "--height", "64", "--width", "64", "--latents", str(start), "--dtype", "f32", "--out", str(out),
            ]
            if negative is not None:
                command += ["--negative-prompt", negative]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            image = load_file(out)["image"]
        apart = difference(image, reference)
        worst = max(worst, apart)
        print(f"{apart:.1e}  {prompt!r}, negative prompt {negative!r}")
    print("the same" if worst <= BAR else "NOT the same")
    raise SystemExit(worst > BAR)


if __name__ == "__main__":
    main()
