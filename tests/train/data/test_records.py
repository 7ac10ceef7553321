"""Records: each form becomes the feature it should, and a bad one is named by its line."""

import json
import os

import pytest

from emu3.errors import InputError
from train.data.records import _unused, caption_record, conversation_record, read_items, text_record

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


SAID = [
    {"role": "user", "content": "<image>What is it?"},
    {"role": "assistant", "content": "A dog."},
]
PARTS = [{"type": "image"}, {"type": "text", "text": "What is it?"}]


@pytest.mark.parametrize(
    "layout",
    [
        {"image": "a.png", "messages": SAID},
        {"images": ["a.png"], "messages": SAID},
        {"image": ["a.png"], "conversations": SAID},
        {"images": "a.png", "conversations": SPOKEN[:2]},
        {"images": ["a.png"], "image": "a.png", "conversations": SPOKEN[:2]},
        {"images": ["a.png"], "messages": [SAID[0] | {"content": PARTS}, SAID[1]]},
        {
            "messages": [
                SAID[0] | {"content": [{"type": "image", "image": "a.png"}, PARTS[1]]},
                SAID[1],
            ]
        },
        {
            "messages": [
                SAID[0]
                | {"content": [{"type": "image_url", "image_url": {"url": "a.png"}}, PARTS[1]]},
                SAID[1] | {"content": [{"type": "text", "text": "A dog."}]},
            ]
        },
        {
            "image": "a.png",
            "messages": [
                {"from": "Human", "value": "What is it?"},
                {"from": "GPT", "value": "A dog."},
            ],
        },
    ],
)
def test_the_common_layouts_of_one_record_mean_the_same(tmp_path, layout):
    item = only(tmp_path, {"id": "a", **layout}, conversation_record)
    plain = {"id": "a", "image": "a.png", "texts": "What is it?", "response": "A dog."}
    assert item == only(tmp_path, plain, conversation_record)
    assert item.image == tmp_path / "a.png"


@pytest.mark.parametrize("key", ["Image", "image_path", "IMG", "video", "photo"])
def test_media_under_an_unknown_key_never_becomes_a_text_record(tmp_path, key):
    record = {"id": "a", key: "a.png", "texts": "What is it?", "response": "A dog."}
    for parse in (conversation_record, text_record):
        assert f"key '{key}' looks like media" in reason(tmp_path, record, parse)


def test_what_is_said_beside_an_image_may_stand(tmp_path):
    record = CAPTION | {"image_id": 7, "width": 640, "video": None, "images": []}
    assert only(tmp_path, record, caption_record).image == tmp_path / "a.png"


def test_paths_of_windows_are_found(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.png").touch()
    item = only(tmp_path, CAPTION | {"image": "b\\a.png"}, caption_record)
    assert item.image == tmp_path / "b" / "a.png"


def test_names_keep_the_letters_of_any_script(tmp_path):
    names = ["一只狗", "हिन्दी", "Ünï/x", "\ud800", "\U0001f415"]
    path = tmp_path / "data.json"
    path.write_text(json.dumps([CAPTION | {"name": name} for name in names]))
    found = [item.feature.name for item in read_items(path, caption_record)[0]]
    assert found == ["一只狗", "हिन्दी", "Ünï_x", "_", "_-2"]


def test_long_names_of_any_script_fit_every_file_system(tmp_path):
    items, _ = read(tmp_path, [CAPTION | {"name": "狗" * 300}] * 2, caption_record)
    assert all(len(f".{item.feature.name}.12345678.ckpt".encode()) < 255 for item in items)
    assert items[1].feature.name.endswith("狗-2")


def test_equal_names_are_numbered_in_linear_time():
    taken = {}
    names = {_unused("a", taken) for _ in range(200_000)}
    assert len(names) == 200_000


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
        ({"image": ["a.png", "b.png"]}, "2 images"),
        ({"image": [["a.png"]]}, "image is a list"),
        ({"image": ""}, "image is ''"),
        ({"image": "data:image/png;base64," + "A" * 90_000}, "image is 'data:image/png"),
        ({"image": "data:image/png;base64,AAAA"}, "a file on this machine"),
        ({"image": "https://example.com/a.png"}, "a file on this machine"),
        ({"image": "\ud800.png"}, "half a character"),
        ({"image": None, "Image": "a.png"}, "key 'Image' looks like media"),
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
        ({}, "no turns; allowed"),
        ({"question": "what?", "answer": "x"}, "no turns; allowed"),
        ({"texts": "what?", "response": "<image> x"}, "<image> in a response"),
        ({"texts": "what?", "response": "x", "video": "a.mp4"}, "key 'video' looks like media"),
        ({"texts": "what?", "response": "x", "images": ["b.png"]}, "2 images"),
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "part 'audio'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "not human or user"),
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


@pytest.mark.parametrize(
    ("content", "fault"),
    [('[{"name": 1' + "0" * 5000 + "}]", "Exceeds the limit"), ("[" * 100_000, "nested too deep")],
)
def test_numbers_and_depths_beyond_pythons_are_bad_input_at_their_line(tmp_path, content, fault):
    path = tmp_path / "data.json"
    path.write_text("\n" + content)
    with pytest.raises(InputError, match=f"json:2 is no JSON: {fault}") as error:
        read_items(path, caption_record)
    assert "sys." not in str(error.value)


@pytest.mark.parametrize(
    "line",
    [
        "1" * 5000,
        '{"name": ' + "1" * 5000 + "}",
        "[" * 100_000,
        '{"name": NaN}',
        "[" * 400 + "]" * 400,
    ],
)
def test_a_line_with_such_is_skipped(tmp_path, line):
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(CAPTION) + "\n" + line)
    items, skipped = read_items(path, caption_record)
    assert (len(items), [record.line for record in skipped]) == (1, [2])
    assert len(skipped[0].reason) < 200


def test_a_pipe_is_no_file_of_records(tmp_path):
    os.mkfifo(tmp_path / "data.json")
    with pytest.raises(InputError, match=r"no regular file.*--data-path"):
        read_items(tmp_path / "data.json", caption_record)


def test_a_missing_file_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="--data-path"):
        read_items(tmp_path / "none.json", caption_record)
