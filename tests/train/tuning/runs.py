"""Runs of the fine-tuning command on the tiny model in `folder`, and what they leave."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from train import train_seq_parallel


def command(folder, name, *more) -> list[str]:
    args = ["--model_name_or_path", folder / "start", "--train_data_path", folder / "scenes/t2i"]
    args += ["--output_dir", folder / name, "--mode", "pynative", "--max_steps", "4"]
    args += ["--learning_rate", "1e-2", "--min_learning_rate", "1e-3", "--warmup_steps", "1"]
    args += ["--per_device_train_batch_size", "2", "--null_prompt_prob", "0.2"]
    return [str(a) for a in (*args, "--save_steps", "2", *more)]


def train(folder, name, *more) -> Path:
    assert train_seq_parallel.main(command(folder, name, *more)) == 0
    return folder / name


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    return load_file(checkpoint / "model.safetensors")


def losses(output: Path) -> list[str]:
    return [row.split(",")[:3] for row in (output / "log.csv").read_text().splitlines()[1:]]


def rows_of(path: Path) -> list[list[str]]:
    return [row.split(",") for row in path.read_text().splitlines()[1:]]


def complaint(capsys, arguments) -> str:
    assert train_seq_parallel.main(arguments) == 2
    text = capsys.readouterr().err
    return next(line for line in text.splitlines() if "error:" in line)
