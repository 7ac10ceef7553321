"""Training commands of emu3-mini on tiny sizes, in a folder that holds these as JSON."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emu3 import runtime
from train.mini.lm import __main__ as lm
from train.mini.vision import __main__ as vision
from train.mini.world.cells import kind_count

VISION = {
    "ch": 32,
    "ch_mult": [1, 1, 1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "codebook_size": kind_count(),
    "embed_dim": 40,
    "z_channels": 40,
}
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "attention_dropout": 0.0,
}


@contextmanager
def pynative_commands() -> Iterator[None]:
    """Meanwhile commands choose PyNative instead of graph mode."""
    setup = runtime.setup
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "setup", lambda **more: setup(**more | {"mode": "pynative"}))
        yield


def train_vision(folder: Path, name: str, *more: str) -> Path:
    args = ["--config", folder / "vision.json", "--names", "1", "--draws", "1", "--frames", "1"]
    args += ["--apart-steps", "1", "--whole-steps", "0", "--both-steps", "1"]
    args += ["--draw-steps", "1"]
    return _trained(vision.main, folder, name, *args, *more)


def train_language(folder: Path, name: str, *more: str) -> Path:
    args = ["--config", folder / "language.json", "--tokenizer", folder / "tokenizer"]
    args += ["--steps", "6", "--lr", "0.01", "--warmup", "1", "--rows", "2", "--dropout", "0"]
    args += ["--seen", "0"]
    return _trained(lm.main, folder, name, *args, *more)


def _trained(main, folder: Path, name: str, *options: str | Path) -> Path:
    kept = ["--output", folder / name, "--state", folder / f"{name}.safetensors"]
    assert main([str(word) for word in (*kept, "--save-dtype", "float32", *options)]) == 0
    return folder / name


def rows_of(run: Path) -> list[list[str]]:
    """Number, task, loss and norm of each step of a language model's run."""
    return [row.split(",") for row in (run / "log.csv").read_text().split()]


def losses(run: Path) -> list[float]:
    return [float(row[2]) for row in rows_of(run)]
