"""Damaged copies of good files: bytes changed anywhere, or values changed inside JSON."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

PIECES = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"NaN",
    b"1e999",
    b"-1",
    b"9" * 400,
    b"null",
    b"true",
    b'"\\ud800"',
    "中文".encode("gbk"),
    b"../../x",
]
VALUES = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1.5, 1e308, float("nan"), float("inf")),
    *("", "x", "\ud800", "../x", "/etc/hostname", "a" * 5000, "1", "true"),
    *([], [[]], [None], [1, 2, 3], {}, {"a": 1}, {"__class__": 1}, [["a"] * 3] * 3),
]


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with one to three places cut, doubled, flipped or overwritten."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from([0, 1, 2, 8, 64, len(data)]))
        how = draw(st.sampled_from(["cut", "double", "flip", "write", "end"]))
        if how == "cut":
            del data[at : at + length]
        elif how == "double":
            data[at:at] = data[at : at + length]
        elif how == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "write":
            data[at : at + length] = draw(st.sampled_from(PIECES))
        elif how == "end":
            del data[at:]
    return bytes(data)


@st.composite
def damaged_json(draw: st.DrawFn, content: Any) -> bytes:
    """A JSON value with one to three of its parts replaced, doubled under another name, or gone."""
    value = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(["value", "value", "value", "gone", "name"]))
        if how == "gone":
            del holder[key]
        elif how == "name" and isinstance(holder, dict):
            name = draw(st.sampled_from(["", "self", "__class__", "__init__", "x"]))
            holder[name] = copy.deepcopy(holder[key])
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return json.dumps(value).encode()


def _places(value: Any):
    """Every (container, key) inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
