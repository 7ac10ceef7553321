"""Records of a JSON or JSONL file as features without codes; a bad record is named by its line.

    captions       {"name", "text", "image"}, and "captions": further wordings of "text"
    conversations  {"id", "image"} and the turns in one of three forms:
                   "conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}, ...]
                   "turns": [[question, response], ...]
                   "texts" and "response"
                   and "independent": true where turns are separate questions about the image

An image is a path relative to the file's folder, or to `images` in it. Text records are
conversations without "image". "name" and "id" mean the same.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from emu3.errors import InputError
from train.data.features import Feature

IMAGE_MARK = "<image>"
SPEAKERS = {"human": 0, "user": 0, "gpt": 1, "assistant": 1}
LONGEST_NAME = 100  # characters, so that a file name of them fits every file system


@dataclass(frozen=True)
class Item:
    """A valid record: its line, the feature without codes, and its image file if it has one."""

    line: int
    feature: Feature
    image: Path | None = None


@dataclass(frozen=True)
class Skipped:
    """A record that cannot be used, and why."""

    line: int
    reason: str


Parse = Callable[[dict, Path], tuple[Feature, Path | None]]


def read_items(path: str | Path, parse: Parse) -> tuple[list[Item], list[Skipped]]:
    """The valid records of a file in order, and those to skip.

    `parse` is one of the three functions below. Names that occur again get -2, -3 ... appended.

    Raises:
        InputError: no such file, or a JSON list that cannot be parsed to its end.
    """
    items, skipped, taken = [], [], set()
    for line, record in _records(Path(path)):
        try:
            if isinstance(record, InputError):
                raise record
            feature, image = parse(record, Path(path).parent)
        except InputError as error:
            skipped.append(Skipped(line, str(error)))
            continue
        name = _unused(feature.name, taken)
        taken.add(name)
        items.append(Item(line, replace(feature, name=name), image))
    return items, skipped


def caption_record(record: dict, folder: Path) -> tuple[Feature, Path | None]:
    """A captioned image (T2I)."""
    image = _image(record, folder)
    if image is None:
        raise InputError("no image")
    text = _text(record.get("text"), "text")
    further = record.get("captions", [])
    if not isinstance(further, list):
        raise InputError(f"captions are {_shown(further)}; allowed: a list of texts")
    further = [_text(caption, "a caption") for caption in further]
    return Feature(_name(record), None, text, captions=[text, *further] if further else []), image


def conversation_record(record: dict, folder: Path) -> tuple[Feature, Path | None]:
    """Questions about an image, or a conversation without one (VQA)."""
    image = _image(record, folder)
    turns = _turns(record)
    marks = sum(question.count(IMAGE_MARK) for question, _ in turns)
    if marks > (image is not None):
        raise InputError(f"{marks} times {IMAGE_MARK}; allowed: one image a record")
    turns = [(question.replace(IMAGE_MARK, "").strip(), response) for question, response in turns]
    turns = [(_text(q, "a question"), _text(r, "a response")) for q, r in turns]
    independent = record.get("independent", False)
    if not isinstance(independent, bool):
        raise InputError(f"independent is {_shown(independent)}; allowed: true or false")
    feature = Feature(_name(record), None, *turns[-1])
    if len(turns) > 1:
        feature = replace(feature, turns=turns, independent=independent)
    return feature, image


def text_record(record: dict, folder: Path) -> tuple[Feature, Path | None]:
    """A conversation in text alone."""
    if record.get("image") is not None:
        raise InputError("an image in a text record; prepare it with train.prepare_vqa_data")
    return conversation_record(record, folder)


def _turns(record: dict) -> list[tuple[str, str]]:
    """(question, response) pairs of any of the three forms."""
    if "conversations" in record:
        return _spoken(record["conversations"])
    turns = record.get("turns", [[record.get("texts"), record.get("response")]])
    if not isinstance(turns, list) or not turns:
        raise InputError(f"turns are {_shown(turns)}; allowed: a list of [question, response]")
    if not all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        raise InputError("turns are not all of the form [question, response]")
    if not all(isinstance(text, str) for turn in turns for text in turn):
        raise InputError("texts and response, or a turn, are missing or no text")
    return [tuple(turn) for turn in turns]


def _spoken(parts: object) -> list[tuple[str, str]]:
    """(question, response) pairs of a list of {"from", "value"}."""
    if not isinstance(parts, list) or not parts or len(parts) % 2:
        raise InputError("conversations are no list of pairs human, gpt")
    for number, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("value"), str):
            raise InputError(f'conversations[{number}] has no text "value"')
        speaker = part.get("from")
        if not isinstance(speaker, str) or SPEAKERS.get(speaker) != number % 2:
            expected = ("human", "gpt")[number % 2]
            raise InputError(f"conversations[{number}] is from {_shown(speaker)}, not {expected}")
    values = [part["value"] for part in parts]
    return list(zip(values[::2], values[1::2]))


def _image(record: dict, folder: Path) -> Path | None:
    """The image file a record names, or None."""
    image = record.get("image")
    if image is None:
        return None
    if not isinstance(image, str) or not image or "\0" in image:
        raise InputError(f"image is {_shown(image)}; allowed: a file name")
    beside, below = folder / image, folder / "images" / image
    return below if below.is_file() and not beside.is_file() else beside


def _name(record: dict) -> str:
    """The record's name as a file name: other characters than letters, digits, - . become _."""
    name = record.get("name", record.get("id"))
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise InputError(f"name or id is {_shown(name)}; allowed: a text or a whole number")
    return re.sub(r"[^\w.-]|^\.", "_", str(name), flags=re.ASCII)[:LONGEST_NAME]


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {_shown(value)}; allowed: text")
    if not value.strip(" \t\r\n\0"):
        raise InputError(f"{what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{what} holds half a character (a lone surrogate)") from None
    return value


def _shown(value: object) -> str:
    return "missing" if value is None else ascii(value)[:60]


def _unused(name: str, taken: set[str]) -> str:
    """`name`, or the first of name-2, name-3 ... that is not taken."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _records(path: Path) -> Iterator[tuple[int, dict | InputError]]:
    """(line, record) of a JSON list or of JSON lines; an InputError in place of a bad one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; change --data-path") from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    parts = _elements(path, data) if data.lstrip()[:1] == b"[" else _lines(data)
    for line, record in parts:
        if not isinstance(record, dict | InputError):
            record = InputError(f"{ascii(record)[:60]} is no record; allowed: a JSON object")
        yield line, record


def _lines(data: bytes) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                yield number, InputError(f"no JSON: {error}")


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
    except (json.JSONDecodeError, RecursionError) as error:
        where = text.count("\n", 0, getattr(error, "pos", place)) + 1
        raise InputError(f"{path}:{where} is no JSON: {error}; change --data-path") from None
