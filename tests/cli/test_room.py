"""Work that memory cannot hold is refused before it is begun, by every command."""

import numpy as np
import pytest

from emu3 import runtime
from emu3.cli import decode, img_rec, vqa
from emu3.codesfile import Codes


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(runtime, "available_memory_bytes", lambda: 1000)


def refusal(code: int, capsys, flag: str) -> None:
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert "of memory" in message and "0.00 GiB are free" in message and flag in message


def test_codes_of_a_picture_too_large_are_not_decoded(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime, "available_memory_bytes", lambda: 2**34)
    Codes(np.zeros((4096, 4096), np.int32)).save(tmp_path / "bomb.npz")
    assert decode.main([str(tmp_path / "bomb.npz"), "--vq-model", tiny[1]]) == 2
    assert "4096x4096 codes need about" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.npz"]


@pytest.mark.parametrize("clip", [False, True])
def test_an_input_too_large_is_not_rebuilt(
    clip, tiny, image_file, frame_folder, tmp_path, capsys, little_memory
):
    path = str(frame_folder) if clip else image_file
    code = img_rec.main(["--input", path, "--vq-model", tiny[1], "--output", str(tmp_path / "o")])
    refusal(code, capsys, "--tile")
    assert not list((tmp_path / "o").iterdir())


def test_a_picture_too_large_is_not_asked_about(tiny, image_file, capsys, little_memory):
    models = ["--model", tiny[0], "--vq-model", tiny[1]]
    refusal(vqa.main([*models, "--image", image_file]), capsys, "--image")


def test_questions_too_many_are_refused_before_the_language_model_is_loaded(
    tiny, image_file, capsys, monkeypatch
):
    monkeypatch.setattr("emu3.cli.vqa.require_room_for_pixels", lambda *a, **k: None)
    monkeypatch.setattr("emu3.cli.vqa.load_language", lambda *a: pytest.fail("loaded"))
    monkeypatch.setattr(runtime, "available_memory_bytes", lambda: 1000)
    models = ["--model", tiny[0], "--vq-model", tiny[1]]
    refusal(vqa.main([*models, "--image", image_file]), capsys, "--model")
