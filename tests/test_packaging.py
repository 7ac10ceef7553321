"""The wheel of emu3 works by itself: what is in it, and what it does in a folder of its own."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """What a command prints in `folder`, where the checkout cannot be imported."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of this tree, so that no old build folder gets into it."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "checkout"
    for package in ("emu3", "train", "assets"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder)
    run(*PIP, "wheel", *options, copy, folder=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with the installed wheel; as PYTHONPATH it serves any other folder."""
    target = tmp_path_factory.mktemp("installed")
    run(*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel, folder=target)
    return target


def test_the_wheel_holds_the_package_and_what_is_bundled(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    mini = {
        f"emu3/{path.relative_to(ROOT)}"
        for path in (ROOT / "assets" / "emu3-mini").rglob("*")
        if path.is_file()
    }
    clip = {f"emu3/assets/demo_clip/frame_{number:02d}.png" for number in range(16)}
    assert mini and names >= mini | clip | {"emu3/assets/demo.png", "emu3/py.typed"}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "emu3").rglob("*.py")}
    peers = {name for name in modules if name.endswith(("_torch.py", "_llama_cpp.py"))}
    assert {name for name in names if name.endswith(".py")} == modules - peers
    kernels = [path for path in (ROOT / "emu3").rglob("*") if path.suffix in (".cpp", ".h")]
    assert kernels and names >= {str(path.relative_to(ROOT)) for path in kernels}


def test_the_wheel_holds_neither_train_nor_its_records(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"emu3"}
    assert not [name for name in names if "training/" in name or "gallery" in name]


def test_the_installed_wheel_finds_its_own_checkpoint(installed, tmp_path):
    code = "from emu3 import bundled; print(bundled.MINI_LANGUAGE, bundled.MINI_VISION)"
    printed = run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(installed))
    mini = installed / "emu3" / "assets" / "emu3-mini"
    assert printed.split() == [str(mini / "language"), str(mini / "vision")]
    assert (mini / "language" / "model.safetensors").is_file()


def test_the_installed_command_answers(installed, tmp_path):
    here = {"folder": tmp_path, "PYTHONPATH": str(installed)}
    assert run(installed / "bin" / "emu3", "--version", **here).startswith("emu3 ")
    assert "--prompt" in run(sys.executable, "-m", "emu3", "img_gen", "--help", **here)


def test_the_installed_package_draws_in_one_line(installed, tmp_path):
    code = "import emu3; print(emu3.load().draw('a red star').size, emu3.__file__)"
    printed = run(sys.executable, "-c", code, folder=tmp_path, PYTHONPATH=str(installed))
    assert printed.split("\n")[0] == f"(128, 128) {installed / 'emu3' / '__init__.py'}"
