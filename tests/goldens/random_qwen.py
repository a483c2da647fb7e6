"""Random Qwen-Image pipelines in diffusers' layout, and what the real diffusers computes with them."""

import json
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from diffusers.models.transformers import transformer_qwenimage
from safetensors.torch import load_file, save_file
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|vision_start|>"]
PLAIN = ["<tool_call>", "</tool_call>"]
CORPUS = (
    "system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:\nuser\nassistant\n a red circle left of "
    "a blue square on a white background, two small green stars above the large yellow heart. "
    "A photo of an orange cat; don't blur it."
)
# Twice what the denoiser reads in any tokenizer here, and more than the encoder does.
LONG = "a red circle left of a blue square, and " * 120 + "the end"


@dataclass
class Spec:
    """One pipeline: configurations as diffusers and transformers take them, and how it is saved."""

    transformer: dict
    vae: dict
    text: dict
    scheduler: dict
    seed: int = 0
    tokenizer: str = "json"  # or "vocab": the published form; "legacy": added_tokens.json alone
    # As on the hub, or as newer libraries name tensors and nest the configuration.
    published: bool = True
    dtype: str = "float32"
    variant: str | None = None
    shard: str | None = None
    merges: int = 150
    extra: dict = field(default_factory=dict)

    @property
    def scale(self):
        return 2 ** len(self.vae["temperal_downsample"])


def byte_letters():
    """The printable stand-ins of the 256 bytes in byte-level BPE, by byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in kept}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + len(letters) - len(kept))
    return letters


def vocabulary(merge_count):
    """A small byte-level vocabulary: bytes, and merges learned from CORPUS."""
    letters = byte_letters()
    words = [[letters[b] for b in (" " + w).encode()] for w in CORPUS.split(" ")]
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
    tokens = [*letters.values(), *("".join(m) for m in merges)]
    return {token: i for i, token in enumerate(tokens)}, merges


def save_tokenizer(folder, form, merge_count):
    """Writes a Qwen2 tokenizer; the number of ids."""
    vocab, merges = vocabulary(merge_count)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: len(vocab) + i for i, token in enumerate(SPECIAL + PLAIN)}
    if form == "json":
        tokenizer = Qwen2Tokenizer(
            vocab=vocab,
            merges=merges,
            eos_token="<|im_end|>",
            additional_special_tokens=SPECIAL[1:],
        )
        tokenizer.add_tokens(PLAIN)
        tokenizer.save_pretrained(folder)
        return len(tokenizer)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    (folder / "added_tokens.json").write_text(json.dumps(ids))
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"additional_special_tokens": SPECIAL[1:], **named})
    )
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "unk_token": None,
        "errors": "replace",
        "model_max_length": 131072,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        **named,
    }
    if form == "vocab":
        config["added_tokens_decoder"] = {
            str(i): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": token in SPECIAL,
            }
            for token, i in ids.items()
        }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(vocab) + len(ids)


def randomize(module, generator):
    """Weights that keep activations lively, with norms away from the identity."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            scale = name.endswith("gamma") or ("norm" in name and p.ndim == 1)
            if name.startswith(("encoder.", "model.visual.", "lm_head.")):
                # Not needed here: zeros take no room in the repository.
                p.zero_()
            elif scale and not name.endswith("bias"):
                p.copy_(noise * 0.2 + 1.0)
            elif p.ndim == 1:
                p.copy_(noise * 0.1)
            elif "embed_tokens" in name:
                p.copy_(noise * 0.5)
            else:
                p.copy_(noise * (p[0].numel() ** -0.5))


