"""A small tokenizer for training tests."""

import pytest

from emu3.mllm.prompts import PromptBuilder
from train.mini.lm.tokenizer import world_texts
from train.mini.rank_file import learn_ranks, write_tokenizer
from train.mini.world.cells import kind_count


@pytest.fixture(scope="session")
def builder(tmp_path_factory) -> PromptBuilder:
    """Prompts with 700 ranks and a code for each thing a cell can show."""
    ranks = learn_ranks(world_texts(60, 0), 700)
    folder = tmp_path_factory.mktemp("tokenizer")
    return PromptBuilder(write_tokenizer(folder, ranks, kind_count()))
