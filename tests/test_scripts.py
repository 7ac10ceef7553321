"""The task scripts hand environment and arguments on to the commands."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STUB = """#!/usr/bin/env bash
case "$1" in *check_env.py) exit 0 ;; esac
printf '%s\\n' "$DEVICE_ID" "$@"
"""


def lines_of(script: str, folder: Path, *arguments: str, **environment: str) -> list[str]:
    """DEVICE_ID and the arguments that $PYTHON gets from a script."""
    python = folder / "python"
    python.write_text(STUB)
    python.chmod(0o755)
    ours = {"PYTHON", "MODEL", "VQ_MODEL", "DEVICE_ID"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / f"{script}.sh"), *arguments],
        env=kept | {"PYTHON": str(python)} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def command(task: str, device: str, model: str, vq_model: str) -> list[str]:
    """The lines a script should cause."""
    language = [] if task == "img_rec" else ["--model", model]
    return [device, "-m", f"emu3.cli.{task}", *language, "--vq-model", vq_model]


@pytest.mark.parametrize("task", ["img_gen", "img_rec", "vqa", "video", "edit"])
def test_a_script_forwards_models_device_and_arguments(task, tmp_path):
    extra = ("--output", "two words", "--dtype", "")
    given = {"MODEL": "my/model", "VQ_MODEL": "my vision", "DEVICE_ID": "3"}
    found = lines_of(f"infer_{task}", tmp_path, *extra, **given)
    assert found == [*command(task, "3", "my/model", "my vision"), *extra]


@pytest.mark.parametrize("task", ["img_gen", "img_rec", "vqa", "video", "edit"])
def test_a_script_alone_takes_emu3_mini_and_the_first_device(task, tmp_path):
    mini = ROOT / "assets" / "emu3-mini"
    found = lines_of(f"infer_{task}", tmp_path)
    assert found == command(task, "0", str(mini / "language"), str(mini / "vision"))


@pytest.mark.parametrize(
    ("subject", "module"),
    [
        ("decode", "emu3.cli.benchmark decode"),
        ("jacobi", "train.mini.windows"),
        ("sft", "train.measure.step_time"),
    ],
)
def test_a_benchmark_is_run_by_the_module_that_measures_it(subject, module, tmp_path):
    found = lines_of("benchmark", tmp_path, subject, "--repeats", "1", PEER_PYTHON="torch/python")
    assert found[1:] == ["-m", *module.split(), "--repeats", "1"]
    found = lines_of("benchmark", tmp_path, subject, "--peer", "torch", PEER_PYTHON="torch/python")
    assert found[-4:] == ["--peer", "torch", "--peer-python", "torch/python"]
    peer = ("--peer", "llama-cpp")
    found = lines_of("benchmark", tmp_path, subject, *peer, LLAMA_PYTHON="llama/python")
    assert found[-4:] == [*peer, "--peer-python", "llama/python"]


@pytest.mark.parametrize("task", ["t2i", "vqa", "text"])
def test_fine_tuning_is_on_drawn_scenes_or_what_is_given(task, tmp_path):
    script, train = f"{task}_sft_seq_parallel", ["train.train_seq_parallel", "--config"]
    train += [f"configs/mini_{task}_sft.yaml", "--train_data_path"]
    drawn, output = lines_of(script, tmp_path, "--max_steps", "2"), f"outputs/{task}_sft"
    assert drawn[2:4] == ["train.prepare_scene_data", "--output"]
    launched = ["train.launch", "-n", "2", "--logs", f"{output}/logs", *train, f"{drawn[4]}/{task}"]
    start = drawn.index("train.launch")
    assert drawn[start : start + len(launched)] == launched
    assert drawn[-4:] == ["--output_dir", output, "--max_steps", "2"]
    given = lines_of(script, tmp_path, DATA="my data", NPROC="4", OUTPUT="out")
    launched = ["train.launch", "-n", "4", "--logs", "out/logs", *train, "my data"]
    assert given[2:] == [*launched, "--output_dir", "out"]
    other = lines_of(script, tmp_path, DATA="my data", MODEL="my model")
    assert other[-4:] == ["--model_name_or_path", "my model", "--output_dir", output]


@pytest.mark.parametrize(("task", "kind"), [("video", "video"), ("edit", "interleaved")])
def test_clips_and_edits_are_trained_on_bundled_records(task, kind, tmp_path):
    found = lines_of(f"{task}_sft_seq_parallel", tmp_path)
    folder = f"outputs/features/{kind}"
    assert found[2:5] == [f"train.prepare_{kind}_data", "--output-path", folder]
    assert found[-4:] == ["--train_data_path", folder, "--output_dir", f"outputs/{task}_sft"]


def test_a_relative_python_is_the_callers_where_a_script_changes_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = lines_of("t2i_sft_seq_parallel", tmp_path, DATA="x", PYTHON="./python")
    assert found[2] == "train.launch"


@pytest.mark.parametrize(("failing", "code"), [("first", 1), ("second", 1), ("neither", 0)])
def test_the_suite_is_run_in_halves_on_cores_of_their_own(failing, code, capfd):
    run = runpy.run_path(str(ROOT / "scripts" / "run_tests.py"))["run_halves"]
    stub = "import os, sys; print(*os.sched_getaffinity(0), sys.argv[1]); "
    command = (sys.executable, "-c", stub + f"sys.exit(sys.argv[1] == '{failing}')")
    run.__globals__.update(PYTEST=command, FIRST=["first"], SECOND=["second"])
    cores = sorted(os.sched_getaffinity(0))
    assert run([cores[0], cores[-1]]) == code
    assert capfd.readouterr().out == f"{cores[-1]} second\n{cores[0]} first\n"


def test_all_benchmarks_of_the_list_are_run_with_the_further_options(tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("emu3.cli.benchmark prefill --net small\ntrain.mini.windows --prompts 2\n")
    found = lines_of("benchmark", tmp_path, "all", "--repeats", "1", BENCHMARKS=str(listed))
    for line in listed.read_text().splitlines():
        assert f"    python -m {line}" in found
        words = [*line.split(), "--repeats", "1"]
        start = found.index(words[0])
        assert found[start : start + len(words)] == words


@pytest.mark.parametrize("moved", [False, True])
def test_a_checkout_counts_as_installed_only_where_it_is(moved, tmp_path, monkeypatch):
    info = tmp_path / "emu3_mindspore-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: emu3-mindspore\nVersion: 0.1.0\n")
    folder = tmp_path / "before it was moved" if moved else ROOT
    (info / "direct_url.json").write_text(json.dumps({"url": folder.as_uri()}))
    lacking = runpy.run_path(str(ROOT / "scripts" / "check_env.py"))["checkout_lacking"]
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert lacking("emu3-mindspore") == (f"{ROOT} is not installed" if moved else None)


def run_script(script: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """`vqa --help` by a script, in a working directory, with this Python."""
    kept = os.environ | {"PYTHON": sys.executable} | environment
    kept.pop("PYTHONPATH", None)
    return subprocess.run(
        ["bash", str(script), "--help"],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        timeout=60,
    )


VQA = ROOT / "scripts" / "infer_vqa.sh"


def test_modules_of_the_working_directory_are_not_taken(tmp_path):
    for name in ("queue.py", "emu3/__init__.py", "emu3/cli/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('the wrong one')\n")
    done = run_script(VQA, tmp_path)
    assert "--image FILE" in done.stdout, done.stderr


def test_a_python_without_a_safe_path_takes_none_of_them_either(tmp_path):
    """As before 3.11, by a Python that says it is older and ignores PYTHONSAFEPATH."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/usr/bin/env bash\ncase "$2" in *"sys.exit(3"*) exit 3 ;; esac\n'
        f'unset PYTHONSAFEPATH\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    (tmp_path / "runpy.py").write_text("raise SystemExit('the wrong one')\n")
    done = run_script(VQA, tmp_path, PYTHON=str(python))
    assert done.stdout.startswith("usage: emu3.cli.vqa"), done.stderr


def test_a_script_is_run_by_way_of_a_link(tmp_path):
    (tmp_path / "ask").symlink_to(VQA)
    done = run_script(tmp_path / "ask", tmp_path)
    assert "--image FILE" in done.stdout, done.stderr


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda p: p.name)
def test_every_script_finds_its_folder_by_way_of_links(script):
    found = [line for line in script.read_text().splitlines() if "dirname" in line]
    assert all('"$(readlink -f -- "${BASH_SOURCE[0]}")"' in line for line in found)


