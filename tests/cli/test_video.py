"""Clips, edits and conversations as commands: files, resumption, one line for bad input."""

import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from emu3.cli import chat, edit, video
from emu3.codesfile import Codes
from emu3.mllm.parts import Text
from emu3.tokenizer.codes import NOT_MADE
from tests.cli.conftest import draw_frame

FAST = ["--mode", "pynative", "--animation", "gif"]
SMALL = ["--height", "8", "--width", "8"]


def film(tiny, output, *more, animation=FAST) -> int:
    models = ["--model", tiny[0], "--vq-model", tiny[1]]
    return video.main([*models, "--output", str(output), *animation, *more])


def codes_of(output, number=0) -> Codes:
    return Codes.load(output / f"clip_{number:04d}.npz")


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """A clip of 10 frames in pieces of 8, each behind 4."""
    output = tmp_path_factory.mktemp("film")
    options = ["--frames", "10", "--piece", "8", "--context", "4", "--fps", "5"]
    assert film(tiny, output, "--prompt", "go", *SMALL, *options) == 0
    return output


def test_a_clip_is_codes_frames_and_an_animation(made):
    content = codes_of(made)
    assert content.codes.shape == (3, 2, 2)
    assert (content.settings["frames"], content.settings["fps"]) == (10, 5.0)
    assert len(list((made / "clip_0000").glob("frame_*.png"))) == 10
    with Image.open(made / "clip_0000.gif") as animation:
        assert (animation.n_frames, animation.info["duration"]) == (10, 200)


def test_a_clip_cut_short_goes_on_as_it_would_have(tiny, made, tmp_path, monkeypatch, capsys):
    class Stopping(video.Progress):
        def add(self, units, tokens):
            super().add(units, tokens)
            if self.bar.n == 5:
                raise KeyboardInterrupt

    options = ["--frames", "10", "--piece", "8", "--context", "4", "--fps", "5", "--preview", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(video, "Progress", Stopping)
        assert film(tiny, tmp_path, "--prompt", "go", *SMALL, *options) == 130
    assert "--resume" in capsys.readouterr().err
    cut = codes_of(tmp_path).codes
    assert (cut[:2] >= 0).all() and (cut[2] < 0).any()
    assert [path.name for path in tmp_path.iterdir()] == ["clip_0000.npz"]
    assert film(tiny, tmp_path, "--resume", str(tmp_path / "clip_0000.npz")) == 0
    assert np.array_equal(codes_of(tmp_path).codes, codes_of(made).codes)
    assert (tmp_path / "clip_0000.gif").read_bytes() == (made / "clip_0000.gif").read_bytes()


def test_of_several_candidates_none_is_kept_before_the_best_is_known(tiny, tmp_path, monkeypatch):
    class Stopping(video.Progress):
        def add(self, units, tokens):
            super().add(units, tokens)
            if self.bar.n == 3:
                raise KeyboardInterrupt

    options = ["--prompt", "go", *SMALL, "--frames", "8", "--best-of", "3", "--preview", "1"]
    assert film(tiny, tmp_path / "whole", *options) == 0
    with monkeypatch.context() as patch:
        patch.setattr(video, "Progress", Stopping)
        assert film(tiny, tmp_path, *options) == 130
    assert (codes_of(tmp_path).codes < 0).all()
    assert film(tiny, tmp_path, "--resume", str(tmp_path / "clip_0000.npz")) == 0
    assert np.array_equal(codes_of(tmp_path).codes, codes_of(tmp_path / "whole").codes)


def test_a_clip_begun_before_there_were_candidates_goes_on(tiny, made, tmp_path):
    content = codes_of(made)
    del content.settings["draw"]["best_of"]
    codes = np.concatenate([content.codes[:2], np.full_like(content.codes[2:], NOT_MADE)])
    Codes(codes, content.settings).save(tmp_path / "a.npz")
    assert film(tiny, tmp_path, "--resume", str(tmp_path / "a.npz")) == 0
    assert np.array_equal(Codes.load(tmp_path / "a.npz").codes, codes_of(made).codes)


def test_a_clip_given_is_gone_on_with(tiny, frame_folder, tmp_path, capsys):
    assert film(tiny, tmp_path, "--extend", str(frame_folder), "--frames", "4") == 0
    content = codes_of(tmp_path)
    assert content.codes.shape == (3, 4, 6)  # 6 frames, 2 put before them, and 4 more
    assert len(list((tmp_path / "clip_0000").glob("*.png"))) == 10
    assert "2 time(s) more before it" in capsys.readouterr().err


def test_the_animation_extends_as_its_frames_do(tiny, frame_folder, tmp_path):
    frames = [draw_frame(number) for number in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=250)
    assert film(tiny, tmp_path, "--extend", str(tmp_path / "a.gif"), "--frames", "4") == 0
    assert codes_of(tmp_path).settings["fps"] == 4.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "400"], r"up to \d+ frames \(\d+ latent ones\) at once"),
        (["--context", "4"], "--piece"),
        (["--piece", "4", "--frames", "8"], "from 8"),
        (["--extend", "."], "clip's size"),
        (["--resume", "a.npz"], "leave them out"),
        (["--piece", "12", "--context", "9", "--frames", "40"], r"1\.\.8; change --context"),
    ],
)
def test_bad_input_is_one_line(tiny, tmp_path, capsys, options, message):
    assert film(tiny, tmp_path, *SMALL, *options) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert re.search(message, line), line


@pytest.mark.parametrize("option", [["--prompt", "a"], ["--guidance", "5"], ["--frames", "9"]])
def test_what_a_clip_was_begun_with_is_not_asked_for_again(tiny, made, capsys, option):
    assert film(tiny, made, "--resume", str(made / "clip_0000.npz"), *option) == 2
    assert "leave them out" in capsys.readouterr().err


