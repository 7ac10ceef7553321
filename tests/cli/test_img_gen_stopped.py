"""Text to image, stopped: what is kept, and what is said of it."""

import numpy as np

from emu3.cli import decode, img_gen
from emu3.mllm import Emu3ForCausalLM
from tests.cli.pictures import codes, generate


def interrupt_after(rows: int, monkeypatch) -> None:
    """Press Ctrl-C once that many rows are done."""
    run = Emu3ForCausalLM.run

    def interrupted(self, *args, **kwargs):
        done = 0
        for event in run(self, *args, **kwargs):
            yield event
            done += type(event).__name__ == "RowDone"
            if done == rows:
                raise KeyboardInterrupt

    monkeypatch.setattr(Emu3ForCausalLM, "run", interrupted)


def test_ctrl_c_keeps_the_rows_made_and_says_how_to_decode_them(
    tiny, plain, tmp_path, monkeypatch, capsys
):
    interrupt_after(2, monkeypatch)
    assert generate(tiny, tmp_path) == 130
    assert [p.name for p in tmp_path.iterdir()] == ["image_0000.npz"]
    assert np.array_equal(codes(tmp_path)[:2], codes(plain)[:2])
    assert (codes(tmp_path)[2:] == -1).all()
    words = capsys.readouterr().err.strip().splitlines()[-1].split("python -m emu3.cli.decode ")[1]
    assert decode.main(words.split()) == 0
    assert (tmp_path / "image_0000_decoded_0000.png").exists()


TWO_BATCHES = ("--images-per-prompt", "2", "--batch-size", "1")


def test_ctrl_c_in_a_later_batch_lists_the_finished_pictures(tiny, tmp_path, monkeypatch, capsys):
    run, calls = Emu3ForCausalLM.run, []

    def interrupted(self, *args, **kwargs):
        def events():
            calls.append(True)
            if len(calls) > 1:
                raise KeyboardInterrupt
            yield from run(self, *args, **kwargs)

        return events()

    monkeypatch.setattr(Emu3ForCausalLM, "run", interrupted)
    assert generate(tiny, tmp_path, *TWO_BATCHES) == 130
    assert {p.name for p in tmp_path.iterdir()} == {"image_0000.npz", "image_0000.png"}
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.endswith(f"interrupted; finished: {tmp_path}/image_0000.png")


def test_ctrl_c_between_codes_and_pixels_says_which_codes_to_decode(
    tiny, tmp_path, monkeypatch, capsys
):
    save = img_gen.save_picture

    def interrupted(image, settings, path) -> None:
        if path.name == "image_0001.png":
            raise KeyboardInterrupt
        save(image, settings, path)

    monkeypatch.setattr(img_gen, "save_picture", interrupted)
    extra = ("--images-per-prompt", "3", "--preview", "1")
    assert generate(tiny, tmp_path, *extra) == 130
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"image_0000.npz", "image_0000.png", "image_0001.npz", "image_0002.npz"}
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"finished: {tmp_path}/image_0000.png; " in message
    words = message.split("python -m emu3.cli.decode ")[1].split()
    assert words[:2] == [f"{tmp_path}/image_000{i}.npz" for i in (1, 2)]


def test_ctrl_c_before_the_first_row_leaves_nothing(tiny, tmp_path, monkeypatch):
    def interrupted(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Emu3ForCausalLM, "run", interrupted)
    assert generate(tiny, tmp_path) == 130
    assert not list(tmp_path.iterdir())
