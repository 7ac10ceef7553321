"""The words a checkpoint's captions held, and which words of a prompt are none of them."""

import re
from collections.abc import Iterable

# Latin words, whole numbers, and each Chinese character for itself.
WORD = re.compile(r"[a-z]+(?:['’-][a-z]+)*|[0-9]+|[\u3400-\u9fff]")
SHOWN = 8  # unknown words that a notice names


def words_of(text: str) -> list[str]:
    """The words of a text in order, in small letters; of Chinese its characters."""
    return WORD.findall(text.lower())


def unknown_words(texts: Iterable[str], known: str) -> list[str]:
    """Words of the texts that are not among `known`, a text; each once, in order."""
    there = set(words_of(known))
    found = (word for text in texts for word in words_of(text))
    return list(dict.fromkeys(word for word in found if word not in there))
