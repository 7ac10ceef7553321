"""Questions about images: pairing, answers, options, and what is refused."""

import shutil

import pytest
from PIL import Image

from emu3 import bundled
from emu3.cli import vqa
from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM


def ask(tiny, image, *extra: str) -> int:
    models = ["--model", tiny[0], "--vq-model", tiny[1]]
    short = ["--max-new-tokens", "8", "--mode", "pynative"]
    return vqa.main([*models, "--image", str(image), *short, *extra])


def answers(capsys) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    return [line[5:] for line in lines if line.startswith("  A: ")]


def test_the_default_questions_are_english_and_chinese(tiny, image_file, capsys):
    assert ask(tiny, image_file) == 0
    out = capsys.readouterr().out
    assert "Q: Please describe the image" in out
    assert "Q: 请描述该图片" in out
    assert "2 answer(s) in" in out


def test_without_options_both_example_questions_are_asked_about_the_bundled_image(
    tiny, monkeypatch, capsys
):
    opened, open_image = [], vqa.open_image
    monkeypatch.setattr(vqa, "open_image", lambda path: opened.append(path) or open_image(path))
    options = ["--max-new-tokens", "4", "--mode", "pynative"]
    assert vqa.main(["--model", tiny[0], "--vq-model", tiny[1], *options]) == 0
    image = str(bundled.DEMO_IMAGE)
    assert set(opened) == {image}
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:5] != "  A: "]
    assert lines[:3] == [image, "  Q: Please describe the image", "  Q: 请描述该图片"]


def test_an_answer_does_not_depend_on_the_batch(tiny, image_file, capsys):
    questions = ["--question", "a", "--question", "what colour", "--question", "c"]
    assert ask(tiny, image_file, *questions) == 0
    together = answers(capsys)
    assert ask(tiny, image_file, *questions, "--batch-size", "1") == 0
    assert answers(capsys) == together


def test_answers_are_printed_as_they_come_in_the_order_of_their_questions(capsys):
    turns = vqa.Turns([("p", "a"), ("p", "b"), ("q", "c")], lambda ids: "".join(map(chr, ids)), "p")
    printed = lambda: capsys.readouterr().out  # noqa: E731
    assert printed() == "  Q: a\n"
    for number, piece in ((0, "x"), (1, "y"), (2, "z"), (0, "x")):
        turns.add(number, [ord(piece)])
    assert printed() == "  A: xx"
    turns.add(2, [ord("z")])  # what the first got last may be of the same step
    assert printed() == ""
    turns.add(2, [ord("z")])
    turns.add(2, [ord("z")])
    assert printed() == "\n  Q: b\n  A: y\nq\n  Q: c\n  A: zzzz"
    turns.end()
    assert printed() == "\n"


def test_a_checkpoints_way_of_decoding_pictures_is_idle(tiny, image_file, tmp_path, capsys):
    folder = tmp_path / "language"
    shutil.copytree(tiny[0], folder)
    (folder / "generation_config.json").write_text('{"decoding": "jacobi"}')
    assert ask((str(folder), tiny[1]), image_file) == 0
    changed = answers(capsys)
    assert ask(tiny, image_file) == 0
    assert answers(capsys) == changed


@pytest.mark.parametrize("extra", [("--seed", "1"), ("--top-k", "2"), ("--top-p", "0.2")])
def test_sampling_options_have_an_effect(tiny, image_file, capsys, extra):
    hot = ("--temperature", "2", "--max-new-tokens", "16", "--question", "a")
    assert ask(tiny, image_file, *hot) == 0
    plain = answers(capsys)
    assert ask(tiny, image_file, *hot, *extra) == 0
    assert answers(capsys) != plain


def test_the_template_is_what_surrounds_the_question(tiny, image_file, monkeypatch):
    seen = []
    run = Emu3ForCausalLM.run

    def recorded(self, request):
        seen.append(request.ids.shape[1])
        return run(self, request)

    monkeypatch.setattr(Emu3ForCausalLM, "run", recorded)
    for template in ("chat", "stage1", "{image_prompt}{text_prompt}!!"):
        assert ask(tiny, image_file, "--question", "a", "--template", template) == 0
    assert seen[2] == seen[1] + 2 < seen[0]


def test_one_image_or_one_question_serves_all_others():
    assert vqa.pair_up(["i"], ["a", "b"]) == [("i", "a"), ("i", "b")]
    assert vqa.pair_up(["i", "j"], ["a"]) == [("i", "a"), ("j", "a")]
    assert vqa.pair_up(["i", "j"], ["a", "b"]) == [("i", "a"), ("j", "b")]
    with pytest.raises(InputError, match="2 images and 3 questions"):
        vqa.pair_up(["i", "j"], ["a", "b", "c"])


def test_ctrl_c_prints_the_answers_so_far(tiny, image_file, monkeypatch, capsys):
    run = Emu3ForCausalLM.run

    def interrupted(self, *args, **kwargs):
        for event in run(self, *args, **kwargs):
            yield event
            if type(event).__name__ == "TextPiece":
                raise KeyboardInterrupt

    monkeypatch.setattr(Emu3ForCausalLM, "run", interrupted)
    assert ask(tiny, image_file, "--question", "a") == 130
    assert len(answers(capsys)) == 1


@pytest.mark.parametrize(
    ("extra", "part"),
    [
        (("--image", "nowhere.png"), "change --image"),
        (("--question", "why " * 200), "--question"),
        (("--template", "no fields"), "--template"),
        (("--model", "nowhere"), "--model"),
    ],
)
def test_bad_options_are_one_line_with_the_flag(tiny, image_file, capsys, extra, part):
    assert ask(tiny, image_file, *extra) == 2
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert part in message


def test_of_several_images_the_one_that_cannot_be_coded_is_named(
    tiny, image_file, tmp_path, capsys
):
    Image.new("RGB", (200, 8)).save(tmp_path / "long.png")
    questions = ("--question", "a", "--question", "b")
    assert ask(tiny, image_file, "--image", str(tmp_path / "long.png"), *questions) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{tmp_path}/long.png: image of 200x8 pixels is too long" in message
    assert message.endswith("change --image")


def test_a_file_that_is_no_image_is_named(tiny, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("no image")
    assert ask(tiny, tmp_path / "text.jpg") == 2
    assert "text.jpg cannot be read as an image" in capsys.readouterr().err
