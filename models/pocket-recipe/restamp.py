"""Has a probe's file say that it reads the previews that a collection has, of the model that the collection
was made with, without training it again: python restamp.py --probe FILE --collected DIR. Its networks must
read what such previews tell; what it is worth then is for `foreseed probe eval` to say.
"""

import argparse
import json
import os
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save

KEY = "foreseed_probe"
READ = ("model_fingerprint", "vae_previews_from", "previews_ahead", "vae_previews_in_doubt")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", required=True, type=Path)
    parser.add_argument("--collected", required=True, type=Path)
    arguments = parser.parse_args()
    manifest = json.loads((arguments.collected / "manifest.json").read_text())
    with safe_open(arguments.probe, "np") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    whole = json.loads(metadata[KEY])
    for name in READ:
        whole["card"].pop(name, None)
        if manifest.get(name) is not None:
            whole["card"][name] = manifest[name]
    metadata[KEY] = json.dumps(whole, separators=(",", ":"), ensure_ascii=False)
    part = arguments.probe.with_suffix(".part")
    part.write_bytes(save(tensors, metadata))
    os.replace(part, arguments.probe)


if __name__ == "__main__":
    main()
