"""Feature folders: what training reads (one `.ckpt` or `.pth` a sample, and a list).

    DIR/feature/NAME.ckpt   name, images (int32 (h, w) codes, or False), texts, response (optional)
                            or the same as a member of a shard: feature/shard-00000.zip/NAME.ckpt
    DIR/list/SPLIT.json     {"prefix": the feature folder, "path_list": file names,
                             "beside": the feature folder from the list's own (optional)}

Further keys of our own stand beside these, lists as JSON texts; other readers ignore them:
`captions` (further wordings of `texts`), `turns` (every [question, response]; texts and response
are the last of them) and `independent` (bool). Turns without `independent`, or with True, are
separate questions about one image; with False they are one conversation, each turn following on
the last. `inputs` is a fingerprint of the picture and of how it was encoded. `parts` and `codes`
hold samples of any other form (`train.data.parts`); other readers see texts without an image.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emu3.checkpointfile import checkpoint_bytes, parse_checkpoint
from emu3.errors import InputError
from emu3.files import atomic_path, read_json
from emu3.mllm.parts import Message
from train.data.parts import Given, Said, Wanted, read, written
from train.data.shards import in_shard, members, read_member

__all__ = ["Feature", "Given", "Wanted", "read_feature", "write_feature"]
KEYS = frozenset(
    {"images", "texts", "response", "captions", "turns", "independent", "inputs", "parts", "codes"}
)
MOST_BYTES = 2**28  # of a file: more than any sample has
LONGEST_SHOWN = 500  # characters of a path
ONE = ".ckpt"  # what a feature's own file is called behind its name
TORCH_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Feature:
    """One training sample; `codes` is int32 (h, w), or None for text alone.

    `parts` is a sample of another form; codes and turns are then none, and `captions` are further
    wordings of its first given text.
    """

    name: str
    codes: np.ndarray | None = None
    texts: str = ""
    response: str | None = None
    captions: list[str] = field(default_factory=list)
    turns: list[tuple[str, str]] = field(default_factory=list)
    independent: bool = True
    inputs: str | None = None
    parts: list[Said] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What it teaches: "t2i", "vqa" (about an image), "text", "parts" or "conversation"."""
        if self.parts:
            return "conversation" if isinstance(self.parts[0], Message) else "parts"
        if not self.all_turns:
            return "t2i"
        return "text" if self.codes is None else "vqa"

    @property
    def all_turns(self) -> list[tuple[str, str]]:
        """Every (question, response); empty for a captioned image."""
        if self.turns or self.response is None:
            return self.turns
        return [(self.texts, self.response)]


def feature_bytes(feature: Feature) -> bytes:
    """A feature as the content of its file."""
    codes = np.array(False) if feature.codes is None else feature.codes.astype(np.int32)
    values = {"name": feature.name, "images": codes, "texts": feature.texts}
    if feature.response is not None:
        values["response"] = feature.response
    if feature.captions:
        values["captions"] = json.dumps(feature.captions, ensure_ascii=False)
    if feature.turns:
        values["turns"] = json.dumps(feature.turns, ensure_ascii=False)
        values["independent"] = np.array(feature.independent)
    if feature.inputs is not None:
        values["inputs"] = feature.inputs
    if feature.parts:
        values["parts"], codes = written(feature.parts)
        values["codes"] = codes if codes.size else np.array(False)
    return checkpoint_bytes(values)


