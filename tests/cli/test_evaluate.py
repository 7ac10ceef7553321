"""Evaluations: pictures laid out as suites expect, gone on with; reconstruction and answers."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from emu3.cli import evaluate
from emu3.evaluation import answering, drawing

SIZE = ["--image-area", "256", "--mode", "pynative"]


def draw(tiny, suite: str, output, *more: str) -> int:
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--output", str(output)]
    return evaluate.main([suite, *models, *SIZE, "--samples", "2", "--limit", "2", *more])


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def geneval(tiny, tmp_path_factory):
    output = tmp_path_factory.mktemp("geneval")
    assert draw(tiny, "geneval", output) == 0
    return output


def test_geneval_gets_a_folder_a_prompt(geneval):
    assert files(geneval / "images") == [
        f"0000{prompt}/{name}"
        for prompt in range(2)
        for name in ("metadata.jsonl", "samples/0000.png", "samples/0001.png")
    ]
    record = json.loads((geneval / "images/00001/metadata.jsonl").read_text())
    picture = Image.open(geneval / "images/00001/samples/0001.png")
    assert record["tag"] == "counting" and picture.text["prompt"] == record["prompt"]
    assert picture.text["seed"] == "3"


def test_the_same_command_draws_what_is_missing_and_it_is_what_it_was(
    tiny, geneval, monkeypatch, capsys
):
    lost = geneval / "images/00001/samples/0000.png"
    before, kept = pixels(lost), geneval / "images/00000/samples/0000.png"
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    assert draw(tiny, "geneval", geneval, "--batch-size", "1") == 0
    np.testing.assert_array_equal(pixels(lost), before)
    assert kept.stat().st_mtime_ns == stamp
    assert "2 prompt(s), 1 of them new" in capsys.readouterr().out
    monkeypatch.setattr(drawing.Studio, "draw", None)  # nothing to draw, nothing is loaded
    assert draw(tiny, "geneval", geneval) == 0


def test_a_suite_may_have_the_best_of_several(tiny, tmp_path):
    assert draw(tiny, "geneval", tmp_path, "--best-of", "2", "--limit", "1") == 0
    with Image.open(tmp_path / "images/00000/samples/0001.png") as picture:
        assert picture.text["decoding"] == "plain, best of 2"


def test_other_settings_are_refused_where_pictures_stand(tiny, geneval, capsys):
    assert draw(tiny, "geneval", geneval, "--guidance", "1.5") == 2
    assert "guidance" in capsys.readouterr().err


def test_two_commands_share_a_list_and_draw_what_one_does(tiny, geneval, tmp_path):
    for part in ("1/2", "2/2"):
        assert draw(tiny, "geneval", tmp_path, "--part", part) == 0
    assert files(tmp_path / "images") == files(geneval / "images")
    for name in files(geneval / "images"):
        if name.endswith(".png"):
            np.testing.assert_array_equal(
                pixels(tmp_path / "images" / name), pixels(geneval / "images" / name)
            )


def test_dpg_bench_gets_a_grid_a_prompt_and_nothing_else(tiny, tmp_path):
    assert draw(tiny, "dpg", tmp_path, "--samples", "4") == 0
    assert files(tmp_path / "images") == ["circle_square.png", "triangles_star.png"]
    side = Image.open(tmp_path / "images/circle_square.png").size[0]
    assert files(tmp_path / "samples") == []
    single = tmp_path / "single"
    assert draw(tiny, "mjhq", single, "--samples", "1") == 0
    assert side == 2 * Image.open(single / "images/shapes/shapes_0001.png").size[0]
    assert files(single / "images") == ["shapes/shapes_0001.png", "shapes/shapes_0002.png"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--part", "3/2"), "K from 1 to N"),
        (("--ratio", "1:1", "--ratio", "2:1"), "one for all pictures"),
        (("--prompts", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_ends_with_2(tiny, tmp_path, capsys, more, told):
    try:
        assert draw(tiny, "geneval", tmp_path / "out", *more) == 2
    except SystemExit as ended:
        assert ended.code == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("subject", evaluate.SUBJECTS)
def test_every_option_says_what_it_is_for_and_its_default(subject):
    (subjects,) = (a for a in evaluate.build_parser()._actions if a.choices)
    for action in subjects.choices[subject]._actions:
        assert action.help, action.dest
        assert "default" in action.help or action.dest in ("help", "height", "width"), action.dest


# What each package's functions give, and what they were given, without torch.
TORCH = """#!{python}
import runpy, sys, types
import numpy as np
from importlib import metadata
metadata.version = lambda name: "1.0"
fidelity = types.ModuleType("torch_fidelity")
fidelity.KEY_METRIC_FID = "fid"
def calculate_metrics(input1, input2, fid, cuda, samples_find_deep, verbose):
    assert fid and samples_find_deep and input1.endswith("rebuilt") and input2.endswith("original")
    return {{"fid": 4.5}}
