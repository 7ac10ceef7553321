"""Tiny language models with the reference weights, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.modeling_emu3 import Emu3ForCausalLM
from tests.golden_weights import set_golden_weights

GOLDEN = Path(__file__).parent / "golden"


def golden_config(name: str = "lm_gqa", **changes: Any) -> Emu3Config:
    """The configuration of a golden file, with `changes`."""
    return Emu3Config(**{**json.loads((GOLDEN / f"{name}.json").read_text())["config"], **changes})


def golden_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes of a golden file."""
    table = json.loads((GOLDEN / f"{name}.json").read_text())["parameters"]
    return {key: tuple(shape) for key, shape in table.items()}


def golden_model(name: str = "lm_gqa", **changes: Any) -> Emu3ForCausalLM:
    """A model of a golden configuration with its weights, in evaluation mode."""
    return set_golden_weights(Emu3ForCausalLM(golden_config(name, **changes))).set_train(False)


def random_ids(rows: int, columns: int, seed: int = 0, vocabulary: int = 640) -> np.ndarray:
    """int32 (rows, columns) without the special ids 0, 1, 2."""
    return np.random.default_rng(seed).integers(3, vocabulary, (rows, columns), np.int32)
