"""The Chinese pages say what the English ones do: headings, commands, tables, links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAIRS = [("README.md", "README_CN.md")]
PAIRS += [(f"docs/{page.name}", f"docs/zh/{page.name}") for page in (ROOT / "docs/zh").glob("*.md")]
TOLD = re.compile(r"[A-Z0-9_a-z]*=?\S* *\b(?:bash|python|pip|emu3|nginx) [^`#]+")


def text(page: str) -> str:
    """A page without its comments behind commands."""
    return (ROOT / page).read_text(encoding="utf-8")


def headings(page: str) -> list[int]:
    """The levels of a page's headings, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", text(page), re.MULTILINE)]


def commands(page: str) -> list[str]:
    """Indented lines and code spans that are commands, in order; words may stand in code spans."""
    lines = re.findall(r"^    (\S.*)$", text(page), re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", text(page).replace("\n", " "))
    found = [line.split("  #")[0].strip() for line in [*lines, *spans]]
    return [re.sub(r" +", " ", line) for line in found if TOLD.fullmatch(line)]


def spans(page: str) -> list[str]:
    """Everything that stands in code spans: flags, files, fields."""
    prose = re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)
    return sorted(re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose))


def tables(page: str) -> list[list[tuple]]:
    """Of each row of a page's tables: its cells' number, their code spans, and their numbers."""
    rows = re.findall(r"^\|(.*)\|$", text(page), re.MULTILINE)
    return [
        (row.count("|"), re.findall(r"`[^`]*`", row), sorted(re.findall(r"\d[\d.,e-]*\d|\d", row)))
        for row in rows
    ]


def code(page: str) -> list[str]:
    """The blocks of code in a page."""
    return re.findall(r"```\w+\n(.*?)```", text(page), re.DOTALL)


def addresses(page: str) -> set[str]:
    """Where a page's links lead to elsewhere."""
    return set(re.findall(r"\]\((https?:[^)]+)\)", text(page)))


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
@pytest.mark.parametrize("part", [headings, commands, spans, tables, code, addresses])
def test_a_chinese_page_keeps_step(english, chinese, part):
    assert part(chinese) == part(english)


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_each_page_leads_to_the_other(english, chinese):
    assert f"]({Path(chinese).relative_to(Path(english).parent)})" in text(english)
    assert f"/{Path(english).name})" in text(chinese) or f"({english})" in text(chinese)


def test_what_the_comparison_finds_is_not_nothing():
    assert len(PAIRS) == 5
    assert sum(len(commands(english)) for english, _ in PAIRS) > 40
