"""Random FLUX.1 pipelines in diffusers' layout, and what the real diffusers computes with them."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from diffusers.models.embeddings import apply_rotary_emb
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from random_sdxl import CORPUS, END, START, randomize, save_tokenizer


@dataclass
class Spec:
    """One pipeline: configurations as diffusers and transformers take them, and how it is saved."""

    transformer: dict
    vae: dict
    clip: dict
    t5: dict
    scheduler: dict
    seed: int = 0
    clip_tokens: int = 77
    # What foreseed.json says; None: the pipeline's own, and no such file.
    text_tokens: int | None = None
    tokenizer_json: bool = True
    dtype: str = "float32"
    shard: str | None = None


def save_t5_tokenizer(folder):
    """A unigram vocabulary of the corpus, as transformers saves T5's tokenizer."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(CORPUS), "two stars, three hearts! 0123456789"], trainer)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "T5Tokenizer",
        "model_max_length": 512,
        "extra_ids": 0,
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer.get_vocab_size()


def build(spec: Spec, folder):
    """Writes the pipeline to `folder`."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(spec.seed)
    vocab = save_tokenizer(folder / "tokenizer", spec.clip_tokens, END, spec.tokenizer_json)
    ids = {
        "vocab_size": len(vocab),
        "bos_token_id": vocab[START],
        "eos_token_id": vocab[END],
        "max_position_embeddings": spec.clip_tokens,
    }
    t5_vocab = save_t5_tokenizer(folder / "tokenizer_2")
    clip = CLIPTextModel(CLIPTextConfig(**{**ids, **spec.clip}))
    t5 = T5EncoderModel(T5Config(**{"vocab_size": t5_vocab + 3, **spec.t5}))
    transformer = FluxTransformer2DModel(
        joint_attention_dim=t5.config.d_model,
        pooled_projection_dim=clip.config.hidden_size,
        **spec.transformer,
    )
    vae = AutoencoderKL(latent_channels=transformer.config.in_channels // 4, **spec.vae)
    for module in (clip, t5, transformer, vae):
        randomize(module, generator)
    with torch.no_grad():
        # Named "embedding" or not, T5's tables are lookups.
        t5.shared.weight.copy_(torch.randn(t5.shared.weight.shape, generator=generator))
    pipe = FluxPipeline(
        vae=vae,
        text_encoder=clip,
        text_encoder_2=t5,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=T5TokenizerFast.from_pretrained(folder / "tokenizer_2"),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(**spec.scheduler),
    ).to(getattr(torch, spec.dtype))
    keep = folder.with_name(folder.name + ".tokenizers")
    shutil.rmtree(keep, ignore_errors=True)
    keep.mkdir()
    for name in ("tokenizer", "tokenizer_2"):
        shutil.move(folder / name, keep / name)
    pipe.save_pretrained(folder, **({"max_shard_size": spec.shard} if spec.shard else {}))
    # save_pretrained writes tokenizer.json whatever was read: put the files back as they were.
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(folder / name)
        shutil.move(keep / name, folder / name)
    keep.rmdir()
    if spec.text_tokens:
        own = {"max_sequence_length": spec.text_tokens}
        (folder / "foreseed.json").write_text(json.dumps(own) + "\n")
    return folder


class Tapping:
    """diffusers' attention, with the probabilities of the image's queries over the text's keys."""

    def __init__(self, path, kept, text_tokens):
        self.path, self.kept, self.text_tokens = path, kept, text_tokens

    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        image_rotary_emb=None,
    ):
        split = lambda x: x.unflatten(-1, (attn.heads, -1))
        q = attn.norm_q(split(attn.to_q(hidden_states)))
        k = attn.norm_k(split(attn.to_k(hidden_states)))
        v = split(attn.to_v(hidden_states))
        if encoder_hidden_states is not None:
            text_q = attn.norm_added_q(split(attn.add_q_proj(encoder_hidden_states)))
            text_k = attn.norm_added_k(split(attn.add_k_proj(encoder_hidden_states)))
            text_v = split(attn.add_v_proj(encoder_hidden_states))
            q, k, v = (torch.cat(p, 1) for p in ((text_q, q), (text_k, k), (text_v, v)))
        q = apply_rotary_emb(q, image_rotary_emb, sequence_dim=1).transpose(1, 2)
        k = apply_rotary_emb(k, image_rotary_emb, sequence_dim=1).transpose(1, 2)
        p = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        n = self.text_tokens
        self.kept[self.path] = p[:, :, n:, :n].clone()
        out = (p @ v.transpose(1, 2)).transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return out
        return attn.to_out[0](out[:, n:]), attn.to_add_out(out[:, :n])


def reference(folder, call, tap=None, text_tokens=None):
    """Runs the real pipeline; the tensors that `foreseed trace` writes for the same call.

    call: prompt, steps, guidance, height, width, latents (not packed) and optionally stop_at. tap:
    beginnings of module paths; None: the last two double blocks.
    """
    pipe = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    length = {"max_sequence_length": text_tokens} if text_tokens else {}
    embeds, pooled, _ = pipe.encode_prompt(call["prompt"], **length)
    tensors, kept = {"prompt_embeds": embeds, "pooled": pooled}, {}
    paths = [n.removesuffix(".processor") for n in pipe.transformer.attn_processors]
    # The processors are not listed in forward order: by number, those of two streams first.
    double = sorted(
        (p for p in paths if p.startswith("transformer_blocks")), key=lambda p: int(p.split(".")[1])
    )
    prefixes = tuple(tap) if tap is not None else tuple(double[-2:])
    for path in paths:
        if path.startswith(prefixes):
            module = pipe.transformer.get_submodule(path)
            module.set_processor(Tapping(path, kept, embeds.shape[1]))
    height, width = call["height"], call["width"]
    stop_at = call.get("stop_at", call["steps"])

    def unpacked(latents):
        return pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)

    def after(pipe, i, t, state):
        if i < stop_at:
            tensors[f"latents.{i}"] = unpacked(state["latents"]).clone()
            for path, p in kept.items():
                tensors[f"attn.{path}.{i}"] = p
        return {}

    latents = pipe._pack_latents(call["latents"], *call["latents"].shape)
    with torch.no_grad():
        image = pipe(
            prompt=call["prompt"],
            num_inference_steps=call["steps"],
            guidance_scale=call["guidance"],
            height=height,
            width=width,
            latents=latents,
            callback_on_step_end=after,
            output_type="pt",
            **length,
        ).images
    if stop_at == call["steps"]:
        tensors["image"] = image
    return {k: v.detach().float().contiguous().clone() for k, v in tensors.items()}


