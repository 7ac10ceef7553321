"""The lists of suites as they are published, and damaged ones."""

import json

import pytest
from PIL import Image

from emu3 import bundled
from emu3.errors import InputError
from emu3.evaluation.drawing import BUNDLED
from emu3.evaluation.suites import SUITES, in_a_square


def content(tmp_path, text: str):
    path = tmp_path / "list"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name, count", [("geneval", 5), ("dpg", 2), ("mjhq", 3)])
def test_the_bundled_lists_are_read(name, count):
    prompts = SUITES[name].read(bundled.EVALUATION / BUNDLED[name])
    assert len({prompt.name for prompt in prompts}) == count
    assert all(prompt.text.strip() for prompt in prompts)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("geneval", "", "holds no line of JSON"),
        ("geneval", '{"prompt": "a"}\n{"prompt"', "line 2 is no JSON"),
        ("geneval", '{"prompt": "a"}\n\n{"tag": "b"}', "line 3: prompt None"),
        ("geneval", "[1]", "no JSON object"),
        ("geneval", '{"prompt": "  "}', "allowed: words"),
        ("mjhq", "{}", "holds no prompt"),
        ("mjhq", '{"a": "b"}', "allowed: an object"),
        ("mjhq", '{"../a": {"category": "c", "prompt": "p"}}', "name '../a'"),
        ("mjhq", '{"a": {"category": "../../c", "prompt": "p"}}', "name '../../c'"),
        ("mjhq", '{"a": {"category": ".c", "prompt": "p"}}', "name '.c'"),
        ("mjhq", '{"a": {"category": "c"}}', "prompt None"),
        ("dpg", "a text file", "is no folder"),
    ],
)
def test_a_list_that_is_none_is_refused(name, text, told, tmp_path):
    with pytest.raises(InputError, match="change --prompts") as error:
        SUITES[name].read(content(tmp_path, text))
    assert told in str(error.value)


def test_a_folder_without_prompts_and_one_with_an_empty_prompt_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no NAME\.txt"):
        SUITES["dpg"].read(tmp_path)
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(InputError, match="allowed: words"):
        SUITES["dpg"].read(tmp_path)


def test_geneval_finds_the_very_record_beside_its_pictures(tmp_path):
    suite, record = SUITES["geneval"], {"tag": "x", "prompt": "画", "include": []}
    (prompt,) = suite.read(content(tmp_path, json.dumps(record)))
    suite.finish(tmp_path, prompt, 0)
    assert json.loads((tmp_path / "00000/metadata.jsonl").read_text(encoding="utf-8")) == record


@pytest.mark.parametrize("count, size", [(1, (2, 3)), (4, (4, 6)), (3, (4, 6)), (9, (6, 9))])
def test_pictures_stand_in_a_square_from_left_to_right(count, size):
    square = in_a_square([Image.new("RGB", (2, 3), (n, 0, 0)) for n in range(count)])
    assert square.size == size
    columns = size[0] // 2
    for n in range(count):
        assert square.getpixel((n % columns * 2 + 1, n // columns * 3 + 2)) == (n, 0, 0)
