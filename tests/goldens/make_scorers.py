"""Makes the goldens of the scorers: tiny random models in the layout of the published files under
`scorers/`, and what their Python references give. `tests/parity_scorers.rs` compares.

    pip install torch torchvision transformers open_clip_torch ftfy timm einops
    pip install --no-deps imscore
    python tests/goldens/make_scorers.py

The references are transformers with Pillow for CLIPScore and PickScore, OpenCLIP and torchvision for
HPSv2.1, imscore's BLIP for ImageReward, transformers and torchvision for the aesthetic predictor. The
pictures are made by a formula that the test has as well.
"""

import hashlib
import html
import json
import os
import shutil
import zipfile
from pathlib import Path

import ftfy
import numpy as np
import open_clip
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as F
from imscore.imreward.bert import BertModel
from imscore.imreward.vit import VisionTransformer
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
)

from random_sdxl import save_tokenizer

HERE = Path(__file__).parent / "scorers"
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)

# Larger and smaller than what the networks take, square and not, and odd margins around the middle.
SIZES = [(64, 64), (97, 41), (30, 75), (20, 20), (19, 26), (150, 33), (28, 28)]
PROMPTS = [
    "a red circle left of a blue square",
    "",
    "Don't — it’s “two” small\tGREEN stars &amp; the [DEC] naïve heart!",
    "photo of an orange cat above the large yellow heart " * 9,
]


def picture(width, height, kind):
    """The picture that `tests/parity_scorers.rs` makes by the same formula."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.int64)
    waves = x * (3 + kind) + y * (5 + 2 * c) + (x * y) // (4 + c)
    blocks = ((x // 7 + y // 5 + kind) % 3) * 60 * (c + 1)
    return Image.fromarray(((waves + blocks) % 256).astype(np.uint8), "RGB")


def randomise(model, seed, step=1 / 8):
    """Weights of few values, which f16 holds and which pack well; norms around one."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = (torch.randn(value.shape, generator=generator) * 2).round() * step
        is_norm = "norm" in name.lower() or ".ln_" in name or name.startswith("ln_")
        if is_norm and name.endswith("weight"):
            noise = noise + 1
        value.data.copy_(noise)
    return model.eval()


def save(tensors, folder):
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(half, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)


def clip(
    folder, seed, *, act, heads, projection, legacy, crop, patch, side, as_json, text_width=16
):
    vocab = save_tokenizer(folder, 24, "<|endoftext|>", as_json)
    text = dict(
        vocab_size=len(vocab),
        hidden_size=text_width,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=24,
        projection_dim=projection,
        hidden_act=act,
        eos_token_id=2 if legacy else vocab["<|endoftext|>"],
    )
    vision = dict(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=heads,
        image_size=side,
        patch_size=patch,
        projection_dim=projection,
        hidden_act=act,
    )
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection)
    model = randomise(CLIPModel(config), seed)
    model.logit_scale.data.fill_(2.75)
    save(model.state_dict(), folder)
    config.save_pretrained(folder)
    # As published files write it, old and new.
    size = {"shortest_edge": crop} if as_json else crop
    cut = {"height": side, "width": side} if as_json else side
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "crop_size": cut,
                "do_center_crop": True,
                "do_normalize": True,
                "do_resize": True,
                "image_mean": MEAN,
                "image_std": DEVIATION,
                "resample": 3,
                "size": size,
            },
            indent=2,
        )
    )
    return model


def pooled(output):
    return output if torch.is_tensor(output) else output.pooler_output


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def clip_cosine(folder, model):
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)

    def score(prompt, image):
        pixels = processor(images=image, return_tensors="pt").pixel_values
        tokens = tokenizer(
            prompt, padding="max_length", truncation=True, max_length=24, return_tensors="pt"
        )
        seen = pooled(model.get_image_features(pixel_values=pixels))
        asked = pooled(model.get_text_features(**tokens))
        return (unit(seen) * unit(asked)).sum().item()

    return score


def make_clipscore(folder):
    model = clip(
        folder, 1, act="quick_gelu", heads=3, projection=12, legacy=True, crop=28, patch=7,
        side=28, as_json=False,
    )
    cosine = clip_cosine(folder, model)
    return lambda prompt, image: max(100 * cosine(prompt, image), 0)


def make_pickscore(folder):
    model = clip(
        folder, 2, act="gelu", heads=2, projection=20, legacy=False, crop=33, patch=5, side=20,
        as_json=True,
    )
    cosine = clip_cosine(folder, model)
    return lambda prompt, image: model.logit_scale.exp().item() * cosine(prompt, image)


def head(width, sizes, seed):
    layers, before = [], width
    for i, size in enumerate(sizes):
        layers.append(torch.nn.Linear(before, size))
        if i < 3:
            layers.append(torch.nn.Dropout(0.2))
        before = size
    module = torch.nn.Module()
    module.layers = torch.nn.Sequential(*layers)
    return randomise(module, seed)


