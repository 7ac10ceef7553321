"""How train is laid out: few files on top, no circles; commands run by path, options all read."""

import argparse
import ast
import contextlib
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from train import (
    check_data,
    launch,
    prepare_interleaved_data,
    prepare_scene_data,
    prepare_text_data,
    prepare_video_data,
    prepare_vision_data,
    prepare_vqa_data,
)
from train.data import pack
from train.measure import (
    activations,
    endurance,
    feature_files,
    kills,
    memory,
    parity,
    request_path,
    step_time,
)
from train.mini import progress, windows
from train.mini.evaluate import __main__ as evaluate
from train.mini.lm import __main__ as lm
from train.mini.lm import tokenizer
from train.mini.vision import __main__ as vision
from train.tuning import options as tuning

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [p for p in sorted((ROOT / "train").glob("*.py")) if "__main__" in p.read_text()]
COMMANDS = [p for p in COMMANDS if p.stem != "by_path"]
MOST_ON_TOP = 11
# The shell a person types in: the scripts alone set this, and they start modules by name.
SHELL = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.stem)
def test_a_command_runs_by_its_path_as_it_does_by_its_name(path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as by_name:
        import_module(f"train.{path.stem}").main(["--help"])
    by_path = subprocess.run(
        [sys.executable, f"train/{path.name}", "--help"],
        cwd=ROOT,
        env=SHELL | {"COLUMNS": "80"},
        text=True,
        capture_output=True,
    )
    assert by_path.returncode == by_name.value.code == 0, by_path.stderr
    assert by_path.stdout == capsys.readouterr().out
    assert by_path.stdout.startswith(f"usage: train.{path.stem}")


def test_bad_options_are_refused_before_mindspore_is_imported():
    modules = [
        *(path.stem for path in COMMANDS),
        *("mini.windows", "mini.progress", "mini.vision.__main__", "mini.lm.__main__"),
        *("mini.lm.tokenizer", "mini.evaluate.__main__"),
        *("measure.step_time", "measure.request_path"),
    ]
    look = "import sys\n" + "\n".join(
        f"import train.{name}; 'mindspore' not in sys.modules or sys.exit('{name}')"
        for name in modules
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_workers_of_a_command_that_was_started_by_its_path_find_it(tmp_path):
    command = [sys.executable, "train/prepare_vision_data.py", "--workers", "2", "--device", "CPU"]
    command += ["--output-path", str(tmp_path / "features")]
    done = subprocess.run(command, cwd=ROOT, env=SHELL, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "4 samples, 0 records skipped" in done.stdout


def test_few_files_lie_on_top():
    assert len(list((ROOT / "train").glob("*.py"))) <= MOST_ON_TOP


EVERY = pytest.mark.parametrize(
    "module",
    [
        *(check_data, launch, prepare_scene_data, prepare_text_data, prepare_vision_data),
        *(prepare_vqa_data, activations, endurance, kills, memory, parity, request_path),
        *(step_time, feature_files, pack),
        *(prepare_interleaved_data, prepare_video_data),
        *(evaluate, lm, progress, tokenizer, vision, windows, tuning),
    ],
    ids=lambda module: module.__name__,
)


@EVERY
def test_every_option_has_help_and_says_its_default(module):
    for action in module.build_parser()._actions:
        assert action.help, action.dest
        if action.option_strings and action.dest != "help" and action.default is not False:
            assert "(default" in action.help, action.dest


# Seeds, what is compared with something known, and how often a run does what it does anyway.
UNBOUNDED = {
    *("seed", "device_id", "show", "top_k", "window", "zipar_window", "image_area", "max_length"),
    *("max_steps", "warmup_steps", "save_steps", "eval_steps", "logging_steps", "scale_window"),
    *("save_total_limit", "trainable_hidden_layers", "sequence_parallel_shards"),
}


@EVERY
def test_numbers_that_stand_for_memory_or_time_have_a_bound(module):
    for action in module.build_parser()._actions:
        if action.type is not None and not action.choices and action.dest not in UNBOUNDED:
            with contextlib.suppress(argparse.ArgumentTypeError, ValueError):
                assert not isinstance(action.type("2000000000"), int), action.dest


def imports(path: Path, files: set[str]) -> set[str]:
    """Which of the files one imports at any level, for annotations alone aside."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        for name in ("body", "orelse"):
            kept = getattr(node, name, None)
            if isinstance(kept, list):
                setattr(node, name, [n for n in kept if "TYPE_CHECKING" not in head_of(n)])
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & files if inner & files else {node.module}
    return found & files


def head_of(node: ast.AST) -> str:
    return ast.unparse(node.test) if isinstance(node, ast.If) else ""


def test_no_file_imports_itself_by_way_of_others():
    files = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in (ROOT / "train").rglob("*.py")
    }
    graph = {name: imports(path, set(files)) for name, path in files.items()}
    assert sum(map(len, graph.values())) > 100
    while graph:
        free = {name for name, needed in graph.items() if not needed & set(graph)}
        assert free, f"circle among {sorted(graph)}"
        graph = {name: needed for name, needed in graph.items() if name not in free}
