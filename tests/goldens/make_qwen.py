"""Makes the committed goldens: tiny random Qwen-Image pipelines under `qwen/`, and what diffusers
computes with them. `tests/parity_qwen.rs` compares `foreseed trace` with them.

    pip install torch diffusers transformers safetensors
    python tests/goldens/make_qwen.py
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen2Tokenizer

from random_qwen import LONG, PROMPTS, Spec, build, reference

HERE = Path(__file__).parent / "qwen"

TEXTS = [
    "He'S THEY'LL i'm 'tis we'Re",
    "1234567 3.14 ١٢٣ x² №5",
    "a\r\n\r\n  b \n\t c   ",
    "…—–«quoted»!!!??  (a)[b]{c}\n\n//",
    "日本語のテキスト、中文。한국어 עברית العربية ไทย",
    "👩‍👩‍👧 🏳️‍🌈 e\u0301 \u1e9b\u0323 \ufb01 ＡＢＣ",
    "<|im_end|><|im_start|> <|vision_start|>x<|vision_end|> </tool_call>",
]

MODELS = {
    # Like Qwen-Image itself, in the form in which it is published.
    "published": Spec(
        transformer=dict(num_layers=3, num_attention_heads=2, axes_dims_rope=[2, 4, 4]),
        vae=dict(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[-0.7, 0.1, 0.4, 0.0],
            latents_std=[1.5, 0.8, 1.1, 2.3],
        ),
        text=dict(
            hidden_size=12,
            intermediate_size=20,
            num_attention_heads=2,
            num_key_value_heads=1,
            num_hidden_layers=2,
            rms_norm_eps=1e-6,
        ),
        scheduler=dict(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            base_image_seq_len=256,
            max_image_seq_len=8192,
            shift_terminal=0.02,
            time_shift_type="exponential",
        ),
        seed=1,
        tokenizer="vocab",
        dtype="bfloat16",
        shard="40KB",
        # The template makes 34 tokens with Qwen's own vocabulary; here it makes more.
        merges=190,
    ),
    # An even number of blocks, keys for every head, tokenizer.json, no shift, one level less.
    "plain": Spec(
        transformer=dict(
            num_layers=2, num_attention_heads=2, axes_dims_rope=[4, 2, 2], zero_cond_t=True
        ),
        vae=dict(
            base_dim=4,
            z_dim=2,
            dim_mult=[1, 1],
            num_res_blocks=2,
            temperal_downsample=[True],
            latents_mean=[0.3, -0.2],
            latents_std=[0.9, 1.4],
        ),
        text=dict(
            hidden_size=8,
            intermediate_size=16,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_hidden_layers=3,
            hidden_act="gelu",
        ),
        scheduler=dict(shift=3.0),
        seed=2,
        published=False,
        dtype="float16",
        merges=240,
    ),
}

# name: (model, call, tap)
CASES = {
    "published-none": (
        "published",
        dict(
            prompt="Two  small GREEN stars, don't! <|im_end|>",
            negative_prompt=None,
            steps=2,
            guidance=4.0,
            height=24,
            width=40,
        ),
        None,
    ),
    "published-negative": (
        "published",
        dict(
            prompt="\n a red  circle\t☃ é e\u0301 ﬁ ½ 42",
            negative_prompt="blurry, blue background",
            steps=2,
            guidance=4.0,
            height=40,
            width=16,
        ),
        ["transformer_blocks.0", "transformer_blocks.2"],
    ),
    "published-empty-long": (
        "published",
        dict(
            prompt=LONG,
            negative_prompt="",
            steps=9,
            guidance=2.5,
            height=8,
            width=24,
            stop_at=2,
        ),
        ["transformer_blocks.1"],
    ),
    "plain-empty": (
        "plain",
        dict(prompt="", negative_prompt=" ", steps=2, guidance=7.0, height=12, width=20),
        [],
    ),
    "plain-unguided": (
        "plain",
        dict(
            prompt="an orange cat <tool_call>",
            negative_prompt="unused",
            steps=1,
            guidance=1.0,
            height=4,
            width=28,
        ),
        None,
    ),
    "plain-long": (
        "plain",
        dict(
            prompt="a blue square",
            negative_prompt=LONG,
            steps=2,
            guidance=3.0,
            height=12,
            width=12,
        ),
        ["transformer_blocks.1"],
    ),
}


def tokenized(folder):
    """Texts and the ids that transformers makes of them."""
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    texts = [text for text in PROMPTS if text != LONG] + TEXTS
    return [[text, tokenizer(text).input_ids] for text in texts]


def main():
    torch.set_num_threads(1)
    shutil.rmtree(HERE, ignore_errors=True)
    for name, spec in MODELS.items():
        build(spec, HERE / name)
    cases = {}
    for i, (name, (model, call, tap)) in enumerate(CASES.items()):
        spec = MODELS[model]
        shape = (1, spec.vae["z_dim"], call["height"] // spec.scale, call["width"] // spec.scale)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(i))
        # No prefix at all taps nothing here; the reference takes "nothing" as a prefix of nothing.
        prefixes = ["-"] if tap == [] else tap
        tensors = reference(HERE / model, {**call, "latents": latents}, spec.variant, prefixes)
        save_file({"latents": latents, **tensors}, HERE / f"{name}.safetensors")
        cases[name] = {"model": model, **call, "tap": tap}
    tokens = {name: tokenized(HERE / name / "tokenizer") for name in MODELS}
    (HERE / "tokens.json").write_text(json.dumps(tokens, ensure_ascii=False) + "\n")
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
    size = sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file())
    print(f"{len(cases)} cases, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
