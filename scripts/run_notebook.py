"""Runs a notebook's code in one process and stores what it gives, pictures inline.

python scripts/run_notebook.py docs/tour.ipynb
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

LINES = "text/plain"


def run(path: Path) -> list[list[dict[str, Any]]]:
    """The outputs of each code cell of a notebook, run in its folder."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    os.chdir(path.parent)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [outputs(execute("".join(cell["source"]), names, path.name)) for cell in cells]


def execute(source: str, names: dict[str, Any], name: str) -> tuple[str, Any]:
    """What a cell prints, and the value of its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), names)
        value = last and eval(compile(ast.Expression(last.value), name, "eval"), names)
    return printed.getvalue(), value


def outputs(result: tuple[str, Any]) -> list[dict[str, Any]]:
    """A cell's result as a notebook holds it."""
    printed, value = result
    found = []
    if printed:
        text = printed.splitlines(keepends=True)
        found.append({"name": "stdout", "output_type": "stream", "text": text})
    if value is not None:
        picture = getattr(value, "_repr_png_", lambda: None)()
        data = {LINES: repr(value).splitlines(keepends=True)}
        if picture is not None:
            data = {"image/png": base64.b64encode(picture).decode(), LINES: ["a picture"]}
        found.append({"data": data, "metadata": {}, "output_type": "display_data"})
    return found


def main() -> None:
    """Store the outputs of the notebook named on the command line."""
    path = Path(sys.argv[1]).resolve()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    results = run(path)
    for number, cell in enumerate(c for c in notebook["cells"] if c["cell_type"] == "code"):
        cell["outputs"], cell["execution_count"] = results[number], number + 1
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
