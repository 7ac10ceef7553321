"""Pictures as the vision tokenizer sees them, off the grid and by other hands too.

Questions and edits are about such pictures, whose codes are not always the right names; a language
model that was only ever shown right ones would trust each of them.
"""

from dataclasses import dataclass

import numpy as np

from emu3.tokenizer import Emu3VisionVQModel
from train.mini.scene_codes import Encode, encode_pictures
from train.mini.world.compose import random_scene
from train.mini.world.draw import draw_array
from train.mini.world.hands import by_another_hand
from train.mini.world.scenes import Scene

OTHER_HAND = 0.6  # share of them that another hand drew
TOGETHER = 16  # pictures encoded at once


@dataclass(frozen=True)
class Seen:
    """A scene, and the codes (rows, cols) of a picture of it."""

    scene: Scene
    codes: np.ndarray


def seen_pictures(vq_model: str, count: int, seed: int) -> list[Seen]:
    """So many square pictures of training scenes, through the vision tokenizer of a folder."""
    rng = np.random.default_rng((seed, 103))
    encode = Encode(Emu3VisionVQModel.from_pretrained(vq_model).set_train(False))
    seen = []
    for _ in range(0, count, TOGETHER):
        scenes = [random_scene(rng, ratio="1:1") for _ in range(TOGETHER)]
        codes = encode_pictures(encode, np.stack([_drawn(scene, rng) for scene in scenes]))
        seen += [Seen(*pair) for pair in zip(scenes, codes.astype(np.int32))]
    return seen[:count]


def _drawn(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    return by_another_hand(scene, rng) if rng.random() < OTHER_HAND else draw_array(scene)
