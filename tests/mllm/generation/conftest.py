"""A tiny Emu3 with an image grid: 22 text ids, markers, 32 visual ids."""

import numpy as np
import pytest

from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.modeling_emu3 import Emu3ForCausalLM
from emu3.mllm.vocabulary import Vocabulary
from tests.golden_weights import set_golden_weights

SIZES = {
    "vocab_size": 63,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 400,
}
MARKERS = {"pad": 0, "bos": 1, "eos": 2, "img": 3, "boi": 4, "eol": 6, "eof": 7, "eoi": 30}


@pytest.fixture(scope="session")
def model() -> Emu3ForCausalLM:
    """Reference weights, evaluation mode."""
    ids = {f"{name}_token_id": value for name, value in MARKERS.items()}
    return set_golden_weights(Emu3ForCausalLM(Emu3Config(**SIZES, **ids))).set_train(False)


@pytest.fixture(scope="session")
def vocabulary(model) -> Vocabulary:
    """The model's ids."""
    return Vocabulary.from_config(model.config)


def prompt(length: int, seed: int = 0) -> np.ndarray:
    """Text ids and the img token that begins a picture: int32 (1, length)."""
    ids = np.random.default_rng(seed).integers(8, 30, (1, length), np.int32)
    ids[0, -1] = MARKERS["img"]
    return ids


def left_padded(*rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask (B, T) of prompts (1, t) of different lengths."""
    width = max(row.shape[1] for row in rows)
    ids = np.concatenate([np.pad(row, ((0, 0), (width - row.shape[1], 0))) for row in rows])
    lengths = np.array([row.shape[1] for row in rows])
    return ids, (np.arange(width) >= width - lengths[:, None]).astype(np.int32)
