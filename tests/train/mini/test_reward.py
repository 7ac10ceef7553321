"""Training by reward: what is asked for, how it is judged, and what a step makes of it."""

import csv
import json
from dataclasses import astuple

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3 import runtime
from emu3.mllm import Emu3ForCausalLM
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from tests.support import randomised, tiny_config
from tests.train.mini.runs import LANGUAGE, VISION, pynative_commands, train_language, train_vision
from train.data.samples import Sample, collate
from train.mini.lm.options import RowOptions
from train.mini.lm.tasks import Drawing
from train.mini.options import RunOptions
from train.mini.reward import __main__ as reward
from train.mini.reward import training, trials
from train.mini.reward.options import RewardOptions
from train.mini.reward.step import WeighedLoss
from train.mini.step import MeanLoss, TrainStep
from train.mini.world.cells import cell_kinds, clip_kinds
from train.mini.world.compose import random_scene
from train.mini.world.motion import extended, random_clip
from train.mini.world.scenes import held_out

LENGTH = 12


def drawing(builder, seed=0):
    return Drawing(np.random.default_rng(seed), builder)


def other(codes):
    """With one cell of a thing, or of ground, where it was another."""
    wrong = codes.copy()
    wrong[..., 0, 0] = codes.max() + 1 - wrong[..., 0, 0] % 2
    return wrong


def test_the_picture_a_caption_is_of_is_right_and_one_with_a_wrong_cell_is_not(
    builder, monkeypatch
):
    scene = random_scene(np.random.default_rng(1), ratio="4:3")
    monkeypatch.setattr(trials, "random_scene", lambda *args, **more: scene)
    trial, codes = trials.picture(drawing(builder), "4:3"), cell_kinds(scene)
    assert trial.size == codes.shape
    assert trials.is_right(trial, codes) and not trials.is_right(trial, other(codes))


def test_the_edit_asked_for_is_right_and_the_picture_as_it_was_is_not(builder, monkeypatch):
    made = []
    kept = trials.random_edit
    monkeypatch.setattr(trials, "random_edit", lambda *args: made.append(kept(*args)) or made[-1])
    for seed in range(5):
        trial = trials.edit(drawing(builder, seed), "1:1")
        assert trials.is_right(trial, cell_kinds(made[-1].after))
        assert not trials.is_right(trial, trial.shown) and not held_out(made[-1].after)


def test_the_clip_a_caption_is_of_is_right_and_a_still_one_is_not(builder, monkeypatch):
    clip = random_clip(np.random.default_rng(2))
    monkeypatch.setattr(trials, "random_clip", lambda *args, **more: clip)
    trial, codes = trials.clip(drawing(builder), "1:1"), clip_kinds(clip.moments)
    assert trial.size == codes.shape and trials.is_right(trial, codes)
    assert not trials.is_right(trial, np.repeat(codes[:1], len(codes), 0))


def test_a_clip_that_goes_on_by_the_rules_is_right_and_one_that_stops_is_not(builder, monkeypatch):
    clip = random_clip(np.random.default_rng(3), moments=trials.GIVEN)
    monkeypatch.setattr(trials, "random_clip", lambda *args, **more: clip)
    trial = trials.extension(drawing(builder), "1:1")
    codes = clip_kinds(extended(clip, trials.NEXT).moments)
    assert np.array_equal(trial.shown, codes[: trials.GIVEN]) and trials.is_right(trial, codes)
    codes[trials.GIVEN :] = codes[trials.GIVEN - 1]
    assert not trials.is_right(trial, codes)


@pytest.mark.parametrize("task", trials.TRIALS)
def test_only_what_is_made_is_learnt(task, builder):
    trial = trials.TRIALS[task](drawing(builder), "1:1")
    codes = np.zeros(trial.size, np.int32)
    if task == "extension":
        codes[: trials.GIVEN] = trial.shown
    labels = training.parts_sample(builder, trials.said(task, trial, codes)).labels
    given = trials.GIVEN * 64 if task == "extension" else 0
    assert builder.vocabulary.is_visual(labels).sum() == codes.size - given


def batch(config):
    """Two rows of equal prompts and other tokens behind them."""
    rows = []
    for last in (7, 8):
        ids = np.array([config.bos_token_id, 5, 6, *[last] * 4], np.int32)
        labels = np.where(np.arange(len(ids)) > 2, ids, IGNORED_LABEL).astype(np.int32)
        rows.append(Sample(ids, labels, np.arange(len(ids), dtype=np.int32), np.zeros_like(ids)))
    return collate(rows, LENGTH, 10, config.pad_token_id)