fidelity.calculate_metrics = calculate_metrics
class LPIPS:
    def __init__(self, net, verbose):
        assert net == "alex"
    def __call__(self, a, b):
        assert a.shape == b.shape and a.shape[:2] == (1, 3) and abs(a).max() <= 1
        return abs(a - b).mean()
lpips = types.ModuleType("lpips")
lpips.LPIPS = LPIPS
torch = types.ModuleType("torch")
torch.cuda = types.SimpleNamespace(is_available=lambda: False)
torch.from_numpy = lambda array: array
import contextlib
torch.no_grad = contextlib.nullcontext
sys.modules.update(torch=torch, lpips=lpips, torch_fidelity=fidelity)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TORCHLESS = "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n"


def python(path, text: str) -> str:
    path.write_text(text.format(python=sys.executable))
    path.chmod(0o755)
    return str(path)


def rebuild(tiny, folder, output, *more: str) -> int:
    places = ["--images", str(folder), "--output", str(output)]
    return evaluate.main(["reconstruction", "--vq-model", tiny[1], *places, *more])


def test_reconstruction_scores_every_picture_and_goes_on(tiny, frame_folder, tmp_path, capsys):
    output = tmp_path / "out"
    assert rebuild(tiny, frame_folder, output, "--limit", "2") == 0
    assert len((output / "scores.csv").read_text().splitlines()) == 3
    with (output / "scores.csv").open("a") as file:
        file.write("frame_2.png,12")  # as a kill leaves it
    stamp = (output / "rebuilt/frame_0.png").stat().st_mtime_ns
    judge = python(tmp_path / "torch", TORCH)
    assert rebuild(tiny, frame_folder, output, "--peer", "torch", "--peer-python", judge) == 0
    assert (output / "rebuilt/frame_0.png").stat().st_mtime_ns == stamp
    rows = [row.split(",") for row in (output / "scores.csv").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == [f"frame_{n}.png" for n in range(6)]
    summary = json.loads((output / "summary.json").read_text())
    assert summary["psnr"] == pytest.approx(np.mean([float(row[1]) for row in rows]))
    assert summary["ssim"] == pytest.approx(np.mean([float(row[2]) for row in rows]))
    assert summary["rfid"] == 4.5 and 0 < summary["lpips"] < 2
    assert "torch-fidelity 1.0" in capsys.readouterr().out


def test_without_the_peer_the_other_scores_are_there(tiny, frame_folder, tmp_path, capsys):
    judge = python(tmp_path / "torchless", TORCHLESS)
    peer = ["--limit", "1", "--peer", "torch", "--peer-python", judge]
    assert rebuild(tiny, frame_folder, tmp_path / "out", *peer) == 2
    said = capsys.readouterr()
    assert "PSNR" in said.out and "pip install torch torchvision torch-fidelity lpips" in said.err
    assert rebuild(tiny, tmp_path / "out/nothing", tmp_path / "x") == 2


def ask(tiny, output, *more: str) -> int:
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--output", str(output)]
    return evaluate.main(["vqa", *models, "--max-new-tokens", "4", "--mode", "pynative", *more])


def answered(output) -> list[dict]:
    return [json.loads(line) for line in (output / "answers.jsonl").read_text().splitlines()]


def test_answers_are_scored_and_gone_on_with(tiny, tmp_path, monkeypatch, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert ask(tiny, whole) == 0
    assert ask(tiny, parts, "--limit", "1") == 0
    with (parts / "answers.jsonl").open("a") as file:
        file.write('{"image": ')  # as a kill leaves it
    monkeypatch.setattr(answering, "accuracy", lambda text, wanted: 0.25 * len(wanted) ** 0)
    assert ask(tiny, parts) == 0
    assert [a["prediction"] for a in answered(parts)] == [a["prediction"] for a in answered(whole)]
    assert [a["accuracy"] for a in answered(parts)][1:] == [0.25] * 3
    assert answered(parts)[1]["question"] == "What colour is the house?"
    assert json.loads((parts / "summary.json").read_text())["questions"] == 4
    assert "accuracy" in capsys.readouterr().out
    assert ask(tiny, parts, "--suffix", " Briefly.") == 2


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"image": "gone.png", "question": "q", "answer": "a"}', "no picture"),
        ('{"image": "p.png", "question": "q"}', "needs answer"),
        ('{"image": "p.png", "question": "q", "answers": []}', "needs answer"),
        ('{"image": "p.png", "answer": "a"}', "question None"),
        ("{", "line 1 is no JSON"),
    ],
)
def test_questions_that_are_none_are_refused_by_line(tiny, tmp_path, capsys, line, told):
    Image.new("RGB", (16, 16)).save(tmp_path / "p.png")
    (tmp_path / "q.jsonl").write_text(line)
    assert ask(tiny, tmp_path / "out", "--questions", str(tmp_path / "q.jsonl")) == 2
    assert told in capsys.readouterr().err
