"""The site of `bash scripts/docs.sh`: every page is in it, and the API pages name what exists."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
TOUR = json.loads((DOCS / "tour.ipynb").read_text(encoding="utf-8"))


def test_every_page_is_listed_in_mkdocs_yml():
    listed = re.findall(r"- (?:.*: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", sorted(DOCS.glob("reference/*.md")), ids=lambda page: page.stem)
def test_the_api_pages_name_modules_that_exist(page):
    modules = re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert modules and all(find_spec(module) for module in modules)


def test_the_tour_holds_what_each_of_its_cells_gave():
    cells = [cell for cell in TOUR["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    data = [output.get("data", {}) for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in one for one in data) >= 5
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])


def test_the_tour_loads_once_and_runs_as_it_stands(monkeypatch):
    """Its cells, up to the first answer, run with what the package has today."""
    from emu3 import facade

    code = ["".join(c["source"]) for c in TOUR["cells"] if c["cell_type"] == "code"]
    assert "\n".join(code).count("emu3.load(") == 1
    monkeypatch.chdir(DOCS)
    names: dict = {}
    for source in code:
        exec(compile(source, "tour.ipynb", "exec"), names)
    assert isinstance(names["model"], facade.Emu3)
