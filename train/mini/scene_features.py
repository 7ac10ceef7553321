"""Scenes as feature folders: pictures with captions, with questions, and texts alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from train.data.features import Feature
from train.data.folders import claim_folder, encoding_of, owned_folder
from train.data.workers import processes
from train.data.writing import FeatureWriter
from train.mini.options import SceneOptions
from train.mini.words import LANGUAGES
from train.mini.words.captions import caption
from train.mini.words.questions import full_description, questions
from train.mini.world.cells import cell_kinds
from train.mini.world.compose import BASE, FULL, RATIO_SHARES, random_new_scene, random_scene
from train.mini.world.scenes import Scene

if TYPE_CHECKING:
    from train.mini.scene_codes import Encode

Generators = list[np.random.Generator]
NEW_SHARE = 0.7
FEWEST_SHARED = 8  # batches of a process that are worth its start


def draw_scene(rng: np.random.Generator, ratio: str, new: bool) -> Scene:
    """A training scene; with `new`, 7 of 10 show the new colour or kind."""
    if new and rng.random() < NEW_SHARE:
        return random_new_scene(rng, "train", ratio)
    return random_scene(rng, "train", ratio)


def t2i_features(
    encode: "Encode | None",
    names: list[str],
    generators: Generators,
    ratio: str,
    options: SceneOptions,
) -> list[Feature]:
    """Pictures with captions, in English and Chinese by turns."""
    scenes = [draw_scene(rng, ratio, options.new) for rng in generators]
    features = []
    for name, scene, rng, codes in zip(
        names, scenes, generators, _codes(encode, scenes, options.batch)
    ):
        languages = islice(cycle(LANGUAGES), options.wordings)
        texts = [caption(scene, rng, language)[0] for language in languages]
        features.append(Feature(name, codes, texts[0], captions=texts))
    return features


def vqa_features(
    encode: "Encode | None",
    names: list[str],
    generators: Generators,
    ratio: str,
    options: SceneOptions,
) -> list[Feature]:
    """Questions about pictures, in a language each; the last one also as texts, response."""
    scenes = [draw_scene(rng, ratio, options.new) for rng in generators]
    palette, features = FULL if options.new else BASE, []
    for name, scene, rng, codes in zip(
        names, scenes, generators, _codes(encode, scenes, options.batch)
    ):
        asked = questions(scene, rng, list(LANGUAGES)[int(name) % 2], palette)
        turns = [turn[:2] for turn in asked]
        question, answer = turns[-1]
        features.append(Feature(name, codes, question, answer, turns=turns))
    return features


def text_features(
    encode: None, names: list[str], generators: Generators, ratio: str, options: SceneOptions
) -> list[Feature]:
    """Descriptions of scenes, to say in the other language."""
    features = []
    for name, rng in zip(names, generators):
        scene = draw_scene(rng, ratio, options.new)
        english, chinese = (full_description(scene, words) for words in LANGUAGES.values())
        asked = (f"Say in Chinese: {english}", chinese), (f"请用英文说：{chinese}", english)
        features.append(Feature(name, None, *asked[int(name) % 2]))
    return features


FEATURES = {"t2i": t2i_features, "vqa": vqa_features, "text": text_features}


def prepare(options: SceneOptions) -> None:
    """Write the features that are missing, then the lists, a task at a time."""
    encode = None
    if options.codes == "encoded" and options.tasks != ["text"]:
        from emu3.tokenizer import Emu3VisionVQModel
        from train.mini.scene_codes import Encode

        vision = Emu3VisionVQModel.from_pretrained(options.vq_model).set_train(False)
        encoding = encoding_of(vision)
        for task in ("", *(task for task in options.tasks if task != "text")):
            claim_folder(Path(options.output) / task, encoding, "--output or --vq-model")
        encode = Encode(vision)
    rng = np.random.default_rng((options.seed, 0))
    ratios = rng.choice(list(RATIO_SHARES), options.scenes, p=list(RATIO_SHARES.values()))
    names = [f"{i:06d}" for i in range(options.scenes)]
    for task in options.tasks:
        with owned_folder(Path(options.output) / task, "--output") as folder:
            with FeatureWriter.open(folder, options.shard_size) as features:
                _write_task(features, folder.name, encode, ratios, options)
            features.write_list("train", names[options.held_back :])
            features.write_list("test", names[: options.held_back])


def _write_task(
    features: FeatureWriter,
    task: str,
    encode: "Encode | None",
    ratios: np.ndarray,
    options: SceneOptions,
) -> None:
    batches = [
        (ratio, numbers[start : start + options.batch])
        for ratio in RATIO_SHARES
        for numbers in [np.flatnonzero(ratios == ratio)]
        for start in range(0, len(numbers), options.batch)
    ]
    todo = [batch for batch in batches if not _kept(features, batch[1])]
    with tqdm(total=options.scenes, desc=task) as bar, _drawing(encode, len(todo), options) as draw:
        bar.update(options.scenes - sum(len(numbers) for _, numbers in todo))
        for made in draw(partial(_batch, task, encode, options), todo):
            for feature in made:
                features.write(feature)
            bar.update(len(made))


def _kept(features: FeatureWriter, numbers: np.ndarray) -> bool:
    """Whether a batch is there, in the form that is asked for."""
    names = [f"{i:06d}" for i in numbers]
    there = all(features.find(name) for name in names)
    for name in names if there else ():
        features.keep(name)
    return there


def _batch(
    task: str, encode: "Encode | None", options: SceneOptions, batch: tuple[str, np.ndarray]
) -> list[Feature]:
    """The features of a batch: a ratio, and the numbers of its scenes."""
    ratio, numbers = batch
    stream = 1 + list(FEATURES).index(task)
    generators = [np.random.default_rng((options.seed, stream, int(i))) for i in numbers]
    return FEATURES[task](encode, [f"{i:06d}" for i in numbers], generators, ratio, options)


@contextmanager
def _drawing(encode: "Encode | None", batches: int, options: SceneOptions) -> Iterator[Callable]:
    """`map` for the block, by processes where nothing but drawing is to be done and much of it."""
    workers = options.workers or os.cpu_count() or 1
    if encode is not None or workers == 1 or batches < FEWEST_SHARED * workers:
        yield map
        return
    with processes(workers) as executor:
        yield executor.map


def _codes(encode: "Encode | None", scenes: Sequence[Scene], batch: int) -> Sequence[np.ndarray]:
    """Codes of scenes of one size, always `batch` at once: one shape, one compiled graph."""
    if encode is None:
        return [cell_kinds(scene) for scene in scenes]
    from train.mini.scene_codes import encode_scenes

    return encode_scenes(encode, [*scenes, *[scenes[-1]] * (batch - len(scenes))])
