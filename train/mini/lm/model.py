"""The language model that is trained: its sizes from a file, its ids from the tokenizer."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor

from emu3.configfile import config_of_sizes
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.prompts import PromptBuilder

SPECIAL_IDS = ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")


def new_model(
    config_path: str,
    tokenizer: Emu3Tokenizer,
    seed: int,
    codebook: np.ndarray | None = None,
    **values: float,
) -> Emu3ForCausalLM:
    """A model from scratch: the sizes of a JSON file, the ids of the tokenizer, further `values`.

    With a codebook (codes, e), visual embeddings and head rows start as random projections of it,
    so that codes which look alike begin alike.
    """
    vocabulary = PromptBuilder(tokenizer).vocabulary
    ids = {f"{name}_token_id": getattr(vocabulary, name) for name in SPECIAL_IDS}
    ids["vocab_size"] = tokenizer.vocab_size
    config = config_of_sizes(Emu3Config, config_path, "--config", **ids, **values)
    ms.set_seed(seed)
    model = Emu3ForCausalLM(config)
    if codebook is not None:
        rng = np.random.default_rng(seed)
        for cell in (model.model.embed_tokens, model.lm_head):
            _start_from_codebook(cell.weight, codebook, vocabulary.visual_start, config, rng)
    return model


def _start_from_codebook(
    weight: Parameter,
    codebook: np.ndarray,
    first: int,
    config: Emu3Config,
    rng: np.random.Generator,
) -> None:
    """Set the visual rows of `weight` (V, C) to a projection of the codebook, at its scale."""
    normalised = (codebook - codebook.mean(0)) / codebook.std(0)
    shape = (codebook.shape[1], config.hidden_size)
    rows = normalised @ rng.normal(0, config.initializer_range / np.sqrt(shape[0]), shape)
    table = weight.asnumpy().copy()
    table[first : first + len(codebook)] = rows
    weight.set_data(Tensor(table))
