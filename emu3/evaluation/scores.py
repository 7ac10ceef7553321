"""Whether an answer is right: compared with the wanted ones after both are normalised.

One wanted answer, or a few that mean the same: right is 1, anything else 0. Ten, as VQA collects
them from people (Antol et al. 2015): min(n / 3, 1) where n of them gave the answer.
"""

import re
import unicodedata
from collections.abc import Sequence

PEOPLE = 10
ARTICLES = frozenset(("a", "an", "the"))
NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}


def normalised(answer: str) -> str:
    """An answer as it is compared: small letters, digits for numbers up to ten, no articles, no
    punctuation but within numbers, single spaces."""
    text = unicodedata.normalize("NFKC", answer).lower()
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"['’`]", "", text)  # don't and dont
    marks = (c if not _is_mark(c) or _within_number(text, i) else " " for i, c in enumerate(text))
    found = [NUMBERS.get(word, word) for word in "".join(marks).split() if word not in ARTICLES]
    return " ".join(found)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS" and character not in "%$€£¥+-"


def _within_number(text: str, place: int) -> bool:
    return (
        text[place] in ".:"
        and text[place - 1 : place].isdigit()
        and text[place + 1 : place + 2].isdigit()
    )


def accuracy(answer: str, wanted: Sequence[str]) -> float:
    """From 0 to 1: how right an answer is beside those that are wanted."""
    same = sum(normalised(one) == normalised(answer) for one in wanted)
    return min(same / 3, 1.0) if len(wanted) == PEOPLE else float(same > 0)
