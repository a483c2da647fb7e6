"""Makes the committed goldens of SDXL as people own it, under `owned/`: a tiny random pipeline as one
file in the original key layout, and LoRAs in the layouts that are in use, with what diffusers computes
with them. `tests/parity_owned.rs` compares `foreseed trace` with that.

    pip install torch diffusers transformers safetensors peft
    python tests/goldens/make_owned.py
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from make_sdxl import TRAINED, text, vae
from random_sdxl import Spec, build, reference

HERE = Path(__file__).parent / "owned"
BASE = HERE.parent / "sdxl" / "epsilon"

SINGLE = Spec(
    unet=dict(
        sample_size=8,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        block_out_channels=[4, 4, 4],
        layers_per_block=2,
        transformer_layers_per_block=1,
        attention_head_dim=[1, 2, 2],
        use_linear_projection=True,
        norm_num_groups=2,
        addition_time_embed_dim=2,
    ),
    vae=vae([4, 4], 2, scaling_factor=0.13025),
    text=text(4, 1, 2, "quick_gelu"),
    text_2=text(8, 2, 2, "gelu", 12),
    scheduler=dict(**TRAINED, timestep_spacing="leading", steps_offset=1),
    seed=11,
    tokenizer_json=(False, False),
    dtype="float16",
)


def original_unet(name, layers):
    """The original name of a tensor of diffusers' UNet."""
    ends = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    inner = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    module, kind = name.rsplit(".", 1)
    if module in ends:
        return f"{ends[module]}.{kind}"
    parts = module.split(".")
    if parts[0] == "mid_block":
        part = 1 if parts[1] == "attentions" else 2 * int(parts[2])
        place, rest = f"middle_block.{part}", parts[3:]
    else:
        level, what, at = int(parts[1]), parts[2], int(parts[3])
        down = parts[0] == "down_blocks"
        first = level * (layers + 1) + (1 if down else 0)
        rest = parts[4:]
        if what == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{kind}"
        if what == "upsamplers":
            # After the attention, where the level has one.
            part = 2 if original_unet.attended[level] else 1
            return f"output_blocks.{first + layers}.{part}.conv.{kind}"
        part = 0 if what == "resnets" else 1
        place = f"{'input' if down else 'output'}_blocks.{first + at}.{part}"
    if rest[0] in inner:
        rest = [inner[rest[0]], *rest[1:]]
    return ".".join([place, *rest, kind])


def original_vae(name, levels):
    for new, old in {
        ".mid_block.resnets.0.": ".mid.block_1.",
        ".mid_block.resnets.1.": ".mid.block_2.",
        ".mid_block.attentions.0.group_norm.": ".mid.attn_1.norm.",
        ".mid_block.attentions.0.to_q.": ".mid.attn_1.q.",
        ".mid_block.attentions.0.to_k.": ".mid.attn_1.k.",
        ".mid_block.attentions.0.to_v.": ".mid.attn_1.v.",
        ".mid_block.attentions.0.to_out.0.": ".mid.attn_1.proj_out.",
        "coder.conv_norm_out.": "coder.norm_out.",
        ".conv_shortcut.": ".nin_shortcut.",
        ".upsamplers.0.": ".upsample.",
        ".downsamplers.0.": ".downsample.",
        ".resnets.": ".block.",
        "encoder.down_blocks.": "encoder.down.",
    }.items():
        name = name.replace(new, old)
    for i in range(levels):
        name = name.replace(f"decoder.up_blocks.{i}.", f"decoder.up.{levels - 1 - i}.")
    return name


def to_single_file(folder, path, spec):
    """The pipeline in `folder` as one file in SDXL's original layout."""
    part = lambda name: load_file(next((folder / name).glob("*.safetensors")))
    original_unet.attended = ["Cross" in kind for kind in spec.unet["up_block_types"]]
    layers = spec.unet["layers_per_block"]
    out = {
        f"model.diffusion_model.{original_unet(name, layers)}": tensor
        for name, tensor in part("unet").items()
    }
    levels = len(spec.vae["block_out_channels"])
    for name, tensor in part("vae").items():
        old = original_vae(name, levels)
        is_conv = ".mid.attn_1." in old and tensor.ndim == 2
        out[f"first_stage_model.{old}"] = tensor[:, :, None, None] if is_conv else tensor
    own = lambda name: name if name.startswith(("text_model", "text_proj")) else f"text_model.{name}"
    for name, tensor in part("text_encoder").items():
        out[f"conditioner.embedders.0.transformer.{own(name)}"] = tensor
    ids = torch.arange(spec.tokens).unsqueeze(0)
    out["conditioner.embedders.0.transformer.text_model.embeddings.position_ids"] = ids
    clip = {own(name): tensor for name, tensor in part("text_encoder_2").items()}
    prefix = "conditioner.embedders.1.model."
    out[prefix + "text_projection"] = clip.pop("text_projection.weight").T
    out[prefix + "logit_scale"] = torch.tensor(4.6)
    for name in [n for n in clip if ".q_proj." in n]:
        fused = [clip.pop(name.replace(".q_proj.", f".{x}_proj.")) for x in "qkv"]
        layer, kind = name.split(".")[3], name.split(".")[-1]
        key = f"{prefix}transformer.resblocks.{layer}.attn.in_proj_{kind}"
        out[key] = torch.cat(fused)
    for name, tensor in clip.items():
        for new, old in {
            "text_model.encoder.layers.": "transformer.resblocks.",
            "text_model.embeddings.token_embedding.": "token_embedding.",
            "text_model.embeddings.position_embedding.weight": "positional_embedding",
            "text_model.final_layer_norm.": "ln_final.",
            ".layer_norm1.": ".ln_1.",
            ".layer_norm2.": ".ln_2.",
            ".self_attn.": ".attn.",
            ".mlp.fc1.": ".mlp.c_fc.",
            ".mlp.fc2.": ".mlp.c_proj.",
        }.items():
            name = name.replace(new, old)
        out[prefix + name] = tensor
    out["denoiser.sigmas"] = torch.linspace(0, 1, 4)
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, path)