def write_feature(folder: str | Path, feature: Feature) -> str:
    """Write `folder/feature/NAME.ckpt`; returns the file's name.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    path = Path(folder) / "feature" / f"{feature.name}{ONE}"
    write_whole(path, feature_bytes(feature))
    return path.name


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of a feature folder, whole or not at all.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; free the disk") from None


def write_list(folder: str | Path, split: str, names: Iterable[str]) -> Path:
    """Write `folder/list/SPLIT.json`; returns its path.

    Other readers join a relative prefix to where they run, so it is absolute; `beside`, which
    only this project reads, finds the features of a folder that was moved or copied.
    """
    path = Path(folder) / "list" / f"{split}.json"
    prefix = str((Path(folder) / "feature").absolute())
    with atomic_path(path) as temporary:
        content = {"prefix": prefix, "beside": "../feature", "path_list": list(names)}
        temporary.write_text(json.dumps(content, indent=0), encoding="utf-8")
    return path


def read_feature(path: str | Path) -> Feature:
    """Read one feature file, also of other writers, whatever it is called.

    Codes of shape (1, h, w) become (h, w).

    Raises:
        InputError: the file is missing, damaged, or holds values of other types.
    """
    values = _load(Path(path))
    texts, response, inputs = (values.get(key) for key in ("texts", "response", "inputs"))
    if not isinstance(texts, str) or not all(isinstance(x, str | None) for x in (response, inputs)):
        shown = " and ".join(repr(value)[:60] for value in (texts, response))
        raise InputError(f"feature {path}: texts and response are {shown}; allowed: text")
    parts = _parts(values, path) if "parts" in values else []
    codes = _codes(values.get("images"), path)
    if codes is None and response is None and not parts:
        raise InputError(f"feature {path} holds neither an image nor a response")
    captions = _json_list(values, "captions", path, lambda item: isinstance(item, str))
    turns = _json_list(values, "turns", path, _is_turn)
    independent = np.asarray(values.get("independent", True))
    if independent.dtype != bool or independent.ndim:
        raise InputError(
            f"feature {path}: independent is {independent!r:.60}; allowed: True, False"
        )
    turns = [tuple(turn) for turn in turns]
    name = Path(path).stem
    return Feature(name, codes, texts, response, captions, turns, bool(independent), inputs, parts)


def read_bytes(path: Path) -> bytes:
    """The content of a feature's file, or of its place in a shard.

    Raises:
        InputError: it is missing, too large or damaged.
    """
    try:
        if in_shard(path):
            return read_member(path, MOST_BYTES)
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:
            raise ValueError(f"no regular file of up to {MOST_BYTES} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise _unread(path, error) from None


def _load(path: Path) -> dict:
    """The values of a feature file, by its content: of a checkpoint, or of `torch.save`."""
    data = read_bytes(path)
    try:
        if data.startswith(TORCH_ZIP):
            from train.data.torch_file import parse_torch

            return parse_torch(data)
        return parse_checkpoint(data, KEYS)
    except (OSError, ValueError) as error:
        raise _unread(path, error) from None


def _unread(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(f"cannot read feature {path}: {reason}")


def _parts(values: dict, path: str | Path) -> list[Said]:
    """The parts of a feature file.

    Raises:
        InputError: they or their codes are of another form.
    """
    codes = np.asarray(values.get("codes", False))
    codes = None if codes.dtype == bool else codes
    try:
        if codes is not None and (codes.ndim != 1 or codes.dtype != np.int32):
            raise InputError(f"codes are {codes.dtype} {codes.shape}, not a row of int32")
        return read(values["parts"], codes)
    except InputError as error:
        raise InputError(f"feature {path}: {error}") from None


def _codes(images: object, path: str | Path) -> np.ndarray | None:
    """The value of `images` as int32 (h, w); None when there is none."""
    values = np.asarray(images)
    if images is None or (values.dtype == bool and values.ndim == 0):
        return None
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "iu":
        raise InputError(
            f"feature {path}: images are {values.dtype} {values.shape}; "
            "allowed: whole numbers (rows, columns), or False"
        )
    limits = np.iinfo(np.int32)
    if values.min() < limits.min or values.max() > limits.max:
        raise InputError(
            f"feature {path}: images hold {values.min()}..{values.max()}; allowed: codes of int32"
        )
    return values.astype(np.int32)


def _json_list(values: dict, key: str, path: str | Path, fits: Callable) -> list:
    """The list that `key` holds as JSON; empty without the key."""
    try:
        items = json.loads(values.get(key, "[]"))
    except (TypeError, ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or not all(fits(item) for item in items):
        raise InputError(f"feature {path}: {key} is no list of the form this key has")
    return items


def _is_turn(item: object) -> bool:
    """Whether `item` is [question, response]."""
    return isinstance(item, list) and len(item) == 2 and all(isinstance(t, str) for t in item)


def list_entries(list_path: str | Path, flag: str) -> list[Path]:
    """The files a list names, whether they exist or not.

    Of its folders the first that exists is taken: the one `beside` it, as our lists say; its
    prefix, absolute or relative to the list; `feature` beside the list's own, where it was moved.

    Raises:
        InputError: the list is missing, no list, empty, or names files outside its folder.
    """
    list_path = Path(list_path)
    content = read_json(list_path, f"so it is no feature list; change {flag}")
    prefix, names = content.get("prefix"), content.get("path_list")
    beside = content.get("beside", prefix)
    if not isinstance(names, list) or not all(isinstance(x, str) for x in (prefix, beside, *names)):
        raise InputError(
            f"{list_path} is no feature list: it needs prefix, a folder, and path_list, file "
            f"names; change {flag}"
        )
    if not names:
        raise InputError(f"{list_path} lists no samples; change {flag}")
    for name in names:
        if not _stays_inside(name):
            raise InputError(
                f"{list_path} names {ascii(name)[:100]}; allowed: files inside its prefix; change "
                f"the list, or {flag}"
            )
    if not (_is_sound(prefix) and _is_sound(beside)):
        raise InputError(f"{list_path}: {ascii(prefix)[:100]} is no folder; change {flag}")
    first = list_path.parent / prefix
    folders = (list_path.parent / beside, first, list_path.parent.parent / "feature")
    folder = next((folder for folder in folders if os.path.isdir(folder)), first)
    return [folder / name for name in names]


def _stays_inside(name: str) -> bool:
    """Whether `name` is a file in or below a folder it is joined to."""
    parts = name.split("/")
    return _is_sound(name) and name not in ("", ".") and ".." not in parts and parts[0] != ""


def _is_sound(path: str) -> bool:
    """Whether the system can be asked for `path`: no NUL, no half of a character."""
    return "\0" not in path and not re.search("[\ud800-\udfff]", path)


def list_files(list_path: str | Path, flag: str) -> list[Path]:
    """The files a list names, as `list_entries` finds them.

    Raises:
        InputError: the list is missing, no list, empty, or names a file that does not exist or a
            shard that is damaged.
    """
    files = list_entries(list_path, flag)
    missing = next(_missing(files), None)
    if missing is not None:
        name = str(missing)[:LONGEST_SHOWN]
        raise InputError(f"{list_path} names {name}, which does not exist; change {flag}")
    return files


def _missing(files: list[Path]) -> Iterator[Path]:
    """Those files that are neither there nor in a shard."""
    shards: dict[Path, Collection[str] | None] = {}
    for file in files:
        folder = file.parent
        if folder not in shards:
            shards[folder] = members(folder) if in_shard(file) else None
        names = shards[folder]
        if not os.path.exists(file) if names is None else file.name not in names:
            yield file
