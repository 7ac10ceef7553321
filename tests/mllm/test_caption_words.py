"""Words that a checkpoint's captions never held are named."""

import json

from emu3.cli import options as shared
from emu3.mllm.caption_words import unknown_words
from emu3.mllm.defaults import CheckpointDefaults

KNOWN = "a red car hot-air balloon 红 色 的 车"


def test_unknown_words_are_found_in_both_languages_once_and_in_order():
    prompts = ["A red DRAGON, a hot-air balloon", "红色的龙", "a dragon"]
    assert unknown_words(prompts, KNOWN) == ["dragon", "龙"]


def test_a_notice_names_them_where_the_checkpoint_states_its_words(tmp_path, capsys):
    for stated in ({}, {"caption_words": KNOWN}):
        (tmp_path / "config.json").write_text(json.dumps(stated))
        checkpoint = CheckpointDefaults.from_pretrained(tmp_path)
        shared.notice_of_words(["a red dragon"], checkpoint)
        said = capsys.readouterr().err
        assert ("dragon" in said) == bool(stated) and " red" not in said
