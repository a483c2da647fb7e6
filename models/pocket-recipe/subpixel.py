"""The decoder of previews, as `src/backbones/vae/subpixel.rs` runs it."""

import json
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

# AutoencoderTiny's: latents beyond three of this are bent back.
MAGNITUDE = 3


class Block(nn.Module):
    """Three convolutions beside a shortcut, as in AutoencoderTiny."""

    def __init__(self, channels):
        super().__init__()
        convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convs[0], nn.ReLU(), convs[1], nn.ReLU(), convs[2])

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class SubPixelDecoder(nn.Module):
    """All on the latents' grid; a cell's pixels are made by a network over its channels."""

    def __init__(self, latent_channels=4, channels=64, blocks=2, head_channels=128, pixels=4):
        super().__init__()
        self.settings = {
            "latent_channels": latent_channels,
            "channels": channels,
            "blocks": blocks,
            "head_channels": head_channels,
            "pixels": pixels,
        }
        self.conv_in = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.head = nn.ModuleList(
            [
                nn.Conv2d(channels, head_channels, 3, padding=1),
                nn.Conv2d(head_channels, head_channels, 1),
                nn.Conv2d(head_channels, 3 * pixels * pixels, 1),
            ]
        )

    def forward(self, latents):
        """Latents, as the denoiser speaks of them, to pixels of about -1 to 1."""
        x = torch.tanh(latents / MAGNITUDE) * MAGNITUDE
        x = self.blocks(F.relu(self.conv_in(x)))
        around, within, out = self.head
        x = out(F.relu(within(F.relu(around(x)))))
        return F.pixel_shuffle(x, self.settings["pixels"]) * 2 - 1

    def save(self, folder, dtype=torch.float16):
        """Writes config.json and the weights, as a model's folder keeps them in `preview_vae`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": "SubPixelDecoder", **self.settings}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        weights = {f"decoder.{name}": value.to(dtype).contiguous() for name, value in self.state_dict().items()}
        path = folder / "diffusion_pytorch_model.safetensors"
        save_file(weights, path, metadata={"format": "pt"})
        path.chmod(0o644)
