"""Writes pocket as a folder in diffusers' layout, in f16:
python export.py --out DIR --vae FILE --scale FILE [--unet RUN]. DIR already holds the tokenizers.
Without --unet, the weights of the UNet and the text encoders are fresh: shapes to build on.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

import parts
import vae as recipe

# What a call gets that names no settings, and what the model was made for.
DEFAULTS = {"world": "shapes", "steps": 25, "guidance": 5.0, "width": parts.SIDE, "height": parts.SIDE}


def pipeline(folder, vae_file, scale_file, run=None):
    """SDXL's pipeline around the trained parts, in f32."""
    torch.manual_seed(0)
    tokenizer, tokenizer_2 = parts.tokenizers(folder)
    unet = parts.unet()
    first, second = parts.text_encoders(tokenizer)
    if run:
        state = torch.load(Path(run) / "state.pt", weights_only=False)
        for module, weights in zip((unet, first, second), state["averages"]):
            module.load_state_dict(weights)
    vae = recipe.build()
    vae.load_state_dict(torch.load(vae_file))
    vae.register_to_config(scaling_factor=json.loads(Path(scale_file).read_text()))
    return StableDiffusionXLPipeline(
        vae=vae.eval(),
        text_encoder=first.eval(),
        text_encoder_2=second.eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet.eval(),
        scheduler=parts.scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def rename(path):
    """Gives a text encoder's tensors the names that published checkpoints have."""
    tensors = {name if name.startswith("text_model.") else f"text_model.{name}": value for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--vae", required=True)
    parser.add_argument("--scale", required=True)
    parser.add_argument("--unet")
    arguments = parser.parse_args()
    out = Path(arguments.out)
    pipe = pipeline(out, arguments.vae, arguments.scale, arguments.unet).to(dtype=torch.float16)
    # The tokenizers stay as tokenizer.py wrote them.
    for name in ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler"):
        shutil.rmtree(out / name, ignore_errors=True)
        getattr(pipe, name).save_pretrained(out / name)
    rename(out / "text_encoder" / "model.safetensors")
    pipe.save_config(out)
    (out / "foreseed.json").write_text(json.dumps(DEFAULTS, indent=2) + "\n")
    for path in out.rglob("*.safetensors"):
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in out.rglob("*.safetensors"))
    print(f"{size / 1e6:.2f} MB of weights in {out}")


if __name__ == "__main__":
    main()
