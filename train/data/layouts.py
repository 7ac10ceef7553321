"""The layouts records come in: their turns and their image, whoever wrote them.

    "conversations" or "messages": [{"from": "human", "value": text}, {"from": "gpt", ...}, ...]
                                   "role" and "content" mean the same; content may be a list of
                                   {"type": "text", "text"} and {"type": "image", "image"}
    "turns": [[question, response], ...]
    "texts" and "response"
    "image" or "images": a file name, or a list of one

Keys that look like media and are none of these are refused: their records would else be text.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from emu3.errors import InputError

IMAGE_MARK = "<image>"
SPEAKERS = {"human": 0, "user": 0, "gpt": 1, "assistant": 1}
IMAGE_KEYS = ("image", "images")
TURN_KEYS = ("conversations", "messages", "turns", "texts", "response")
MEDIA = re.compile("image|img|picture|photo|pixel|video|audio|movie", re.IGNORECASE)
OTHER_MEDIA = re.compile("(video|audio|clip|movie|speech)s?", re.IGNORECASE)
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
LONGEST_PATH = 4096

Turns = list[tuple[str, str]]


def shown(value: object) -> str:
    """A value of a record, short enough for a message."""
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    return "missing" if value is None else ascii(value)[:60]


def turns_and_image(record: dict, folder: Path) -> tuple[Turns, Path | None]:
    """(question, response) pairs without image marks, and the image file if there is one.

    Raises:
        InputError: another layout, no answer to a question, more than one image, other media.
    """
    turns, inside = _turns(record)
    image = image_of(record, folder, inside)
    if any(IMAGE_MARK in response for _, response in turns):
        raise InputError(f"{IMAGE_MARK} in a response; allowed: in one question")
    marks = sum(question.count(IMAGE_MARK) for question, _ in turns)
    if marks and image is None:
        raise InputError(f"{IMAGE_MARK} without an image; allowed: with the key image")
    if marks > 1:
        raise InputError(f"{marks} times {IMAGE_MARK}; allowed: one image a record")
    return [(q.replace(IMAGE_MARK, "").strip(), response) for q, response in turns], image


def image_of(record: dict, folder: Path, inside: list[str] | None = None) -> Path | None:
    """The image file that a record names, by a key or `inside` its messages; None without one.

    Raises:
        InputError: several, no file name, or media under a key that is not read.
    """
    names = list(inside or [])
    for key in IMAGE_KEYS:
        value = record.get(key)
        value = [] if value is None else value
        names += value if isinstance(value, list) else [value]
    for name in names:
        _check_name(name, "image")
    if len(set(names)) > 1:
        raise InputError(f"{len(set(names))} images; allowed: one image a record")
    _refuse_unread(record, bool(names))
    return _file(names[0], folder) if names else None


def media_file(name: object, folder: Path, kind: str) -> Path:
    """Where the image or video that a record names lies.

    Raises:
        InputError: no file name.
    """
    _check_name(name, kind)
    return _file(name, folder, os.path.exists)


def _check_name(name: object, kind: str) -> None:
    if not isinstance(name, str) or not name or "\0" in name or len(name) > LONGEST_PATH:
        raise InputError(f"{kind} is {shown(name)}; allowed: a file name")


def _refuse_unread(record: dict, has_image: bool) -> None:
    """Refuse media that nobody would look at; what is said beside an image of it may stand."""
    for key, value in record.items():
        if key in (*IMAGE_KEYS, *TURN_KEYS) or value in (None, "", False) or value in ([], {}):
            continue
        if OTHER_MEDIA.fullmatch(key) or (not has_image and MEDIA.search(key)):
            raise InputError(
                f'key {ascii(key)[:60]} looks like media and is not read; allowed: "image" or '
                '"images", a picture of each record'
            )


def _file(name: str, folder: Path, there: Callable[[str | Path], bool] = os.path.isfile) -> Path:
    """Where an image lies: beside the records, or in `images` there."""
    if re.search("[\ud800-\udfff]", name):
        raise InputError(f"image {shown(name)} holds half a character (a lone surrogate)")
    names = [name, name.replace("\\", "/")] if "\\" in name else [name]
    for place in (folder / part / name for name in names for part in ("", "images")):
        if there(place):
            return place
    if ADDRESS.match(name):
        raise InputError(f"image is {shown(name)}; allowed: the name of a file on this machine")
    return folder / name


def _turns(record: dict) -> tuple[Turns, list[str]]:
    """(question, response) pairs of any layout, and the images that its messages name."""
    for key in ("conversations", "messages"):
        if record.get(key) is not None:
            return _spoken(key, record[key])
    if not any(record.get(key) is not None for key in TURN_KEYS):
        raise InputError("no turns; allowed: conversations, messages, turns, texts and response")
    turns = record.get("turns", [[record.get("texts"), record.get("response")]])
    if not isinstance(turns, list) or not turns:
        raise InputError(f"turns are {shown(turns)}; allowed: a list of [question, response]")
    if not all(isinstance(turn, list) and len(turn) == 2 for turn in turns):
        raise InputError("turns are not all of the form [question, response]")
    if not all(isinstance(text, str) for turn in turns for text in turn):
        raise InputError("texts and response, or a turn, are missing or no text")
    return [tuple(turn) for turn in turns], []


def _spoken(key: str, parts: object) -> tuple[Turns, list[str]]:
    """(question, response) pairs of a list of messages, and the images they name."""
    if not isinstance(parts, list) or not parts:
        raise InputError(f"{key} are {shown(parts)}; allowed: pairs of messages, human and gpt")
    values, images = [], []
    for number, part in enumerate(parts):
        where = f"{key}[{number}]"
        if not isinstance(part, dict):
            raise InputError(f"{where} is {shown(part)}; allowed: an object")
        speaker = part.get("from", part.get("role"))
        role = SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
        if role != number % 2:
            expected = ("human or user", "gpt or assistant")[number % 2]
            raise InputError(f"{where} is from {shown(speaker)}, not {expected}")
        text, named = _content(where, part.get("value", part.get("content")))
        values.append(text)
        images += named
    if len(parts) % 2:
        raise InputError(f"{key} end with a question; allowed: pairs of messages, human and gpt")
    return list(zip(values[::2], values[1::2])), images


def _content(where: str, content: object) -> tuple[str, list[str]]:
    """The text of a message with a mark for its image, and the images it names."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise InputError(f"{where} has no text: its value or content is {shown(content)}")
    texts, images = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image", "image_url"):
            texts.append(IMAGE_MARK)
            images += _named(part)
        else:
            raise InputError(f"{where} holds a part {shown(kind)}; allowed: text, image")
    return "\n".join(texts), images


def _named(part: dict) -> list[str]:
    """The image a part of a message names; none where it stands for the record's own."""
    for key in ("image", "path", "url", "image_url"):
        value = part.get(key)
        if value is not None:
            return [value.get("url") if isinstance(value, dict) else value]
    return []
