"""Emu3Tokenizer: the reference's ids, any number of ranks, honest errors, round trips."""

import json
import pickle
import time
from pathlib import Path

import mindspore as ms
import pytest

from emu3.errors import InputError
from emu3.mllm import Emu3Tokenizer
from emu3.mllm.prompts import PromptBuilder

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/text_51.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["texts"], ids=lambda case: case["text"][:20])
def test_ids_and_decoded_text_equal_the_reference(released_tokenizer, case):
    ids = released_tokenizer(case["text"])["input_ids"]
    assert ids == case["ids"]
    assert released_tokenizer.decode(ids) == case["decoded"]
    without = released_tokenizer.decode(ids, skip_special_tokens=True)
    assert without == case["decoded_skip_special"]


def test_the_released_vocabulary_loads_within_seconds(released_tokenizer, tmp_path):
    released_tokenizer.save_pretrained(tmp_path)
    started = time.process_time()
    loaded = Emu3Tokenizer.from_pretrained(tmp_path)
    assert time.process_time() - started < 5
    assert len(loaded) == loaded.vocab_size == 184622


def test_special_tokens_become_text_on_request(tiny_tokenizer):
    text = "ab<|image start|>c"
    boi = tiny_tokenizer.convert_tokens_to_ids("<|image start|>")
    plain = [*tiny_tokenizer("ab")["input_ids"], *b"<|image start|>c"]
    assert tiny_tokenizer(text)["input_ids"] == [256, boi, ord("c")]
    assert tiny_tokenizer(text, split_special_tokens=True)["input_ids"] == plain
    assert tiny_tokenizer([text], split_special_tokens=True)["input_ids"] == [plain]
    assert tiny_tokenizer.encode(text, split_special_tokens=True) == plain
    assert tiny_tokenizer.encode_ordinary(text) == plain


def test_the_constructor_can_forbid_special_tokens(tiny_folder):
    tokenizer = Emu3Tokenizer.from_pretrained(tiny_folder, split_special_tokens=True)
    assert tokenizer("<|image start|>")["input_ids"] == list(b"<|image start|>")


def test_special_tokens_of_any_spelling_are_found(tiny_folder):
    with open(tiny_folder / "emu3_vision_tokens.txt", "a") as file:
        file.write("[A]\n[A]B\n")
    tokenizer = Emu3Tokenizer.from_pretrained(tiny_folder)
    longest = tokenizer.convert_tokens_to_ids("[A]B")
    assert tokenizer("x[A]Bx[A]")["input_ids"] == [ord("x"), longest, ord("x"), longest - 1]


def test_ids_follow_from_the_number_of_ranks(tiny_tokenizer):
    assert tiny_tokenizer.eod_id == tiny_tokenizer.pad_token_id == 258
    assert tiny_tokenizer.convert_tokens_to_ids("<|visual token 000015|>") == 258 + 208 + 3 + 15
    assert len(tiny_tokenizer) == 258 + 208 + 3 + 16


def test_text_is_normalised(tiny_tokenizer):
    assert tiny_tokenizer("e\u0301")["input_ids"] == tiny_tokenizer("é")["input_ids"]


def test_batches_are_padded_on_the_chosen_side(tiny_tokenizer):
    batch = tiny_tokenizer(["a", "xyz"], padding="longest", return_tensors="np")
    assert batch["input_ids"].tolist() == [[258, 258, 97], [120, 121, 122]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]


def test_pairs_are_joined_and_marked(tiny_tokenizer):
    pair = tiny_tokenizer("a", "xy")
    assert pair["input_ids"] == [97, 120, 121]
    assert pair["token_type_ids"] == [0, 1, 1]


def test_truncation_shortens(tiny_tokenizer):
    assert tiny_tokenizer("xyz", truncation=True, max_length=2)["input_ids"] == [120, 121]


def test_decoding_takes_tensors(tiny_tokenizer):
    rows = ms.Tensor([[97, 98], [257, 99]], ms.int32)
    assert tiny_tokenizer.batch_decode(rows) == ["ab", "abcc"]
    assert tiny_tokenizer.decode(rows[1]) == "abcc"


def test_broken_utf8_is_replaced(tiny_tokenizer):
    assert tiny_tokenizer.decode([0xC3]) == "\ufffd"


@pytest.mark.parametrize("unknown", [-1, 10**6])
def test_an_unknown_id_is_named(tiny_tokenizer, unknown):
    with pytest.raises(InputError, match=str(unknown)):
        tiny_tokenizer.decode([97, unknown])


