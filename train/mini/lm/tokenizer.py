"""Make emu3-mini's text tokenizer: byte-pair ranks learnt from what is said about the world.

`python -m train.mini.lm.tokenizer --output DIR` writes a folder `Emu3Tokenizer.from_pretrained`
reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emu3.cli.shell import command, leave
from emu3.mllm.prompts import CHAT_TEMPLATES
from emu3.options import non_negative_int, option, whole
from train.mini.options import MOST_SCENES
from train.mini.rank_file import learn_ranks, write_tokenizer
from train.mini.words import LANGUAGES
from train.mini.words.captions import caption, clip_caption
from train.mini.words.edits import random_edit
from train.mini.words.questions import clip_questions, questions
from train.mini.world.compose import FULL, random_scene
from train.mini.world.motion import random_clip


@dataclass(frozen=True)
class Options:
    """Of this command."""

    output: str = option("folder to write", "outputs/mini/tokenizer", metavar="FOLDER")
    ranks: int = option("number of byte-pair ranks", 900, whole(1, 10**6))
    scenes: int = option("pictures and clips whose texts are read", 2000, whole(1, MOST_SCENES))
    seed: int = option("seed of them", 0, non_negative_int)


def asked_texts(count: int, seed: int) -> Iterator[str]:
    """Captions of `count` pictures and clips, and edits, in both languages."""
    rng = np.random.default_rng((seed, 101))
    for _ in range(count):
        scene, clip = random_scene(rng), random_clip(rng)
        for language in LANGUAGES:
            yield caption(scene, rng, language)[0]
            yield clip_caption(clip, rng, language)[0]
            if (edit := random_edit(scene, rng, language)) is not None:
                yield edit.text


def world_texts(count: int, seed: int) -> Iterator[str]:
    """What a person or the model may say about `count` pictures and clips, in both languages."""
    yield from asked_texts(count, seed)
    rng = np.random.default_rng((seed, 102))
    for _ in range(count):
        scene, clip = random_scene(rng, palette=FULL), random_clip(rng, palette=FULL)
        for language in LANGUAGES:
            asked = [*questions(scene, rng, language, FULL), *clip_questions(clip, rng, language)]
            for question, answer, _ in asked:
                yield CHAT_TEMPLATES["chat"].format(image_prompt="", text_prompt=question) + answer


def run(options: Options) -> None:
    """Learn the ranks and write the folder."""
    from train.mini.world.cells import kind_count

    ranks = learn_ranks(world_texts(options.scenes, options.seed), options.ranks)
    tokenizer = write_tokenizer(options.output, ranks, kind_count())
    print(f"{options.output}: {len(ranks)} ranks, vocabulary {tokenizer.vocab_size}")


build_parser, main = command(
    "train.mini.lm.tokenizer", "Make emu3-mini's text tokenizer.", Options, run
)

if __name__ == "__main__":
    leave(main())
