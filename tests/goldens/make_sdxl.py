"""Makes the committed goldens: tiny random SDXL pipelines under `sdxl/`, and what diffusers computes
with them. `tests/parity_sdxl.rs` compares `foreseed trace` with them.

    pip install torch diffusers transformers safetensors
    python tests/goldens/make_sdxl.py
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from random_sdxl import END, Spec, build, reference

HERE = Path(__file__).parent / "sdxl"
LONG = "a red circle left of a blue square and " * 12 + "the end"
VAE = dict(layers_per_block=1, latent_channels=4, sample_size=32)


def vae(channels, groups, **more):
    levels = len(channels)
    return dict(
        **VAE,
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        norm_num_groups=groups,
        **more,
    )


def text(hidden, heads, layers, act, projection=8):
    return dict(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        hidden_act=act,
        projection_dim=projection,
    )


MODELS = {
    # Like SDXL itself: no attention at the first level, deeper transformers further down.
    "epsilon": Spec(
        unet=dict(
            sample_size=8,
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
            block_out_channels=[8, 16],
            layers_per_block=1,
            transformer_layers_per_block=[1, 2],
            attention_head_dim=[2, 4],
            use_linear_projection=True,
            norm_num_groups=4,
            addition_time_embed_dim=4,
        ),
        vae=vae([4, 8, 8], 4, scaling_factor=0.13025),
        text=text(12, 2, 2, "quick_gelu"),
        text_2=text(16, 2, 3, "gelu"),
        scheduler=dict(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
            prediction_type="epsilon",
        ),
        seed=1,
        pad_2="!",
        tokenizer_json=(False, False),
        dtype="float16",
    ),
    # Attention at every level, convolutional projections, zeros not forced, sharded.
    "velocity": Spec(
        unet=dict(
            down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            block_out_channels=[4, 8, 8],
            layers_per_block=[1, 2, 1],
            transformer_layers_per_block=1,
            attention_head_dim=2,
            norm_num_groups=2,
            addition_time_embed_dim=6,
            flip_sin_to_cos=False,
            freq_shift=1,
        ),
        vae=vae(
            [4, 4],
            2,
            mid_block_add_attention=False,
            use_post_quant_conv=False,
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[0.9, 1.1, 1.3, 0.7],
        ),
        text=text(8, 1, 1, "gelu_new"),
        text_2=text(8, 2, 2, "quick_gelu", 12),
        scheduler=dict(
            beta_schedule="squaredcos_cap_v2",
            timestep_spacing="leading",
            prediction_type="v_prediction",
        ),
        seed=2,
        force_zeros=False,
        tokenizer_json=(True, False),
        shard="40KB",
    ),
    # A plain middle, time that scales and shifts, Karras' noise levels, the fp16 variant alone.
    "sample": Spec(
        unet=dict(
            down_block_types=["CrossAttnDownBlock2D", "DownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            block_out_channels=[8, 12],
            layers_per_block=1,
            transformer_layers_per_block=1,
            attention_head_dim=[4, 3],
            norm_num_groups=4,
            addition_time_embed_dim=4,
            mid_block_type="UNetMidBlock2D",
            resnet_time_scale_shift="scale_shift",
            downsample_padding=0,
            act_fn="gelu",
        ),
        vae=vae([4], 4, scaling_factor=1.2),
        text=text(8, 2, 2, "gelu"),
        text_2=text(8, 1, 2, "gelu"),
        scheduler=dict(
            beta_start=0.00085,
            beta_end=0.012,
            timestep_spacing="trailing",
            use_karras_sigmas=True,
            final_sigmas_type="sigma_min",
            prediction_type="sample",
        ),
        seed=3,
        tokens=20,
        tokenizer_json=(False, True),
        dtype="float16",
        variant="fp16",
        legacy_eos=True,
        pad_2=END,
    ),
}

TRAINED = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def sampled(kind, steps, guidance, **config):
    """A case of another sampler over the weights of `epsilon`."""
    scheduler = dict(_class_name=kind, **TRAINED, **config)
    call = dict(
        prompt="a red circle",
        negative_prompt="blurry" if guidance > 1 else None,
        steps=steps,
        guidance=guidance,
        height=24,
        width=16,
        scheduler=scheduler,
    )
    return "epsilon", call, []


# name: (model, call, tap)
CASES = {
    "epsilon-negative": (
        "epsilon",
        dict(
            prompt="Two  small GREEN stars, don't!",
            negative_prompt="blurry",
            steps=2,
            guidance=5.0,
            height=24,
            width=40,
        ),
        None,
    ),
    "epsilon-none-long": (
        "epsilon",
        dict(
            prompt=LONG, negative_prompt=None, steps=9, guidance=7.5, height=24, width=32, stop_at=2
        ),
        ["mid_block.attentions.0.transformer_blocks.1", "up_blocks.0.attentions.1"],
    ),
    "epsilon-unguided": (
        "epsilon",
        dict(prompt="", negative_prompt="unused", steps=1, guidance=1.0, height=32, width=32),
        None,
    ),
    "velocity-empty": (
        "velocity",
        dict(
            prompt=" a red  circle\t☃ é e\u0301 ﬁ ½ ",
            negative_prompt="",
            steps=2,
            guidance=3.0,
            height=24,
            width=16,
        ),
        ["down_blocks.1.attentions.0", "up_blocks.1"],
    ),
    "velocity-none": (
        "velocity",
        dict(
            prompt="wow! <|endoftext|> 42",
            negative_prompt=None,
            steps=4,
            guidance=5.0,
            height=8,
            width=24,
        ),
        [],
    ),
    "sample-negative": (
        "sample",
        dict(
            prompt=LONG,
            negative_prompt=LONG[7:],
            steps=3,
            guidance=2.5,
            height=8,
            width=16,
        ),
        ["up_blocks.0"],
    ),
    # SDXL-Turbo's and SDXL-Lightning's, as they are published: few steps, no guidance.
    "sampler-turbo-one": sampled(
        "EulerAncestralDiscreteScheduler", 1, 0.0, timestep_spacing="trailing", steps_offset=1
    ),
    "sampler-turbo-four": sampled(
        "EulerAncestralDiscreteScheduler", 4, 0.0, timestep_spacing="trailing", steps_offset=1
    ),
    "sampler-lightning-four": sampled(
        "EulerDiscreteScheduler", 4, 0.0, timestep_spacing="trailing", steps_offset=1
    ),
    "sampler-lightning-two": sampled(
        "EulerDiscreteScheduler", 2, 1.0, timestep_spacing="trailing", steps_offset=1
    ),
    "sampler-ancestral": sampled(
        "EulerAncestralDiscreteScheduler",
        5,
        5.0,
        timestep_spacing="leading",
        steps_offset=1,
        prediction_type="v_prediction",
    ),
    "sampler-euler-karras": sampled(
        "EulerDiscreteScheduler",
        6,
        5.0,
        use_karras_sigmas=True,
        timestep_spacing="leading",
        steps_offset=1,
    ),
    "sampler-dpm-karras": sampled(
        "DPMSolverMultistepScheduler",
        8,
        5.0,
        use_karras_sigmas=True,
        timestep_spacing="leading",
        steps_offset=1,
    ),
    # 15 steps and more: the last one may be of second order.
    "sampler-dpm-long": sampled(
        "DPMSolverMultistepScheduler",
        16,
        3.0,
        timestep_spacing="leading",
        steps_offset=1,
        final_sigmas_type="sigma_min",
        solver_type="heun",
        prediction_type="v_prediction",
    ),
    "sampler-dpm-plain": sampled(
        "DPMSolverMultistepScheduler", 5, 5.0, timestep_spacing="linspace", euler_at_final=True
    ),
    "sampler-dpm-trailing": sampled(
        "DPMSolverMultistepScheduler",
        4,
        1.0,
        timestep_spacing="trailing",
        solver_order=1,
        prediction_type="sample",
    ),
    "sampler-dpm-sde": sampled(
        "DPMSolverMultistepScheduler",
        6,
        5.0,
        algorithm_type="sde-dpmsolver++",
        use_karras_sigmas=True,
        timestep_spacing="leading",
    ),
    "sampler-dpm-exponential": sampled(
        "DPMSolverMultistepScheduler",
        4,
        5.0,
        algorithm_type="sde-dpmsolver++",
        solver_type="heun",
        use_exponential_sigmas=True,
    ),
}
NOISY = ("Ancestral", "sde-")


def main():
    torch.set_num_threads(1)
    shutil.rmtree(HERE, ignore_errors=True)
    for name, spec in MODELS.items():
        build(spec, HERE / name)
    cases = {}
    for i, (name, (model, call, tap)) in enumerate(CASES.items()):
        spec = MODELS[model]
        scale = 2 ** (len(spec.vae["block_out_channels"]) - 1)
        shape = (1, 4, call["height"] // scale, call["width"] // scale)
        generator = torch.Generator().manual_seed(i)
        latents = torch.randn(shape, generator=generator)
        given = {"latents": latents}
        if any(mark in str(call.get("scheduler")) for mark in NOISY):
            noise = [torch.randn(shape, generator=generator) for _ in range(call["steps"])]
            given["noise"] = noise
        # No prefix at all taps nothing here; the reference takes "nothing" as a prefix of nothing.
        prefixes = ["-"] if tap == [] else tap
        tensors = reference(HERE / model, {**call, **given}, spec.variant, prefixes)
        for step, noise in enumerate(given.pop("noise", [])):
            given[f"noise.{step}"] = noise
        if name.startswith("sampler-"):
            # The texts and what the taps see do not depend on the sampler.
            tensors = {k: v for k, v in tensors.items() if k.startswith(("latents.", "image"))}
        save_file({**given, **tensors}, HERE / f"{name}.safetensors")
        cases[name] = {"model": model, **call, "tap": tap}
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
    size = sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file())
    print(f"{len(cases)} cases, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
