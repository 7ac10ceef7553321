"""Scenes to codes by the vision tokenizer, many of one size together."""

import numpy as np
from mindspore import Tensor, nn

from emu3.tokenizer import Emu3VisionVQModel
from train.mini.world.draw import draw_array
from train.mini.world.palette import CELL
from train.mini.world.scenes import Scene


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


def encode_pictures(encode: Encode, pictures: np.ndarray) -> np.ndarray:
    """Codes int32 (n, rows, cols) of pictures (n, h, w, 3) uint8."""
    pixels = pictures.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    n, h, w, _ = pictures.shape
    return encode(Tensor(pixels)).asnumpy().reshape(n, h // CELL, w // CELL)


def encode_scenes(encode: Encode, scenes: list[Scene]) -> np.ndarray:
    """Codes int32 (n, rows, cols) of scenes of one size."""
    return encode_pictures(encode, np.stack([draw_array(scene) for scene in scenes]))
