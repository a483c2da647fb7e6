"""Trains pocket's tokenizer on its captions, in CLIP's format: python tokenizer.py --data DIR --out DIR.

Byte pairs are merged within words, most frequent first (Sennrich et al. 2016), until every word of
the world is one token; any other text falls into smaller pieces, down to bytes.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import common

LENGTH = 48
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_letters():
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, spare = {}, 256
    for byte in printable:
        letters[byte] = chr(byte)
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(spare)
            spare += 1
    return letters


def train(texts, most=400):
    words = Counter(word for text in texts for word in re.findall(r"[a-z]+|\d|[^\sa-z\d]+", text.lower()))
    letters = byte_letters()
    pieces = {}
    for word in words:
        symbols = [letters[byte] for byte in word.encode()]
        pieces[word] = [*symbols[:-1], symbols[-1] + "</w>"]
    merges = []
    while len(merges) < most:
        pairs = Counter()
        for word, symbols in pieces.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word, symbols in pieces.items():
            merged, i = [], 0
            while i < len(symbols):
                if tuple(symbols[i : i + 2]) == best:
                    merged.append("".join(best))
                    i += 2
                else:
                    merged.append(symbols[i])
                    i += 1
            pieces[word] = merged
    alphabet = [letters[byte] for byte in sorted(letters, key=lambda byte: (ord(letters[byte]) > 255, byte))]
    # "!" comes first, as in CLIP's own vocabulary: it pads the second encoder's prompts.
    alphabet.sort(key=lambda letter: letter != "!")
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in merges] + [START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def write(folder, vocabulary, merges, pad):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    special = {"bos_token": START, "eos_token": END, "pad_token": pad, "unk_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    added = {
        str(vocabulary[token]): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in dict.fromkeys([pad, START, END])
    }
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        "added_tokens_decoder": added,
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    texts = [text for group in common.captions(arguments.data)[:20_000] for text in group]
    vocabulary, merges = train(texts)
    write(Path(arguments.out) / "tokenizer", vocabulary, merges, END)
    write(Path(arguments.out) / "tokenizer_2", vocabulary, merges, "!")
    print(len(vocabulary), "tokens,", len(merges), "merges")


if __name__ == "__main__":
    main()
