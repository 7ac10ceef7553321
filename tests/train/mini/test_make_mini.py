"""The one command that makes emu3-mini: its stages in order, each until it is finished."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Stands for Python: writes what it is asked to run, and finishes a training in its second round.
STUB = """#!/usr/bin/env bash
case "$1" in *check_env.py | -c) exit 0 ;; esac
echo "$2"
while [ $# -gt 0 ]; do [ "$1" = --output ] && output="$2"; shift; done
mkdir -p "$output" 2>/dev/null
case "$output" in
    */tokenizer) touch "$output/tokenizer_config.json" ;;
    */vision | */language)
        if [ -e "$output/half" ]; then touch "$output/finished"; fi
        touch "$output/half" ;;
esac
"""


def made(folder: Path) -> list[str]:
    """The modules that the command runs, without `train.mini.`."""
    (folder / "python").write_text(STUB)
    (folder / "python").chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "make_mini.sh")],
        env=os.environ | {"PYTHON": str(folder / "python"), "OUTPUT": str(folder / "made")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line.removeprefix("train.mini.") for line in done.stdout.splitlines()[:-1]]


def test_stages_run_in_order_in_rounds_and_go_on_where_they_were_stopped(tmp_path):
    rounds = ["vision", "progress"] * 2 + ["lm", "progress"] * 2
    assert made(tmp_path) == ["lm.tokenizer", *rounds, "evaluate", "progress"]
    (tmp_path / "made" / "language" / "finished").unlink()
    assert made(tmp_path) == ["lm", "progress", "evaluate", "progress"]