def test_equal_shares_make_the_mean_loss_and_its_gradients():
    model = randomised(Emu3ForCausalLM(tiny_config()), 0)
    inputs = [*map(Tensor, astuple(batch(model.config)))]
    shares = Tensor(np.full(10, 1 / 8, np.float32))
    seen = []
    for loss, more in ((MeanLoss(model, LENGTH), ()), (WeighedLoss(model, LENGTH), (shares,))):
        parameters = ms.ParameterTuple(loss.trainable_params())
        value, grads = ms.value_and_grad(loss, None, parameters)(*inputs, *more)
        seen.append([value.asnumpy(), *[grad.asnumpy() for grad in grads]])
    for one, other_one in zip(*seen):
        np.testing.assert_allclose(one, other_one, atol=1e-6)


def test_a_better_candidate_becomes_likelier_and_a_worse_one_less_likely():
    model = randomised(Emu3ForCausalLM(tiny_config()), 0)
    loss = WeighedLoss(model, LENGTH)
    inputs = [*map(Tensor, astuple(batch(model.config)))]
    first = Tensor(np.float32([1] * 4 + [0] * 6))
    second = Tensor(np.float32([0] * 4 + [1] * 4 + [0] * 2))
    before = [float(loss(*inputs, shares)) for shares in (first, second)]
    step = TrainStep(loss, 0.0)
    step(Tensor(1e-3, ms.float32), *inputs, first - second)
    after = [float(loss(*inputs, shares)) for shares in (first, second)]
    assert after[0] < before[0] and after[1] > before[1]


class Right:
    """Models whose candidates are right where `rights` says so."""

    def __init__(self, builder, monkeypatch, rights):
        self.prompts = builder
        answers = iter(rights)
        monkeypatch.setattr(
            training, "candidates", lambda *asked: [np.zeros(t.size, np.int32) for t in asked[2]]
        )
        monkeypatch.setattr(training, "is_right", lambda *pair: next(answers))


def rounds_of(builder, monkeypatch, rights):
    asked = {"prompts": 2, "candidates": 2, "asked": (1, 0, 0, 0), "learnt": 2}
    options = RewardOptions(rows=RowOptions(), run=RunOptions(), **asked)
    rows = training.Rows(options.rows, 1, 0, builder)
    return training.Rounds(options, Right(builder, monkeypatch, rights), rows)


def test_prompts_of_which_all_candidates_are_alike_teach_nothing(builder, monkeypatch):
    task, right, judged = rounds_of(builder, monkeypatch, [1, 1, 0, 0]).judged(0)
    assert (task, right, judged) == ("picture", 0.5, [])


def test_candidates_count_by_how_much_better_they_are_than_the_others_of_their_prompt(
    builder, monkeypatch
):
    rounds = rounds_of(builder, monkeypatch, [1, 0, 1, 1])
    _, right, judged = rounds.judged(0)
    assert right == 0.75 and [one.better for one in judged] == [0.5, -0.5]
    ((*_, labels, shares),) = rounds.batches(0, judged)
    made = (judged[0].sample.labels != IGNORED_LABEL).sum()
    np.testing.assert_allclose(shares[: 2 * made], np.repeat([0.5, -0.5], made) / (2 * made))
    taught = (labels != IGNORED_LABEL).sum() - 2 * made
    assert taught > 0 and shares[2 * made :].sum() == pytest.approx(1)
    assert not shares[labels == IGNORED_LABEL].any()


def test_a_stopped_run_ends_as_an_uninterrupted_one(tmp_path, builder, monkeypatch):
    (tmp_path / "vision.json").write_text(json.dumps(VISION))
    (tmp_path / "language.json").write_text(json.dumps(LANGUAGE))
    builder.tokenizer.save_pretrained(tmp_path / "tokenizer")
    monkeypatch.setattr(training, "compiled", lambda method, jit: method)
    right = iter([True, False] * 8)
    monkeypatch.setattr(training, "is_right", lambda *pair: next(right))
    options = ["--seen", "0", "--rounds", "2", "--prompts", "1", "--candidates", "2"]
    options += ["--asked", "1", "0", "0", "0", "--learnt", "1", "--rows", "1", "--lr", "0.01"]
    with pynative_commands():
        options += ["--model", train_language(tmp_path, "language", "--steps", "1")]
        options += ["--vq-model", train_vision(tmp_path, "vision")]

    def run(name, *more):
        places = ["--output", tmp_path / name, "--state", tmp_path / f"{name}.safetensors"]
        assert reward.main([str(word) for word in (*options, *places, *more)]) == 0
        rows = list(csv.reader((tmp_path / name / "log.csv").open()))
        model = Emu3ForCausalLM.from_pretrained(tmp_path / name)
        return rows, [p.asnumpy() for p in model.get_parameters()]

    whole, _ = run("cut", "--minutes", "0")
    assert len(whole) == 1 and not (tmp_path / "cut" / "finished").exists()
    runtime.setup(device="CPU", mode="pynative")
    cut, weights = run("cut")
    plain, expected = run("plain")
    assert cut == plain and len(cut) == 2 and (tmp_path / "cut" / "finished").exists()
    for one, wanted in zip(weights, expected):
        np.testing.assert_allclose(one, wanted, atol=1e-6)
