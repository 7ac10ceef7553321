"""Ranks and special tokens of transformers' tokenizer.json, instead of the two published files.

Its vocabulary spells bytes as printable characters; a token's id is its rank. Merges are not
needed, and its pre-tokenisation pattern, which is not the released one, is not used.
"""

from pathlib import Path
from typing import Any

from emu3.errors import InputError, shown
from emu3.files import read_json
from emu3.mllm.rank_files import BUILT_IN_SPECIALS

TOKENIZER_JSON = "tokenizer.json"
REMEDY = "replace the file or change --model"


def byte_spellings() -> dict[str, int]:
    """The character that byte-level tokenizers write for each byte: itself where it is printable,
    else the next one from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = {chr(byte): byte for byte in printable}
    return spelled | {chr(256 + i): byte for i, byte in enumerate(others)}


def read_tokenizer_json(path: str | Path) -> tuple[dict[bytes, int], list[str]]:
    """Byte strings with their ranks 0..R-1, and the special tokens of the ids from R on.

    The first of those are the built-in ones whatever the file calls them: transformers puts a word
    of its own in the place of one.

    Raises:
        InputError: it is no byte-level tokenizer, or its ids are not 0, 1, 2 ... once each.
    """
    content = read_json(Path(path), REMEDY)
    model, added = content.get("model"), content.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or not isinstance(added, list):
        raise InputError(f"{path} has no model.vocab and added_tokens; {REMEDY}")
    specials = dict(_special(path, token) for token in added)
    ranks = _ranks(
        path,
        {word: i for word, i in vocabulary.items() if type(i) is not int or i not in specials},
    )
    first, last = len(ranks), len(ranks) + len(specials)
    if sorted(specials) != list(range(first, last)) or len(specials) < len(BUILT_IN_SPECIALS):
        raise InputError(
            f"{path} has {first} ranks and special tokens of ids {min(specials, default='none')}.."
            f"{max(specials, default='none')}; allowed: ids from {first} on, once each, of at "
            f"least {len(BUILT_IN_SPECIALS)} tokens; {REMEDY}"
        )
    own = [specials[i] for i in range(first + len(BUILT_IN_SPECIALS), last)]
    words = [*BUILT_IN_SPECIALS, *own]
    if len(set(words)) < len(words):
        raise InputError(f"{path} spells two special tokens alike; {REMEDY}")
    return ranks, words


def _special(path: str | Path, token: Any) -> tuple[int, str]:
    number = token.get("id") if isinstance(token, dict) else None
    word = token.get("content") if isinstance(token, dict) else None
    if type(number) is not int or not isinstance(word, str) or not word.isprintable() or not word:
        raise InputError(f"{path}: {shown(token)} is no added token with id and content; {REMEDY}")
    return number, word


def _ranks(path: str | Path, vocabulary: dict[str, Any]) -> dict[bytes, int]:
    spellings, ranks = byte_spellings(), {}
    for word, rank in vocabulary.items():
        try:
            ranks[bytes(map(spellings.__getitem__, word))] = rank
        except KeyError:
            raise InputError(
                f"{path}: {shown(word)} is not spelled in bytes; allowed: a byte-level tokenizer; "
                f"{REMEDY}"
            ) from None
    numbers = {rank for rank in ranks.values() if type(rank) is int}
    if numbers != set(range(len(vocabulary))):
        raise InputError(
            f"{path}: the ranks of model.vocab are not 0, 1, 2 ... once each; {REMEDY}"
        )
    absent = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if absent:
        raise InputError(f"{path} has no token for the byte {absent[0]:#04x}; {REMEDY}")
    return ranks
