"""Trains a small SentencePiece vocabulary with a character map, as T5's published tokenizers have one, and
writes what transformers makes of texts with it, to t5/: python tests/goldens/make_t5.py

    sentencepiece/  spiece.model
    json/           tokenizer.json, as transformers converts it
    tokens.json     texts and their ids, cut at or filled up to 24
"""

import json
import shutil
import tempfile
from pathlib import Path

import sentencepiece
from transformers import T5TokenizerFast

from random_sdxl import CORPUS

HERE = Path(__file__).parent / "t5"

# From characters to characters; the published vocabularies have 200 KB of such.
MAP = {"ﬁ": "fi", "\u00a0": " ", "ａ": "a", "Ｂ": "B", "e\u0301": "é", "…": "...", "“": '"', "\u200b": "", "²": "2"}

TEXTS = [
    "", " ", "a red circle", "A RED CIRCLE", "two  stars,\tthree\nhearts!", "ﬁne ﬁﬁ", "a\u00a0blue\u00a0square", "ａＢ ａＢ",
    "cafe\u0301 café", "and so on… “quoted", "zero\u200bwidth", "10² 3.14", "</s> in <pad> it <extra_id_3>", "红色 🦊",
    "a small green triangle left of a large yellow star on a black background, " * 3,
]  # fmt: skip


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    spiece, converted = HERE / "sentencepiece", HERE / "json"
    spiece.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        rules, corpus = Path(scratch) / "rules.tsv", Path(scratch) / "corpus.txt"
        points = lambda text: " ".join(f"{ord(c):X}" for c in text)  # noqa: E731
        rules.write_text("".join(f"{points(a)}\t{points(b)}\n" for a, b in MAP.items()))
        corpus.write_text("\n".join([*CORPUS, "two stars, three hearts! 0123456789", "fine café \"quoted\" ..."]))
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus),
            model_prefix=str(Path(scratch) / "spiece"),
            vocab_size=120,
            hard_vocab_limit=False,
            normalization_rule_tsv=str(rules),
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
        shutil.copy(Path(scratch) / "spiece.model", spiece)
    (spiece / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}) + "\n")
    tokenizer = T5TokenizerFast.from_pretrained(spiece)
    tokenizer.save_pretrained(converted)
    encoded = [tokenizer(text, padding="max_length", truncation=True, max_length=24).input_ids for text in TEXTS]
    again = T5TokenizerFast.from_pretrained(converted)
    assert encoded == [again(text, padding="max_length", truncation=True, max_length=24).input_ids for text in TEXTS]
    tokens = [[text, ids] for text, ids in zip(TEXTS, encoded)]
    (HERE / "tokens.json").write_text(json.dumps(tokens, ensure_ascii=False) + "\n")
    size = sum(p.stat().st_size for p in HERE.rglob("*") if p.is_file())
    print(f"{len(TEXTS)} texts, {size / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
