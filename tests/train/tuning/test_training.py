"""The fine-tuning command on a tiny model: learns, resumes exactly, stops when told, says no."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mindspore import nn

from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from tests.train.tuning.runs import command, complaint, losses, rows_of, train, weights
from train import train_seq_parallel
from train.data.features import list_files
from train.tuning.checkpoints import checkpoints

ROOT = Path(__file__).resolve().parents[3]


def test_a_run_learns_and_leaves_a_folder_that_loads(whole, folder):
    values = [float(row[1]) for row in losses(whole)]
    assert len(values) == 4 and values[-1] < values[0]
    assert [path.name for path in checkpoints(whole)] == ["checkpoint-2", "checkpoint-4"]
    model = Emu3ForCausalLM.from_pretrained(whole / "checkpoint-4")
    assert model.config.hidden_size == 32
    start = Emu3Tokenizer.from_pretrained(folder / "start")
    assert Emu3Tokenizer.from_pretrained(whole / "checkpoint-4").vocab_size == start.vocab_size


def test_rounded_products_are_near_and_not_the_same(whole, folder):
    rounded = train(folder, "rounded", "--max_steps", "1", "--products", "bfloat16")
    (_, ours, norm), (_, exact, wanted) = losses(rounded)[0], losses(whole)[0]
    assert (ours, norm) != (exact, wanted)
    assert float(ours) == pytest.approx(float(exact), rel=1e-2)


def test_a_resumed_run_ends_as_an_uninterrupted_one(whole, folder, capsys):
    other = folder / "resumed"
    other.mkdir()
    shutil.copytree(whole / "checkpoint-2", other / "checkpoint-2")
    shutil.copy(whole / "log.csv", other / "log.csv")
    train(folder, "resumed")
    assert "going on from" in capsys.readouterr().out
    expected = weights(whole / "checkpoint-4")
    for name, tensor in weights(other / "checkpoint-4").items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name, strict=True)
    assert losses(other) == losses(whole)


def test_a_run_goes_on_with_more_processes_and_another_stage(whole, folder):
    other = folder / "shared"
    other.mkdir()
    shutil.copytree(whole / "checkpoint-2", other / "checkpoint-2")
    shutil.copy(whole / "log.csv", other / "log.csv")
    job = [sys.executable, "-m", "train.launch", "-n", "2", "--logs", str(folder / "logs")]
    job += ["train.train_seq_parallel", *command(folder, "shared", "--ms_zero_stage", "3")]
    job += ["--sequence_parallel_shards", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(job, env=environment, check=True, timeout=300, stdout=subprocess.PIPE)
    assert b"going on from" in done.stdout
    for row, expected in zip(losses(other), losses(whole), strict=True):
        assert float(row[1]) == pytest.approx(float(expected[1]), abs=1e-5)


def test_only_the_newest_checkpoints_are_kept_and_leftovers_go(folder):
    (folder / "few" / ".unfinished-1").mkdir(parents=True)
    output = train(folder, "few", "--save_steps", "1", "--save_total_limit", "2")
    names = sorted(path.name for path in output.iterdir() if path.is_dir())
    assert names == ["checkpoint-3", "checkpoint-4"]


def test_several_sources_are_mixed(folder):
    paths = [str(folder / "scenes" / name) for name in ("t2i:1", "vqa:2", "text")]
    output = train(folder, "mixed", "--train_data_path", *paths, "--max_steps", "6")
    assert len(losses(output)) == 6


def test_adapters_leave_frozen_weights_alone_and_are_merged(folder):
    output = train(folder, "lora", "--lora_rank", "2")
    start, tuned = weights(folder / "start"), weights(output / "checkpoint-4")
    assert set(start) == set(tuned)
    changed = {name for name in start if not np.array_equal(start[name], tuned[name])}
    assert changed == {name for name in start if "_proj" in name}
    change = tuned["model.layers.0.mlp.up_proj.weight"] - start["model.layers.0.mlp.up_proj.weight"]
    assert np.linalg.matrix_rank(change, tol=1e-5) == 2


def few_met(folder: Path, name: str) -> tuple[np.ndarray, list]:
    """Write a model that has not met some ids; returns them and the options to teach them."""
    start = Emu3ForCausalLM.from_pretrained(folder / "start")
    table = start.model.embed_tokens.weight.asnumpy().copy()
    few = np.arange(len(table) - 300, len(table), 2)
    table[few] *= 0.1
    changed = dict(start.parameters_and_names()) | {"model.embed_tokens.weight": table}
    start.save_pretrained(folder / name, weights=changed)
    Emu3Tokenizer.from_pretrained(folder / "start").save_pretrained(folder / name)
    return few, ["--model_name_or_path", folder / name, "--lora_rank", "2", "--lora_new_rows"]


def test_rows_of_ids_never_met_are_trained_beside_adapters_and_no_others(folder):
    few, options = few_met(folder, "few_met")
    output = train(folder, "rows", *options)
    before, after = weights(folder / "few_met"), weights(output / "checkpoint-4")
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {name for name in before if "norm" in name}
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        rows = np.flatnonzero((before[name] != after[name]).any(1))
        assert len(rows) and set(rows) <= set(few), name


def test_early_layers_can_be_frozen(folder):
    output = train(folder, "late", "--trainable_hidden_layers", "1")
    start, tuned = weights(folder / "start"), weights(output / "checkpoint-4")
    same = {name for name in start if np.array_equal(start[name], tuned[name])}
    assert same == {n for n in start if "layers.0." in n or "embed_tokens" in n}


def test_accumulated_passes_equal_one_large_pass(folder):
    large = train(folder, "large", "--per_device_train_batch_size", "4")
    small = train(folder, "small", "--gradient_accumulation_steps", "2")
    expected = weights(large / "checkpoint-4")
    for name, tensor in weights(small / "checkpoint-4").items():
        np.testing.assert_allclose(tensor, expected[name], atol=2e-5, err_msg=name)


def test_recomputation_of_every_layer_changes_nothing(folder, whole, monkeypatch):
    recomputed, recompute = [], nn.Cell.recompute

    def note(cell, **options):
        recomputed.append(type(cell).__name__)
        recompute(cell, **options)

    monkeypatch.setattr(nn.Cell, "recompute", note)
    output = train(folder, "recomputed", "--gradient_checkpointing")
    for row, expected in zip(losses(output), losses(whole)):
        assert float(row[1]) == pytest.approx(float(expected[1]), abs=1e-5)
    assert recomputed.count("DecoderLayer") == 2


def test_recomputation_of_shared_weights_changes_nothing(folder, whole):
    output = train(folder, "both", "--gradient_checkpointing", "--ms_zero_stage", "3")
    expected = weights(whole / "checkpoint-4")
    for name, tensor in weights(output / "checkpoint-4").items():
        np.testing.assert_allclose(tensor, expected[name], atol=1e-5, err_msg=name)


def test_dropout_has_an_effect(folder, whole):
    output = train(folder, "dropped", "--attention_dropout", "0.5", "--max_steps", "1")
    assert losses(output)[0] != losses(whole)[0]


def test_what_is_dropped_is_dropped_again_where_layers_are_computed_again(folder):
    wet = ["--attention_dropout", "0.3", "--max_steps", "2"]
    plain = weights(train(folder, "wet", *wet) / "checkpoint-2")
    again = train(folder, "wet_again", *wet, "--gradient_checkpointing")
    for name, tensor in weights(again / "checkpoint-2").items():
        np.testing.assert_allclose(tensor, plain[name], atol=1e-5, err_msg=name)


def test_a_resumed_run_drops_what_an_uninterrupted_one_does(folder):
    wet = ["--attention_dropout", "0.3"]
    whole, other = train(folder, "wet_whole", *wet), folder / "wet_resumed"
    other.mkdir()
    shutil.copytree(whole / "checkpoint-2", other / "checkpoint-2")
    shutil.copy(whole / "log.csv", other / "log.csv")
    train(folder, "wet_resumed", *wet)
    expected = weights(whole / "checkpoint-4")
    for name, tensor in weights(other / "checkpoint-4").items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name, strict=True)


def test_every_held_back_label_is_evaluated_and_recorded(folder, whole):
    ((step, *scores),) = rows_of(whole / "evaluation.csv")
    other = train(
        folder, "evaluated", "--eval_data_path", str(folder / "scenes" / "t2i"),
        "--per_device_train_batch_size", "4", "--max_steps", "1", "--learning_rate", "0",
        "--min_learning_rate", "0", "--model_name_or_path", str(whole / "checkpoint-4"),
    )  # fmt: skip
    ((_, *again),) = rows_of(other / "evaluation.csv")
    assert step == "4" and len(scores) == 2
    assert list(map(float, again)) == pytest.approx(list(map(float, scores)), abs=1e-5)


def test_a_finished_run_says_so_and_does_nothing(folder, whole, capsys):
    before = (whole / "checkpoint-4" / "state.safetensors").stat().st_mtime_ns
    train(folder, "whole", "--eval_data_path", str(folder / "scenes" / "t2i"))
    assert "already at step 4 of 4" in capsys.readouterr().out
    assert (whole / "checkpoint-4" / "state.safetensors").stat().st_mtime_ns == before


def test_conversations_follow_the_template_of_the_checkpoint(folder, tmp_path):
    start = shutil.copytree(folder / "start", tmp_path / "start")
    config = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps(config | {"chat_template": "stage1"}))
    asked = ["--train_data_path", str(folder / "scenes" / "vqa"), "--max_steps", "1"]
    plain = train(folder, "asked", *asked)
    other = train(folder, "asked_otherwise", *asked, "--model_name_or_path", str(start))
    assert losses(plain) != losses(other)


def test_a_dry_run_prints_the_plan_and_writes_nothing(folder, capsys):
    train(folder, "dry", "--dry_run")
    text = capsys.readouterr().out
    assert "steps      4, 2 rows each" in text and "GiB" in text
    whole = trained_parameters(text)
    train(folder, "dry", "--dry_run", "--lora_rank", "2")
    adapters = trained_parameters(capsys.readouterr().out)
    assert whole[0] == whole[1] > 10 * adapters[1]
    few, options = few_met(folder, "dry_few_met")
    train(folder, "dry", "--dry_run", *options)
    width = Emu3Config.from_pretrained(folder / "start").hidden_size
    rows = trained_parameters(capsys.readouterr().out)
    assert rows[1] == adapters[1] + 2 * width * len(few)
    assert not (folder / "dry").exists()


def trained_parameters(plan: str) -> list[int]:
    """The numbers of parameters, and of those that are trained, that a dry run prints."""
    line = next(line for line in plan.splitlines() if "are trained" in line)
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]{4,}", line)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_stops_and_the_run_goes_on(folder, number):
    name = f"stopped_by_{number.name}"
    args = command(folder, name, "--max_steps", "500", "--save_steps", "1000")
    program = [sys.executable, "-m", "train.train_seq_parallel", *args]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup ignores SIGHUP
    ) as process:
        next(line for line in process.stdout if line.startswith("step 2/"))
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(60) == 130, rest
    (saved,) = checkpoints(folder / name)
    step = int(saved.name.split("-")[1])
    train(folder, name, "--max_steps", str(step + 1))
    assert len(losses(folder / name)) == step + 1


def test_bad_input_is_named(folder, whole, capsys, tmp_path):
    def yaml(name, text):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text + "\n")
        return str(path)

    broken = tmp_path / "broken" / "checkpoint-2"
    shutil.copytree(whole / "checkpoint-2", broken)
    state = broken / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    cases = {
        ("--train_data_path", str(tmp_path)): "train.json",
        ("--model_name_or_path", str(tmp_path)): "config.json",
        ("--config", yaml("bad", "no_such_option: 3")): "no_such_option",
        ("--sequence_parallel_shards", "3"): "--sequence_parallel_shards",
        ("--trainable_hidden_layers", "9"): "--trainable_hidden_layers",
        ("--resume", str(tmp_path)): "state.safetensors",
        ("--resume", str(broken)): "cannot read",
        ("--resume", str(whole / "checkpoint-2"), "--lora_rank", "2"): "another model",
        ("--lora_rank", "2", "--trainable_hidden_layers", "1"): "no effect beside --lora_rank",
        ("--lora_new_rows",): "give --lora_rank",
        ("--lora_new_rows", "--lora_rank", "2"): "has met all of its ids",
        ("--config", yaml("scaler", "loss_scaler_type: dynamik")): "allowed: none, static, dynamic",
        ("--config", yaml("flag", "supervise_structure: 'no'")): "allowed: true, false",
        ("--config", yaml("other", "gradient_checkpointing: 'no'")): "allowed: true, false",
        ("--config", yaml("empty", "max_steps:")): "max_steps has no value",
        ("--max_steps", "0"): "--max_steps",
        ("--resume", str(whole / "checkpoint-2"), "--gradient_accumulation_steps", "2"): (
            "samples of a step"
        ),
        ("--resume", "none", "--output_dir", str(whole)): "checkpoint-4 is of a later step",
        ("--train_data_path", f"{folder / 'scenes' / 't2i'}:0"): "weight",
    }
    for options, words in cases.items():
        assert words in complaint(capsys, command(folder, "bad", *options)), options
    assert checkpoints(whole)[-1].name == "checkpoint-4"


def test_a_full_disk_is_named_and_leaves_earlier_checkpoints_alone(folder, capsys, monkeypatch):
    output = train(folder, "full", "--max_steps", "2")

    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.tuning.statefile.save_file", no_space)
    assert "No space left" in complaint(capsys, command(folder, "full"))
    assert [path.name for path in checkpoints(output)] == ["checkpoint-2"]
    assert not list(output.glob(".unfinished-*"))


def test_a_yaml_file_sets_options_and_the_command_line_wins(folder, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("max_steps: 3\nlogging_steps: 2\nadam_epsilon: 1e-8\n")
    arguments = [a for a in command(folder, "yaml") if a not in ("--max_steps", "4")]
    assert train_seq_parallel.main([*arguments, "--config", str(config)]) == 0
    assert len(losses(folder / "yaml")) == 3
    assert "adam_epsilon: 1e-08" in (folder / "yaml" / "settings.yaml").read_text().splitlines()
    assert train_seq_parallel.main([*arguments, "--config", str(config), "--max_steps", "4"]) == 0
    assert len(losses(folder / "yaml")) == 4


def test_the_saved_options_start_the_same_run_again(whole, folder):
    again = ["--config", str(whole / "settings.yaml"), "--output_dir", str(folder / "again")]
    assert train_seq_parallel.main(again) == 0
    assert losses(folder / "again") == losses(whole)
    rows = [(o / "settings.yaml").read_text().splitlines() for o in (whole, folder / "again")]
    changed = {new.partition(":")[0] for old, new in zip(*rows, strict=True) if old != new}
    assert {name for name in changed if not name.startswith("#")} == {"output_dir"}


def test_every_listed_configuration_is_readable():
    from train.tuning.options import parse

    for path in sorted((ROOT / "configs").glob("*_sft.yaml")):
        options = parse(["--config", str(path), "--train_data_path", "x"])
        assert options.schedule.learning_rate > 0


def test_new_scenes_come_with_texts_of_their_own(folder):
    assert len(list_files(folder / "scenes" / "text" / "list" / "train.json", "--data")) == 8
