"""Feature folders: what training reads (one `.ckpt` a sample, and a list).

    DIR/feature/NAME.ckpt   name, images (int32 (h, w) codes, or False), texts, response (optional)
    DIR/list/SPLIT.json     {"prefix": the feature folder, "path_list": file names}

Two keys of our own stand beside these as JSON texts; other readers ignore them: `captions`
(further wordings of `texts`) and `turns` (every [question, answer]; texts and response are the
last of them).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import mindspore as ms
import numpy as np

from emu3.errors import InputError
from emu3.files import atomic_path


@dataclass(frozen=True)
class Feature:
    """One training sample; `codes` is int32 (h, w), or None for text alone."""

    name: str
    codes: np.ndarray | None
    texts: str
    response: str | None = None
    captions: list[str] = field(default_factory=list)
    turns: list[tuple[str, str]] = field(default_factory=list)


def write_feature(folder: str | Path, feature: Feature) -> str:
    """Write `folder/feature/NAME.ckpt`; returns the file's name."""
    values = {
        "name": feature.name,
        "images": False if feature.codes is None else ms.Tensor(feature.codes, ms.int32),
        "texts": feature.texts,
    }
    if feature.response is not None:
        values["response"] = feature.response
    if feature.captions:
        values["captions"] = json.dumps(feature.captions, ensure_ascii=False)
    if feature.turns:
        values["turns"] = json.dumps(feature.turns, ensure_ascii=False)
    path = Path(folder) / "feature" / f"{feature.name}.ckpt"
    with atomic_path(path) as temporary:
        ms.save_checkpoint([], str(temporary), append_dict=values)
    return path.name


def write_list(folder: str | Path, split: str, names: Iterable[str]) -> Path:
    """Write `folder/list/SPLIT.json` with a prefix relative to the list; returns its path."""
    path = Path(folder) / "list" / f"{split}.json"
    with atomic_path(path) as temporary:
        content = {"prefix": "../feature", "path_list": list(names)}
        temporary.write_text(json.dumps(content, indent=0), encoding="utf-8")
    return path


def read_feature(path: str | Path) -> Feature:
    """Read one feature file, also of other writers.

    Raises:
        InputError: the file is missing, damaged, or holds values of other types.
    """
    try:
        values = ms.load_checkpoint(str(path))
    except (ValueError, OSError, RuntimeError) as error:
        raise InputError(f"cannot read feature {path}: {str(error).splitlines()[0]}") from None
    texts, images, response = (values.get(key) for key in ("texts", "images", "response"))
    if not isinstance(texts, str) or not isinstance(response, str | None):
        raise InputError(f"feature {path}: texts and response must be text")
    codes = np.asarray(images.asnumpy(), np.int32) if isinstance(images, ms.Tensor) else None
    if codes is not None and codes.ndim != 2:
        codes = None
    turns = [tuple(turn) for turn in json.loads(values.get("turns", "[]"))]
    captions = json.loads(values.get("captions", "[]"))
    return Feature(Path(path).stem, codes, texts, response, captions, turns)


def list_files(list_path: str | Path) -> list[Path]:
    """The files a list names; its prefix may be absolute or relative to the list.

    Raises:
        InputError: the list is missing, no list, empty, or names a file that does not exist.
    """
    list_path = Path(list_path)
    try:
        content = json.loads(list_path.read_text(encoding="utf-8"))
        prefix, names = content["prefix"], content["path_list"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{list_path} is no feature list: {error}; change --data") from None
    if not names:
        raise InputError(f"{list_path} lists no samples; change --data")
    files = [list_path.parent / prefix / name for name in names]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise InputError(f"{list_path} names {missing[0]}, which does not exist; change --data")
    return files
