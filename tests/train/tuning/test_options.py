"""Options of fine-tuning: bounds of numbers, and YAML files as people and accidents write them."""

import argparse
import re
import tracemalloc

import pytest

from emu3.errors import InputError
from train.tuning.options import build_parser, parse
from train.tuning.portflags import REFUSED
from train.tuning.ranges import real, whole


def refused(path, text: str | bytes) -> str:
    """What is said of a YAML file of that content."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        parse(["--config", str(path), "--train_data_path", "x"])
    assert str(path) in str(error.value) and "change --config" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "option",
    [
        *("--adam_epsilon 1e-300", "--learning_rate 1e300", "--weight_decay 1e300"),
        *("--lora_alpha inf", "--init_loss_scale 1e300", "--adam_beta2 0.99999999999"),
        *("--max_grad_norm nan", "--loss_scale_factor 1"),
    ],
)
def test_what_float32_does_not_hold_is_refused(option, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["--train_data_path", "x", *option.split()])
    assert ended.value.code == 2
    assert f"{option.split()[0]}: {option.split()[1]!r} is not" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["lora_rank", "max_steps", "pad_to_multiple", "threads", "seed"])
def test_whole_numbers_have_an_upper_bound(name):
    (action,) = (action for action in build_parser()._actions if action.dest == name)
    with pytest.raises(argparse.ArgumentTypeError, match=r"to [0-9]+$"):
        action.type("4294967296")


def test_a_long_value_is_shown_short():
    with pytest.raises(argparse.ArgumentTypeError) as error:
        whole(0)("1" * 5000)
    assert "(5000 characters)" in str(error.value) and len(str(error.value)) < 150


def test_bounds_say_whether_they_belong_to_the_range():
    assert real(0)("0") == 0.0 and whole(-1)("-1") == -1
    for kind, text in ((real(0, above=True), "0"), (real(1, above=True), "1"), (whole(1), "0")):
        with pytest.raises(argparse.ArgumentTypeError):
            kind(text)


@pytest.mark.parametrize(
    "text, words",
    [
        ("[" * 100_000, "holds no options"),
        ("seed: " + "[" * 100_000, "lists within lists"),
        ("# nothing\n", "holds no options"),
        ("seed: 1\nseed: 2\n", "says seed twice"),
        ("seed: 1\n---\nseed: 2\n", "several documents"),
        ("seed: 2020-13-45\n", "'2020-13-45' is not a whole number"),
        ("seed: !!bool xyz\n", "tags"),
        ("output_dir: [a]\n", "output_dir is a list"),
        ("max_steps: " + "1" * 5000, "(5000 characters)"),
        ('seed: "\\UFFFFFFFF"\n', "is no YAML"),
        ("seed: [1\n", "is no YAML"),
        (b"# \xd5\xd5\xc6\xac\nmax_steps: 1\n", "not UTF-8 in line 1"),
        ("seed: 1\n".encode("utf-16"), "not UTF-8"),
        ("#" * 2**21, "too long"),
    ],
)
def test_a_file_that_holds_no_options_is_refused_by_name(text, words, tmp_path):
    assert words in refused(tmp_path / "run.yaml", text)


def test_aliases_of_lists_fill_no_memory(tmp_path):
    lines = ["train_data_path:", "- &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"- &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    tracemalloc.start()
    assert "lists within lists" in refused(tmp_path / "run.yaml", "\n".join(lines))
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_values_mean_what_they_mean_on_the_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "\ufeffresume: no\nmodel_name_or_path: 5\nseed: &a 7\nmax_steps: *a\nthreads: ~\n"
        "supervise_structure: yes\ntrain_data_path: [a, 3]\nadam_epsilon: 1e-8\n",
        encoding="utf-8",
    )
    options = parse(["--config", str(path)])
    assert (options.output.resume, options.model.model_name_or_path) == ("no", "5")
    assert (options.schedule.seed, options.schedule.max_steps) == (7, 7)
    assert options.parallel.threads is None and options.data.supervise_structure
    assert options.data.train_data_path == ["a", "3"] and options.schedule.adam_epsilon == 1e-8


@pytest.mark.parametrize(
    ("flags", "ours"),
    [
        ("--bf16 True", "--dtype bfloat16"),
        ("--fp16", "--dtype float16"),
        ("--bf16 False --fp16=True", "--dtype float16"),
        ("--mode 0", "--mode graph"),
        ("--mode=1", "--mode pynative"),
        ("--gradient_checkpointing True --seed 3", "--gradient_checkpointing --seed 3"),
        ("--gradient_checkpointing false", "--no-gradient_checkpointing"),
        ("--is_distribute False", ""),
    ],
)
def test_flags_of_the_original_port_mean_what_they_meant(flags, ours):
    data = ["--train_data_path", "x"]
    assert parse([*data, *flags.split()]) == parse([*data, *ours.split()])


def test_a_distributed_run_of_the_original_port_wants_a_job_of_several_processes(monkeypatch):
    line = ["--train_data_path", "x", "--is_distribute", "True"]
    with pytest.raises(InputError, match=r"python -m train\.launch"):
        parse(line)
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    assert parse(line) == parse(line[:2])


def test_flags_that_only_the_original_port_has_are_refused_together_with_ours_beside_them():
    line = "--train_data_path x --model_name emu3 --dataloader_num_workers 1 --bf16 True"
    with pytest.raises(InputError) as error:
        parse(line.split())
    assert "--model_name is the original port's: --model_name_or_path is" in str(error.value)
    assert "--dataloader_num_workers is the original port's" in str(error.value)
    with pytest.raises(InputError, match="--bf16 'perhaps'; allowed: True, False"):
        parse(["--train_data_path", "x", "--bf16", "perhaps"])


def test_what_the_original_port_is_answered_with_are_options_of_ours():
    known = {flag for action in build_parser()._actions for flag in action.option_strings}
    for name, answer in REFUSED.items():
        assert f"--{name}" not in known
        assert set(re.findall(r"--\w+", answer)) <= known


def test_a_home_folder_is_one_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("output_dir: ~/out\ntrain_data_path: [~/a, ~/b:2]\n")
    options = parse(["--config", "~/run.yaml", "--eval_data_path", "~/c", "--resume", "~/d"])
    assert options.output.output_dir == f"{tmp_path}/out"
    assert options.data.train_data_path == [f"{tmp_path}/a", f"{tmp_path}/b:2"]
    assert (options.data.eval_data_path, options.output.resume) == (
        f"{tmp_path}/c",
        f"{tmp_path}/d",
    )
