"""Records of a JSON or JSONL file as features without codes; a bad record is named by its line.

    captions       {"name", "text", "image"}, and "captions": further wordings of "text"
    conversations  {"id", "image"} and turns in one of the layouts of `train.data.layouts`, and
                   "independent": true where turns are separate questions about the image

An image is a path relative to the file's folder, or to `images` in it. Text records are
conversations without an image. "name" and "id" mean the same.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emu3.errors import InputError
from emu3.files import json_fault
from train.data.features import Feature
from train.data.layouts import image_of, shown, turns_and_image

LONGEST_NAME = 100  # characters
MOST_NAME_BYTES = 180  # so that a file name of them fits every file system


@dataclass(frozen=True)
class Item:
    """A valid record: its line, the feature without codes, and its image file if it has one.

    In place of the image stands what else its codes are made of: `train.data.part_records`.
    """

    line: int
    feature: Feature
    image: Any = None


@dataclass(frozen=True)
class Skipped:
    """A record that cannot be used, and why."""

    line: int
    reason: str


Parse = Callable[[dict, Path], tuple[Feature, Any]]


def read_items(path: str | Path, parse: Parse) -> tuple[list[Item], list[Skipped]]:
    """The valid records of a file in order, and those to skip.

    `parse` is one of `KINDS`, or of `train.data.part_records`. Names that occur again get -2 ...
    appended.

    Raises:
        InputError: no such file, or a JSON list that cannot be parsed to its end.
    """
    items, skipped, taken = [], [], {}
    for line, record in _records(Path(path)):
        try:
            if isinstance(record, InputError):
                raise record
            feature, image = parse(record, Path(path).parent)
        except InputError as error:
            skipped.append(Skipped(line, str(error)))
            continue
        items.append(Item(line, replace(feature, name=_unused(feature.name, taken)), image))
    return items, skipped


def caption_record(record: dict, folder: Path) -> tuple[Feature, Path | None]:
    """A captioned image (T2I)."""
    image = image_of(record, folder)
    if image is None:
        raise InputError("no image")
    text = record_text(record.get("text"), "text")
    further = record.get("captions", [])
    if not isinstance(further, list):
        raise InputError(f"captions are {shown(further)}; allowed: a list of texts")
    further = [record_text(caption, "a caption") for caption in further]
    return Feature(
        record_name(record), None, text, captions=[text, *further] if further else []
    ), image


def conversation_record(record: dict, folder: Path) -> tuple[Feature, Path | None]:
    """Questions about an image, or a conversation without one (VQA)."""
    turns, image = turns_and_image(record, folder)
    turns = [(record_text(q, "a question"), record_text(r, "a response")) for q, r in turns]
    independent = record.get("independent", False)
    if not isinstance(independent, bool):
        raise InputError(f"independent is {shown(independent)}; allowed: true or false")
    feature = Feature(record_name(record), None, *turns[-1])
    if len(turns) > 1:
        feature = replace(feature, turns=turns, independent=independent)
    return feature, image


def text_record(record: dict, folder: Path) -> tuple[Feature, Path | None]:
    """A conversation in text alone."""
    feature, image = conversation_record(record, folder)
    if image is not None:
        raise InputError("an image in a text record; prepare it with train.prepare_vqa_data")
    return feature, None


KINDS: dict[str, Parse] = {
    "t2i": caption_record,
    "vqa": conversation_record,
    "text": text_record,
}


def record_name(record: dict) -> str:
    """The record's name as a file name: other than letters, digits, - . of any script become _."""
    name = record.get("name", record.get("id"))
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise InputError(f"name or id is {shown(name)}; allowed: a text or a whole number")
    name = unicodedata.normalize("NFC", str(name)[:LONGEST_NAME])
    name = re.sub(r"[^\w.-]", lambda found: _mark_or_underscore(found[0]), name)
    name = re.sub(r"^\.", "_", name)
    return name.encode()[:MOST_NAME_BYTES].decode(errors="ignore")


def _mark_or_underscore(character: str) -> str:
    """Vowel signs and accents belong to letters."""
    return character if unicodedata.category(character)[0] == "M" else "_"


def record_text(value: object, what: str) -> str:
    """A value that must be a text which says something.

    Raises:
        InputError: it is none; calls it `what`.
    """
    if not isinstance(value, str):
        raise InputError(f"{what} is {shown(value)}; allowed: text")
    if not value.strip(" \t\r\n\0"):
        raise InputError(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} holds half a character (a lone surrogate)") from None
    return value


def _unused(name: str, taken: dict[str, int]) -> str:
    """`name`, or the first of name-2, name-3 ... that is not taken; `taken` counts each name."""
    number = taken.get(name, 0) + 1
    candidate = name if number == 1 else f"{name}-{number}"
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken[name] = number
    taken.setdefault(candidate, 1)
    return candidate


def _records(path: Path) -> Iterator[tuple[int, dict | InputError]]:
    """(line, record) of a JSON list or of JSON lines; an InputError in place of a bad one."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no regular file; allowed: JSON; change --data-path")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; change --data-path") from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    parts = _elements(path, data) if data.lstrip()[:1] == b"[" else _lines(data)
    for line, record in parts:
        if not isinstance(record, dict | InputError):
            record = InputError(f"{shown(record)} is no record; allowed: a JSON object")
        yield line, record


def _lines(data: bytes) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                yield number, InputError(f"no JSON: {json_fault(error)}")


def _elements(path: Path, data: bytes) -> Iterator[tuple[int, object]]:
    """The elements of one JSON list, each with the line it begins in."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line} is no UTF-8 text; change --data-path") from None
    decoder, gap = json.JSONDecoder(), re.compile(r"\s*")
    place, line, counted = gap.match(text, text.index("[") + 1).end(), 1, 0
    try:
        while text[place : place + 1] != "]":
            line, counted = line + text.count("\n", counted, place), place
            record, place = decoder.raw_decode(text, place)
            yield line, record
            place = gap.match(text, place).end()
            if text[place : place + 1] == ",":
                place = gap.match(text, place + 1).end()
            elif text[place : place + 1] != "]":
                raise json.JSONDecodeError("Expecting , or ]", text, place)
    except (ValueError, RecursionError) as error:
        where = text.count("\n", 0, getattr(error, "pos", place)) + 1
        fault = f"{path}:{where} is no JSON: {json_fault(error)}"
        raise InputError(f"{fault}; change --data-path") from None