def cut(side):
    bicubic = T.InterpolationMode.BICUBIC
    return T.Compose(
        [
            T.Resize(side, interpolation=bicubic),
            T.CenterCrop(side),
            T.ToTensor(),
            T.Normalize(MEAN, DEVIATION),
        ]
    )


def make_aesthetic(folder):
    model = clip(
        folder, 3, act="quick_gelu", heads=4, projection=12, legacy=True, crop=28, patch=7,
        side=28, as_json=False, text_width=2,
    )
    for name in ["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"]:
        (folder / name).unlink()
    mlp = head(12, [16, 8, 6, 4, 1], 4)
    torch.save(mlp.state_dict(), folder / "sac+logos+ava1-l14-linearMSE.pth")
    prepare = cut(28)

    def score(_prompt, image):
        seen = pooled(model.get_image_features(pixel_values=prepare(image)[None]))
        return mlp.layers(unit(seen)).item()

    return score


def make_hps(folder):
    vocab = len(json.loads((HERE / "clipscore/vocab.json").read_text()))
    side = 21
    model = open_clip.CLIP(
        embed_dim=12,
        vision_cfg=dict(
            image_size=side, layers=2, width=32, head_width=2, mlp_ratio=1.25, patch_size=7
        ),
        text_cfg=dict(context_length=24, vocab_size=vocab, width=16, heads=16, layers=2),
        output_dict=True,
    )
    randomise(model, 5)
    # Saved out of imscore's wrapper, whose attribute is called so.
    save({f"model.{k}": v for k, v in model.state_dict().items()}, folder)
    tokenizer = CLIPTokenizer.from_pretrained(HERE / "clipscore")

    def prepare(image):
        pixels = F.to_tensor(image)
        height, width = pixels.shape[1:]
        scale = side / float(max(height, width))
        if scale != 1.0:
            size = [round(length * scale) for length in (height, width)]
            pixels = F.resize(pixels, size, T.InterpolationMode.BICUBIC)
            down, right = side - size[0], side - size[1]
            pixels = F.pad(pixels, [right // 2, down // 2, right - right // 2, down - down // 2])
        return F.normalize(pixels, MEAN, DEVIATION)

    def score(prompt, image):
        clean = html.unescape(html.unescape(ftfy.fix_text(prompt))).strip()
        ids = tokenizer(clean, truncation=True, max_length=24).input_ids
        # OpenCLIP fills up with zeros.
        ids = torch.tensor([ids + [0] * (24 - len(ids))])
        out = model(prepare(image)[None], ids)
        return (out["image_features"] @ out["text_features"].T).item()

    return score


BERT = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] a b d e g h i l n o r s t y ! ' ’ “ ” & ; — the of it "
    "don left above red blue green circle square ##s ##e star heart photo orange cat small "
    "large yellow two an naive amp ##t ##a [ ] de ##c"
).split()


def make_imagereward(folder):
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(BERT) + "\n")
    tokenizer = BertTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_tokens(["[ENC]"], special_tokens=True)
    assert len(tokenizer) == len(BERT) + 2
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=12,
        max_position_embeddings=40,
        layer_norm_eps=1e-12,
    )
    config.encoder_width = 32
    model = torch.nn.Module()
    model.blip = torch.nn.Module()
    model.blip.visual_encoder = VisionTransformer(
        20, 5, embed_dim=32, depth=2, num_heads=16, mlp_ratio=1.5
    )
    model.blip.text_encoder = BertModel(config)
    model.blip.vision_proj = torch.nn.Linear(32, 8)
    model.blip.text_proj = torch.nn.Linear(24, 8)
    model.mlp = head(24, [16, 8, 6, 4, 1], 7)
    randomise(model, 6)
    save(model.state_dict(), folder)
    prepare = cut(20)

    def score(prompt, image):
        tokens = tokenizer(
            prompt, padding="max_length", truncation=True, max_length=35, return_tensors="pt"
        )
        seen = model.blip.visual_encoder(prepare(image)[None])
        read = model.blip.text_encoder(
            tokens.input_ids,
            attention_mask=tokens.attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.bool),
        )
        return ((model.mlp.layers(read[:, 0]) - 0.16717362830052426) / 1.0333394966054072).item()

    return score


class Evil:
    """What a forged file would have Python call while it is loaded."""

    def __reduce__(self):
        return os.system, ("touch foreseed-ran-a-pickle",)


def make_forged(folder):
    """Pickles that no reader may run, or stumble over."""
    folder.mkdir(parents=True)
    torch.save({"layers.0.weight": Evil(), "layers.0.bias": Evil()}, folder / "evil.pth")
    # torch's own call with too few arguments, protocol 2: {"w": _rebuild_tensor_v2()}
    program = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n)Rs."
    with zipfile.ZipFile(folder / "short.pth", "w") as file:
        file.writestr(zipfile.ZipInfo("archive/data.pkl"), program)


