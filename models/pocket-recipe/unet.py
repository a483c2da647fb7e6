"""Trains pocket's UNet and text encoders together:
python unet.py --data DIR --latents DIR --tokenizers DIR --run DIR [--minutes M]; run again, it goes on.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor

import common
import parts

GAMMA = 5.0  # min-SNR (Hang et al. 2023)
NOISIER = 0.6  # times are u ** NOISIER, u uniform
DROPPED, EMPTY = 0.10, 0.02  # shares of prompts replaced by zeros and by the empty text


def tokens(tokenizer, texts):
    """Padded ids, (n, length), of a flat list of texts."""
    rows = []
    for start in range(0, len(texts), 10_000):
        rows.append(tokenizer(texts[start : start + 10_000], padding="max_length", truncation=True, return_tensors="np").input_ids)
    return np.concatenate(rows).astype(np.int16)


def prompts(folder, tokenizer):
    """The ids of all wordings, (pictures, wordings, length), kept beside them."""
    path = Path(folder) / "ids.npy"
    if not path.exists():
        wordings = common.captions(folder)
        flat = [text for group in wordings for text in group]
        np.save(path, tokens(tokenizer, flat).reshape(len(wordings), -1, tokenizer.model_max_length))
    return np.load(path, mmap_mode="r")


def latents(folder):
    path = Path(folder) / "latents.f16"
    count = path.stat().st_size // (2 * 4 * 16 * 16)
    return np.memmap(path, dtype=np.float16, mode="r", shape=(count, 4, 16, 16))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--latents", required=True)
    parser.add_argument("--tokenizers", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    pair = parts.tokenizers(arguments.tokenizers)
    ids = prompts(arguments.data, pair[0])
    each = ids.shape[1]
    blank = tokens(pair[0], [""])[0]
    unet = parts.unet()
    first, second = parts.text_encoders(pair[0])
    # On a CPU the backward pass of fused attention takes longer than all the rest together.
    unet.set_attn_processor(AttnProcessor())
    for encoder in (first, second):
        encoder.set_attn_implementation("eager")
    run = common.Run(arguments.run, [unet, first, second], arguments.rate, arguments.minutes)
    kept = parts.scheduler().alphas_cumprod
    factor = json.loads((Path(arguments.latents) / "scaling_factor.json").read_text())
    time_ids = parts.time_ids(arguments.batch)
    end, padding = pair[0].eos_token_id, pair[1].pad_token_id

    denoise = torch.compile(
        lambda noisy, times, embeds, pooled: unet(
            noisy, times, embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}, return_dict=False
        )[0]
    )
    data = latents(arguments.latents)
    total, since = 0.0, 0
    while not run.done:
        if run.step % 200 == 0:
            data = latents(arguments.latents)
        chosen = run.random.integers(0, len(data), arguments.batch)
        clean = torch.from_numpy(data[chosen].astype(np.float32)) * factor
        words = ids[chosen, run.random.integers(0, each, arguments.batch)]
        words[run.random.random(arguments.batch) < EMPTY] = blank
        ids_1 = torch.from_numpy(words.astype(np.int64))
        # The second tokenizer pads with "!" after the first end of text.
        after = (ids_1 == end).int().cumsum(1) - (ids_1 == end).int() > 0
        ids_2 = ids_1.masked_fill(after, padding)
        # Most of the layout is settled in the noisier half: it is seen more often.
        times = torch.from_numpy((len(kept) * run.random.random(arguments.batch) ** NOISIER).astype(np.int64))
        share = kept[times][:, None, None, None]
        noise = torch.randn(clean.shape)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        target = share.sqrt() * noise - (1 - share).sqrt() * clean
        conditioned = torch.from_numpy((run.random.random(arguments.batch) >= DROPPED).astype(np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            embeds, pooled = parts.encode(first, second, ids_1, ids_2)
            embeds = embeds.float() * conditioned[:, None, None]
            pooled = pooled.float() * conditioned[:, None]
            predicted = denoise(noisy, times, embeds, pooled)
        ratio = kept[times] / (1 - kept[times])
        weight = ratio.clamp(max=GAMMA) / (ratio + 1)
        loss = (weight * (predicted.float() - target).pow(2).mean((1, 2, 3))).mean()
        run.update(loss)
        total, since = total + loss.item(), since + 1
        if run.step % (100 if run.step > 100 else 10) == 0:
            run.log(loss=round(total / since, 5), images=len(data))
            total, since = 0.0, 0
    run.save()


if __name__ == "__main__":
    main()
