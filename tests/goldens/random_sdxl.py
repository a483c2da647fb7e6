"""Random SDXL pipelines in diffusers' layout, and what the real diffusers computes with them."""

import json
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
import diffusers
from diffusers import (
    AutoencoderKL,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

START, END = "<|startoftext|>", "<|endoftext|>"
CORPUS = (
    "a red circle left of a blue square on a white background two small green stars "
    "above the large yellow heart photo of an orange cat don't it's we're below pink "
).split()


@dataclass
class Spec:
    """One pipeline: configurations as diffusers and transformers take them, and how it is saved."""

    unet: dict
    vae: dict
    text: dict
    text_2: dict
    scheduler: dict
    seed: int = 0
    tokens: int = 77
    force_zeros: bool = True
    pad_2: str = END
    tokenizer_json: tuple = (True, True)
    dtype: str = "float32"
    variant: str | None = None
    shard: str | None = None
    legacy_eos: bool = False
    sampler: str = "EulerDiscreteScheduler"
    extra: dict = field(default_factory=dict)


def byte_letters():
    """The printable stand-ins of the 256 bytes in byte-level BPE."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in kept]
    letters += [chr(256 + i) for i in range(256 - len(kept))]
    return letters


def vocabulary(merge_count=60):
    """A small CLIP vocabulary: bytes, bytes at a word's end, and merges learned from CORPUS."""
    words = [[*w[:-1], w[-1] + "</w>"] for w in CORPUS]
    merges = []
    while len(merges) < merge_count:
        counts = {}
        for word in words:
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        best = max(sorted(counts), key=counts.get)
        merges.append(best)
        for word in words:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
    letters = byte_letters()
    tokens = letters + [x + "</w>" for x in letters] + ["".join(m) for m in merges] + [START, END]
    return {token: i for i, token in enumerate(tokens)}, merges


def save_tokenizer(folder, tokens, pad, as_json):
    vocab, merges = vocabulary()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if as_json:
        tokenizer = CLIPTokenizer(
            vocab=vocab, merges=merges, pad_token=pad, model_max_length=tokens
        )
        tokenizer.save_pretrained(folder)
        return vocab
    special = lambda text: {
        "content": text,
        "lstrip": False,
        "normalized": True,
        "rstrip": False,
        "single_word": False,
    }
    typed = lambda text: {"__type": "AddedToken", **special(text)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    named = {"bos_token": START, "eos_token": END, "unk_token": END}
    (folder / "special_tokens_map.json").write_text(
        json.dumps({**{k: special(v) for k, v in named.items()}, "pad_token": pad})
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "add_prefix_space": False,
                "do_lower_case": True,
                "model_max_length": tokens,
                "tokenizer_class": "CLIPTokenizer",
                "pad_token": pad,
                **{k: typed(v) for k, v in named.items()},
            }
        )
    )
    return vocab


def randomize(module, generator):
    """Weights that keep activations lively, with norms away from the identity."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "norm" in name:
                p.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
            elif p.ndim == 1:
                p.copy_(noise * 0.1)
            elif "embedding" in name and p.ndim == 2 and "linear" not in name:
                p.copy_(noise * 0.5)
            else:
                p.copy_(noise * (p[0].numel() ** -0.5))


def build(spec: Spec, folder):
    """Writes the pipeline to `folder`."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(spec.seed)
    as_json, as_json_2 = spec.tokenizer_json
    vocab = save_tokenizer(folder / "tokenizer", spec.tokens, END, as_json)
    save_tokenizer(folder / "tokenizer_2", spec.tokens, spec.pad_2, as_json_2)
    ids = {
        "vocab_size": len(vocab),
        "bos_token_id": 0 if spec.legacy_eos else vocab[START],
        "eos_token_id": 2 if spec.legacy_eos else vocab[END],
        "max_position_embeddings": spec.tokens,
    }
    text = CLIPTextModel(CLIPTextConfig(**{**ids, **spec.text}))
    text_2 = CLIPTextModelWithProjection(CLIPTextConfig(**{**ids, **spec.text_2}))
    pooled = text_2.config.projection_dim
    added = spec.unet["addition_time_embed_dim"]
    unet = UNet2DConditionModel(
        addition_embed_type="text_time",
        projection_class_embeddings_input_dim=6 * added + pooled,
        cross_attention_dim=text.config.hidden_size + text_2.config.hidden_size,
        **spec.unet,
    )
    vae = AutoencoderKL(**spec.vae)
    for module in (text, text_2, unet, vae):
        randomize(module, generator)
    pipe = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text,
        text_encoder_2=text_2,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=unet,
        scheduler=getattr(diffusers, spec.sampler).from_config(spec.scheduler),
        force_zeros_for_empty_prompt=spec.force_zeros,
        add_watermarker=False,
    ).to(getattr(torch, spec.dtype))
    keep = folder.with_name(folder.name + ".tokenizers")
    shutil.rmtree(keep, ignore_errors=True)
    keep.mkdir()
    for name in ("tokenizer", "tokenizer_2"):
        shutil.move(folder / name, keep / name)
    options = {"variant": spec.variant} if spec.variant else {}
    if spec.shard:
        options["max_shard_size"] = spec.shard
    pipe.save_pretrained(folder, **options)
    # save_pretrained writes tokenizer.json whatever was read: put the files back as they were.
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(folder / name)
        shutil.move(keep / name, folder / name)
    keep.rmdir()
    # What the VAE's encoder learned is not needed to decode; it would only make goldens larger.
    return folder


