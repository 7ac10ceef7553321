"""What emu3-mini's vision tokenizer learns from: scenes drawn as it goes, and pixels' weights."""

import numpy as np

from train.mini.cells import cell_kinds
from train.mini.drawing import draw_array, foreground
from train.mini.scenes import FULL, Scene, held_out, place, random_ground, random_look


class Batches:
    """Random scenes of `cells` x `cells` cells with the weight of each pixel.

    The plain ground dominates a picture, so shapes and what lies next to them count 6 times and
    textured ground 3 times.
    """

    def __init__(self, seed: int, batch: int, cells: int) -> None:
        self.seed, self.batch, self.cells = seed, batch, cells

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels (b, 3, s, s) in [-1, 1], weights (b, 1, s, s), and each cell's kind (n,).

        Kinds are those of `train.mini.cells.cell_kinds`. Same for same step.
        """
        rng = np.random.default_rng((self.seed, self.cells, step))
        parts = [self._arrays(self._scene(rng)) for _ in range(self.batch)]
        pixels, weights, kinds = (np.stack(part) for part in zip(*parts))
        return pixels, weights, kinds.reshape(-1)

    def _scene(self, rng: np.random.Generator) -> Scene:
        """A scene without held-out combinations, as full as it happens to get."""
        while True:
            looks = [random_look(rng, FULL) for _ in range(rng.integers(1, 4))]
            shapes = place(rng, self.cells, self.cells, looks)
            if shapes is not None:
                scene = Scene(self.cells, self.cells, random_ground(rng), shapes, FULL)
                if not held_out(scene):
                    return scene

    def _arrays(self, scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = draw_array(scene).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
        near = _widen(foreground(scene) > 0)
        ground = 1.0 if scene.ground.texture == "plain" else 3.0
        return pixels, np.where(near, 6.0, ground).astype(np.float32)[None], cell_kinds(scene)


def _widen(mask: np.ndarray, by: int = 2) -> np.ndarray:
    """Grow a mask by `by` pixels in all eight directions."""
    padded = np.pad(mask, by)
    shifts = [(dy, dx) for dy in (0, by, 2 * by) for dx in (0, by, 2 * by)]
    rows, cols = mask.shape
    return np.any([padded[dy : dy + rows, dx : dx + cols] for dy, dx in shifts], axis=0)
