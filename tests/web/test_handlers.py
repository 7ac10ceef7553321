"""What the page's handlers refuse, and what they leave behind, without a browser."""

import time
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

import emu3
from emu3.cli import serve, web
from emu3.cli.options import Device
from emu3.mllm.parts import Clip
from emu3.web import tidying
from emu3.web.desk import Limits
from emu3.web.handlers import Page
from tests.support import write_tiny_checkpoint

MOST = 2**12  # pixels


@pytest.fixture
def sent(models, tmp_path) -> Callable[..., tuple[Page, list[str]]]:
    """A page, and the paths of so many pictures of `side` that were sent to it."""

    def send(count: int, side: int) -> tuple[Page, list[str]]:
        paths = [tmp_path / f"{number}.png" for number in range(count)]
        for path in paths:
            Image.new("RGB", (side, side)).save(path)
        return Page(models, None, Limits(pixels=MOST), tmp_path), list(map(str, paths))

    return send


def edit(page: Page, paths: list[str]) -> None:
    list(page.edit("make it blue", 0, 1, 1, "plain", 1, paths))


def ask(page: Page, paths: list[str]) -> None:
    history = [{"role": "user", "content": (path,)} for path in paths[1:]]
    list(page.ask({"text": "What is it?", "files": paths[:1]}, history))


@pytest.mark.parametrize("handler", [edit, ask])
@pytest.mark.parametrize(
    ("count", "side", "named"), [(17, 8, "more than 16 pictures"), (2, 64, f"{2 * MOST} pixels")]
)
def test_pictures_of_a_request_are_counted_together(sent, handler, count, side, named):
    with pytest.raises(gr.Error, match=named):
        handler(*sent(count, side))


def test_frames_of_a_clip_are_counted_together(sent):
    page, (path,) = sent(1, 8)
    clip = Path(path).with_name("clip.gif")
    colours = ("red", "green", "blue")
    first, *rest = (Image.new("RGB", (64, 64), colour) for colour in colours)
    first.save(clip, save_all=True, append_images=rest)
    with pytest.raises(gr.Error, match=f"more than {MOST} pixels"):
        page.rebuild(str(clip))


def test_old_files_alone_are_removed(tmp_path):
    old, new = tmp_path / "inner/old.png", tmp_path / "inner/new.png"
    old.parent.mkdir()
    old.touch()
    time.sleep(2)
    new.touch()
    tidying.remove_old(tmp_path, 1)
    assert not old.exists() and new.exists()


def test_a_page_keeps_no_clip_it_has_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(tidying, "PAUSE", 0.1)
    monkeypatch.setattr(tidying, "AGE", 3.0)
    models = emu3.load(*write_tiny_checkpoint(tmp_path / "models"), device="CPU")
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    options = web.Options(serving=serve.Serving(), device=Device())
    web.mount(serve.application(options, models), options, uploads, None)
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    path = Path(Page(models, None, Limits(), uploads)._shown(Clip(frames, 8)))
    assert Image.open(path).n_frames == 2
    until = time.monotonic() + 10
    while any(uploads.iterdir()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(uploads.iterdir())