class Tapping:
    """diffusers' plain attention, keeping the probabilities of the conditional half."""

    def __init__(self, path, kept, guided):
        self.path, self.kept, self.guided = path, kept, guided

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        rows = hidden_states.shape[0]
        q = attn.head_to_batch_dim(attn.to_q(hidden_states))
        k = attn.head_to_batch_dim(attn.to_k(context))
        v = attn.head_to_batch_dim(attn.to_v(context))
        p = attn.get_attention_scores(q, k, attention_mask)
        by_row = p.reshape(rows, attn.heads, *p.shape[1:])
        self.kept[self.path] = (by_row.chunk(2)[1] if self.guided else by_row).clone()
        out = attn.batch_to_head_dim(torch.bmm(p, v))
        return attn.to_out[1](attn.to_out[0](out))


def give_noise(noise):
    """Has the samplers that add noise in every step take it from this list."""
    given = iter(noise)
    for name in ("scheduling_euler_ancestral_discrete", "scheduling_dpmsolver_multistep"):
        module = getattr(diffusers.schedulers, name)
        module.randn_tensor = lambda *_, **__: next(given)


def reference(folder, call, variant=None, tap=None, prepare=lambda pipe: None):
    """Runs the real pipeline; the tensors that `foreseed trace` writes for the same call.

    call: prompt, negative_prompt (None: none), steps, guidance, height, width, latents and
    optionally stop_at, scheduler (another configuration than the folder's) and noise (what a sampler
    adds, step by step). tap: beginnings of module paths; None: the middle block's. prepare: what is
    done to the pipeline before it runs.
    """
    options = {"variant": variant} if variant else {}
    pipe = StableDiffusionXLPipeline.from_pretrained(
        folder, add_watermarker=False, torch_dtype=torch.float32, **options
    )
    pipe.set_progress_bar_config(disable=True)
    if call.get("scheduler"):
        kind = getattr(diffusers, call["scheduler"]["_class_name"])
        pipe.scheduler = kind.from_config(call["scheduler"])
    if call.get("noise"):
        give_noise(call["noise"])
    prepare(pipe)
    guided = call["guidance"] > 1
    tensors, kept = {}, {}
    prefixes = tuple(tap) if tap is not None else ("mid_block",)
    processors = dict(pipe.unet.attn_processors)
    for name in processors:
        path = name.removesuffix(".processor")
        if path.endswith("attn2") and path.startswith(prefixes):
            processors[name] = Tapping(path, kept, guided)
    pipe.unet.set_attn_processor(processors)
    embeds = pipe.encode_prompt(
        call["prompt"],
        negative_prompt=call["negative_prompt"],
        do_classifier_free_guidance=guided,
    )
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled", "negative_pooled")
    for name, value in zip(names, embeds):
        if value is not None and (guided or not name.startswith("negative")):
            tensors[name] = value
    stop_at = call.get("stop_at", call["steps"])

    def after(pipe, i, t, state):
        if i < stop_at:
            tensors[f"latents.{i}"] = state["latents"].clone()
            for path, p in kept.items():
                tensors[f"attn.{path}.{i}"] = p
        return {}

    with torch.no_grad():
        image = pipe(
            prompt=call["prompt"],
            negative_prompt=call["negative_prompt"],
            num_inference_steps=call["steps"],
            guidance_scale=call["guidance"],
            height=call["height"],
            width=call["width"],
            latents=call["latents"],
            callback_on_step_end=after,
            output_type="pt",
        ).images
    if stop_at == call["steps"]:
        tensors["image"] = image
    return {k: v.detach().float().contiguous().clone() for k, v in tensors.items()}


