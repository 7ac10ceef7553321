"""The tiny checkpoint and pictures the command tests work on."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.cli.pictures import generate
from tests.support import write_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> tuple[str, str]:
    """Folders of a tiny language model and a tiny vision tokenizer."""
    return tuple(map(str, write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="session")
def plain(tiny, tmp_path_factory) -> Path:
    """What the command writes when nothing but the models is given."""
    output = tmp_path_factory.mktemp("plain")
    assert generate(tiny, output) == 0
    return output


@pytest.fixture(scope="session")
def image_file(tmp_path_factory) -> str:
    """A small picture."""
    path = tmp_path_factory.mktemp("image") / "picture.png"
    draw_frame(0).save(path)
    return str(path)


@pytest.fixture(scope="session")
def frame_folder(tmp_path_factory) -> Path:
    """A folder of 6 frames: one and a half times what is coded together."""
    folder = tmp_path_factory.mktemp("frames")
    for number in range(6):
        draw_frame(number).save(folder / f"frame_{number}.png")
    return folder


def draw_frame(number: int) -> Image.Image:
    """A red disc that moves to the right, 24x16 pixels."""
    frame = Image.new("RGB", (24, 16), "white")
    ImageDraw.Draw(frame).ellipse((number, 4, number + 8, 12), "red")
    return frame
