"""Holds tokenizers against transformers' on prompt files, in every form that their files come in, and
prints how many texts became the same ids. The folders are those of published pipelines (`tokenizer`,
`tokenizer_2`, …); from each the other forms of its class are made, in a temporary folder: `tokenizer.json`
alone, `vocab.json` with `merges.txt` and the added tokens in `tokenizer_config.json` or `added_tokens.json`,
T5's `spiece.model` alone.

    cargo build --release --example token_ids
    python tests/goldens/compare_tokenizers.py --prompts PartiPrompts.tsv drawbench.txt geneval.jsonl
        --folders CLIPTokenizer=sdxl/tokenizer T5TokenizerFast=flux/tokenizer_2 Qwen2Tokenizer=qwen/tokenizer
        [--binary target/release/examples/token_ids]
"""

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import transformers

# How many tokens each family's text encoder takes at most; Qwen-Image's with its template before it.
LENGTHS = {"CLIPTokenizer": 77, "T5TokenizerFast": 512, "Qwen2Tokenizer": 1058}

# What diffusers says around Qwen-Image's prompts, to see special tokens within a text.
TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"

HARD = [
    "", " ", "  two  spaces ", "tab\tand\nline", "ÀÉÎÕÜ ß ﬁ Å", "e\u0301 as two characters", "naïve café",
    "一只红色的猫", "красный круг", "🦊🔥👩‍👩‍👧", "ｆｕｌｌ ｗｉｄｔｈ", "don't they'll WE'VE i'm", "3.14159 1,000 x2",
    "(((masterpiece))), [low quality:1.2]", "<|endoftext|> in a text", "</s> <pad> <extra_id_3>", "a\u00a0b\u200bc",
    "¿qué? — “quoted” … ‘x’", "\r\n\r\n lines \r\n", "a" * 900, "ab " * 700, "İstanbul ǅ ﷺ", "\x00\x07 control",
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", nargs="+", type=Path, required=True)
    parser.add_argument("--folders", nargs="+", required=True, metavar="CLASS=FOLDER")
    parser.add_argument("--binary", default="target/release/examples/token_ids")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    texts = {path.name: prompts(path) for path in args.prompts}
    everything = [text for some in texts.values() for text in some]
    texts["varied"] = varied(everything)
    texts["hard"] = HARD + [TEMPLATE.format(text) for text in HARD]
    wrong = 0
    for pair in args.folders:
        name, _, folder = pair.partition("=")
        with tempfile.TemporaryDirectory() as scratch:
            for form, made in forms(name, Path(folder), Path(scratch)):
                theirs = getattr(transformers, name).from_pretrained(made)
                for source, some in texts.items():
                    wrong += compare(args.binary, name, theirs, folder, form, made, source, some)
    print("all the same" if not wrong else f"{wrong} differ")
    sys.exit(wrong > 0)


def compare(binary, name, theirs, folder, form, made, source, texts):
    """How many of the texts became other ids."""
    length = LENGTHS[name]
    padding = False if name == "Qwen2Tokenizer" else "max_length"
    expected = theirs(texts, padding=padding, truncation=True, max_length=length)["input_ids"]
    run = subprocess.run(
        [binary, made, name, str(length)], input=json.dumps(texts), capture_output=True, text=True
    )
    if run.returncode:
        print(f"{name} {folder} ({form}): {run.stderr.strip()}")
        return len(texts)
    ours = json.loads(run.stdout)
    differing = [i for i, (a, b) in enumerate(zip(ours, expected, strict=True)) if a != b]
    print(f"{name} {folder} ({form}), {source}: {len(texts) - len(differing)} of {len(texts)} the same", flush=True)
    for i in differing[:3]:
        cut = next((k for k, (a, b) in enumerate(zip(ours[i], expected[i])) if a != b), -1)
        print(f"    {texts[i][:80]!r} from token {cut}: {ours[i][cut:][:8]}, theirs {expected[i][cut:][:8]}")
    return len(differing)


def prompts(path):
    """The prompts of a file: a column Prompt, a JSON object a line, or a line each."""
    with path.open(newline="") as file:
        if path.suffix == ".tsv":
            return [row["Prompt"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
        lines = [line.rstrip("\n") for line in file]
    if path.suffix == ".jsonl":
        return [json.loads(line)["prompt"] for line in lines]
    return lines


def varied(prompts, count=600):
    """Prompts run together until some are too long, in other letters, and with characters changed."""
    draw = random.Random(0)
    texts = []
    for _ in range(count):
        text = draw.choice([" ", ", ", "\n", ""]).join(draw.choices(prompts, k=draw.randint(1, 12)))
        text = draw.choice([str, str.upper, str.title, str.swapcase])(text)
        letters = list(text)
        for _ in range(draw.randint(0, 5)):
            letters[draw.randrange(len(letters))] = chr(draw.choice([0x20, 0x27, 0x2D, 0x301, 0xE9, 0x4E2D, 0x1F98A]))
        texts.append("".join(letters))
    return texts


def forms(name, folder, scratch):
    """(what it is, a folder with it) of each form: as published, and what can be made of that."""
    yield "as published", folder
    if name == "T5TokenizerFast":
        for kept, left in [("spiece.model", "tokenizer.json"), ("tokenizer.json", "spiece.model")]:
            if (folder / kept).exists() and (folder / left).exists():
                made = shutil.copytree(folder, scratch / kept)
                (made / left).unlink()
                yield f"{kept} alone", made
        return
    saved = scratch / "saved"
    tokenizer = getattr(transformers, name).from_pretrained(folder)
    tokenizer.save_pretrained(saved)
    (saved / "vocab.json").unlink(missing_ok=True)
    (saved / "merges.txt").unlink(missing_ok=True)
    yield "tokenizer.json alone", saved
    model = json.loads((saved / "tokenizer.json").read_text())
    config = json.loads((saved / "tokenizer_config.json").read_text())
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in model["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["model"]["merges"]]
    for form, files in {
        "vocab.json, merges.txt, tokens in tokenizer_config.json": {
            "tokenizer_config.json": {**config, "added_tokens_decoder": decoder},
        },
        "vocab.json, merges.txt, added_tokens.json": {
            "tokenizer_config.json": config,
            "added_tokens.json": {token["content"]: int(at) for at, token in decoder.items()},
        },
    }.items():
        made = scratch / f"made{len(list(scratch.iterdir()))}"
        made.mkdir()
        files["vocab.json"] = model["model"]["vocab"]
        for file, content in files.items():
            (made / file).write_text(json.dumps(content))
        (made / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
        yield form, made


if __name__ == "__main__":
    main()
