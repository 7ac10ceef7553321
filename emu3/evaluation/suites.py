"""Suites that judge pictures drawn for their prompts: how each lists prompts, and wants pictures.

    geneval   FILE, JSON lines with "prompt"      00000/metadata.jsonl, 00000/samples/0000.png
    dpg       FOLDER of NAME.txt, a prompt each   NAME.png, four pictures in a square
    mjhq      FILE, {ID: {"category", "prompt"}}  CATEGORY/ID.png

Pictures are judged by the suites' own programs, which need detectors and other models.
"""

import json
import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from emu3.errors import InputError, shown
from emu3.files import atomic_path, parse_object, read_json, require_file
from emu3.images import open_image
from emu3.options import words

FLAG = "--prompts"
MOST_BYTES = 2**26  # of a list; MJHQ-30K's has 8 MB
NAME = re.compile(r"[\w-][\w. -]{0,200}")  # of files that come from lists; no folder above


@dataclass(frozen=True)
class Prompt:
    """A prompt of a suite: the name its pictures have, its text, and what else the list says."""

    name: str
    text: str
    about: dict


class Suite(Protocol):
    """How a suite lists its prompts, and how it wants the pictures; `folder` holds all of them."""

    samples: int  # pictures of each prompt that the suite asks for

    def read(self, path: Path) -> list[Prompt]:
        """The prompts of the suite's list, in its order.

        Raises:
            InputError: it is no such list; names the prompt.
        """

    def sample(self, folder: Path, prompt: Prompt, number: int) -> Path:
        """Where a picture of a prompt is saved."""

    def is_whole(self, folder: Path, prompt: Prompt, samples: int) -> bool:
        """Whether everything of a prompt is there."""

    def finish(self, folder: Path, prompt: Prompt, samples: int) -> None:
        """Write what the suite wants beside the pictures of a prompt, which are there."""


class GenEval:
    """GenEval (Ghosh et al. 2023): objects, counts, colours, positions."""

    samples = 4

    def read(self, path: Path) -> list[Prompt]:
        prompts = []
        for number, (line, record) in enumerate(read_lines(path, FLAG)):
            text = _text(record.get("prompt"), f"{path}, line {line}")
            prompts.append(Prompt(f"{number:05d}", text, record))
        return prompts

    def sample(self, folder: Path, prompt: Prompt, number: int) -> Path:
        return folder / prompt.name / "samples" / f"{number:04d}.png"

    def is_whole(self, folder: Path, prompt: Prompt, samples: int) -> bool:
        there = (self.sample(folder, prompt, n).exists() for n in range(samples))
        return (folder / prompt.name / "metadata.jsonl").exists() and all(there)

    def finish(self, folder: Path, prompt: Prompt, samples: int) -> None:
        with atomic_path(folder / prompt.name / "metadata.jsonl") as path:
            path.write_text(json.dumps(prompt.about, ensure_ascii=False) + "\n", encoding="utf-8")


class DPGBench:
    """DPG-Bench (Hu et al. 2024): long descriptions, four pictures in one file."""

    samples = 4

    def read(self, path: Path) -> list[Prompt]:
        if not path.is_dir():
            raise InputError(f"{path} is no folder; allowed: one of NAME.txt; change {FLAG}")
        prompts = []
        for file in sorted(path.glob("*.txt")):
            require_file(file, "prompt", FLAG)
            _check_name(file.stem, file)
            prompts.append(Prompt(file.stem, _text(_read(file).strip(), file), {}))
        if not prompts:
            raise InputError(f"{path} holds no NAME.txt; change {FLAG}")
        return prompts

    def sample(self, folder: Path, prompt: Prompt, number: int) -> Path:
        # Beside the grids, where the suite's program does not look.
        return folder.parent / "samples" / f"{prompt.name}_{number}.png"

    def is_whole(self, folder: Path, prompt: Prompt, samples: int) -> bool:
        return (folder / f"{prompt.name}.png").exists()

    def finish(self, folder: Path, prompt: Prompt, samples: int) -> None:
        paths = [self.sample(folder, prompt, number) for number in range(samples)]
        with atomic_path(folder / f"{prompt.name}.png") as path:
            in_a_square([open_image(sample) for sample in paths]).save(path, "PNG")
        for sample in paths:
            sample.unlink()


class MJHQ:
    """MJHQ-30K (Li et al. 2024): one picture a prompt, in a folder for each category."""

    samples = 1

    def read(self, path: Path) -> list[Prompt]:
        prompts = []
        for name, record in read_json(path, f"change {FLAG}", MOST_BYTES).items():
            where = f"{path}, {shown(name)}"
            if not isinstance(record, dict):
                raise InputError(f"{where}: {shown(record)}; allowed: an object; change {FLAG}")
            for part in (name, record.get("category")):
                _check_name(part, where)
            prompts.append(Prompt(name, _text(record.get("prompt"), where), record))
        if not prompts:
            raise InputError(f"{path} holds no prompt; change {FLAG}")
        return prompts

    def sample(self, folder: Path, prompt: Prompt, number: int) -> Path:
        more = f"_{number}" if number else ""
        return folder / prompt.about["category"] / f"{prompt.name}{more}.png"

    def is_whole(self, folder: Path, prompt: Prompt, samples: int) -> bool:
        return all(self.sample(folder, prompt, number).exists() for number in range(samples))

    def finish(self, folder: Path, prompt: Prompt, samples: int) -> None:
        pass  # a picture is all there is


SUITES: dict[str, Suite] = {"geneval": GenEval(), "dpg": DPGBench(), "mjhq": MJHQ()}


def in_a_square(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size in rows, as many in each as there are rows or one more."""
    columns = next(n for n in range(1, len(pictures) + 1) if n * n >= len(pictures))
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    square = Image.new("RGB", (columns * width, rows * height))
    for number, picture in enumerate(pictures):
        square.paste(picture, (number % columns * width, number // columns * height))
    return square


def read_lines(path: Path, flag: str) -> list[tuple[int, dict]]:
    """The objects of a file of JSON lines, each with the number of its line.

    Raises:
        InputError: it cannot be read, holds none, or a line is no object; names `flag`.
    """
    require_file(path, "file", flag)
    found = []
    for number, line in enumerate(_read(path, flag).split("\n"), 1):
        if line.strip():
            what = f"{path}, line {number}"
            found.append((number, parse_object(line.encode(), what, f"change {flag}")))
    if not found:
        raise InputError(f"{path} holds no line of JSON; change {flag}")
    return found


def _read(path: Path, flag: str = FLAG) -> str:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InputError(f"{path} has {size} bytes; allowed: up to {MOST_BYTES}; change {flag}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}; change {flag}") from None


def _text(text: object, where: object) -> str:
    try:
        return words(text if isinstance(text, str) else "")
    except ArgumentTypeError:
        raise InputError(f"{where}: prompt {shown(text)}; allowed: words; change {FLAG}") from None


def _check_name(name: object, where: object) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError(
            f"{where}: name {shown(name)}; allowed: a file's name of letters, digits, _ . -; "
            f"change {FLAG}"
        )
