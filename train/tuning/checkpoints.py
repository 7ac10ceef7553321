"""Checkpoints of a training run: whole or not there at all.

    OUTPUT/checkpoint-STEP/   a folder from_pretrained loads, and state.safetensors beside it
    OUTPUT/diverged-STEP/     one whose next steps had no finite gradients

What the state holds is in `train.tuning.states`.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from emu3.errors import InputError
from emu3.files import writable_folder

STATE = "state.safetensors"
NAME = re.compile(r"checkpoint-(\d+)")


def checkpoints(output: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    found = [p for p in output.glob("checkpoint-*") if NAME.fullmatch(p.name)]
    return sorted((p for p in found if (p / STATE).exists()), key=_step)


def _step(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[1])


def find_resume(output: Path, resume: str) -> Path | None:
    """Where to go on: the last checkpoint for "auto" (None without one), or the folder given.

    Raises:
        InputError: the folder given holds no state.
    """
    if resume == "none":
        return None
    if resume == "auto":
        return next(reversed(checkpoints(output)), None)
    if not (Path(resume) / STATE).is_file():
        raise InputError(f"{resume} holds no {STATE}; allowed: auto, none, or a checkpoint folder")
    return Path(resume)


def refuse_later(output: Path, step: int) -> None:
    """Refuse to write beside checkpoints of later steps, which the next start would go on from.

    Raises:
        InputError: names the newest of them.
    """
    newest = next(reversed(checkpoints(output)), None)
    if newest is not None and _step(newest) > step:
        raise InputError(
            f"{newest} is of a later step than {step}, where this run starts; allowed: --resume "
            "auto, which goes on from it, or another folder; change --output_dir"
        )


@contextmanager
def new_checkpoint(output: Path, step: int) -> Iterator[Path]:
    """Yield an empty folder; when the block succeeds it becomes output/checkpoint-`step`.

    When the block fails, the folder goes and nothing else.

    Raises:
        InputError: the files cannot be written.
    """
    temporary = output / f".unfinished-{step}"
    shutil.rmtree(temporary, ignore_errors=True)
    writable_folder(temporary, "--output_dir")
    try:
        yield temporary
        _sync(temporary)
    except InputError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise InputError(
            f"cannot write checkpoint-{step} in {output}: {error}; free space or change "
            "--output_dir; earlier checkpoints are whole"
        ) from None
    final = output / f"checkpoint-{step}"
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)


def forget_oldest(output: Path, keep: int) -> None:
    """Leave the newest `keep` checkpoints, and nothing of unfinished ones."""
    for old in checkpoints(output)[:-keep]:
        # Renamed first: a half-deleted folder must not look like a checkpoint.
        os.replace(old, output / f".unfinished-{_step(old)}")
    for leftover in output.glob(".unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def set_aside(output: Path, step: int) -> None:
    """Call checkpoint-`step` diverged-`step`: it stays, but no run goes on from it."""
    aside = output / f"diverged-{step}"
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(output / f"checkpoint-{step}", aside)


def _sync(folder: Path) -> None:
    """Have the files on disk before their folder gets its name."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
