"""Draw scenes, encode them and write feature folders: `python -m train.prepare_scene_data`.

Writes OUTPUT/t2i (captions), OUTPUT/vqa (questions and answers) and, with --new, OUTPUT/text
(descriptions in one language, wanted in the other), each with a list per split. A run that was
stopped goes on where it left off.
"""

import argparse
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from emu3 import runtime
from emu3.tokenizer import Emu3VisionVQModel
from train.cells import cell_kinds
from train.features import Feature, write_feature, write_list
from train.language import caption, describe, questions
from train.scenes import (
    RATIO_SHARES,
    RATIOS,
    SMALL,
    Scene,
    draw_array,
    random_new_scene,
    random_scene,
)

NEW_SHARE = 0.7
# Kinds of questions that are soon learnt, many-formed or long, and how many of each are enough.
SELDOM = {"yes/no": 4, "count": 2, "ground": 1, "describe": 1}


class Encode(nn.Cell):
    """Pixels to codes in one compiled graph."""

    def __init__(self, model: Emu3VisionVQModel) -> None:
        super().__init__()
        self.model = model

    def construct(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) -> codes (b * H * W,)."""
        latent = self.model.encode_latent(pixels)
        vectors = latent.transpose(0, 2, 3, 4, 1).reshape(-1, latent.shape[1])
        return self.model.quantize.nearest(vectors)


def encode_scenes(encode: Encode, scenes: list[Scene]) -> np.ndarray:
    """Codes int32 (n, rows, cols) of scenes of one size."""
    pixels = np.stack([draw_array(scene) for scene in scenes]).transpose(0, 3, 1, 2)
    codes = encode(Tensor(pixels.astype(np.float32) / 127.5 - 1)).asnumpy()
    return codes.reshape(len(scenes), scenes[0].rows, scenes[0].cols)


def t2i_feature(name: str, scene: Scene, codes: np.ndarray, rng, wordings: int) -> Feature:
    """Several captions of one picture, in English and Chinese by turns."""
    texts = [caption(scene, rng, ("en", "zh")[i % 2])[0] for i in range(wordings)]
    return Feature(name, codes, texts[0], captions=texts)


def vqa_feature(name: str, scene: Scene, codes: np.ndarray, rng, rounds: int) -> Feature:
    """Questions about one picture in both languages; the last one also as texts, response."""
    turns = [turn for language in ("en", "zh") for turn in asked(scene, rng, language, rounds)]
    question, answer = turns[-1]
    return Feature(name, codes, question, answer, turns=turns)


def asked(scene: Scene, rng, language: str, rounds: int) -> list[tuple[str, str]]:
    """All questions of one round; of several, different ones, and of kinds in SELDOM only a few."""
    if rounds == 1:
        return [turn[:2] for turn in questions(scene, rng, language)]
    by_kind: dict[str, dict[str, str]] = {}
    for _ in range(rounds):
        for question, answer, kind in questions(scene, rng, language):
            by_kind.setdefault(kind, {})[question] = answer
    kept = []
    for kind, turns in by_kind.items():
        order = rng.permutation(len(turns))[: SELDOM.get(kind)]
        kept += [list(turns.items())[i] for i in order]
    return kept


def text_feature(name: str, scene: Scene, number: int) -> Feature:
    """A description to say in the other language."""
    english, chinese = describe(scene, "en"), describe(scene, "zh")
    if number % 2:
        return Feature(name, None, f"Say in Chinese: {english}", chinese)
    return Feature(name, None, f"请用英文说：{chinese}", english)


def draw_scene(
    rng: np.random.Generator, ratio: str, new: bool, counts: list[float] | None
) -> Scene:
    """A training scene; with `new`, 7 of 10 show the new colour or kind.

    `counts` are the shares of scenes with 1, 2 and 3 shapes; None leaves that to `random_scene`.
    """
    if new and rng.random() < NEW_SHARE:
        return random_new_scene(rng, "train", ratio)
    count = None if counts is None else 1 + int(rng.choice(3, p=np.array(counts) / sum(counts)))
    return random_scene(rng, "train", ratio, count)


def prepare(args: argparse.Namespace) -> None:
    """Write the features that are missing, then the lists."""
    encode = None
    if args.codes == "encoded":
        encode = Encode(Emu3VisionVQModel.from_pretrained(args.vq_model).set_train(False))
    names, shares = (list(SMALL), None) if args.small else (list(RATIOS), RATIO_SHARES)
    ratios = np.random.default_rng((args.seed, 0)).choice(names, args.scenes, p=shares)
    output, bar = Path(args.output), tqdm(total=args.scenes, desc="scenes")
    for ratio in names:
        numbers = np.flatnonzero(ratios == ratio)
        for start in range(0, len(numbers), args.batch):
            _write_batch(output, encode, numbers[start : start + args.batch], ratio, args)
            bar.update(min(args.batch, len(numbers) - start))
    files = [f"{i:06d}.ckpt" for i in range(args.scenes)]
    for task in ("t2i", "vqa", *["text"] * args.new):
        write_list(output / task, "train", files[args.held_back :])
        write_list(output / task, "test", files[: args.held_back])


def _write_batch(output: Path, encode: Encode | None, numbers, ratio: str, args) -> None:
    names = [f"{i:06d}" for i in numbers]
    if all((output / "vqa" / "feature" / f"{name}.ckpt").exists() for name in names):
        return
    generators = [np.random.default_rng((args.seed, 1, int(i))) for i in numbers]
    scenes = [draw_scene(rng, ratio, args.new, args.counts) for rng in generators]
    padded = scenes + scenes[-1:] * (args.batch - len(scenes))  # one shape, one compiled graph
    codes_of = [cell_kinds(s) for s in scenes] if encode is None else encode_scenes(encode, padded)
    for name, scene, codes, rng in zip(names, scenes, codes_of, generators):
        write_feature(output / "t2i", t2i_feature(name, scene, codes, rng, args.wordings))
        if args.new:
            write_feature(output / "text", text_feature(name, scene, int(name)))
        write_feature(output / "vqa", vqa_feature(name, scene, codes, rng, args.rounds))


def main(argv: list[str] | None = None) -> None:
    """Parse options and prepare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--vq-model", default="assets/emu3-mini/vision", help="vision tokenizer")
    parser.add_argument(
        "--codes",
        choices=("encoded", "named"),
        default="encoded",
        help="of the vision tokenizer, or those it is taught to give (train.cells)",
    )
    parser.add_argument("--output", default="outputs/scenes", help="folder to write")
    parser.add_argument("--scenes", type=int, default=20000, help="pictures to draw")
    parser.add_argument(
        "--new", action="store_true", help="teach a new colour and kind, among what is known"
    )
    parser.add_argument("--small", action="store_true", help="pictures of few cells, to begin with")
    parser.add_argument(
        "--counts",
        type=float,
        nargs=3,
        metavar="SHARE",
        help="shares of scenes with 1, 2 and 3 shapes (default: 0.3 0.4 0.3)",
    )
    parser.add_argument("--held-back", type=int, default=200, help="pictures of the test lists")
    parser.add_argument("--wordings", type=int, default=6, help="captions per picture")
    parser.add_argument(
        "--rounds", type=int, default=1, help="rounds of questions per picture and language"
    )
    parser.add_argument("--batch", type=int, default=32, help="pictures encoded at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and texts")
    args = parser.parse_args(argv)
    runtime.setup(device="CPU", mode="graph")
    ms.set_seed(args.seed)
    prepare(args)


if __name__ == "__main__":
    main()
