"""The figures of emu3-mini, with models that do everything right, or nothing."""

import json

import numpy as np
import pytest

from emu3.cli.shell import read_options
from emu3.mllm.defaults import CheckpointDefaults
from emu3.pipeline import DrawSettings
from train.mini.evaluate import __main__ as command
from train.mini.evaluate import clips, measures, models
from train.mini.evaluate.asked import Asked
from train.mini.world.cells import cell_kinds, clip_kinds
from train.mini.world.draw import draw_array
from train.mini.world.grounds import ground_array
from train.mini.world.motion import FRAMES, Clip, extended, frames_of
from train.mini.world.palette import NEW_COLOUR, NEW_KIND


def pixels_of(shown) -> np.ndarray:
    """A scene's picture, a clip's frames."""
    return frames_of(shown) if isinstance(shown, Clip) else draw_array(shown)


class Perfect:
    """Makes what a text was written for and knows every answer; pixels stand for codes.

    Codes of clips that go on are real ones, since they are cut and joined.
    """

    def __init__(self, model, vq_model, settings, device, weights, painter):
        self.settings, self.known, self.asked = settings, {}, {}

    def forwards_of_one(self):
        return None

    def draw(self, texts, sizes, seeds):
        assert len(texts) == len(sizes) == len(seeds)
        return [draw_array(self.known[text, size]) for text, size in zip(texts, sizes)]

    def film(self, texts, size, seeds, begun=None):
        if begun is None:
            return [clip_kinds(self.known[text].moments) for text in texts]
        made = []
        for first in begun:
            moments = self.known[first[-2:].tobytes()].moments
            made.append(np.concatenate([first, clip_kinds(moments[2 : 2 + size[0] - len(first)])]))
        return made

    def edit(self, codes, texts, seeds):
        return [draw_array(self.known[text, code.tobytes()]) for text, code in zip(texts, codes)]

    def encode(self, images):
        return [np.asarray(image) for image in images]

    def encode_clip(self, frames):
        return frames

    def picture(self, codes):
        return codes

    def frames(self, codes):
        if codes.ndim == 4:
            return codes
        return np.concatenate([self.asked[codes[i : i + 2].tobytes()] for i in range(len(codes))])

    def answer(self, texts, codes):
        return [self.asked[text, pixels.tobytes()] for text, pixels in zip(texts, codes)]


