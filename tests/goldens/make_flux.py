"""Makes the committed goldens: tiny random FLUX.1 pipelines under `flux/`, and what diffusers computes
with them. `tests/parity_flux.rs` compares `foreseed trace` with them.

    pip install torch diffusers transformers tokenizers safetensors
    python tests/goldens/make_flux.py
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import save_file
from transformers.utils import logging as transformers_logging

from random_flux import Spec, build, reference

HERE = Path(__file__).parent / "flux"
LONG = "a red circle left of a blue square and " * 60 + "the end"


def vae(channels, **more):
    levels = len(channels)
    return dict(
        block_out_channels=channels,
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=1,
        norm_num_groups=2,
        sample_size=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **more,
    )


def clip(hidden, act):
    return dict(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_attention_heads=2,
        num_hidden_layers=2,
        hidden_act=act,
        projection_dim=hidden,
    )


def t5(width, feed_forward):
    return dict(
        d_model=width,
        d_kv=6,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        feed_forward_proj=feed_forward,
    )


MODELS = {
    # Like dev: told the guidance, levels shifted for the size, texts of 512 tokens.
    "dev": Spec(
        transformer=dict(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            guidance_embeds=True,
            axes_dims_rope=(2, 2, 4),
        ),
        vae=vae([4, 4], scaling_factor=0.3611, shift_factor=0.1159),
        clip=clip(8, "quick_gelu"),
        t5=t5(12, "gated-gelu"),
        scheduler=dict(shift=3.0, use_dynamic_shifting=True, base_image_seq_len=4),
        seed=11,
        tokenizer_json=False,
        dtype="float16",
        shard="30KB",
    ),
    # Like schnell: not told the guidance, levels even; shorter texts.
    "schnell": Spec(
        transformer=dict(
            in_channels=32,
            num_layers=3,
            num_single_layers=1,
            attention_head_dim=12,
            num_attention_heads=1,
            guidance_embeds=False,
            axes_dims_rope=(4, 6, 2),
        ),
        vae=vae([2, 4, 4], scaling_factor=1.3, shift_factor=-0.2, mid_block_add_attention=False),
        clip=clip(8, "gelu"),
        t5=t5(8, "relu"),
        scheduler=dict(shift=1.0),
        seed=12,
        clip_tokens=20,
        text_tokens=24,
        dtype="bfloat16",
    ),
}

# name: (model, call, tap)
CASES = {
    "dev-long": (
        "dev",
        dict(prompt=LONG, steps=3, guidance=3.5, height=8, width=12, stop_at=1),
        ["single_transformer_blocks.1"],
    ),
    "dev-short": (
        "dev",
        dict(prompt="Two  small GREEN stars, don't!", steps=3, guidance=7.5, height=16, width=8),
        [],
    ),
    "schnell-short": (
        "schnell",
        dict(prompt=" a red  circle\t☃ é e\u0301 </s> ½ ", steps=4, guidance=0.0, height=16, width=24),
        None,
    ),
    "schnell-long": (
        "schnell",
        dict(prompt=LONG, steps=1, guidance=3.5, height=32, width=8),
        ["transformer_blocks.0", "single_transformer_blocks"],
    ),
    "schnell-empty": (
        "schnell",
        dict(prompt="", steps=2, guidance=1.0, height=8, width=16),
        [],
    ),
}


def main():
    torch.set_num_threads(1)
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    shutil.rmtree(HERE, ignore_errors=True)
    for name, spec in MODELS.items():
        build(spec, HERE / name)
    cases = {}
    for i, (name, (model, call, tap)) in enumerate(CASES.items()):
        spec = MODELS[model]
        scale = 2 ** (len(spec.vae["block_out_channels"]) - 1)
        channels = spec.transformer["in_channels"] // 4
        shape = (1, channels, call["height"] // scale, call["width"] // scale)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(i))
        # No prefix at all taps nothing here; the reference takes "nothing" as a prefix of nothing.
        prefixes = ["-"] if tap == [] else tap
        tensors = reference(HERE / model, {**call, "latents": latents}, prefixes, spec.text_tokens)
        save_file({"latents": latents, **tensors}, HERE / f"{name}.safetensors")
        cases[name] = {"model": model, **call, "tap": tap}
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
    size = sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file())
    print(f"{len(cases)} cases, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
