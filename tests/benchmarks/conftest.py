"""A stand-in for the peer's Python: answers every word, needs no torch."""

import sys
from pathlib import Path

import pytest

ANSWERING = """#!{python}
import json, sys
from pathlib import Path
folder = Path(sys.argv[-1])
settings = json.loads((folder / "settings.json").read_text())
assert (folder / "model.safetensors").exists()
print(json.dumps({{"ready": True}}), flush=True)
for word in sys.stdin:
    answer = {{"seconds": 1000.0, "bytes": 2**30, "codes": [1], "way": settings["way"]}}
    print(json.dumps(answer | {{"word": word.strip()}}), flush=True)
"""
FAILING = "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n"


def _script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def answering_python(tmp_path) -> str:
    """A "Python" that plays the peer."""
    return _script(tmp_path / "answering", ANSWERING.format(python=sys.executable))


@pytest.fixture
def torchless_python(tmp_path) -> str:
    """A "Python" without torch."""
    return _script(tmp_path / "failing", FAILING)
