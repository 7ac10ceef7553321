"""--weights: every command that loads a language model takes it, and loads the model with it."""

import pytest

from emu3 import loading
from emu3.cli import chat, edit, img_gen, serve, video, vqa, web
from emu3.cli.shell import read_options
from emu3.codesfile import Codes
from emu3.names import WEIGHTS
from tests.cli.test_video import SMALL, film


@pytest.mark.parametrize("door", [chat, edit, img_gen, serve, video, vqa, web])
def test_every_door_names_the_forms_there_are(door, capsys):
    with pytest.raises(SystemExit) as end:
        door.main(["--weights", "int4"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert all(form in said for form in WEIGHTS)


@pytest.fixture
def loaded(monkeypatch) -> list[str]:
    """The forms of the language models that were loaded."""
    forms, load = [], loading.load_language

    def noted(*arguments):
        model, tokenizer = load(*arguments)
        forms.append(model.weights)
        return model, tokenizer

    monkeypatch.setattr(loading, "load_language", noted)
    return forms


def test_a_conversation_and_a_server_have_the_weights_asked_for(
    tiny, tmp_path, loaded, monkeypatch
):
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--weights", "int8"]
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    assert chat.main([*models, "--output", str(tmp_path)]) == 0
    asked = ["--model", tiny[0], "--vq-model", tiny[1], "--weights", "bfloat16"]
    serve.load(read_options(serve.Options, serve.build_parser().parse_args(asked)))
    assert loaded == ["int8", "bfloat16"]


def test_an_edit_says_which_weights_made_it(tiny, image_file, tmp_path):
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--mode", "pynative"]
    options = ["--image", image_file, "--prompt", "blue", "--weights", "int8"]
    assert edit.main([*models, *options, "--output", str(tmp_path)]) == 0
    assert Codes.load(tmp_path / "edit_0000.npz").settings["weights"] == "int8"


def test_a_clip_goes_on_with_the_weights_it_was_begun_with(tiny, tmp_path, loaded, monkeypatch):
    class Stopping(video.Progress):
        def add(self, units, tokens):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(video, "Progress", Stopping)
        options = ["--prompt", "go", *SMALL, "--frames", "4", "--weights", "int8"]
        assert film(tiny, tmp_path, *options) == 130
    assert film(tiny, tmp_path, "--resume", str(tmp_path / "clip_0000.npz")) == 0
    assert loaded == ["int8", "int8"]


def test_a_clip_is_held_against_memory_in_the_form_of_its_weights(tiny, tmp_path, monkeypatch):
    asked = []

    def chosen(config, vision, work, form, flags):
        asked.append(form)
        return form

    monkeypatch.setattr(video, "chosen_weights", chosen)
    options = ["--prompt", "go", *SMALL, "--frames", "4", "--weights", "bfloat16"]
    assert film(tiny, tmp_path, *options) == 0
    assert asked == ["bfloat16"]
