"""A YAML file of options as texts: names, each with one plain value or a list of them.

The events of its parser are read one by one and bounded, and nothing is constructed: values mean
what the same texts mean on the command line, and nesting or aliases cost no memory.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from emu3.errors import InputError
from emu3.files import atomic_path

LARGEST_BYTES = 2**20
NOTHING = ("", "~", "null", "Null", "NULL")
SHAPE = "allowed: a value, or a list of values, for each option"


class Scalar(NamedTuple):
    """A value as it is written; plain without quotes."""

    text: str
    plain: bool

    @property
    def empty(self) -> bool:
        """Whether it stands for no value."""
        return self.plain and self.text in NOTHING


def read_options_file(path: Path) -> dict[str, Scalar | list[Scalar]]:
    """What a YAML file says, by the names of options; `~` alone is an empty value.

    Raises:
        InputError: no such file, not UTF-8, no YAML, nested, or a name that comes twice.
    """
    text = _text(path)
    try:
        return _mapping(path, yaml.parse(text, Loader=yaml.SafeLoader))
    # PyYAML's scanner raises others where a number or an escape in the text is impossible.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no YAML: {error}; change --config") from None


def write_options_file(path: Path, remark: str, options: Mapping[str, Any]) -> None:
    """Write options so that `read_options_file` gives them back, below a remark of one line."""
    lines = [f"# {remark}"]
    lines += [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in options.items()]
    text = "\n".join(lines) + "\n"
    with atomic_path(path) as temporary:
        # Bytes of a file's name that are no UTF-8 are escaped as both JSON and YAML do.
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file; change --config")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; change --config") from None
    if len(content) > LARGEST_BYTES:
        raise InputError(
            f"{path} is too long to hold options; allowed: {LARGEST_BYTES} bytes; change --config"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} is not UTF-8 in line {line}; save it as UTF-8 or change --config"
        ) from None


def _mapping(path: Path, events: Iterator[yaml.Event]) -> dict[str, Scalar | list[Scalar]]:
    found: dict[str, Scalar | list[Scalar]] = {}
    anchors: dict[str, Scalar] = {}
    heads = (yaml.StreamStartEvent, yaml.DocumentStartEvent)
    first = next(event for event in events if not isinstance(event, heads))
    if not isinstance(first, yaml.MappingStartEvent):
        raise InputError(f"{path} holds no options; {SHAPE}; change --config")
    for event in events:
        if isinstance(event, yaml.MappingEndEvent):
            break
        name = _scalar(path, event, anchors).text
        if name in found:
            raise InputError(f"{path} says {name} twice; leave one out, or change --config")
        value = next(events)
        if isinstance(value, yaml.SequenceStartEvent):
            items = iter(lambda: next(events), None)
            found[name] = []
            for item in items:
                if isinstance(item, yaml.SequenceEndEvent):
                    break
                found[name].append(_scalar(path, item, anchors))
        else:
            found[name] = _scalar(path, value, anchors)
    if not isinstance(next(events), yaml.DocumentEndEvent) or not isinstance(
        next(events), yaml.StreamEndEvent
    ):
        raise InputError(f"{path} holds several documents; allowed: one; change --config")
    return found


def _scalar(path: Path, event: yaml.Event, anchors: dict[str, Scalar]) -> Scalar:
    if isinstance(event, yaml.AliasEvent) and event.anchor in anchors:
        return anchors[event.anchor]
    if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
        line = event.start_mark.line + 1
        raise InputError(
            f"{path}, line {line}: neither lists within lists nor tags are options; {SHAPE}; "
            "change --config"
        )
    value = Scalar(event.value, event.style is None)
    if event.anchor:
        anchors[event.anchor] = value
    return value