class Blank(Perfect):
    """Makes empty paper and says nothing."""

    def draw(self, texts, sizes, seeds):
        return [ground_array("plain", *size) for size in sizes]

    def edit(self, codes, texts, seeds):
        return self.draw(texts, [code.shape for code in codes], seeds)

    def film(self, texts, size, seeds, begun=None):
        return [np.zeros(size, np.int32) for _ in texts]

    def encode(self, images):
        return self.draw(images, [(image.height // 16, image.width // 16) for image in images], [])

    def frames(self, codes):
        count = len(codes) if codes.ndim == 4 else FRAMES * len(codes)
        return np.stack([ground_array("plain", 8, 8)] * count)

    def encode_clip(self, frames):
        return frames

    def answer(self, texts, codes):
        return [""] * len(texts)


def note_caption(one, scene, said):
    one.known[said[0], (scene.rows, scene.cols)] = scene


def note_clip_caption(one, clip, said):
    one.known[said[0]] = clip


def note_answers(one, shown, asked):
    one.asked |= {(q, pixels_of(shown).tobytes()): answer for q, answer, _ in asked}


def note_edit(one, before, edit):
    if edit is not None:
        one.known[edit.text, cell_kinds(before).tobytes()] = edit.after


def note_clip(one, _, clip):
    """What follows any two moments, and the frames of a moment by what is shown then and next."""
    moments = extended(clip, clips.CHAINED).moments
    frames, kinds = frames_of(Clip(moments, ())), clip_kinds(moments)
    for i in range(len(moments)):
        one.known.setdefault(kinds[i : i + 2].tobytes(), Clip(moments[i : i + 4], ()))
        for part in (kinds[i : i + 2], kinds[i : i + 1]):
            one.asked[part.tobytes()] = frames[FRAMES * i : FRAMES * (i + 1)]


NOTED = {
    (measures, "caption"): note_caption,
    (measures, "questions"): note_answers,
    (measures, "clip_questions"): note_answers,
    (measures, "random_edit"): note_edit,
    (clips, "clip_caption"): note_clip_caption,
    (clips, "random_clip"): note_clip,
}


@pytest.fixture
def graded(monkeypatch, tmp_path):
    """graded(models, task, ...): right of total, and the records, of a run of the command.

    The models are told all that is drawn from chance before they are asked.
    """
    told = []

    def listened(inner, note):
        def noted(*args, **more):
            result = inner(*args, **more)
            for one in told:
                note(one, args[0], result)
            return result

        return noted

    for (module, name), note in NOTED.items():
        monkeypatch.setattr(module, name, listened(getattr(module, name), note))

    def run(kind, task, *options):
        monkeypatch.setattr(models, "Models", lambda *args: told.append(kind(*args)) or told[-1])
        file = tmp_path / "report.json"
        arguments = [task, "--output", str(file), "--batch-size", "3", "--device", "CPU"]
        assert command.main([*arguments, *options]) == 0
        section = json.loads(file.read_text(encoding="utf-8"))[task]
        return section["figures"]["right_of_total"], section["records"]

    return run


TASKS = ("reconstruction", "t2i", "composition", "clips", "extension", "chained", "vqa")
TASKS += ("clip_vqa", "edits")


@pytest.mark.parametrize("task", TASKS)
def test_who_does_all_right_is_right_in_all(task, graded):
    figures, records = graded(Perfect, task, "--count", "4")
    assert all(right == total for right, total in figures.values())
    assert figures["all"] == [len(records)] * 2 and len(records) >= 4


@pytest.mark.parametrize("task", TASKS)
def test_who_does_nothing_is_right_in_nothing(task, graded):
    figures, _ = graded(Blank, task, "--count", "4")
    assert figures["all"][0] == 0


def test_a_report_names_no_folder_of_the_machine(graded, tmp_path):
    graded(Perfect, "t2i", "--count", "1")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["model"] == "emu3-mini/language"


def test_every_second_item_is_what_training_never_shows(graded):
    figures, _ = graded(Perfect, "t2i", "--count", "8")
    assert figures["split held_out"] == figures["split train"] == [4, 4]


def test_new_scenes_show_what_only_fine_tuning_teaches():
    asked = Asked(20, 0, 5, new=True)
    scenes = [asked.scene(rng, split, "1:1") for rng, split, _ in asked.turns(0)]
    assert all({NEW_COLOUR, NEW_KIND} & {w for t in s.things for w in t.look} for s in scenes)


def test_new_with_another_task_is_refused(capsys):
    assert command.main(["clips", "--new"]) == 2
    assert "t2i, vqa" in capsys.readouterr().err


def test_the_world_paints_pictures_alone(capsys):
    assert command.main(["clips", "--painter", "world"]) == 2
    assert "t2i, composition" in capsys.readouterr().err


def test_weights_of_a_language_model_that_is_not_loaded_are_refused(capsys):
    assert command.main(["reconstruction", "--weights", "int8"]) == 2
    assert "--weights int8 with reconstruction" in capsys.readouterr().err


def test_an_unknown_task_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["t3i"])
    assert stop.value.code == 2
    assert "t2i" in capsys.readouterr().err


def test_the_checkpoints_way_of_decoding_is_measured_unless_another_is_asked_for():
    checkpoint = CheckpointDefaults(decoding="jacobi", window=4)
    filled = settings_of("t2i", "--coupling", "none").filled(checkpoint)
    assert (filled.decoding, filled.window, filled.coupling) == ("jacobi", 4, "none")
    assert settings_of("t2i", "--decoding", "plain").filled(checkpoint).window is None


def settings_of(*arguments: str) -> DrawSettings:
    """How the command would draw, before the checkpoint is asked."""
    return read_options(command.Options, command.build_parser().parse_args(arguments)).settings