def run(folder, spec, call, tap):
    """The reference of a call on what [`build`] wrote."""
    return reference(folder, call, tap, spec.text_tokens)


def prefixes(spec):
    """Beginnings of the paths of all blocks that can be tapped."""
    single = ["single_transformer_blocks"] if spec.transformer["num_single_layers"] else []
    return ["transformer_blocks", *single]


PROMPTS = [
    "a red circle left of a blue square",
    "Two  small GREEN stars,\tabove the heart!!  ",
    "  don't WE'RE it's naïve café ﬁne ½ №5 ☃ 日本 e\u0301",
    "",
    "red circle " * 300 + "end",
    "wow! </s> 42 cats <pad>x <|endoftext|>",
    "photo, of: an_orange-cat (3.5) 'quoted' \u00a0 nbsp \n newline",
]


def random_spec(r: random.Random):
    """A pipeline of random shape."""
    axes = [2 * r.randint(1, 3) for _ in range(3)]
    heads, latent_channels = r.choice([1, 2, 3]), r.choice([4, 8, 16])
    groups = r.choice([2, 4])
    levels = r.choice([1, 2, 3, 4])
    vae = dict(
        block_out_channels=[groups * r.choice([1, 2, 3]) for _ in range(levels)],
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=r.choice([1, 2]),
        norm_num_groups=groups,
        scaling_factor=r.choice([0.3611, 1.3]),
        shift_factor=r.choice([0.1159, -0.3]),
        use_quant_conv=False,
        use_post_quant_conv=r.random() < 0.3,
        mid_block_add_attention=r.random() < 0.7,
        sample_size=64,
    )
    clip_heads = r.choice([1, 2])
    clip = dict(
        hidden_size=clip_heads * r.choice([4, 6]),
        intermediate_size=r.choice([16, 40]),
        num_attention_heads=clip_heads,
        num_hidden_layers=r.choice([1, 2]),
        hidden_act=r.choice(["quick_gelu", "gelu"]),
        projection_dim=8,
    )
    t5 = dict(
        d_model=r.choice([8, 12, 16]),
        d_kv=r.choice([4, 6]),
        d_ff=r.choice([16, 20]),
        num_layers=r.choice([1, 2, 3]),
        num_heads=r.choice([1, 2, 3]),
        relative_attention_num_buckets=r.choice([32, 32, 16]),
        relative_attention_max_distance=r.choice([128, 64]),
        feed_forward_proj=r.choice(["gated-gelu", "gated-gelu", "relu", "gated-silu"]),
        layer_norm_epsilon=r.choice([1e-6, 1e-5]),
    )
    scheduler = dict(
        shift=r.choice([1.0, 3.0]),
        use_dynamic_shifting=r.random() < 0.5,
        base_shift=r.choice([0.5, 0.3]),
        max_shift=r.choice([1.15, 2.0]),
        base_image_seq_len=r.choice([256, 16]),
        time_shift_type=r.choice(["exponential", "exponential", "linear"]),
        shift_terminal=r.choice([None, None, None, 0.1]),
        use_karras_sigmas=r.random() < 0.1,
    )
    if not scheduler["use_karras_sigmas"]:
        scheduler["use_exponential_sigmas"] = r.random() < 0.1
    return Spec(
        transformer=dict(
            in_channels=4 * latent_channels,
            num_layers=r.choice([1, 2, 3]),
            num_single_layers=r.choice([0, 1, 2, 3]),
            attention_head_dim=sum(axes),
            num_attention_heads=heads,
            guidance_embeds=r.random() < 0.5,
            axes_dims_rope=tuple(axes),
        ),
        vae=vae,
        clip=clip,
        t5=t5,
        scheduler=scheduler,
        seed=r.randrange(1 << 30),
        clip_tokens=r.choice([77, 20]),
        text_tokens=r.choice([None, 256, 40]),
        tokenizer_json=r.random() < 0.5,
        dtype=r.choice(["float32", "float16", "bfloat16"]),
        shard=r.choice([None, None, "40KB"]),
    )


def random_call(r: random.Random, spec: Spec):
    scale = 2 ** (len(spec.vae["block_out_channels"]) - 1)
    unit = 2 * scale
    height, width = (unit * r.randint(1, max(1, 32 // unit)) for _ in range(2))
    generator = torch.Generator().manual_seed(r.randrange(1 << 30))
    shape = (1, spec.transformer["in_channels"] // 4, height // scale, width // scale)
    return dict(
        prompt=r.choice(PROMPTS),
        # A terminal level leaves a single step nowhere to go.
        steps=r.choice([2, 3, 5] if spec.scheduler["shift_terminal"] else [1, 2, 3, 5]),
        guidance=r.choice([3.5, 1.0, 0.0, 7.5]),
        height=height,
        width=width,
        latents=torch.randn(shape, generator=generator),
    )
