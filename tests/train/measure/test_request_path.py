"""The way of a request through the files, from loaded models to the first token."""

import pytest

from train.measure import request_path

MOST_FILES = 16  # that handle the request; see the table of `python -m train.measure.request_path`


@pytest.fixture(scope="module")
def watch() -> request_path.Watch:
    """What a picture of emu3-mini passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emu3.mllm.generation.generate.QUIET_SECONDS", float("inf"))  # it is slow
        return request_path.watched(request_path.Options("a red star", "plain"))


def names(watch: request_path.Watch, file: str) -> set[str]:
    """The functions of a file that were entered."""
    return {code.co_name for code, where in watch.entered.items() if where == file}


def test_the_request_is_watched_from_loading_to_the_first_token(watch):
    assert {"request", "run"} <= names(watch, "pipeline.py")
    assert {"start", "choose"} <= names(watch, "mllm/generation/decoder.py")
    assert "construct" in names(watch, "nn/attention.py")


def test_nothing_before_or_after_is_counted(watch):
    assert not {"load_language", "load_vision"} & names(watch, "loading.py")
    assert "filled" not in names(watch, "pipeline.py")
    assert "advance" not in names(watch, "mllm/generation/decoder.py")
    assert not {"pictures", "picture"} & names(watch, "tokenizer/codec.py")


def test_few_files_handle_a_request(watch):
    handling = [file for file in watch.files if not file.startswith(request_path.NETWORK)]
    assert len(handling) <= MOST_FILES


def test_no_picture_is_an_error_in_the_commands_own_words():
    with pytest.raises(request_path.InputError, match="--decoding"):
        request_path.watched(request_path.Options("a red star", "guessing"))
