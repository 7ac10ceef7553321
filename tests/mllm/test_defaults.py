"""A checkpoint's own defaults win over the released models'."""

import json

import pytest

from emu3.errors import InputError
from emu3.mllm.defaults import CheckpointDefaults


def write(folder, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content))


def test_a_silent_checkpoint_gets_the_released_defaults(tmp_path):
    write(tmp_path, "config.json", {"vocab_size": 10})
    write(tmp_path, "generation_config.json", {"eos_token_id": 1})
    defaults = CheckpointDefaults.from_pretrained(tmp_path)
    assert defaults == CheckpointDefaults()
    assert (defaults.guidance_scale, defaults.top_k, defaults.image_area) == (3.0, 2048, 518400)
    assert defaults.positive_prompt == " masterpiece, film grained, best quality."


def test_what_the_two_files_state_wins(tmp_path):
    write(tmp_path, "config.json", {"image_area": 9216, "positive_prompt": "", "top_p": None})
    write(tmp_path, "generation_config.json", {"guidance_scale": 2, "top_k": 64})
    defaults = CheckpointDefaults.from_pretrained(tmp_path)
    assert (defaults.image_area, defaults.positive_prompt) == (9216, "")
    assert (defaults.guidance_scale, defaults.top_k, defaults.top_p) == (2, 64, 1.0)


def test_a_stated_way_of_decoding_is_read(tmp_path):
    write(tmp_path, "generation_config.json", {"decoding": "jacobi", "window": 4})
    defaults = CheckpointDefaults.from_pretrained(tmp_path)
    assert (defaults.decoding, defaults.window, defaults.coupling) == ("jacobi", 4, None)
    write(tmp_path, "generation_config.json", {"decoding": "jacobi", "window": "wide"})
    with pytest.raises(InputError, match=r"window = 'wide'.*a number.*--model"):
        CheckpointDefaults.from_pretrained(tmp_path)


def test_a_default_of_the_wrong_type_is_named(tmp_path):
    write(tmp_path, "config.json", {"image_area": "large"})
    with pytest.raises(InputError, match=r"image_area = 'large'.*a number.*--model"):
        CheckpointDefaults.from_pretrained(tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match=r"generation_config\.json.*--model"):
        CheckpointDefaults.from_pretrained(tmp_path)


def test_options_of_the_hub_say_where_and_others_are_refused(tmp_path):
    (tmp_path / "inner").mkdir()
    write(tmp_path / "inner", "config.json", {"image_area": 9216})
    assert CheckpointDefaults.from_pretrained(tmp_path, subfolder="inner").image_area == 9216
    with pytest.raises(InputError, match="revision = 'v2'"):
        CheckpointDefaults.from_pretrained(tmp_path, revision="v2")
    with pytest.raises(InputError, match="top_k is no option"):
        CheckpointDefaults.from_pretrained(tmp_path, top_k=3)
