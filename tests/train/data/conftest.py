"""A tiny vision tokenizer and pictures to prepare."""

import numpy as np
import pytest
from PIL import Image

from tests.support import write_tiny_checkpoint
from tests.train.data.prepared import SIZES, write


@pytest.fixture(scope="session")
def vision(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))[1]


@pytest.fixture
def data(tmp_path):
    """Four captioned pictures of three sizes."""
    rng = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    write(tmp_path, [{"name": n, "text": f"a {n} one", "image": f"{n}.png"} for n in SIZES])
    return tmp_path