def assert_diffusers_reads(path, folder):
    """diffusers makes the same pipeline of the file as of the folder it is of."""
    # Its loader wants the published class names' files, not weights.
    one = StableDiffusionXLPipeline.from_single_file(
        str(path), config=str(folder), local_files_only=True, torch_dtype=torch.float32
    )
    two = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        ours, theirs = getattr(one, part).state_dict(), getattr(two, part).state_dict()
        assert ours.keys() == theirs.keys(), part
        for name, tensor in theirs.items():
            assert torch.equal(ours[name].float(), tensor.float()), f"{part}: {name}"


# Modules that LoRAs are made for: in the UNet, attentions, feed-forwards and convolutions.
UNET = [
    "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0",
    "down_blocks.1.attentions.0.proj_in",
    "mid_block.attentions.0.transformer_blocks.1.attn2.to_k",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "up_blocks.0.attentions.1.transformer_blocks.0.attn2.to_v",
]
CONVOLUTIONS = [
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.downsamplers.0.conv",
    "mid_block.resnets.1.conv2",
    "up_blocks.1.resnets.0.conv_shortcut",
]
TEXT = ["encoder.layers.0.self_attn.q_proj", "encoder.layers.1.mlp.fc1"]
TEXT_2 = ["encoder.layers.0.self_attn.out_proj", "encoder.layers.1.self_attn.v_proj"]


def pair(shape, rank, generator):
    """Two random matrices whose product is a good part of a weight of this shape."""
    draw = lambda *size: torch.randn(size, generator=generator)
    inputs = shape[1:].numel()
    down = draw(rank, *shape[1:]) * inputs**-0.5
    up = draw(shape[0], rank, *[1] * (len(shape) - 2)) * 0.5
    return down, up


def kohya(shapes, names, rank, alpha, generator):
    """kohya's layout; `names` gives a module's name by component and diffusers' path."""
    out = {}
    for (component, path), shape in shapes.items():
        down, up = pair(shape, rank, generator)
        name = names(component, path)
        out[f"{name}.lora_down.weight"] = down.half()
        out[f"{name}.lora_up.weight"] = up.half()
        out[f"{name}.alpha"] = torch.tensor(alpha).half()
    return out


def flat(component, path):
    start = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    middle = "" if component == "unet" else "text_model_"
    return f"{start[component]}_{middle}{path.replace('.', '_')}"


def flat_original(component, path):
    """kohya's own SDXL UNet has the original names."""
    if component != "unet":
        return flat(component, path)
    original_unet.attended = [True, False]
    return "lora_unet_" + original_unet(f"{path}.x", 1).removesuffix(".x").replace(".", "_")


def peft(shapes, rank, generator):
    out = {}
    for (component, path), shape in shapes.items():
        down, up = pair(shape, rank, generator)
        middle = "" if component == "unet" else "text_model."
        out[f"{component}.{middle}{path}.lora_A.weight"] = down.half()
        out[f"{component}.{middle}{path}.lora_B.weight"] = up.half()
    return out


def weight_shapes(pipe, chosen):
    """The shapes of the chosen modules' weights, by component and path."""
    shapes = {}
    for component, paths in chosen.items():
        weights = dict(getattr(pipe, component).named_parameters())
        for path in paths:
            own = path if f"{path}.weight" in weights else f"text_model.{path}"
            shapes[component, path] = weights[f"{own}.weight"].shape
    return shapes


def make_loras():
    pipe = StableDiffusionXLPipeline.from_pretrained(BASE, torch_dtype=torch.float32)
    texts = {"text_encoder": TEXT, "text_encoder_2": TEXT_2}
    all_of = weight_shapes(pipe, {"unet": UNET, **texts})
    wide = weight_shapes(pipe, {"unet": UNET + CONVOLUTIONS})
    draw = lambda seed: torch.Generator().manual_seed(seed)
    save = lambda tensors, name, **more: save_file(
        {k: v.contiguous() for k, v in tensors.items()}, HERE / f"{name}.safetensors", **more
    )
    save(kohya(all_of, flat, 2, 1.0, draw(1)), "lora-kohya")
    save(kohya(wide, flat_original, 2, 3.0, draw(2)), "lora-kohya-original")
    save(peft(wide, 3, draw(3)), "lora-peft")
    notes = {"unet.r": 2, "unet.lora_alpha": 5, "unet.alpha_pattern": {"attn1.to_q": 1}}
    notes |= {"unet.target_modules": UNET, "unet.use_rslora": False}
    noted = peft(weight_shapes(pipe, {"unet": UNET}), 2, draw(4))
    save(noted, "lora-noted", metadata={"lora_adapter_metadata": json.dumps(notes)})