def test_tokens_and_ids_convert_both_ways(tiny_tokenizer):
    tokens = tiny_tokenizer.tokenize("abc<|extra_0|>")
    assert tokens == [b"abc", "<|extra_0|>"]
    ids = tiny_tokenizer.convert_tokens_to_ids(tokens)
    assert tiny_tokenizer.convert_ids_to_tokens(ids) == tokens
    assert tiny_tokenizer.convert_tokens_to_string(tokens) == "abc<|extra_0|>"
    assert tiny_tokenizer.convert_tokens_to_ids("never seen") is None


def test_saving_writes_the_files_that_were_read(tiny_folder, tiny_tokenizer, tmp_path):
    target = tmp_path / "saved"
    tiny_tokenizer.save_pretrained(target)
    for name in ("emu3.tiktoken", "emu3_vision_tokens.txt"):
        assert (target / name).read_bytes() == (tiny_folder / name).read_bytes()
    assert Emu3Tokenizer.from_pretrained(target).padding_side == "left"


def test_the_chat_template_is_saved_with_the_tokenizer(tiny_folder, tmp_path):
    template = "{image_prompt}{text_prompt}"
    tokenizer = Emu3Tokenizer.from_pretrained(tiny_folder, chat_template=template)
    tokenizer.save_pretrained(tmp_path / "saved")
    assert Emu3Tokenizer.from_pretrained(tmp_path / "saved").chat_template == template


def test_a_pickled_tokenizer_works(tiny_tokenizer):
    copy = pickle.loads(pickle.dumps(tiny_tokenizer))
    assert copy("abc<|extra_0|>")["input_ids"] == tiny_tokenizer("abc<|extra_0|>")["input_ids"]


def test_only_known_special_tokens_can_be_added(tiny_tokenizer):
    assert tiny_tokenizer.add_special_tokens({"cls_token": "<|extra_1|>"}) == 0
    with pytest.raises(InputError, match="new"):
        tiny_tokenizer.add_tokens(["new"])


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("YQ== 258", "line 259: b'a' is in line 98 too"),
        ("YWJj 3", "line 259: rank 3 is in line 4 too"),
        ("eHl6 300", "rank 258 is missing, yet line 259 holds rank 300"),
        ("!!!! 258", "line 259: '!!!! 258' is not base64 and a rank"),
        ("eHl6", "line 259: 'eHl6' is not base64 and a rank"),
        ("eHl6 many", "line 259: 'eHl6 many' is not base64 and a rank"),
    ],
)
def test_a_broken_rank_file_is_named_with_its_line(tiny_folder, line, complaint):
    path = tiny_folder / "emu3.tiktoken"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError) as caught:
        Emu3Tokenizer.from_pretrained(tiny_folder)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_byte_without_a_rank_is_named(tiny_folder):
    lines = (tiny_folder / "emu3.tiktoken").read_text().splitlines()
    (tiny_folder / "emu3.tiktoken").write_text("\n".join(["eHl6 0", *lines[1:]]))
    with pytest.raises(InputError, match="byte 0x00"):
        Emu3Tokenizer.from_pretrained(tiny_folder)


def test_blank_lines_are_skipped(tiny_folder, tiny_tokenizer):
    path = tiny_folder / "emu3.tiktoken"
    path.write_text("\n" + path.read_text().replace("\n", "\r\n\n"))
    assert Emu3Tokenizer.from_pretrained(tiny_folder)("abc")["input_ids"] == [257]


def test_a_doubled_special_token_is_named_with_its_line(tiny_folder):
    with open(tiny_folder / "emu3_vision_tokens.txt", "a") as file:
        file.write("<|extra_7|>\n")
    with pytest.raises(InputError, match=r"line 20: '<\|extra_7\|>' exists already"):
        Emu3Tokenizer.from_pretrained(tiny_folder)


