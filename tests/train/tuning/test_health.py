"""Runs that go wrong: nothing to learn from, diverging, damaged data, a folder in use."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor

from emu3.errors import InputError
from emu3.files import write_json
from emu3.locks import locked_folder
from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
from tests.train.tuning.runs import command, complaint, losses, train, weights
from train.data.batches import Data
from train.tuning.checkpoints import checkpoints
from train.tuning.fitting import parameter_counts
from train.tuning.options import ModelOptions
from train.tuning.run import planned_model
from train.tuning.trainer import Trainer

ROOT = Path(__file__).resolve().parents[3]


def names(output: Path) -> list[str]:
    return [path.name for path in checkpoints(output)]


@pytest.mark.parametrize("more", [(), ("--dry_run",)])
def test_data_of_which_nothing_fits_ends_before_anything_is_written(folder, capsys, more):
    text = complaint(capsys, command(folder, "long", "--max_position_embeddings", "8", *more))
    assert "fits into 8 tokens" in text and "--train_data_path" in text
    assert not (folder / "long").exists()


def test_held_back_data_of_which_nothing_fits_is_refused_too(folder, capsys):
    held = ["--train_data_path", folder / "scenes/text", "--max_position_embeddings", "72"]
    held += ["--eval_data_path", folder / "scenes/t2i"]
    assert "--eval_data_path" in complaint(capsys, command(folder, "held", *held))


def test_held_back_codes_of_another_tokenizer_are_refused(folder, capsys, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(folder / "scenes/t2i", tmp_path / name)
        write_json(tmp_path / name / "encoding.json", {"codebook_sha256": name})
    data = ["--train_data_path", tmp_path / "a", "--eval_data_path", tmp_path / "b"]
    assert "encoding.json differ" in complaint(capsys, command(folder, "other", *data))


def test_samples_that_do_not_fit_are_counted(folder, capsys):
    data = ["--train_data_path", folder / "scenes/t2i", "--max_position_embeddings", "100"]
    train(folder, "some", *data, "--max_steps", "1")
    said = capsys.readouterr().out
    train(folder, "planned", *data, "--dry_run")
    for text in (said, capsys.readouterr().out):
        assert "are longer than a row and left out" in text


def test_a_step_without_labels_leaves_weights_alone(folder, monkeypatch):
    sample = Data.sample
    monkeypatch.setattr("train.tuning.run.look", lambda *args: "")
    monkeypatch.setattr(Data, "sample", lambda data, *at: (None, sample(data, *at)[1]))
    output = train(folder, "nothing", "--max_steps", "2", "--weight_decay", "1")
    assert [row[1] for row in losses(output)] == ["nan", "nan"]
    start = weights(folder / "start")
    for name, tensor in weights(output / "checkpoint-2").items():
        np.testing.assert_array_equal(tensor, start[name])


def test_a_run_that_diverges_ends_and_keeps_what_was_good(folder, capsys):
    train(folder, "diverged", "--max_steps", "3", "--save_steps", "1", "--save_total_limit", "1")
    fast = ["--max_steps", "30", "--save_steps", "2", "--save_total_limit", "1"]
    fast += ["--learning_rate", "1e30", "--min_learning_rate", "1e30", "--warmup_steps", "0"]
    text = complaint(capsys, command(folder, "diverged", *fast))
    assert "not finite in 5 steps in a row, 5 to 9 (norm nan)" in text
    assert "checkpoint-3 in" in text and "--learning_rate 1e+30" in text
    output = folder / "diverged"
    assert names(output) == ["checkpoint-3"] and (output / "diverged-4").is_dir()
    assert len(losses(output)) == 9
    assert all(np.isfinite(tensor).all() for tensor in weights(output / "checkpoint-3").values())


def test_weights_that_are_not_finite_are_not_saved(folder, capsys):
    much = ["--max_steps", "1", "--weight_decay", "1e30", "--learning_rate", "1e30"]
    text = complaint(capsys, command(folder, "infinite", *much, "--warmup_steps", "0"))
    assert "is not finite after step 1" in text
    assert not names(folder / "infinite")


def test_data_that_cannot_be_read_end_a_run_that_is_saved_first(folder, whole, monkeypatch, capsys):
    batch = Data.batch

    def damaged(data, index):
        if index == 3:
            raise InputError("cannot read feature x")
        return batch(data, index)

    with monkeypatch.context() as patch:
        patch.setattr(Data, "batch", damaged)
        assert "cannot read feature x" in complaint(capsys, command(folder, "damaged"))
    assert names(folder / "damaged") == ["checkpoint-2", "checkpoint-3"]
    train(folder, "damaged")
    expected = weights(whole / "checkpoint-4")
    for name, tensor in weights(folder / "damaged" / "checkpoint-4").items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("every", "kept"),
    [("500", ["checkpoint-2", "checkpoint-4"]), ("2", ["checkpoint-2"]), ("1", ["checkpoint-1"])],
    ids=["at the last step", "where a checkpoint is due", "between checkpoints"],
)
def test_held_back_data_that_cannot_be_read_end_a_run_that_is_saved_first(
    folder, monkeypatch, capsys, every, kept
):
    batch = Data.batch

    def damaged(data, index):
        if data.once:
            raise InputError("cannot read feature x")
        return batch(data, index)

    monkeypatch.setattr(Data, "batch", damaged)
    name = f"held_damaged_{every}"
    held = ["--eval_data_path", folder / "scenes/t2i", "--eval_steps", every]
    assert "cannot read feature x" in complaint(capsys, command(folder, name, *held))
    assert names(folder / name) == kept


@pytest.mark.parametrize("own", [True, False])
def test_processes_agree_that_what_one_of_them_reads_cannot_be_read(own):
    trainer = Trainer.__new__(Trainer)
    trainer.mesh = SimpleNamespace(world=SimpleNamespace(size=2))
    trainer.unreadable = None
    others = np.array([0, 0, not own], np.float32)
    trainer.reduce = SimpleNamespace(sum=lambda totals: totals + Tensor(others))

    def read():
        if own:
            raise InputError("cannot read feature x")
        return "a batch"

    assert trainer._agreed(read) is None
    others[:] = 0
    trainer.unreadable = None
    assert trainer._agreed(lambda: "a batch") == "a batch"


def test_a_folder_that_another_process_writes_is_refused(folder, capsys):
    with locked_folder(folder / "held", "--output_dir"):
        text = complaint(capsys, command(folder, "held"))
    assert str(folder / "held") in text and f"process {os.getpid()}" in text
    assert "--output_dir" in text


def test_a_run_does_not_go_on_from_another_start_model(folder, whole, tmp_path, capsys):
    start = Emu3ForCausalLM.from_pretrained(folder / "start")
    other = {"model.norm.weight": start.model.norm.weight.asnumpy() + 1}
    start.save_pretrained(tmp_path / "other", weights=dict(start.parameters_and_names()) | other)
    Emu3Tokenizer.from_pretrained(folder / "start").save_pretrained(tmp_path / "other")
    resumed = ["--resume", whole / "checkpoint-2", "--model_name_or_path", tmp_path / "other"]
    text = complaint(capsys, command(folder, "other", *resumed))
    assert "start weights" in text and "--model_name_or_path" in text


def test_parameters_by_arithmetic_are_those_of_the_model(folder):
    from dataclasses import replace

    from train.tuning.options import parse

    options = parse([*command(folder, "counted")])
    start = Emu3ForCausalLM.from_pretrained(folder / "start").config
    for chosen in (
        ModelOptions(),
        ModelOptions(lora_rank=3),
        ModelOptions(trainable_hidden_layers=1),
        ModelOptions(trainable_hidden_layers=0),
    ):
        model = planned_model(replace(options, model=chosen), start)
        sizes = [(p.size, p.requires_grad) for p in model.get_parameters()]
        counted = sum(n for n, _ in sizes), sum(n for n, grad in sizes if grad)
        assert parameter_counts(start, chosen) == counted, chosen


def test_a_run_that_memory_cannot_hold_is_refused_before_it_begins(folder, capsys, monkeypatch):
    monkeypatch.setattr("emu3.runtime.available_memory_bytes", lambda: 2**20)
    text = complaint(capsys, command(folder, "heavy"))
    assert "0.00 GiB are free" in text and "--ms_zero_stage" in text
    assert not (folder / "heavy").exists()
