"""What a kill may leave: whole files under final names, hidden ones under way."""

import numpy as np
from PIL import Image

from emu3.codesfile import Codes
from train.measure.kills import damage, finished


def test_files_under_way_are_not_finished(tmp_path):
    for name in ("a.png", ".emu3-x-1-a.png", "skipped.txt"):
        (tmp_path / name).write_text("")
    assert {path.name for path in finished(tmp_path)} == {"a.png", "skipped.txt"}


def test_a_file_that_is_not_whole_is_told(tmp_path):
    Image.new("RGB", (24, 16), "red").save(tmp_path / "a.png")
    Codes(np.zeros((2, 3), np.int32), {}).save(tmp_path / "a.npz")
    for path in sorted(tmp_path.iterdir()):
        assert not damage(path)
        path.write_bytes(path.read_bytes()[:-30])
        assert path.name in damage(path)
