"""Files under way, their names, and what a killed process leaves."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emu3.errors import InputError
from emu3.files import (
    atomic_path,
    note_settings,
    numbered_path,
    own_folder,
    place_new,
    require_file,
    temporary_path,
)

ROOT = Path(__file__).resolve().parent.parent


def test_a_number_is_found_in_one_pass(tmp_path):
    for number in range(3000):
        (tmp_path / f"image_{number:04d}.png").touch()
    (tmp_path / "image_0007.png").unlink()
    assert numbered_path(tmp_path, "image", ".npz").name == "image_0007.npz"
    (tmp_path / "image_0007_preview.png").touch()
    assert numbered_path(tmp_path, "image", ".npz").name == "image_3000.npz"


def test_a_finished_file_never_takes_the_place_of_another(tmp_path):
    for path in (tmp_path / "new", tmp_path / "old"):
        path.write_text(path.name)
    with pytest.raises(FileExistsError):
        place_new(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"


def test_where_links_are_refused_a_file_gets_its_name_all_the_same(tmp_path, monkeypatch):
    def refused(*paths):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "new").write_text("x")
    place_new(tmp_path / "new", tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    code = (
        "import os; from pathlib import Path; from emu3.files import temporary_path\n"
        f"with temporary_path(Path({str(tmp_path)!r}), '.npz'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)})
    (left,) = tmp_path.iterdir()
    (tmp_path / ".hidden").touch()
    with temporary_path(tmp_path) as ours:
        own_folder(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {".hidden", ours.name}
    assert not left.exists()


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as error, atomic_path(tmp_path / "a.png"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/dev/zero", "no\0name", "x" * 5000, "nowhere", "."])
def test_what_is_no_regular_file_is_refused(path):
    with pytest.raises(InputError, match=r"change --prompt-file"):
        require_file(path, "text", "--prompt-file")


def test_a_folder_is_gone_on_with_under_the_same_settings_alone(tmp_path):
    note_settings(tmp_path, {"seed": 0, "size": (1, 2)})
    note_settings(tmp_path, {"seed": 0, "size": (1, 2)})
    with pytest.raises(InputError, match=r"seed 0, not 1; .*change --output"):
        note_settings(tmp_path, {"seed": 1, "size": (1, 2)})
