"""Records: each form becomes the feature it should, and a bad one is named by its line."""

import json

import pytest

from emu3.errors import InputError
from train.data.records import caption_record, conversation_record, read_items, text_record

CAPTION = {"name": "a", "text": "a dog", "image": "a.png"}
SPOKEN = [
    {"from": "human", "value": "<image>\nWhat is it?"},
    {"from": "gpt", "value": "A dog."},
    {"from": "human", "value": "Which colour?"},
    {"from": "gpt", "value": "Brown."},
]
TURNS = [("What is it?", "A dog."), ("Which colour?", "Brown.")]


def read(tmp_path, records, parse, indent=None):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(records, indent=indent, ensure_ascii=False), encoding="utf-8")
    return read_items(path, parse)


def only(tmp_path, record, parse):
    items, skipped = read(tmp_path, [record], parse)
    assert not skipped
    return items[0]


def reason(tmp_path, record, parse):
    items, skipped = read(tmp_path, [record], parse)
    assert not items
    return skipped[0].reason


def test_a_caption_record_keeps_its_text_and_further_captions(tmp_path):
    item = only(tmp_path, CAPTION | {"captions": ["一条狗"]}, caption_record)
    assert (item.feature.name, item.feature.texts) == ("a", "a dog")
    assert item.feature.captions == ["a dog", "一条狗"]
    assert item.feature.kind == "t2i"


def test_an_image_lies_beside_the_file_or_in_its_images_folder(tmp_path):
    assert only(tmp_path, CAPTION, caption_record).image == tmp_path / "a.png"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    assert only(tmp_path, CAPTION, caption_record).image == tmp_path / "images" / "a.png"


def test_a_conversation_keeps_every_turn_and_texts_and_response_are_the_last(tmp_path):
    record = {"id": 7, "image": "a.png", "conversations": SPOKEN}
    feature = only(tmp_path, record, conversation_record).feature
    assert feature.name == "7"
    assert feature.turns == TURNS
    assert (feature.texts, feature.response) == TURNS[-1]
    assert not feature.independent


def test_the_three_forms_of_turns_mean_the_same(tmp_path):
    forms = (
        {"conversations": SPOKEN[:2]},
        {"turns": [["What is it?", "A dog."]]},
        {"texts": "What is it?", "response": "A dog."},
    )
    records = [{"id": "a", "image": "a.png", **form} for form in forms]
    features = [only(tmp_path, record, conversation_record).feature for record in records]
    assert features[0] == features[1] == features[2]


def test_independent_questions_are_marked(tmp_path):
    record = {"id": "a", "image": "a.png", "turns": TURNS, "independent": True}
    assert only(tmp_path, record, conversation_record).feature.independent


def test_equal_names_are_numbered_and_odd_ones_become_file_names(tmp_path):
    records = [CAPTION | {"name": name} for name in ("a", "a", "a-2", "../x y", "a")]
    items, _ = read(tmp_path, records, caption_record)
    assert [i.feature.name for i in items] == ["a", "a-2", "a-2-2", "_._x_y", "a-3"]


def test_long_names_are_cut_and_stay_apart(tmp_path):
    records = [CAPTION | {"name": "x" * 300 + end} for end in "ab"]
    items, _ = read(tmp_path, records, caption_record)
    assert [i.feature.name for i in items] == ["x" * 100, "x" * 100 + "-2"]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_bad_record_of_a_json_list_is_named_by_the_line_it_begins_in(tmp_path, indent):
    records = [CAPTION, {"name": "b", "text": "x\ny"}, CAPTION]
    items, skipped = read(tmp_path, records, caption_record, indent)
    assert len(items) == 2
    text = (tmp_path / "data.json").read_text().split('"b"')[0]
    assert skipped[0].line == text.count("\n", 0, text.rindex("{")) + 1
    assert skipped[0].reason == "no image"


def test_a_bad_line_of_json_lines_is_named_and_the_rest_is_read(tmp_path):
    good = json.dumps(CAPTION).encode()
    bad = [b'{"name": ', b"\xff\xfe{}", b"3", b"", b'{"name": "\\ud800"}']
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([good, *bad, good]))
    items, skipped = read_items(path, caption_record)
    assert [item.line for item in items] == [1, 7]
    assert [record.line for record in skipped] == [2, 3, 4, 6]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": None}, "name or id"),
        ({"name": True}, "name or id"),
        ({"name": " "}, "name or id"),
        ({"text": 3}, "text is 3"),
        ({"text": " \n"}, "text is empty"),
        ({"text": "\ud800"}, "half a character"),
        ({"image": 5}, "image is 5"),
        ({"image": ["a.png"]}, "image is"),
        ({"captions": "x"}, "captions are"),
        ({"captions": [""]}, "a caption is empty"),
    ],
)
def test_an_absurd_caption_record_is_refused(tmp_path, change, said):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([CAPTION | change]))
    items, skipped = read_items(path, caption_record)
    assert not items and said in skipped[0].reason


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({}, "missing or no text"),
        ({"texts": "what?"}, "missing or no text"),
        ({"texts": "what?", "response": " "}, "a response is empty"),
        ({"texts": "<image>", "response": "x"}, "a question is empty"),
        ({"texts": "<image> <image> what?", "response": "x"}, "one image a record"),
        ({"turns": []}, "turns are"),
        ({"turns": [["a"]]}, "not all of the form"),
        ({"turns": [["a", None]]}, "missing or no text"),
        ({"turns": [["a", "b"], ["c", "d"]], "independent": "yes"}, "independent is"),
        ({"conversations": {}}, "pairs"),
        ({"conversations": SPOKEN[:3]}, "pairs"),
        ({"conversations": [*SPOKEN[2:], SPOKEN[1], SPOKEN[0]]}, "from 'gpt', not human"),
        ({"conversations": [{"from": "system", "value": "x"}, SPOKEN[1]]}, "from 'system'"),
        ({"conversations": [SPOKEN[0], {"from": "gpt", "value": None}]}, "no text"),
    ],
)
def test_an_absurd_conversation_is_refused(tmp_path, form, said):
    record = {"id": "a", "image": "a.png", **form}
    assert said in reason(tmp_path, record, conversation_record)


def test_an_image_mark_without_an_image_is_refused(tmp_path):
    assert "<image>" in reason(tmp_path, {"id": 1, "conversations": SPOKEN}, text_record)


def test_an_image_in_a_text_record_is_refused(tmp_path):
    record = {"id": 1, "image": "a.png", "texts": "a", "response": "b"}
    assert "prepare_vqa_data" in reason(tmp_path, record, text_record)


@pytest.mark.parametrize(
    ("content", "line"),
    [('[{"name": 1},\n\n{"name" 2}]', 3), ("[\n{}\n", 3), ("[{}\n{}]", 2), ("[{},\n", 2)],
)
def test_a_broken_json_list_is_bad_input_at_its_line(tmp_path, content, line):
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(InputError, match=f"json:{line} is no JSON"):
        read_items(path, caption_record)


def test_a_missing_file_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="--data-path"):
        read_items(tmp_path / "none.json", caption_record)