def test_a_resumed_clip_makes_no_folder_of_its_own(tiny, made, tmp_path):
    (tmp_path / "clip_0000.npz").write_bytes((made / "clip_0000.npz").read_bytes())
    elsewhere = tmp_path / "elsewhere"
    assert film(tiny, elsewhere, "--resume", str(tmp_path / "clip_0000.npz")) == 0
    assert not elsewhere.exists() and (tmp_path / "clip_0000.gif").exists()


@pytest.mark.parametrize(
    "change", [{"given": "x"}, {"seed": None}, {"piece": 0}, {"given": 9}, {"model": ...}]
)
def test_a_damaged_file_of_a_clip_is_refused(tiny, made, tmp_path, capsys, change):
    content = codes_of(made)
    settings = {k: v for k, v in (content.settings | change).items() if v is not ...}
    Codes(content.codes, settings).save(tmp_path / "a.npz")
    assert film(tiny, tmp_path, "--resume", str(tmp_path / "a.npz")) == 2
    assert str(tmp_path / "a.npz") in capsys.readouterr().err


def test_ctrl_c_names_what_is_finished_and_what_was_not_begun(tiny, tmp_path, monkeypatch, capsys):
    class Stopping(video.Progress):
        def add(self, units, tokens):
            super().add(units, tokens)
            if self.bar.n == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(video, "Progress", Stopping)
    prompts = [part for text in ("one", "two", "three") for part in ("--prompt", text)]
    assert film(tiny, tmp_path, *prompts, *SMALL, "--frames", "4") == 130
    told = capsys.readouterr().err
    assert "clip_0001.npz" in told and "--animation gif" in told
    assert f"finished: {tmp_path / 'clip_0000.gif'}; not begun: three" in told


def test_mp4_without_its_library_is_refused_before_anything_is_made(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    options = ["--prompt", "go", "--animation", "mp4"]
    assert film(tiny, tmp_path / "out", *SMALL, *options) == 2
    assert not (tmp_path / "out").exists()


def test_a_picture_is_extended_as_a_clip_of_one_frame(tiny, image_file, tmp_path):
    assert film(tiny, tmp_path, "--extend", image_file, "--frames", "4") == 0
    content = codes_of(tmp_path)
    assert content.codes.shape == (2, 4, 6)
    assert content.settings["fps"] == 8.0  # the checkpoint's own
    assert len(list((tmp_path / "clip_0000").glob("*.png"))) == 5


def test_a_clip_that_leads_to_nothing_is_named(tiny, tmp_path, capsys):
    assert film(tiny, tmp_path, "--extend", "nowhere") == 2
    assert "nowhere; change --extend" in capsys.readouterr().err


def test_codes_of_another_command_do_not_go_on(tiny, tmp_path, capsys):
    Codes(np.zeros((2, 2, 2), np.int32), {"frames": 8}).save(tmp_path / "a.npz")
    assert film(tiny, tmp_path, "--resume", str(tmp_path / "a.npz")) == 2
    assert "no clip of this command" in capsys.readouterr().err


def test_an_edit_is_a_picture_of_the_last_ones_size(tiny, image_file, tmp_path):
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--mode", "pynative"]
    options = ["--image", image_file, "--prompt", "blue", "--prompt", "red"]
    assert edit.main([*models, *options, "--output", str(tmp_path)]) == 0
    assert Codes.load(tmp_path / "edit_0001.npz").codes.shape == (4, 6)
    with Image.open(tmp_path / "edit_0000.png") as picture:
        assert (picture.size, picture.text["prompt"]) == ((24, 16), "blue")


def test_edits_take_one_ratio_or_one_each(tiny, image_file, tmp_path):
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--mode", "pynative"]
    options = ["--image", image_file, "--prompt", "blue", "--prompt", "red"]
    ratios = ["--ratio", "1:1", "--ratio", "2:1"]
    assert edit.main([*models, *options, *ratios, "--output", str(tmp_path)]) == 0
    found = [Codes.load(tmp_path / f"edit_000{n}.npz").codes.shape for n in (0, 1)]
    assert found[0][0] == found[0][1] and found[1][0] < found[1][1]


def test_an_edit_needs_a_picture_and_words(tiny, capsys):
    assert edit.main(["--prompt", "blue"]) == 2
    assert "no --image" in capsys.readouterr().err


def test_a_line_may_name_pictures_anywhere():
    parts = chat.parts_of('Is @a.png like @"b c.gif", or not? me@x.org')
    assert [str(getattr(part, "text", part)) for part in parts] == [
        "Is", "a.png", "like", "b c.gif", ", or not? me@x.org",
    ]  # fmt: skip
    assert chat.parts_of("why?") == [Text("why?")]
    assert chat.parts_of("what @. ok") == [Text("what @. ok")]
    assert str(chat.parts_of("What is in @a.png?")[1]) == "a.png"


def test_a_conversation_is_answered_line_by_line(
    tiny, image_file, frame_folder, tmp_path, capsys, monkeypatch
):
    lines = (
        f"What is in @{image_file}?\nand why\n@nowhere.png\n@~nobody-here\n@{'a' * 300}\n\udcc7\n"
        f"/new\n@{frame_folder} what\n/quit\nx\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--mode", "pynative"]
    assert chat.main([*models, "--max-new-tokens", "3", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "@nowhere.png leads to nothing" in shown.err
    assert "home folder of nobody" in shown.err and "is not UTF-8" in shown.err
    assert len(shown.out.splitlines()) >= 3
