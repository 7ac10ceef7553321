"""Records of clips and of interleaved texts, pictures and clips, before their media are encoded.

    video         {"name", "text", "video"}, and "captions": further wordings, "given": frames that
                  are given and never supervised
    interleaved   {"id", "messages": [{"role", "content"}, ...]}      a conversation; or
                  {"id", "parts": [part, ...]}                        a prompt and what follows it

A content is a text or a list of parts; a part is {"type": "text", "text"}, {"type": "image",
"image"} or {"type": "video", "video"}. Of `parts` those with "wanted": true are supervised, or the
last one. Files are found as in `train.data.layouts`.
"""

from dataclasses import dataclass
from pathlib import Path

from emu3.errors import InputError
from emu3.mllm.parts import ROLES, Text
from train.data.features import Feature
from train.data.layouts import SPEAKERS, media_file, shown
from train.data.records import record_name, record_text


@dataclass(frozen=True)
class Media:
    """A picture's or a clip's file."""

    path: Path
    clip: bool


@dataclass(frozen=True)
class Entry:
    """One part of a prompt, or the parts of a message of `role`; `given` counts frames."""

    parts: tuple[Text | Media, ...]
    role: str | None = None
    wanted: bool = False
    given: int = 0


def video_record(record: dict, folder: Path) -> tuple[Feature, list[Entry]]:
    """A captioned clip."""
    text = record_text(record.get("text"), "text")
    captions = record.get("captions", [])
    if not isinstance(captions, list):
        raise InputError(f"captions are {shown(captions)}; allowed: a list of texts")
    captions = [record_text(caption, "a caption") for caption in captions]
    given = record.get("given", 0)
    if type(given) is not int or given < 0:
        raise InputError(f"given is {shown(given)}; allowed: a number of frames")
    media = Media(media_file(record.get("video"), folder, "video"), True)
    feature = Feature(record_name(record), captions=[text, *captions] if captions else [])
    return feature, [Entry((Text(text),)), Entry((media,), wanted=True, given=given)]


def interleaved_record(record: dict, folder: Path) -> tuple[Feature, list[Entry]]:
    """A conversation or a prompt of texts, pictures and clips."""
    found = [key for key in ("messages", "parts") if record.get(key) is not None]
    if len(found) != 1 or not isinstance(record[found[0]], list) or not record[found[0]]:
        raise InputError("no messages and no parts; allowed: one of them, a list")
    feature = Feature(record_name(record))
    if found == ["parts"]:
        return feature, _prompt(record["parts"], folder)
    entries = [_message(i, message, folder) for i, message in enumerate(record["messages"])]
    if len(entries) % 2:
        raise InputError("messages end with a question; allowed: user and assistant in turn")
    return feature, entries


def _prompt(parts: list, folder: Path) -> list[Entry]:
    entries = []
    for part in parts:
        entry = Entry((_part(part, folder),), wanted=part.get("wanted", False) is True)
        entries.append(entry)
    if not any(entry.wanted for entry in entries):
        entries[-1] = Entry(entries[-1].parts, wanted=True)
    return entries


def _message(number: int, message: object, folder: Path) -> Entry:
    if not isinstance(message, dict):
        raise InputError(f"messages[{number}] is {shown(message)}; allowed: an object")
    speaker = message.get("role", message.get("from"))
    role = SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
    if role != number % 2:
        raise InputError(f"messages[{number}] is from {shown(speaker)}, not {ROLES[number % 2]}")
    content = message.get("content", message.get("value"))
    content = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(content, list) or not content:
        raise InputError(f"messages[{number}] says {shown(content)}; allowed: a text, or parts")
    return Entry(tuple(_part(part, folder) for part in content), ROLES[role])


def _part(part: object, folder: Path) -> Text | Media:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return Text(record_text(part.get("text"), "text"))
    if kind in ("image", "video"):
        return Media(media_file(part.get(kind), folder, kind), kind == "video")
    raise InputError(f"a part is {shown(kind or part)}; allowed: text, image, video")


KINDS = {"video": video_record, "interleaved": interleaved_record}
