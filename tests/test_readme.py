"""README and docs: the commands they show exist, and the Python they show runs."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "assets" / "emu3-mini" / "README.md"
PAGES = [ROOT / "README.md", ROOT / "README_CN.md", *sorted((ROOT / "docs").rglob("*.md")), CARD]
COMMAND = re.compile(r"(?:bash scripts/(\w+)\.sh|python -m ([\w.]+))([^`|\n]*)")
WRAPPED = {"infer_img_gen": "img_gen", "infer_vqa": "vqa", "infer_img_rec": "img_rec"}
WRAPPED |= {"infer_video": "video", "infer_edit": "edit"}


def commands() -> list[tuple[str, str]]:
    """(module or script, arguments) of every command on the pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", "")
        for script, module, arguments in COMMAND.findall(text):
            found.append((script or module, arguments))
    return found


@pytest.mark.parametrize(("name", "arguments"), commands())
def test_a_command_exists_and_takes_its_options(name, arguments):
    if "." not in name and name not in WRAPPED:
        assert name in ("pip", "pytest") or (ROOT / "scripts" / f"{name}.sh").exists()
        return
    module = import_module(f"emu3.cli.{WRAPPED[name]}" if name in WRAPPED else name)
    if hasattr(module, "__path__"):
        module = import_module(f"{name}.__main__")
    words = shlex.split(arguments.replace("--help", ""), comments=True)
    if name == "train.train_seq_parallel":
        module.parse(["--train_data_path", "x", *(word for word in words if word != "...")])
    elif words and words[-1] != "...":
        module.build_parser().parse_args(words)


def test_links_to_files_of_the_repository_hold():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_has_at_most_160_lines():
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 160


def test_the_python_of_the_readme_draws_a_picture(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "README.md", "exec"), {})
    with Image.open(tmp_path / "house.png") as image:
        assert image.size == (128, 128)
