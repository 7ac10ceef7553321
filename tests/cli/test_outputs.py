"""Numbered files, codes files, and what a picture's metadata holds."""

import errno

import numpy as np
import pytest
from PIL import Image

from emu3.cli.outputs import (
    Progress,
    Spoken,
    new_file,
    new_folder,
    save_picture,
    with_prompts,
)
from emu3.codesfile import Codes
from emu3.errors import InputError
from emu3.files import atomic_path
from emu3.mllm.generation import CandidateRow, RowDone
from emu3.tokenizer.codes import finished_rows


def touch(path) -> None:
    path.write_text("x")


def test_numbers_go_up_and_nothing_is_overwritten(tmp_path):
    paths = [new_file(tmp_path, "image", ".npz", touch) for _ in range(3)]
    assert [p.name for p in paths] == ["image_0000.npz", "image_0001.npz", "image_0002.npz"]
    assert new_folder(tmp_path, "image").name == "image_0003"


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(path) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        new_file(tmp_path, "image", ".npz", fail)
    assert not list(tmp_path.iterdir())


def test_codes_come_back_with_their_settings(tmp_path):
    codes = np.arange(6, dtype=np.int32).reshape(2, 3)
    Codes(codes, {"prompt": "红色", "seed": 3}).save(tmp_path / "a.npz")
    back = Codes.load(tmp_path / "a.npz")
    assert np.array_equal(back.codes, codes)
    assert back.settings == {"prompt": "红色", "seed": 3}


def test_finished_rows_end_at_the_first_hole():
    codes = np.array([[1, 2], [3, 4], [5, -1], [6, 7]])
    assert finished_rows(codes) == 2
    assert finished_rows(codes[:2]) == 2
    assert finished_rows(codes[2:]) == 0


def test_a_single_array_is_no_codes_file(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2), np.int32))
    with pytest.raises(InputError, match=r"a\.npy is no codes file"):
        Codes.load(tmp_path / "a.npy")


def test_codes_of_another_vision_tokenizer_are_refused(tmp_path):
    codes = Codes(np.array([[1, 7], [2, 3]]))
    codes.require_codebook(8, tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"a\.npz holds code 7.*below 7.*--vq-model"):
        codes.require_codebook(7, tmp_path / "a.npz")


def test_brackets_in_a_name_do_not_hide_taken_numbers(tmp_path):
    paths = [new_file(tmp_path, "image_0000[1]", ".png", touch) for _ in range(2)]
    assert [p.name for p in paths] == ["image_0000[1]_0000.png", "image_0000[1]_0001.png"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_broken_codes_file_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz is no codes file"):
        Codes.load(tmp_path / "a.npz")


def test_codes_of_another_kind_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", codes=np.ones((2, 2)), settings=np.array("{}"))
    with pytest.raises(InputError, match="float64 codes of shape"):
        Codes.load(tmp_path / "a.npz")


def test_a_picture_carries_its_settings(tmp_path):
    settings = {"prompt": "红色圆形", "seed": 7, "guidance": 2.0}
    save_picture(Image.new("RGB", (8, 8)), settings, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["prompt"] == "红色圆形"
        assert (image.text["seed"], image.text["guidance"]) == ("7", "2.0")


def test_what_utf_8_cannot_hold_is_escaped_in_a_pictures_settings(tmp_path):
    save_picture(Image.new("RGB", (8, 8)), {"input": "caf\udce9.png"}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["input"] == r"caf\udce9.png"


def test_a_full_disk_names_the_folder_of_a_new_file(tmp_path):
    def full(path) -> None:
        with atomic_path(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError) as error:
        new_file(tmp_path, "image", ".npz", full)
    assert error.value.filename == str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_speed_and_time_left_leave_out_what_came_before_the_first_row():
    moments = iter([100.0, 101.0, 102.0])
    with Progress(10, clock=lambda: next(moments)) as progress:
        assert progress.speed is None
        progress.add(1, 5)  # after a minute of compiling
        assert progress.speed is None
        for _ in range(2):
            progress.add(1, 5)
        assert progress.speed == 5.0
        told = progress.bar.format_dict
        assert (told["n"], told["initial"], progress.bar.start_t) == (3, 1, 100.0)
        assert progress.tokens == 15


def test_rows_of_the_best_of_several_are_counted_once():
    codes = np.zeros(4, np.int32)
    with Progress(1) as progress:
        for event in (CandidateRow(0, 0, codes), RowDone(0, 0, codes, again=True)):
            progress.row(event)
        assert (progress.bar.n, progress.tokens) == (1, 5)


def test_a_text_is_printed_as_it_grows_and_no_half_character(capsys):
    spoken = Spoken(lambda ids: bytes(ids).decode(errors="replace"), "> ")
    printed = []
    for byte in "a\u4e00b".encode():
        spoken.ids.append(byte)
        spoken.say()
        printed.append(capsys.readouterr().out)
    spoken.end()
    assert printed == ["> a", "", "", "\u4e00", "b"]
    assert capsys.readouterr().out == "\n"


def test_several_files_are_named_with_their_prompts_and_one_alone(tmp_path):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    assert list(with_prompts([a], ["x"])) == [str(a)]
    assert list(with_prompts([a, b], ["x", "y"])) == [f"{a}: x", f"{b}: y"]
