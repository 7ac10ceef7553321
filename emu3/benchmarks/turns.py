"""What every peer's process begins with: its settings, and taking turns. Imports no network."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

Turn = Callable[..., str]


def turns(folder: Path) -> tuple[dict, Turn]:
    """The settings in `folder`, and how an answer is handed over: stdout carries answers only."""
    out, sys.stdout = sys.stdout, sys.stderr

    def turn(**answer: object) -> str:
        """Hand over an answer and wait for the next word."""
        print(json.dumps(answer), file=out, flush=True)
        word = sys.stdin.readline().strip()
        if not word:
            raise SystemExit(0)
        return word

    return json.loads((folder / "settings.json").read_text()), turn
