"""Make emu3-mini's tokenizer: byte-pair ranks learnt from scene texts, and its special tokens.

`python -m train.mini.rank_file --output DIR` writes a folder `Emu3Tokenizer.from_pretrained` reads.
"""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from emu3.cli.shell import command, leave
from emu3.files import atomic_path
from emu3.mllm.prompts import CHAT_TEMPLATES
from emu3.mllm.tokenization_emu3 import PATTERN, VOCAB_FILES_NAMES, Emu3Tokenizer
from emu3.mllm.vocabulary import VISUAL_TEMPLATE
from emu3.options import non_negative_int, option, whole
from train.mini.language import caption, describe, questions
from train.mini.scenes import FULL, random_scene

MARKERS = ("<|image token|>", "<|image start|>", "<|image end|>")


@dataclass(frozen=True)
class Options:
    """Of this command."""

    output: str = option("folder to write", "outputs/tokenizer", metavar="FOLDER")
    ranks: int = option("number of byte-pair ranks", 900, whole(1, 200_000))
    codes: int = option("codebook size of the vision model", 693, whole(1, 2**20))
    scenes: int = option("scenes whose texts are read", 2000, whole(1, 10**6))
    seed: int = option("seed of those scenes", 0, non_negative_int)


def scene_texts(count: int, seed: int) -> Iterator[str]:
    """Everything a person or the model may say about `count` random scenes, in both languages."""
    rng = np.random.default_rng((seed, 101))
    for _ in range(count):
        scene = random_scene(rng, "train", palette=FULL)
        for language in ("en", "zh"):
            yield caption(scene, rng, language)[0]
            yield describe(scene, language)
            for question, answer, _ in questions(scene, rng, language):
                yield CHAT_TEMPLATES["chat"].format(image_prompt="", text_prompt=question) + answer


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


def run(options: Options) -> None:
    """Learn the ranks and write the folder."""
    ranks = learn_ranks(scene_texts(options.scenes, options.seed), options.ranks)
    tokenizer = write_tokenizer(options.output, ranks, options.codes)
    print(f"{options.output}: {len(ranks)} ranks, vocabulary {tokenizer.vocab_size}")


build_parser, main = command("train.mini.rank_file", "Make emu3-mini's tokenizer.", Options, run)

if __name__ == "__main__":
    leave(main())
