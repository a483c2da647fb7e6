"""Makes the golden of the decoder for previews: a tiny random AutoencoderTiny under `preview/`, and what
diffusers decodes with it. `tests/parity_preview.rs` compares.

    python tests/goldens/make_preview.py
"""

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

HERE = Path(__file__).parent / "preview"


@torch.no_grad()
def main():
    torch.manual_seed(7)
    shutil.rmtree(HERE, ignore_errors=True)
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
    tiny.save_pretrained(HERE / "preview_vae")
    # Beyond the magnitude at which latents are bent back, and not square.
    latents = 2.5 * torch.randn(1, 4, 6, 4)
    image = (tiny.decoder(latents) / 2 + 0.5).clamp(0, 1)
    save_file({"latents": latents, "image": image}, HERE / "golden.safetensors")
    for path in HERE.rglob("*.safetensors"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