def resizings():
    """Digests of what Pillow makes of pictures: the bytes must be the same."""
    sizes = [(64, 64, 28, 28), (97, 41, 20, 9), (19, 26, 64, 80), (640, 480, 299, 224)]
    sizes += [(30, 75, 28, 70), (28, 40, 28, 13), (1, 5, 7, 3), (33, 21, 33, 64), (224, 224, 224, 224)]
    for width, height, to_width, to_height in sizes:
        resized = picture(width, height, 1).resize((to_width, to_height), Image.BICUBIC)
        digest = hashlib.sha256(resized.tobytes()).hexdigest()
        yield {"from": [width, height], "to": [to_width, to_height], "sha256": digest}


def published():
    """The tensors of the real files by name and shape, layer numbers replaced by N: each network is
    built by its public configuration on the meta device, as the published weights were saved from it.
    """

    def clip(width, layers, heads, patch, text, text_layers, text_heads, projection, act):
        vision_config = dict(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
            num_attention_heads=heads, patch_size=patch, image_size=224, hidden_act=act,
        )
        text_config = dict(
            hidden_size=text, intermediate_size=4 * text, num_hidden_layers=text_layers,
            num_attention_heads=text_heads, hidden_act=act,
        )
        config = CLIPConfig(
            text_config=text_config, vision_config=vision_config, projection_dim=projection
        )
        return CLIPModel(config).state_dict()

    with torch.device("meta"):
        h14 = open_clip.get_model_config("ViT-H-14")
        hps = open_clip.CLIP(**h14).state_dict()
        blip = torch.nn.Module()
        blip.visual_encoder = VisionTransformer(224, 16, embed_dim=1024, depth=24, num_heads=16)
        config = BertConfig(vocab_size=30524, layer_norm_eps=1e-12)
        config.encoder_width = 1024
        blip.text_encoder = BertModel(config)
        blip.vision_proj = torch.nn.Linear(1024, 256)
        blip.text_proj = torch.nn.Linear(768, 256)
        reward = {f"blip.{k}": v for k, v in blip.state_dict().items()}
        mlp = torch.nn.Sequential(
            *(torch.nn.Linear(768, 1024), torch.nn.Dropout(), torch.nn.Linear(1024, 128)),
            *(torch.nn.Dropout(), torch.nn.Linear(128, 64), torch.nn.Dropout()),
            *(torch.nn.Linear(64, 16), torch.nn.Linear(16, 1)),
        )
        reward |= {f"mlp.layers.{k}": v for k, v in mlp.state_dict().items()}
        files = {
            "clipscore": clip(1024, 24, 16, 14, 768, 12, 12, 768, "quick_gelu"),
            "clipscore-b32": clip(768, 12, 12, 32, 512, 12, 8, 512, "quick_gelu"),
            "pickscore": clip(1280, 32, 16, 14, 1024, 24, 16, 1024, "gelu"),
            "hpsv2.1": {f"model.{k}": v for k, v in hps.items()},
            "imagereward": reward,
        }

    def pattern(name):
        parts = name.split(".")
        # A head's layers are told apart by their numbers: they stay.
        if parts[0] == "mlp":
            return name
        return ".".join("N" if part.isdigit() else part for part in parts)

    for metric, tensors in files.items():
        shapes = {}
        for name, value in tensors.items():
            shapes.setdefault(pattern(name), list(value.shape))
        parameters = sum(v.numel() for v in tensors.values() if v.is_floating_point())
        yield metric, {"parameters": parameters, "tensors": dict(sorted(shapes.items()))}


@torch.no_grad()
def main():
    shutil.rmtree(HERE, ignore_errors=True)
    makers = {
        "clipscore": (make_clipscore, ["clipscore"]),
        "pickscore": (make_pickscore, ["pickscore"]),
        "aesthetic": (make_aesthetic, ["aesthetic"]),
        "hpsv2.1": (make_hps, ["hpsv2.1", "clipscore"]),
        "imagereward": (make_imagereward, ["imagereward"]),
    }
    cases = []
    for metric, (make, folders) in makers.items():
        score = make(HERE / metric)
        for i, (width, height) in enumerate(SIZES):
            for prompt in PROMPTS[: 4 if i < 2 else 1]:
                value = score(prompt, picture(width, height, i))
                case = {"metric": metric, "folders": folders, "size": [width, height], "kind": i}
                cases.append({**case, "prompt": prompt, "score": value})
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    (HERE / "resized.json").write_text(json.dumps(list(resizings()), indent=1) + "\n")
    (HERE / "published.json").write_text(json.dumps(dict(published())) + "\n")
    make_forged(HERE / "forged")


if __name__ == "__main__":
    main()
