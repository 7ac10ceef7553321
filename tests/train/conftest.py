"""A small tokenizer for training tests."""

import pytest

from emu3.mllm.prompts import PromptBuilder
from train.mini.rank_file import learn_ranks, scene_texts, write_tokenizer

CODES = 693


@pytest.fixture(scope="session")
def builder(tmp_path_factory) -> PromptBuilder:
    """Prompts with 320 ranks and 693 codes."""
    ranks = learn_ranks(scene_texts(20, 0), 320)
    return PromptBuilder(write_tokenizer(tmp_path_factory.mktemp("tokenizer"), ranks, CODES))
