"""Pictures larger than memory allows: tiles with overlap, blended where they meet.

What tiling changes: attention looks at the whole picture and group norm averages over it, in both
nets, and inside a tile they see the tile alone. So codes and pixels of a tiled picture are not
those of the untiled one, and colours can drift from tile to tile; the overlap hides the seams, and
lets convolutions see past a tile's border. A picture that fits one tile gives the untiled result.

Shapes: b batch, t frames, c channels, h w pixels; T, H, W the same counts in codes.
"""

import itertools
from collections.abc import Callable

import numpy as np
from mindspore import Tensor

from emu3.errors import InputError
from emu3.tokenizer.modeling_emu3visionvq import Emu3VisionVQModel

OVERLAP = 4  # a quarter of a tile lies over its neighbour


class TiledVision:
    """A vision tokenizer whose `encode` and `decode` never see more than a tile at a time.

    Args:
        vision: the model.
        tile: largest side in pixels; rounded down to whole codes.

    Raises:
        InputError: a tile of fewer codes than two overlaps.
    """

    def __init__(self, vision: Emu3VisionVQModel, tile: int) -> None:
        self.vision, self.config = vision, vision.config
        self.factor = vision.spatial_scale_factor
        self.side = tile // self.factor
        self.overlap = self.side // OVERLAP
        if self.side < 2 * OVERLAP:
            raise InputError(
                f"tiles of {tile} pixels; allowed: {2 * OVERLAP * self.factor} or more; "
                "change --tile"
            )

    def encode(self, pixels: Tensor) -> Tensor:
        """As `Emu3VisionVQModel.encode`; vectors of overlapping tiles are blended, then quantised.

        Rows and columns beyond the last whole code are ignored, as they are untiled.
        """
        rows, columns = (size // self.factor for size in pixels.shape[-2:])
        if max(rows, columns) <= self.side:
            return self.vision.encode(pixels)
        vision, whole = self.vision, pixels.astype(self.vision.dtype)

        def run(top: int, bottom: int, left: int, right: int) -> np.ndarray:
            f = self.factor
            part = whole[..., top * f : bottom * f, left * f : right * f]
            return vision.encode_latent(part).asnumpy()

        latent = self._blend(run, rows, columns, 1)  # (b, e, T, H, W)
        return vision.codes_of(Tensor(latent), still=pixels.ndim == 4)

    def decode(self, codes: Tensor, before: int = 0) -> Tensor:
        """As `Emu3VisionVQModel.decode`; pixels of overlapping tiles are blended."""
        rows, columns = codes.shape[-2:]
        if max(rows, columns) <= self.side:
            return self.vision.decode(codes, before)

        def run(top: int, bottom: int, left: int, right: int) -> np.ndarray:
            return self.vision.decode(codes[..., top:bottom, left:right], before).asnumpy()

        return Tensor(self._blend(run, rows, columns, self.factor))

    def _blend(
        self, run: Callable[[int, int, int, int], np.ndarray], rows: int, columns: int, scale: int
    ) -> np.ndarray:
        """Results (..., h, w) of all tiles as one, `scale` numbers a code along each side."""
        down, across = self._spans(rows), self._spans(columns)
        total, weights = None, np.zeros((rows * scale, columns * scale), np.float32)
        for (top, bottom), (left, right) in itertools.product(down, across):
            piece = run(top, bottom, left, right)
            if total is None:
                total = np.zeros((*piece.shape[:-2], *weights.shape), np.float32)
            weight = np.outer(
                self._ramp(top, bottom, rows, scale), self._ramp(left, right, columns, scale)
            )
            place = (slice(top * scale, bottom * scale), slice(left * scale, right * scale))
            total[(..., *place)] += piece * weight
            weights[place] += weight
        return total / weights

    def _spans(self, size: int) -> list[tuple[int, int]]:
        """First and one past the last code of each tile along a side of `size` codes."""
        if size <= self.side:
            return [(0, size)]
        last, step = size - self.side, self.side - self.overlap
        starts = [*range(0, last, step), last]
        return [(start, start + self.side) for start in starts]

    def _ramp(self, first: int, last: int, size: int, scale: int) -> np.ndarray:
        """Weights along a tile's side: falling to its borders, except at the picture's own."""
        length, wide = (last - first) * scale, self.overlap * scale
        places = np.arange(length, dtype=np.float32) + 0.5
        rise = places / wide if first > 0 else np.ones_like(places)
        fall = (length - places) / wide if last < size else np.ones_like(places)
        return np.minimum(np.minimum(rise, fall), 1.0)