@pytest.mark.parametrize("name", ["emu3.tiktoken", "emu3_vision_tokens.txt"])
def test_a_missing_file_is_named(tiny_folder, name):
    (tiny_folder / name).unlink()
    with pytest.raises(InputError, match=name):
        Emu3Tokenizer.from_pretrained(tiny_folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        Emu3Tokenizer.from_pretrained(tmp_path / "nowhere")


def test_a_broken_tokenizer_config_is_named(tiny_folder):
    (tiny_folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match="--model"):
        Emu3Tokenizer.from_pretrained(tiny_folder)


@pytest.mark.parametrize("text", [" " * 10**6 + "x", "a" + "\u0301" * 120_000, "x" * (2**24 + 1)])
def test_a_text_beyond_what_can_be_tokenised_is_refused(tiny_tokenizer, text):
    with pytest.raises(InputError, match="shorten the text"):
        tiny_tokenizer.encode_ordinary(text)


def test_many_blanks_and_marks_are_tokenised(tiny_tokenizer):
    for text in (" " * 50_000 + "x", "e\u0301" * 2000):
        assert tiny_tokenizer.decode(tiny_tokenizer.encode_ordinary(text)) in (
            text,
            "\u00e9" * 2000,
        )


def test_control_characters_survive_encoding_and_saving(tiny_tokenizer, tmp_path):
    text = "".join(map(chr, range(32))) + "\x7f\x85\u2028\r\n"
    tiny_tokenizer.save_pretrained(tmp_path / "again")
    again = Emu3Tokenizer.from_pretrained(tmp_path / "again")
    assert again.encode_ordinary(text) == tiny_tokenizer.encode_ordinary(text)
    assert again.decode(again.encode_ordinary(text)) == text


@pytest.mark.parametrize("odd", [b"\0", b"\x0b", b"\x85", b"_", b" +"])
def test_a_rank_file_with_odd_characters_is_refused_with_its_line(tiny_folder, odd):
    path = tiny_folder / "emu3.tiktoken"
    lines = path.read_bytes().split(b"\n")
    lines[4] = lines[4].replace(b" ", odd)
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=r"line 5: .*allowed"):
        Emu3Tokenizer.from_pretrained(tiny_folder)


@pytest.mark.parametrize("odd", [b"a\0b", b"a\x0bb", b"\x85", b"\xff", "a\u2028b".encode()])
def test_a_special_token_with_odd_characters_is_refused_with_its_line(tiny_folder, odd):
    with open(tiny_folder / "emu3_vision_tokens.txt", "ab") as file:
        file.write(odd + b"\n")
    with pytest.raises(InputError, match=r"line 20: .*control characters"):
        Emu3Tokenizer.from_pretrained(tiny_folder)


def test_files_with_other_line_ends_are_the_same(tiny_folder, tiny_tokenizer):
    for name in ("emu3.tiktoken", "emu3_vision_tokens.txt"):
        path = tiny_folder / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    again = Emu3Tokenizer.from_pretrained(tiny_folder)
    assert again.get_vocab() == tiny_tokenizer.get_vocab()
    assert again.special_ids == tiny_tokenizer.special_ids


@pytest.mark.parametrize(
    "content",
    [
        b'{"x": "\xe9"}',
        b"[]",
        b"[" * 100_000,
        b'{"errors": "nosuch"}',
        b'{"errors": 5}',
        b'{"img_token": 5}',
        b'{"pad_token": 5}',
        b'{"tokenize": 1}',
        b'{"added_tokens_decoder": 5}',
    ],
)
def test_a_tokenizer_config_of_another_kind_is_refused(tiny_folder, content):
    (tiny_folder / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(InputError):
        Emu3Tokenizer.from_pretrained(tiny_folder)


@pytest.mark.parametrize("length", ["", True, 0, [9]])
def test_a_length_that_is_no_number_is_refused(tiny_folder, length):
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
    with pytest.raises(InputError, match="model_max_length"):
        Emu3Tokenizer.from_pretrained(tiny_folder)


@pytest.mark.parametrize("name", ["bos_token", "eos_token", "pad_token"])
def test_a_token_without_an_id_is_refused(tiny_folder, name):
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps({name: "nowhere"}))
    with pytest.raises(InputError, match=f"{name} = 'nowhere' is no token"):
        Emu3Tokenizer.from_pretrained(tiny_folder)


def test_a_marker_may_be_an_object_with_its_text(tiny_folder):
    config = {"img_token": {"content": "<|image token|>", "special": True}}
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert Emu3Tokenizer.from_pretrained(tiny_folder).img_token == "<|image token|>"


def test_no_file_names_the_vocabulary_in_its_place(tiny_folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("not for you")
    config = {"vocab_file": str(secret), "special_tokens_file": str(secret)}
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert Emu3Tokenizer.from_pretrained(tiny_folder).eod_id == 258


def test_several_chat_templates_are_refused_by_name(tiny_folder):
    several = {"chat_template": [{"name": "default", "template": "x"}]}
    (tiny_folder / "tokenizer_config.json").write_text(json.dumps(several))
    with pytest.raises(InputError, match="chat_template"):
        PromptBuilder(Emu3Tokenizer.from_pretrained(tiny_folder))


def test_hub_options_of_a_tokenizer_are_not_ignored(tiny_folder):
    for name in ("revision", "trust_remote_code"):
        with pytest.raises(InputError, match=name):
            Emu3Tokenizer.from_pretrained(tiny_folder, **{name: "v1"})
