"""Byte-pair ranks learnt from texts, and the tokenizer folder that holds them."""

import base64
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from emu3.files import atomic_path
from emu3.mllm.tokenization_emu3 import PATTERN, VOCAB_FILES_NAMES, Emu3Tokenizer
from emu3.mllm.vocabulary import VISUAL_TEMPLATE

MARKERS = ("<|image token|>", "<|image start|>", "<|image end|>")


def learn_ranks(texts: Iterable[str], count: int) -> list[bytes]:
    """Byte strings in order of rank: the 256 bytes, then merges learnt from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=count, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(texts, trainer)
    byte_of = _byte_of_character()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [bytes(byte_of[c] for c in piece) for piece, _ in vocabulary]


def _byte_of_character() -> dict[str, int]:
    """The byte each printable stand-in of byte-level BPE is for (Radford et al. 2019)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    table = {chr(b): b for b in plain}
    return table | {chr(256 + i): b for i, b in enumerate(others)}


def write_tokenizer(folder: str | Path, ranks: list[bytes], codes: int) -> Emu3Tokenizer:
    """Write the rank file and the special tokens of `codes` codes; returns the tokenizer."""
    folder = Path(folder)
    with atomic_path(folder / VOCAB_FILES_NAMES["vocab_file"]) as path:
        lines = [base64.b64encode(piece) + b" %d\n" % i for i, piece in enumerate(ranks)]
        path.write_bytes(b"".join(lines))
    visual = [VISUAL_TEMPLATE.format(token_id=code) for code in range(codes)]
    with atomic_path(folder / VOCAB_FILES_NAMES["special_tokens_file"]) as path:
        path.write_text("\n".join([*MARKERS, *visual]) + "\n", encoding="utf-8")
    tokenizer = Emu3Tokenizer(*(folder / name for name in VOCAB_FILES_NAMES.values()))
    tokenizer.save_pretrained(folder)
    return tokenizer
