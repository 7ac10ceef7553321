"""The evaluation command, with models that paint and answer perfectly or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from emu3.cli.shell import read_options
from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.defaults import CheckpointDefaults
from emu3.pipeline import DrawSettings
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQImageProcessor, Emu3VisionVQModel
from tests.support import tiny_config, tiny_vision_config, write_tokenizer
from train.mini import evaluate
from train.mini import models as loaded
from train.mini.drawing import draw
from train.mini.evaluation import make_prompts, make_questions

SEED = 5


class PerfectModels:
    """Paints the scene a prompt was written for, answers what is right, rebuilds exactly."""

    def __init__(self, model, vq_model, settings, device, weights):
        self.settings = settings
        self.prompts = {p.text: p for p in make_prompts(20, SEED)}
        self.answers = {q.text: q.answer for q in make_questions(18, SEED)}
        self.forwards = 0

    def draw(self, pictures):
        self.forwards += 60 * len(pictures)
        assert len({picture.size for picture in pictures}) == 1
        for picture in pictures:
            prompt = self.prompts[picture.prompt]
            assert picture.size == (prompt.scene.rows, prompt.scene.cols)
            assert picture.seed == SEED + list(self.prompts).index(picture.prompt)
        return [np.asarray(draw(self.prompts[picture.prompt].scene)) for picture in pictures]

    def answer(self, questions, images):
        assert len({image.size for image in images}) == 1
        return [self.answers[question] for question in questions]

    def rebuild(self, images):
        return [np.asarray(image) for image in images]


class BlankModels(PerfectModels):
    """Paints nothing and says nothing."""

    def draw(self, pictures):
        sizes = [picture.size for picture in pictures]
        return [np.full((8 * h, 8 * w, 3), 250, np.uint8) for h, w in sizes]

    def answer(self, questions, images):
        return [""] * len(questions)

    def rebuild(self, images):
        return [np.full_like(np.asarray(image), 250) for image in images]


def report(monkeypatch, folder, models, task, *options):
    """The JSON report of a run."""
    monkeypatch.setattr(loaded, "Models", models)
    file = folder / "report.json"
    arguments = [task, "--output", str(file), "--batch-size", "3", "--device", "CPU", *options]
    arguments += ["--seed", str(SEED)]
    assert evaluate.main(arguments) == 0
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("task, count", [("t2i", 20), ("vqa", 18), ("reconstruction", 10)])
def test_perfect_models_get_everything_right(monkeypatch, tmp_path, task, count):
    result = report(monkeypatch, tmp_path, PerfectModels, task, "--count", str(count))[task]
    for groups in result["right_of_total"].values():
        assert all(right == total for right, total in groups.values())
    assert result["right_of_total"]["all"]["right"] == [count, count]
    assert len(result["records"]) == count


@pytest.mark.parametrize("task", ["t2i", "vqa", "reconstruction"])
def test_blank_models_get_nothing_right(monkeypatch, tmp_path, task):
    result = report(monkeypatch, tmp_path, BlankModels, task, "--count", "10")[task]
    assert result["right_of_total"]["all"]["right"] == [0, 10]


def test_all_measures_every_task_and_prints_a_table(monkeypatch, tmp_path, capsys):
    result = report(monkeypatch, tmp_path, PerfectModels, "all", "--count", "10")
    assert {"t2i", "vqa", "reconstruction"} < set(result)
    printed = capsys.readouterr().out
    assert "t2i (" in printed
    assert "10 of   10  100.0 %" in printed
    assert "PSNR inf dB, SSIM 1.0000" in printed


def test_pictures_are_saved_on_request(monkeypatch, tmp_path):
    folder = tmp_path / "pictures"
    report(monkeypatch, tmp_path, PerfectModels, "t2i", "--count", "4", "--pictures", str(folder))
    assert sorted(p.name for p in folder.iterdir()) == [f"t2i_{i:04d}.png" for i in range(4)]


def test_batches_hold_one_size_and_miss_nothing():
    sizes = [(12, 12), (9, 16), (12, 12), (12, 12), (9, 16)]
    assert list(evaluate.batches_of_one_size(sizes, 2)) == [[0, 2], [3], [1, 4]]


def test_results_come_back_in_order():
    results, _ = evaluate.in_batches(lambda some: some, [(1, 1), (2, 2), (1, 1)], 2, "test")
    assert results == [0, 1, 2]


@pytest.fixture
def random_models(tmp_path) -> list[str]:
    """Options naming tiny random models whose sizes fit drawn scenes."""
    language, vision = tmp_path / "language", tmp_path / "vision"
    write_tokenizer(language)
    config = Emu3Config(**{**tiny_config().to_dict(), "max_position_embeddings": 512})
    Emu3ForCausalLM(config).save_pretrained(language)
    sizes = {**tiny_vision_config().to_dict(), "ch_mult": [1, 1, 1, 1], "attn_resolutions": []}
    Emu3VisionVQModel(Emu3VisionVQConfig(**sizes)).save_pretrained(vision)
    Emu3VisionVQImageProcessor(min_pixels=4096, max_pixels=65536).save_pretrained(vision)
    return ["--model", str(language), "--vq-model", str(vision)]


@pytest.mark.parametrize("task", ["t2i", "vqa", "reconstruction"])
def test_real_models_are_measured(random_models, tmp_path, task):
    file = tmp_path / "report.json"
    arguments = [task, "--count", "2", "--output", str(file), "--device", "CPU"]
    assert evaluate.main([*arguments, *random_models]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert len(result[task]["records"]) == 2
    assert (result["settings"]["task"], result["settings"]["device"]) == (task, "CPU")
    assert (result["settings"]["guidance"] is None) == (task == "reconstruction")
    if task == "reconstruction":
        assert 0 < result[task]["psnr"] < 40


def test_questions_are_put_in_the_checkpoints_template(random_models, tmp_path, capsys):
    config = Path(random_models[1]) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": "no fields"}))
    output = str(tmp_path / "report.json")
    assert evaluate.main(["vqa", "--output", output, "--device", "CPU", *random_models]) == 2
    assert "chat_template" in capsys.readouterr().err


def test_an_unknown_task_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["t3i"])
    assert stop.value.code == 2
    assert "t2i" in capsys.readouterr().err


def test_the_checkpoints_way_of_decoding_is_evaluated_unless_another_is_asked_for():
    checkpoint = CheckpointDefaults(decoding="jacobi", window=4)
    filled = settings_of("t2i", "--coupling", "none").filled(checkpoint)
    assert (filled.decoding, filled.window, filled.coupling) == ("jacobi", 4, "none")
    assert settings_of("t2i", "--decoding", "plain").filled(checkpoint).window is None


def settings_of(*arguments: str) -> DrawSettings:
    """How the command would draw, before the checkpoint is asked."""
    return read_options(evaluate.Options, evaluate.build_parser().parse_args(arguments)).settings


def test_a_folder_for_pictures_that_cannot_be_made_is_named_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    words = ["t2i", "--output", tmp_path / "e.json", "--pictures", tmp_path / "file" / "p"]
    assert evaluate.main([str(word) for word in words]) == 2
    assert "change --pictures" in capsys.readouterr().err