def run(folder, spec, call, tap):
    """The reference of a call on what [`build`] wrote."""
    return reference(folder, call, spec.variant, tap)


def prefixes(spec):
    """Beginnings of the paths of all blocks that can be tapped; None where there are none."""
    blocks = {
        "down_blocks": any("Cross" in b for b in spec.unet["down_block_types"]),
        "mid": "Cross" in spec.unet["mid_block_type"],
        "up_blocks": any("Cross" in b for b in spec.unet["up_block_types"]),
    }
    return [name for name, there in blocks.items() if there] or None


def relative(ours, theirs):
    """max|ours − reference| / max|reference|"""
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30)).item()


def random_spec(r: random.Random):
    """A pipeline of random shape."""
    groups = r.choice([2, 4])
    depth = r.choice([1, 2, 2, 3, 3])
    channels = [groups * r.choice([2, 4, 6]) for _ in range(depth)]
    kinds = [r.random() < 0.6 for _ in range(depth)]
    down = ["CrossAttnDownBlock2D" if k else "DownBlock2D" for k in kinds]
    up = ["CrossAttnUpBlock2D" if k else "UpBlock2D" for k in reversed(kinds)]
    if r.random() < 0.2:
        up[0] = "UpBlock2D"
    heads = [r.choice([h for h in (1, 2, 3, 4) if c % h == 0]) for c in channels]
    layers = r.choice([1, 2, [r.choice([1, 2]) for _ in range(depth)]])
    transformers = r.choice([1, 2, [r.choice([1, 2, 3]) for _ in range(depth)]])
    same_heads = all(c % heads[0] == 0 for c in channels)
    unet = dict(
        sample_size=r.choice([None, 16, 32]),
        in_channels=4,
        out_channels=4,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=channels,
        layers_per_block=layers,
        transformer_layers_per_block=transformers,
        attention_head_dim=heads[0] if same_heads and r.random() < 0.4 else heads,
        use_linear_projection=r.random() < 0.5,
        norm_num_groups=groups,
        norm_eps=r.choice([1e-5, 1e-6]),
        flip_sin_to_cos=r.random() < 0.8,
        freq_shift=r.choice([0, 0, 1]),
        act_fn=r.choice(["silu", "silu", "silu", "gelu"]),
        addition_time_embed_dim=r.choice([4, 8, 6]),
        mid_block_type="UNetMidBlock2DCrossAttn",
        resnet_time_scale_shift=r.choice(["default", "default", "scale_shift"]),
        mid_block_scale_factor=r.choice([1, 1, 1.4]),
        downsample_padding=r.choice([1, 1, 0]),
        upcast_attention=r.random() < 0.2,
    )
    if r.random() < 0.15:
        unet["mid_block_type"] = "UNetMidBlock2D"
    if not isinstance(transformers, int) and r.random() < 0.3:
        unet["reverse_transformer_layers_per_block"] = [r.choice([1, 2]) for _ in range(depth)]
    vae_groups = r.choice([2, 4])
    levels = r.choice([1, 2, 3, 4])
    vae = dict(
        block_out_channels=[vae_groups * r.choice([1, 2, 3]) for _ in range(levels)],
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=r.choice([1, 2]),
        norm_num_groups=vae_groups,
        latent_channels=4,
        scaling_factor=r.choice([0.13025, 0.18215, 1.3]),
        mid_block_add_attention=r.random() < 0.6,
        use_post_quant_conv=r.random() < 0.8,
        sample_size=64,
    )
    if r.random() < 0.3:
        vae["latents_mean"] = [r.uniform(-1, 1) for _ in range(4)]
        vae["latents_std"] = [r.uniform(0.5, 2) for _ in range(4)]
    if r.random() < 0.2:
        vae["shift_factor"] = 0.1

    def text():
        head = r.choice([4, 6, 8])
        n = r.choice([1, 2, 4])
        return dict(
            hidden_size=head * n,
            intermediate_size=r.choice([16, 40]),
            num_attention_heads=n,
            num_hidden_layers=r.choice([1, 2, 3]),
            hidden_act=r.choice(["quick_gelu", "gelu", "gelu_new"]),
            projection_dim=r.choice([8, 12, 16]),
            layer_norm_eps=r.choice([1e-5, 1e-6]),
        )

    scheduler = dict(
        num_train_timesteps=r.choice([1000, 1000, 500]),
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule=r.choice(["linear", "scaled_linear", "scaled_linear", "squaredcos_cap_v2"]),
        prediction_type=r.choice(["epsilon", "v_prediction", "v_prediction", "sample"]),
        timestep_spacing=r.choice(["leading", "leading", "trailing", "linspace"]),
        steps_offset=r.choice([0, 1, 1]),
        interpolation_type=r.choice(["linear", "linear", "linear", "log_linear"]),
        use_karras_sigmas=r.random() < 0.2,
        rescale_betas_zero_snr=False,
        final_sigmas_type=r.choice(["zero", "zero", "sigma_min"]),
        timestep_type="discrete",
    )
    # Both reach noise levels of thousands, where f32 leaves no digits for a comparison in the last
    # steps of a run: only spacings that stay away from the last training steps are comparable.
    if scheduler["beta_schedule"] == "squaredcos_cap_v2":
        scheduler.update(timestep_spacing="leading", interpolation_type="linear")
    elif r.random() < 0.2:
        scheduler.update(
            rescale_betas_zero_snr=True, timestep_spacing="leading", interpolation_type="linear"
        )
    if r.random() < 0.1 and not scheduler["use_karras_sigmas"]:
        scheduler["use_exponential_sigmas"] = True
    if r.random() < 0.1 and scheduler["prediction_type"] == "v_prediction":
        scheduler.update(timestep_type="continuous", interpolation_type="linear")
    if r.random() < 0.1:
        n = scheduler["num_train_timesteps"]
        scheduler["trained_betas"] = [0.0005 + 0.01 * i / n for i in range(n)]
    sampler = r.choice(["EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep"])
    if sampler == "DPMSolverMultistep":
        scheduler.update(
            solver_order=r.choice([1, 2, 2]),
            solver_type=r.choice(["midpoint", "midpoint", "heun"]),
            algorithm_type=r.choice(["dpmsolver++", "dpmsolver++", "sde-dpmsolver++"]),
            euler_at_final=r.random() < 0.2,
            lower_order_final=r.random() < 0.8,
        )
    return Spec(
        unet=unet,
        vae=vae,
        text=text(),
        text_2=text(),
        scheduler=scheduler,
        sampler=sampler + "Scheduler",
        seed=r.randrange(1 << 30),
        tokens=r.choice([77, 77, 20]),
        force_zeros=r.random() < 0.5,
        pad_2=r.choice([END, "!"]),
        tokenizer_json=(r.random() < 0.5, r.random() < 0.5),
        dtype=r.choice(["float32", "float16", "bfloat16"]),
        variant=r.choice([None, None, "fp16"]),
        shard=r.choice([None, None, "40KB"]),
        legacy_eos=r.random() < 0.3,
    )