def text_config(spec, ids):
    text = spec.text
    head = text["hidden_size"] // text["num_attention_heads"]
    section = [head // 2 - 2 * (head // 6), head // 6, head // 6]
    rope = {"rope_type": "default", "mrope_section": section, "rope_theta": 1000000.0}
    vision = dict(
        depth=1,
        hidden_size=8,
        intermediate_size=8,
        num_heads=2,
        out_hidden_size=text["hidden_size"],
        patch_size=2,
        fullatt_block_indexes=[0],
    )
    own = {"vocab_size": ids, "rope_parameters": rope, "pad_token_id": None, **text}
    return Qwen2_5_VLConfig(text_config=own, vision_config=vision)


def build(spec: Spec, folder):
    """Writes the pipeline to `folder`."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(spec.seed)
    ids = save_tokenizer(folder / "tokenizer", spec.tokenizer, spec.merges)
    text = Qwen2_5_VLForConditionalGeneration(text_config(spec, ids))
    channels = spec.vae["z_dim"]
    transformer = QwenImageTransformer2DModel(
        in_channels=4 * channels,
        out_channels=channels,
        joint_attention_dim=spec.text["hidden_size"],
        attention_head_dim=sum(spec.transformer["axes_dims_rope"]),
        **spec.transformer,
    )
    vae = AutoencoderKLQwenImage(**spec.vae)
    for module in (text, transformer, vae):
        randomize(module, generator)
    pipe = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**spec.scheduler),
        vae=vae,
        text_encoder=text,
        tokenizer=Qwen2Tokenizer.from_pretrained(folder / "tokenizer"),
        transformer=transformer,
    ).to(getattr(torch, spec.dtype))
    keep = folder.with_name(folder.name + ".tokenizer")
    shutil.rmtree(keep, ignore_errors=True)
    shutil.move(folder / "tokenizer", keep)
    options = {"variant": spec.variant} if spec.variant else {}
    if spec.shard:
        options["max_shard_size"] = spec.shard
    pipe.save_pretrained(folder, **options)
    # save_pretrained writes tokenizer.json whatever was read: put the files back as they were.
    shutil.rmtree(folder / "tokenizer")
    shutil.move(keep, folder / "tokenizer")
    as_written(folder / "text_encoder", spec.published)
    return folder


def as_written(folder, published):
    """The text encoder's files as they are on the hub (older tensor names, a flat configuration), or
    as libraries write them that know the language model as a part."""
    rename = older_name if published else newer_name
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        renamed = {rename(name): value for name, value in tensors.items()}
        save_file(renamed, path, {"format": "pt"})
    for path in folder.glob("*.index*.json"):
        index = json.loads(path.read_text())
        index["weight_map"] = {rename(k): v for k, v in index["weight_map"].items()}
        path.write_text(json.dumps(index))
    if not published:
        return
    path = folder / "config.json"
    config = json.loads(path.read_text())
    own = config.pop("text_config")
    rope = own.pop("rope_parameters")
    for name in ("layer_types", "model_type", "dtype"):
        own.pop(name, None)
    section = rope["mrope_section"]
    scaling = {"mrope_section": section, "rope_type": "default", "type": "default"}
    config.update(own, rope_theta=rope["rope_theta"], rope_scaling=scaling)
    path.write_text(json.dumps(config, indent=1))


def older_name(name):
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return name.replace("model.language_model.", "model.")


def newer_name(name):
    name = older_name(name)
    if name.startswith("visual."):
        return "model." + name
    return name.replace("model.", "model.language_model.", 1)


class Tapping(transformer_qwenimage.QwenDoubleStreamAttnProcessor2_0):
    """diffusers' attention, keeping the probabilities of image queries over text keys in each
    step's first call, which is the conditional one."""

    def __init__(self, path, kept):
        super().__init__()
        self.path, self.kept = path, kept

    # diffusers passes on what is named here, and no more.
    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        encoder_hidden_states_mask=None,
        attention_mask=None,
        image_rotary_emb=None,
    ):
        texts = encoder_hidden_states.shape[1]
        plain = transformer_qwenimage.dispatch_attention_fn

        def recording(query, key, value, **options):
            scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
            self.kept.setdefault(self.path, scores.softmax(-1)[:, :, texts:, :texts].clone())
            return plain(query, key, value, **options)

        transformer_qwenimage.dispatch_attention_fn = recording
        try:
            return super().__call__(
                attn,
                hidden_states,
                encoder_hidden_states,
                encoder_hidden_states_mask,
                attention_mask,
                image_rotary_emb,
            )
        finally:
            transformer_qwenimage.dispatch_attention_fn = plain


def pack(latents):
    return QwenImagePipeline._pack_latents(latents, *latents.shape)


def middle(layers):
    """The attentions that are tapped where nothing else is asked for."""
    half = (layers + 1) // 2
    return [f"transformer_blocks.{i}.attn" for i in range(max(0, half - 2), half)]


