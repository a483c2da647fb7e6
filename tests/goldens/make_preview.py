"""Makes the goldens of the decoders for previews: a tiny random AutoencoderTiny under `preview/` and what
diffusers decodes with it, and a SubPixelDecoder under `subpixel/` and what the recipe's own code makes of
it. `tests/parity_preview.rs` compares.

    python tests/goldens/make_preview.py
"""

import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parents[2] / "models/pocket-recipe"))
from subpixel import SubPixelDecoder  # noqa: E402

HERE = Path(__file__).parent


@torch.no_grad()
def tiny_decoder():
    torch.manual_seed(7)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(6, 6, 6),
        decoder_block_out_channels=(6, 6, 6),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(2, 1, 0),
        latent_channels=4,
        act_fn="relu",
    ).eval()
    for value in tiny.parameters():
        value.normal_(0, 0.2)
    # In the middle of what a picture holds, so that little is clamped.
    tiny.decoder.layers[-1].bias.fill_(0.5)
    tiny.decoder.layers[-1].weight.mul_(0.5)
    return tiny, tiny.decoder


@torch.no_grad()
def subpixel_decoder():
    torch.manual_seed(8)
    decoder = SubPixelDecoder(channels=6, blocks=2, head_channels=10).eval()
    for value in decoder.parameters():
        value.normal_(0, 0.2)
    decoder.head[-1].weight.mul_(0.25)
    decoder.head[-1].bias.fill_(0.5)
    return decoder, decoder


@torch.no_grad()
def make(name, made):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model, decoder = made
    if isinstance(model, SubPixelDecoder):
        model.save(folder / "preview_vae", torch.float32)
    else:
        model.save_pretrained(folder / "preview_vae")
    # Beyond the magnitude at which latents are bent back, and not square.
    latents = 2.5 * torch.randn(1, 4, 6, 4)
    image = (decoder(latents) / 2 + 0.5).clamp(0, 1)
    save_file({"latents": latents, "image": image}, folder / "golden.safetensors")
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)


@torch.no_grad()
def main():
    make("preview", tiny_decoder())
    make("subpixel", subpixel_decoder())


if __name__ == "__main__":
    main()