PROMPTS = [
    "a red circle left of a blue square",
    "Two  small GREEN stars,\tabove the heart!!  ",
    "  don't WE'RE it's naïve café ﬁne ½ №5 ☃ 日本 e\u0301",
    "",
    "red circle " * 60 + "end",
    "wow! <|endoftext|> 42 cats <|startoftext|>x",
    "photo, of: an_orange-cat (3.5) 'quoted' \u00a0 nbsp \n newline",
]


def random_call(r: random.Random, spec: Spec):
    scale = 2 ** (len(spec.vae["block_out_channels"]) - 1)
    unit = max(8, scale)
    height, width = (unit * r.randint(1, max(1, 48 // unit)) for _ in range(2))
    steps = r.choice([1, 2, 3, 5])
    generator = torch.Generator().manual_seed(r.randrange(1 << 30))
    shape = (1, 4, height // scale, width // scale)
    latents = torch.randn(shape, generator=generator)
    noise = [torch.randn(shape, generator=generator) for _ in range(steps)]
    return dict(
        prompt=r.choice(PROMPTS),
        negative_prompt=r.choice([None, "", "blurry " + r.choice(PROMPTS)]),
        steps=steps,
        guidance=r.choice([5.0, 7.5, 2.0, 1.0, 0.0]),
        height=height,
        width=width,
        latents=latents,
        noise=noise,
    )
