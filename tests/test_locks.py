"""A folder has one writer at a time, and a dead one keeps nobody out."""

import os
import signal
import subprocess
import sys

import pytest

from emu3.errors import InputError
from emu3.locks import LOCK, locked_folder

HOLD = """
import sys, time
from emu3.locks import locked_folder
with locked_folder(sys.argv[1], "--output"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_refused_by_folder_process_and_option(tmp_path, holder):
    with pytest.raises(InputError) as caught, locked_folder(tmp_path, "--output"):
        pass
    for part in (str(tmp_path), str(holder.pid), "--output"):
        assert part in str(caught.value)


def test_a_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with locked_folder(tmp_path, "--output"):
        assert int((tmp_path / LOCK).read_text()) == os.getpid()


def test_a_file_that_names_a_living_process_which_does_not_hold_it_is_taken_over(tmp_path):
    (tmp_path / LOCK).write_text("1\n")
    with locked_folder(tmp_path, "--output"):
        pass


def test_two_blocks_of_one_process_exclude_each_other_too(tmp_path):
    with locked_folder(tmp_path, "--output"):
        with pytest.raises(InputError), locked_folder(tmp_path, "--output"):
            pass
        assert (tmp_path / LOCK).exists()


def test_nothing_stays_after_the_block_even_if_it_fails(tmp_path):
    with pytest.raises(KeyError), locked_folder(tmp_path / "new", "--output"):
        raise KeyError
    assert not list((tmp_path / "new").iterdir())
    with locked_folder(tmp_path / "new", "--output"):
        pass


def test_a_folder_that_cannot_be_made_names_the_option(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--output"), locked_folder(tmp_path / "file", "--output"):
        pass
