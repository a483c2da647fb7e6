"""Makes the manifests beside it: the name and shape of every tensor in the published files of SDXL
base 1.0, FLUX.1-dev, FLUX.1-schnell and Qwen-Image, from their public configurations, with diffusers
and transformers on the meta device: no weights are downloaded or allocated. `tests/real_shapes.rs`
has the loader consume them.

    pip install torch diffusers transformers
    python tests/shapes/make_manifests.py

Names are those of the published files, which the libraries of today would write differently in
places; `older` and `newer` list, for a component, the other names that are in use. Numbers in a name
that differ by nothing else are folded: `blocks.0-2,5.weight` stands for four tensors.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

HERE = Path(__file__).parent

# stabilityai/stable-diffusion-xl-base-1.0
SDXL_UNET = dict(
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    attention_head_dim=[5, 10, 20],
    block_out_channels=[320, 640, 1280],
    cross_attention_dim=2048,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    layers_per_block=2,
    projection_class_embeddings_input_dim=2816,
    sample_size=128,
    transformer_layers_per_block=[1, 2, 10],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    use_linear_projection=True,
)
# All three pipelines' first encoder; openai/clip-vit-large-patch14's text half.
CLIP_L = dict(
    hidden_act="quick_gelu",
    hidden_size=768,
    intermediate_size=3072,
    num_attention_heads=12,
    num_hidden_layers=12,
    projection_dim=768,
    vocab_size=49408,
)
# SDXL's second; laion/CLIP-ViT-bigG-14-laion2B-39B-b160k's text half.
OPENCLIP_BIG_G = dict(
    hidden_act="gelu",
    hidden_size=1280,
    intermediate_size=5120,
    num_attention_heads=20,
    num_hidden_layers=32,
    projection_dim=1280,
    vocab_size=49408,
)
VAE = dict(
    block_out_channels=[128, 256, 512, 512],
    down_block_types=["DownEncoderBlock2D"] * 4,
    layers_per_block=2,
    norm_num_groups=32,
    sample_size=1024,
    up_block_types=["UpDecoderBlock2D"] * 4,
)
SDXL_VAE = dict(**VAE, latent_channels=4, scaling_factor=0.13025, force_upcast=True)
# black-forest-labs/FLUX.1-dev and FLUX.1-schnell, which differ in guidance_embeds
FLUX_TRANSFORMER = dict(
    attention_head_dim=128,
    axes_dims_rope=[16, 56, 56],
    in_channels=64,
    joint_attention_dim=4096,
    num_attention_heads=24,
    num_layers=19,
    num_single_layers=38,
    patch_size=1,
    pooled_projection_dim=768,
)
FLUX_VAE = dict(
    **VAE,
    latent_channels=16,
    scaling_factor=0.3611,
    shift_factor=0.1159,
    use_quant_conv=False,
    use_post_quant_conv=False,
    force_upcast=True,
)
# google/t5-v1_1-xxl's encoder
T5_XXL = dict(
    d_ff=10240,
    d_kv=64,
    d_model=4096,
    feed_forward_proj="gated-gelu",
    num_heads=64,
    num_layers=24,
    relative_attention_max_distance=128,
    relative_attention_num_buckets=32,
    vocab_size=32128,
)
# Qwen/Qwen-Image
QWEN_TRANSFORMER = dict(
    attention_head_dim=128,
    axes_dims_rope=[16, 56, 56],
    guidance_embeds=False,
    in_channels=64,
    joint_attention_dim=3584,
    num_attention_heads=24,
    num_layers=60,
    out_channels=16,
    patch_size=2,
)
QWEN_VAE = dict(
    attn_scales=[],
    base_dim=96,
    dim_mult=[1, 2, 4, 4],
    dropout=0.0,
    num_res_blocks=2,
    temperal_downsample=[False, True, True],
    z_dim=16,
)
# Qwen/Qwen2.5-VL-7B-Instruct
QWEN_TEXT = dict(
    hidden_act="silu",
    hidden_size=3584,
    intermediate_size=18944,
    max_position_embeddings=128000,
    num_attention_heads=28,
    num_hidden_layers=28,
    num_key_value_heads=4,
    rms_norm_eps=1e-6,
    rope_scaling={"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
    rope_theta=1000000.0,
    sliding_window=32768,
    tie_word_embeddings=False,
    use_sliding_window=False,
    vocab_size=152064,
)
QWEN_VISION = dict(
    depth=32,
    fullatt_block_indexes=[7, 15, 23, 31],
    hidden_size=1280,
    in_chans=3,
    intermediate_size=3420,
    num_heads=16,
    out_hidden_size=3584,
    patch_size=14,
    spatial_merge_size=2,
    spatial_patch_size=14,
    tokens_per_second=2,
    window_size=112,
)

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"


def shapes(model):
    """Every tensor that a file holds, by name."""
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def qwen_text():
    text = {k: v for k, v in QWEN_TEXT.items() if k != "tie_word_embeddings"}
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=QWEN_VISION, tie_word_embeddings=False
    )
    return shapes(Qwen2_5_VLForConditionalGeneration(config))


def clip(kind, config):
    named = shapes(kind(CLIPTextConfig(**config)))
    bare = not any(name.startswith("text_model.") for name in named)
    own = lambda name: name if name.startswith("text_projection") or not bare else f"text_model.{name}"
    return {own(name): shape for name, shape in named.items() if "position_ids" not in name}


def t5():
    named = shapes(T5EncoderModel(T5Config(**T5_XXL)))
    # Tied weights are stored once.
    named.pop("encoder.embed_tokens.weight", None)
    return named


def published_qwen(name):
    """transformers 4.51 and before, which the published files are written by."""
    name = name.removeprefix("model.") if name.startswith("model.visual.") else name
    return name.replace("model.language_model.", "model.")


def ranges(numbers):
    """0, 1, 2, 5 → 0-2,5"""
    runs = []
    for n in sorted(numbers):
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def folded(named):
    """Names that differ in one number and have one shape become one, from the last number on."""
    entries = {}
    for name, shape in named.items():
        parts = tuple(frozenset([int(p)]) if p.isdigit() else p for p in name.split("."))
        entries[parts] = tuple(shape)
    longest = max(len(parts) for parts in entries)
    for at in range(longest - 1, -1, -1):
        merged = {}
        for parts, shape in entries.items():
            if at < len(parts) and isinstance(parts[at], frozenset):
                key = (parts[:at], parts[at + 1 :], shape)
                merged.setdefault(key, set()).update(parts[at])
            else:
                merged[(parts, None, shape)] = None
        entries = {}
        for (before, after, shape), numbers in merged.items():
            parts = before if after is None else (*before, frozenset(numbers), *after)
            entries[parts] = shape
    text = lambda p: p if isinstance(p, str) else ranges(p)
    return {".".join(map(text, parts)): list(shape) for parts, shape in entries.items()}


def component(library, kind, file, config, named, **more):
    return {
        "library": library,
        "class": kind,
        "file": file,
        "config": config,
        **more,
        "tensors": folded(named),
    }


def clip_component(kind, config, **more):
    return component(
        "transformers",
        kind.__name__,
        TRANSFORMERS,
        {**config, "eos_token_id": 2, "max_position_embeddings": 77},
        clip(kind, config),
        newer={"text_model.": ""},
        extra={"text_model.embeddings.position_ids": [1, 77]},
        **more,
    )


def vae_component(config):
    # diffusers before 0.18 wrote the attention's names of before.
    older = {
        ".to_q.": ".query.",
        ".to_k.": ".key.",
        ".to_v.": ".value.",
        ".to_out.0.": ".proj_attn.",
    }
    return component(
        "diffusers", "AutoencoderKL", DIFFUSERS, config, shapes(AutoencoderKL(**config)), older=older
    )


def flux(guided):
    config = {**FLUX_TRANSFORMER, "guidance_embeds": guided}
    return component(
        "diffusers",
        "FluxTransformer2DModel",
        DIFFUSERS,
        config,
        shapes(FluxTransformer2DModel(**config)),
        shards=3,
    )


def manifests():
    euler = dict(
        _class_name="EulerDiscreteScheduler",
        beta_end=0.012,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        steps_offset=1,
        timestep_spacing="leading",
        use_karras_sigmas=False,
    )
    flow = dict(_class_name="FlowMatchEulerDiscreteScheduler", num_train_timesteps=1000)
    shifted = dict(**flow, base_shift=0.5, max_shift=1.15, shift=3.0, use_dynamic_shifting=True)
    yield "sdxl-base-1.0", dict(
        source="stabilityai/stable-diffusion-xl-base-1.0",
        dtype="F32",
        parameters=3_469_000_000,
        index=dict(
            _class_name="StableDiffusionXLPipeline",
            force_zeros_for_empty_prompt=True,
            tokenizer=["transformers", "CLIPTokenizer"],
            tokenizer_2=["transformers", "CLIPTokenizer"],
        ),
        scheduler=euler,
        components=dict(
            text_encoder=clip_component(CLIPTextModel, CLIP_L),
            text_encoder_2=clip_component(CLIPTextModelWithProjection, OPENCLIP_BIG_G),
            unet=component(
                "diffusers",
                "UNet2DConditionModel",
                DIFFUSERS,
                SDXL_UNET,
                shapes(UNet2DConditionModel(**SDXL_UNET)),
            ),
            vae=vae_component(SDXL_VAE),
        ),
    )
    flux_index = dict(
        _class_name="FluxPipeline",
        tokenizer=["transformers", "CLIPTokenizer"],
        tokenizer_2=["transformers", "T5TokenizerFast"],
    )
    yield "flux.1-dev", dict(
        source="black-forest-labs/FLUX.1-dev",
        dtype="BF16",
        parameters=16_900_000_000,
        index=flux_index,
        scheduler={**shifted, "base_image_seq_len": 256, "max_image_seq_len": 4096},
        components=dict(
            text_encoder=clip_component(CLIPTextModel, CLIP_L),
            text_encoder_2=component(
                "transformers",
                "T5EncoderModel",
                TRANSFORMERS,
                T5_XXL,
                t5(),
                shards=2,
                extra={"encoder.embed_tokens.weight": [32128, 4096]},
            ),
            transformer=flux(True),
            vae=vae_component(FLUX_VAE),
        ),
    )
    dev = {"same_as": "flux.1-dev"}
    yield "flux.1-schnell", dict(
        source="black-forest-labs/FLUX.1-schnell",
        dtype="BF16",
        parameters=16_900_000_000,
        index=flux_index,
        scheduler={**flow, "shift": 1.0, "use_dynamic_shifting": False},
        components=dict(text_encoder=dev, text_encoder_2=dev, transformer=flux(False), vae=dev),
    )
    text = qwen_text()
    yield "qwen-image", dict(
        source="Qwen/Qwen-Image",
        dtype="BF16",
        parameters=28_900_000_000,
        index=dict(
            _class_name="QwenImagePipeline", tokenizer=["transformers", "Qwen2Tokenizer"]
        ),
        scheduler={
            **flow,
            "base_image_seq_len": 256,
            "base_shift": 0.5,
            "max_image_seq_len": 8192,
            "max_shift": 0.9,
            "shift": 1.0,
            "shift_terminal": 0.02,
            "time_shift_type": "exponential",
            "use_dynamic_shifting": True,
        },
        components=dict(
            text_encoder=component(
                "transformers",
                "Qwen2_5_VLForConditionalGeneration",
                TRANSFORMERS,
                {**QWEN_TEXT, "vision_config": QWEN_VISION},
                {published_qwen(name): shape for name, shape in text.items()},
                shards=4,
                newer={"visual.": "model.visual.", "model.": "model.language_model."},
            ),
            transformer=component(
                "diffusers",
                "QwenImageTransformer2DModel",
                DIFFUSERS,
                QWEN_TRANSFORMER,
                shapes(QwenImageTransformer2DModel(**QWEN_TRANSFORMER)),
                shards=9,
            ),
            vae=component(
                "diffusers",
                "AutoencoderKLQwenImage",
                DIFFUSERS,
                QWEN_VAE,
                shapes(AutoencoderKLQwenImage(**QWEN_VAE)),
            ),
        ),
    )


def count(manifest):
    def of(name):
        numbers = 1
        for part in name.split("."):
            runs = part.split(",") if part[0].isdigit() else []
            ends = [list(map(int, run.split("-"))) for run in runs]
            numbers *= sum(e[-1] - e[0] + 1 for e in ends) if ends else 1
        return numbers

    return sum(
        of(name) * torch.Size(shape).numel()
        for part in manifest["components"].values()
        for name, shape in part.get("tensors", {}).items()
    )


def main():
    total = 0
    with torch.device("meta"):
        for name, manifest in manifests():
            # One tensor a line.
            text = json.dumps(manifest, indent=1, ensure_ascii=False)
            lines, within = [], 0
            for line in text.split("\n"):
                if within and not line.strip().endswith("["):
                    lines[-1] += line.strip().replace(",", ", ") if "]" not in line else line.strip()
                    within -= line.strip().startswith("]")
                else:
                    lines.append(line)
                    within += line.strip().endswith("[")
            path = HERE / f"{name}.json"
            path.write_text("\n".join(lines) + "\n")
            total += path.stat().st_size
            print(f"{name}: {count(manifest) / 1e9:.3f} G parameters, {path.stat().st_size} bytes")
    print(f"{total} bytes")


if __name__ == "__main__":
    main()