def merged_by_hand(pipe, loras):
    """The LoRAs' formula itself: W + weight · alpha / rank · up · down."""
    modules = {
        name: (component, module)
        for component in ("unet", "text_encoder", "text_encoder_2")
        for name, module in getattr(pipe, component).named_modules()
        if hasattr(module, "weight")
        for name in [f"{component}/{name.removeprefix('text_model.')}"]
    }
    named = {flat(*name.split("/")): module for name, (_, module) in modules.items()}
    named |= {
        flat_original("unet", name[5:]): module
        for name, (component, module) in modules.items()
        if component == "unet"
    }
    for file, weight in loras:
        tensors = load_file(HERE / file)
        for key in [k for k in tensors if k.endswith("lora_down.weight")]:
            name = key.split(".")[0]
            down, up = tensors[key].float(), tensors[f"{name}.lora_up.weight"].float()
            scale = tensors[f"{name}.alpha"].float() / down.shape[0]
            own = named[name].weight
            delta = (up.flatten(1) @ down.flatten(1)).reshape(own.shape)
            own.data += weight * scale * delta


def with_loras(loras, by_hand=False):
    def prepare(pipe):
        if not loras:
            return None
        if by_hand:
            return merged_by_hand(pipe, loras)
        for i, (file, _) in enumerate(loras):
            pipe.load_lora_weights(str(HERE), weight_name=file, adapter_name=f"l{i}")
        names = [f"l{i}" for i in range(len(loras))]
        pipe.set_adapters(names, [weight for _, weight in loras])

    return prepare


CALL = dict(prompt="a red circle", negative_prompt="blurry", steps=2, guidance=4.0)
EPSILON = "../sdxl/epsilon"
# name: (model, call, loras)
CASES = {
    "single": ("single.safetensors", dict(**CALL, height=24, width=16), []),
    "single-unguided": (
        "single.safetensors",
        dict(prompt="two small stars", negative_prompt=None, steps=1, guidance=0.0, height=16, width=8),
        [],
    ),
    "kohya": (EPSILON, dict(**CALL, height=24, width=16), [("lora-kohya.safetensors", 0.8)]),
    "kohya-original": (
        EPSILON,
        dict(**CALL, height=16, width=16),
        [("lora-kohya-original.safetensors", 1.0)],
    ),
    "peft": (EPSILON, dict(**CALL, height=16, width=24), [("lora-peft.safetensors", -0.6)]),
    "noted": (EPSILON, dict(**CALL, height=16, width=8), [("lora-noted.safetensors", 1.0)]),
    "two": (
        EPSILON,
        dict(**CALL, height=16, width=16),
        [("lora-peft.safetensors", 0.5), ("lora-noted.safetensors", 0.3)],
    ),
}


def main():
    torch.set_num_threads(1)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(SINGLE, Path(scratch) / "single")
        to_single_file(folder, HERE / "single.safetensors", SINGLE)
        assert_diffusers_reads(HERE / "single.safetensors", folder)
        make_loras()
        cases = {}
        for i, (name, (model, call, loras)) in enumerate(CASES.items()):
            single = model == "single.safetensors"
            scale = 2 if single else 4
            shape = (1, 4, call["height"] // scale, call["width"] // scale)
            latents = torch.randn(shape, generator=torch.Generator().manual_seed(i))
            source = folder if single else BASE
            call_with = {**call, "latents": latents}
            # diffusers 0.42 with transformers 5 drops what kohya's files have for the text
            # encoders' attentions; where a file has none of those, its merge is checked.
            by_hand = any(file == "lora-kohya.safetensors" for file, _ in loras)
            prepare = with_loras(loras, by_hand)
            tensors = reference(source, call_with, None, ["-"], prepare)
            if loras == [("lora-kohya-original.safetensors", 1.0)]:
                other = reference(source, call_with, None, ["-"], with_loras(loras, True))
                for key, tensor in tensors.items():
                    assert (other[key] - tensor).abs().max() < 1e-5 * tensor.abs().max(), key
            save_file({"latents": latents, **tensors}, HERE / f"golden-{name}.safetensors")
            named = [f"{file}={weight}" for file, weight in loras]
            cases[f"golden-{name}"] = {"model": model, **call, "tap": [], "lora": named}
        for part in ("text_encoder", "text_encoder_2", "unet", "vae"):
            for weights in (folder / part).glob("*.safetensors"):
                weights.unlink()
        shutil.copytree(folder, HERE / "single")
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
    size = sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file())
    print(f"{len(cases)} cases, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