def reference(folder, call, variant=None, tap=None):
    """Runs the real pipeline; the tensors that `foreseed trace` writes for the same call.

    call: prompt, negative_prompt (None: none), steps, guidance, height, width, latents and
    optionally stop_at. tap: beginnings of module paths; None: the middle blocks'.
    """
    options = {"variant": variant} if variant else {}
    pipe = QwenImagePipeline.from_pretrained(folder, torch_dtype=torch.float32, **options)
    pipe.set_progress_bar_config(disable=True)
    tensors, kept = {}, {}
    prefixes = tuple(tap) if tap is not None else tuple(middle(pipe.transformer.config.num_layers))
    for i, block in enumerate(pipe.transformer.transformer_blocks):
        path = f"transformer_blocks.{i}.attn"
        if path.startswith(prefixes):
            block.attn.set_processor(Tapping(path, kept))
    guided = call["guidance"] > 1 and call["negative_prompt"] is not None
    # The call's own default is shorter than encode_prompt's.
    encode = lambda text: pipe.encode_prompt(text, max_sequence_length=512)[0]
    tensors["prompt_embeds"] = encode(call["prompt"])
    if guided:
        tensors["negative_prompt_embeds"] = encode(call["negative_prompt"])
    stop_at = call.get("stop_at", call["steps"])
    size = (call["height"], call["width"], pipe.vae_scale_factor)

    def after(pipe, i, t, state):
        if i < stop_at:
            tensors[f"latents.{i}"] = pipe._unpack_latents(state["latents"], *size).squeeze(2)
            for path, p in kept.items():
                tensors[f"attn.{path}.{i}"] = p
        kept.clear()
        return {}

    with torch.no_grad():
        image = pipe(
            prompt=call["prompt"],
            negative_prompt=call["negative_prompt"],
            num_inference_steps=call["steps"],
            true_cfg_scale=call["guidance"],
            height=call["height"],
            width=call["width"],
            latents=pack(call["latents"]),
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
    """Beginnings of the paths of all blocks that can be tapped."""
    return ["transformer_blocks."]


def random_spec(r: random.Random):
    """A pipeline of random shape."""
    channels = r.choice([1, 2, 4, 16])
    levels = r.choice([1, 2, 3, 4])
    vae = dict(
        # A pixel of two channels is all but lost in its norm where both are small: f32 has no
        # digits there for a comparison.
        base_dim=r.choice([4, 6, 8]),
        z_dim=channels,
        dim_mult=[r.choice([1, 2, 3, 4]) for _ in range(levels)],
        num_res_blocks=r.choice([1, 2]),
        temperal_downsample=[r.random() < 0.5 for _ in range(levels - 1)],
        latents_mean=[r.uniform(-1, 1) for _ in range(channels)],
        latents_std=[r.uniform(0.5, 3) for _ in range(channels)],
    )
    heads = r.choice([1, 2, 4])
    head = r.choice([4, 6, 8])
    text = dict(
        hidden_size=heads * head,
        intermediate_size=r.choice([16, 40]),
        num_attention_heads=heads,
        num_key_value_heads=r.choice([h for h in (1, 2, 4) if heads % h == 0]),
        num_hidden_layers=r.choice([1, 2, 3]),
        hidden_act=r.choice(["silu", "silu", "gelu"]),
        rms_norm_eps=r.choice([1e-5, 1e-6]),
    )
    scheduler = dict(
        num_train_timesteps=1000,
        shift=r.choice([1.0, 3.0]),
        use_dynamic_shifting=r.random() < 0.8,
        base_shift=0.5,
        max_shift=r.choice([0.9, 1.15]),
        base_image_seq_len=256,
        max_image_seq_len=r.choice([4096, 8192]),
        shift_terminal=r.choice([None, 0.02, 0.1]),
        time_shift_type=r.choice(["exponential", "exponential", "linear"]),
        use_karras_sigmas=r.random() < 0.1,
    )
    return Spec(
        transformer=dict(
            num_layers=r.choice([1, 2, 3, 4, 5]),
            num_attention_heads=r.choice([1, 2, 3]),
            axes_dims_rope=[r.choice([2, 4, 6]) for _ in range(3)],
            zero_cond_t=r.random() < 0.2,
        ),
        vae=vae,
        text=text,
        scheduler=scheduler,
        seed=r.randrange(1 << 30),
        tokenizer=r.choice(["json", "vocab", "legacy"]),
        published=r.random() < 0.5,
        dtype=r.choice(["float32", "float16", "bfloat16"]),
        variant=r.choice([None, None, "fp16"]),
        shard=r.choice([None, None, "40KB"]),
        merges=r.choice([60, 150, 240]),
    )


PROMPTS = [
    "a red circle left of a blue square",
    "Two  small GREEN stars,\tabove the heart!!  ",
    "  don't WE'RE it's naïve café ﬁne ½ №5 ☃ 日本 e\u0301",
    "",
    " ",
    "\n\n a red circle\r\n\n",
    LONG,
    "red circle " * 45,
    "wow! <|endoftext|> 42 cats <|im_start|>x <tool_call>",
    "photo, of: an_orange-cat (3.5) 'quoted' \u00a0 nbsp \n newline",
]


def random_call(r: random.Random, spec: Spec):
    unit = 2 * spec.scale
    height, width = (unit * r.randint(1, max(1, 48 // unit)) for _ in range(2))
    # A terminal level takes two steps.
    steps = r.choice([2, 3, 5]) if spec.scheduler["shift_terminal"] else r.choice([1, 2, 3, 5])
    generator = torch.Generator().manual_seed(r.randrange(1 << 30))
    shape = (1, spec.vae["z_dim"], height // spec.scale, width // spec.scale)
    return dict(
        prompt=r.choice(PROMPTS),
        negative_prompt=r.choice([None, "", " ", "blurry " + r.choice(PROMPTS)]),
        steps=steps,
        guidance=r.choice([4.0, 7.5, 2.0, 1.0, 0.0]),
        height=height,
        width=width,
        latents=torch.randn(shape, generator=generator),
    )
