"""The command that makes pictures, as its tests call it."""

import shutil
from pathlib import Path

import numpy as np

from emu3.cli import img_gen
from emu3.codesfile import Codes


def generate(tiny, output, *extra: str) -> int:
    return img_gen.main(
        ["--model", tiny[0], "--vq-model", tiny[1], "--output", str(output), *extra]
    )


def codes(output: Path, number: int = 0) -> np.ndarray:
    return Codes.load(output / f"image_{number:04d}.npz").codes


def copied(tiny, tmp_path) -> Path:
    folder = tmp_path / "language"
    shutil.copytree(tiny[0], folder)
    return folder
