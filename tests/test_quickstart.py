"""docs/quickstart.ipynb: each of its examples runs as it stands, with emu3-mini on CPU."""

import json
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty docs folder beside the assets, as working folder: outputs land there."""
    pytest.importorskip("mindone")  # of the extra `original`
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    return tmp_path / "docs"


def run_example(number: int) -> None:
    """Execute the notebook's code cells: the set-up, then example `number` alone."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 4
    names: dict = {}
    for source in (code[0], code[number]):
        exec(compile(source, NOTEBOOK.name, "exec"), names)


def test_text_to_image_writes_one_picture_of_the_checkpoints_area(folder):
    run_example(1)
    (path,) = folder.glob("result_*.png")
    with Image.open(path) as image:
        assert image.size == (128, 128)


def test_understanding_answers_in_english_and_chinese(folder, capsys):
    run_example(2)
    english, chinese = capsys.readouterr().out.strip().splitlines()[-2:]
    assert "house" in english
    assert "房子" in chinese


def test_autoencoding_writes_an_image_and_every_frame(folder):
    run_example(3)
    names = {path.name for path in folder.iterdir()}
    assert names == {"recon_image.png", *(f"recon_video_{i}.png" for i in range(16))}
