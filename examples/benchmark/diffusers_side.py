"""The diffusers side of the benchmark: loads a pipeline once, then does what each line on stdin asks
for and answers with one JSON line: the seconds it took and the process's peak memory.

    candidates SEED   16 candidates to step 5 of 25, one batch, no picture
    render SEED       one candidate to the end, decoded

Needs torch and diffusers; run by `cargo run --release --example benchmark`.
"""

import json
import resource
import sys
import time

import torch
from diffusers import StableDiffusionXLPipeline

MODEL, PROMPT, THREADS = sys.argv[1], sys.argv[2], int(sys.argv[3])
CANDIDATES, TO_STEP, STEPS, GUIDANCE, SIDE = (float(n) if "." in n else int(n) for n in sys.argv[4:9])

torch.set_num_threads(THREADS)
torch.set_grad_enabled(False)
pipe = StableDiffusionXLPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)


def noise(seed, count):
    shape = (count, pipe.unet.config.in_channels, SIDE // pipe.vae_scale_factor, SIDE // pipe.vae_scale_factor)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(count, stop_after, output, seed):
    def after_step(pipeline, step, _timestep, values):
        # What diffusers offers for stopping early: the loop runs out without the denoiser.
        pipeline._interrupt = step + 1 >= stop_after
        return values

    return pipe(
        PROMPT,
        num_images_per_prompt=count,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        height=SIDE,
        width=SIDE,
        latents=noise(seed, count),
        output_type=output,
        callback_on_step_end=after_step,
    ).images


for line in sys.stdin:
    job, seed = line.split()
    began = time.perf_counter()
    if job == "candidates":
        run(CANDIDATES, TO_STEP, "latent", int(seed))
    else:
        run(1, STEPS, "np", int(seed))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)
