"""What the vision tokenizer learns from: pictures to name, and moments of clips to draw.

Shapes: b items, s = CELL * cells pixels along a side, n = b * cells * cells names, k frames.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np

from train.mini.world.cells import cell_kinds, clip_kinds
from train.mini.world.compose import FULL, random_scene
from train.mini.world.draw import draw_array
from train.mini.world.grounds import ground_array
from train.mini.world.hands import by_another_hand
from train.mini.world.motion import FRAMES, Clip, frames_of, random_clip
from train.mini.world.palette import CELL
from train.mini.world.scenes import Scene

OTHER_HAND = 0.5  # share of pictures to name that another hand drew
STILL = 0.4  # share of clips to draw whose moments are all one picture
MOMENTS = 3  # of a clip to draw: as far back as the decoder looks
# Weights of things, of a ground's details (stars, hills, dots), each with what is beside them, and
# of other ground; where anything ever is, it counts half as much as a thing.
NEAR, DETAIL = 6.0, 6.0


class Seen:
    """Pictures, some by other hands, and the name of each of their cells."""

    def __init__(self, seed: int, batch: int, cells: int, other_hand: float = OTHER_HAND) -> None:
        self.seed, self.batch, self.cells, self.other_hand = seed, batch, cells, other_hand

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (b, 3, s, s) in [-1, 1] and names (n,) int32; the same for the same step."""
        pixels, names = zip(*((levels(cut), names) for _, _, cut, names in self._pictures(step)))
        return np.stack(pixels), np.stack(names).reshape(-1)

    def with_weights(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels, weights (b, 1, s, s) as in `Drawn`, and names."""
        weights = [
            weights_of(Clip((scene,), ()), pixels[None], cut)
            for scene, cut, pixels, _ in self._pictures(step)
        ]
        pixels, names = self(step)
        return pixels, np.stack(weights), names

    def _pictures(self, step: int) -> Iterator[tuple]:
        """Scene, cut, pixels of the cut and its names, for each picture of a step."""
        rng = np.random.default_rng((self.seed, self.cells, step, 0))
        for _ in range(self.batch):
            scene = random_scene(rng, "train", "1:1", palette=FULL)
            other = rng.random() < self.other_hand
            drawn = by_another_hand(scene, rng) if other else draw_array(scene)
            cut = window(scene, self.cells, rng)
            yield scene, cut, cut_pixels(drawn, cut), cell_kinds(scene)[cut]


class Drawn:
    """Names of a clip's moments, and some of its frames with the weight of each pixel."""

    def __init__(self, seed: int, batch: int, cells: int, frames: int) -> None:
        self.seed, self.batch, self.cells, self.frames = seed, batch, cells, frames

    def __call__(self, step: int) -> tuple[np.ndarray, ...]:
        """Names (b, MOMENTS, c, c), frames' numbers (k,), pixels (b * k, 3, s, s), weights.

        Weights are (b * k, 1, s, s).
        """
        rng = np.random.default_rng((self.seed, self.cells, step, 1))
        parts = [self._clip(rng) for _ in range(self.batch)]
        numbers = np.sort(rng.choice(FRAMES * MOMENTS, self.frames, replace=False))
        names = np.stack([part[0] for part in parts])
        pixels = np.stack([levels(frames[number]) for _, frames, _ in parts for number in numbers])
        weights = np.stack([weight[number] for _, _, weight in parts for number in numbers])
        return names, numbers.astype(np.int32), pixels, weights[:, None]

    def _clip(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if rng.random() < STILL:
            scene = random_scene(rng, "train", "1:1", palette=FULL)
            clip = Clip((scene,) * MOMENTS, ())
        else:
            skip = int(rng.choice([0, 1, 2, 4, 7]))
            clip = random_clip(rng, "train", "1:1", MOMENTS, skip, FULL)
        cut = window(clip.moments[1], self.cells, rng)
        frames = cut_pixels(frames_of(clip), cut)
        return clip_kinds(clip.moments)[(slice(None), *cut)], frames, weights_of(clip, frames, cut)


def levels(pixels: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (3, h, w) in [-1, 1]."""
    return pixels.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1


def window(scene: Scene, cells: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a square of cells about one of the things."""
    thing = scene.things[rng.integers(len(scene.things))]
    first = []
    for centre, length in zip(thing.centre, (scene.rows, scene.cols)):
        start = round(centre - cells / 2 + rng.uniform(-1, 1))
        first.append(min(max(start, 0), length - cells))
    return slice(first[0], first[0] + cells), slice(first[1], first[1] + cells)


def cut_pixels(pixels: np.ndarray, cut: tuple[slice, slice]) -> np.ndarray:
    """The cells `cut` of pixels (..., h, w, 3)."""
    rows, cols = (slice(part.start * CELL, part.stop * CELL) for part in cut)
    return pixels[..., rows, cols, :]


def weights_of(clip: Clip, frames: np.ndarray, cut: tuple[slice, slice]) -> np.ndarray:
    """Weight of each pixel of frames (t, s, s, 3): things and details of the ground count more."""
    first = clip.moments[0]
    empty = frames_of(Clip((Scene(first.rows, first.cols, first.ground, ()),), ()))[:1]
    empty = cut_pixels(empty, cut).astype(np.float32)
    there = np.abs(frames - empty).max(-1) > 4  # (t, s, s)
    ghost = there.any(0)  # where anything ever is
    ground = details(first.ground, first.rows, first.cols)[..., None]
    ground = np.where(cut_pixels(ground, cut)[..., 0], DETAIL, 1.0)
    ground = np.where(ghost, np.maximum(ground, NEAR / 2), ground)
    return np.where(widened(there), NEAR, ground).astype(np.float32)


@cache
def details(ground: str, rows: int, cols: int) -> np.ndarray:
    """Where a ground, (CELL * rows, CELL * cols), is not like most of its row of pixels."""
    levels = ground_array(ground, rows, cols)
    apart = np.abs(levels - np.median(levels, 1, keepdims=True)).max(-1) > 4
    return widened(apart[None])[0]


def widened(mask: np.ndarray, by: int = 2) -> np.ndarray:
    """Grow masks (t, s, s) by `by` pixels in all eight directions."""
    padded = np.pad(mask, ((0, 0), (by, by), (by, by)))
    rows, cols = mask.shape[1:]
    shifts = [(dy, dx) for dy in (0, by, 2 * by) for dx in (0, by, 2 * by)]
    return np.any([padded[:, dy : dy + rows, dx : dx + cols] for dy, dx in shifts], axis=0)
