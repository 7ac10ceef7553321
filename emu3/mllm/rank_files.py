"""The two files a tokenizer is made of: byte-pair ranks, and a list of special tokens."""

import base64
import string
from functools import partial
from pathlib import Path

from emu3.errors import InputError

BUILT_IN_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{k}|>" for k in range(205)),
)
RANK_CHARACTERS = string.ascii_letters.encode() + string.digits.encode() + b"+/= \r\n"


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Byte strings and their ranks 0..R-1 from a file of "base64 rank" lines.

    Raises:
        InputError: a line is malformed, or a rank or byte string is doubled or missing.
    """
    content = _content(path)
    fields = content.split()
    count = sum(map(bool, map(bytes.strip, content.splitlines())))
    try:
        pieces = map(partial(base64.b64decode, validate=True), fields[::2])
        ranks = dict(zip(pieces, map(int, fields[1::2])))
    except ValueError:
        raise _rank_error(path, content) from None
    complete = set(ranks.values()) == set(range(count))
    if not complete or not len(ranks) == count == len(fields) / 2:
        raise _rank_error(path, content)
    _check_characters(path, content)
    absent = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if absent:
        raise InputError(
            f"rank file {path} has no rank for the byte {absent[0]:#04x}; allowed: a rank for "
            "each of the 256 single bytes; replace the file or change --model"
        )
    return ranks


def _check_characters(path: str | Path, content: bytes) -> None:
    """Refuse what other readers would take differently: a sign, a zero byte, odd line ends."""
    odd = content.translate(None, RANK_CHARACTERS)[:1] or (b"+" if b" +" in content else b"")
    if odd:
        at = content.index(b" +" if odd == b"+" else odd)
        raise InputError(
            f"rank file {path}, line {content.count(bytes([10]), 0, at) + 1}: {odd!r} is not "
            "allowed there; allowed: base64, a space and digits, lines that end in LF or CR LF; "
            "replace the file or change --model"
        )


def _rank_error(path: str | Path, content: bytes) -> InputError:
    """What is wrong with the first bad line, or which rank is missing."""
    where_rank: dict[int, int] = {}
    where_piece: dict[bytes, int] = {}
    advice = (
        'allowed: "base64 rank" lines, ranks 0, 1, 2 ... once each; replace it or change --model'
    )
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        start = f"rank file {path}, line {number}:"
        try:
            encoded, rank_text = line.split()
            piece, rank = base64.b64decode(encoded, validate=True), int(rank_text)
        except ValueError:
            shown = line[:60].decode("utf-8", errors="replace")
            return InputError(f"{start} {shown!r} is not base64 and a rank; {advice}")
        if rank in where_rank:
            return InputError(f"{start} rank {rank} is in line {where_rank[rank]} too; {advice}")
        if piece in where_piece:
            return InputError(f"{start} {piece!r} is in line {where_piece[piece]} too; {advice}")
        where_rank[rank] = where_piece[piece] = number
    missing = next(rank for rank in range(len(where_rank)) if rank not in where_rank)
    highest = max(where_rank, key=lambda rank: (rank, where_rank[rank]))
    return InputError(
        f"rank file {path}: rank {missing} is missing, yet line {where_rank[highest]} holds rank "
        f"{highest}; {advice}"
    )


def read_specials(path: str | Path) -> list[str]:
    """The built-in special tokens followed by the lines of `path`, in order of their ids.

    Raises:
        InputError: a token is listed twice, is no UTF-8, or has control characters.
    """
    specials = dict.fromkeys(BUILT_IN_SPECIALS, 0)
    for number, line in enumerate(_content(path).splitlines(), 1):
        try:
            token = line.decode("utf-8").strip(" \t")
        except UnicodeDecodeError:
            token = "\0"
        if not token.isprintable():
            raise InputError(
                f"special token file {path}, line {number}: {line[:60]!r} is no token; allowed: "
                "UTF-8 without control characters; replace the file or change --model"
            )
        if token in specials:
            raise InputError(
                f"special token file {path}, line {number}: {token!r} exists already; allowed: "
                "each token once; replace the file or change --model"
            )
        if token:
            specials[token] = number
    return list(specials)


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; change --model") from None