def test_cdpath_leads_nowhere_else(tmp_path):
    (tmp_path / "scripts").mkdir()
    done = run_script(Path("scripts/infer_vqa.sh"), ROOT, CDPATH=f"{tmp_path}:.")
    assert "--image FILE" in done.stdout, done.stderr


@pytest.mark.parametrize("python", ["no/such/python", "/bin/ls"])
def test_a_wrong_python_is_refused_by_name(python, tmp_path):
    done = run_script(VQA, tmp_path, PYTHON=python)
    assert done.returncode == 2
    assert f"PYTHON is {python}, which is no Python" in done.stderr


def test_a_python_that_lacks_something_is_refused_with_what(tmp_path):
    python = tmp_path / "python"
    python.write_text(
        "#!/usr/bin/env bash\n"
        'case "$1" in *check_env.py) echo "av is missing" >&2; exit 1 ;; esac\n'
    )
    python.chmod(0o755)
    done = run_script(VQA, tmp_path, PYTHON=str(python))
    assert done.returncode == 2
    assert "av is missing" in done.stderr
    assert f"PYTHON is {python}, which lacks the above" in done.stderr


def test_a_colon_in_the_folders_name_is_refused_by_name(tmp_path):
    copy = tmp_path / "a:b" / "scripts"
    shutil.copytree(ROOT / "scripts", copy)
    done = run_script(copy / "infer_vqa.sh", tmp_path)
    assert done.returncode == 2
    assert "a:b has a ':' in its name" in done.stderr


def test_line_ends_stay_where_git_would_change_them(tmp_path):
    checked = subprocess.run(
        ["git", "check-attr", "eol", "text", "--", "scripts/setup_env.sh", "assets/demo.png"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if checked.returncode:
        pytest.skip("no git here")
    assert "scripts/setup_env.sh: eol: lf" in checked.stdout
    assert "assets/demo.png: text: unset" in checked.stdout
