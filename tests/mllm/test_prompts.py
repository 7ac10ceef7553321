"""Prompts of a conversation: the image may be missing, later turns repeat the user's part."""

import numpy as np
import pytest

from emu3.errors import InputError
from emu3.mllm.parts import Message, Text
from emu3.mllm.prompts import PromptBuilder

CODES = np.arange(6, dtype=np.int32).reshape(2, 3)


def text(builder, ids):
    return builder.tokenizer.decode(ids)


def test_a_prompt_without_an_image_is_the_template_around_the_text(tiny_tokenizer):
    builder = PromptBuilder(tiny_tokenizer, "chat")
    ids = builder.understanding("Why?")
    assert ids[0] == builder.vocabulary.bos
    assert text(builder, ids[1:]) == "You are a helpful assistant. USER: Why?. ASSISTANT:"


def test_text_beside_the_missing_image_is_tokenised_as_one(tiny_tokenizer):
    builder = PromptBuilder(tiny_tokenizer, "a{image_prompt}{text_prompt}")
    joined = builder.tokenizer.encode_ordinary("abc")
    assert builder.understanding("bc")[1:] == joined
    assert builder.understanding("bc", CODES)[-2:] == builder.tokenizer.encode_ordinary("bc")
    assert len(joined) == 1


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("chat", "USER: Why?. ASSISTANT:"),
        ("stage1", "Why?"),
        (
            "Be kind! Be short.\nHuman: {image_prompt}\n{text_prompt}\nModel:",
            "Human: \nWhy?\nModel:",
        ),
        ("你是助手。用户：{text_prompt}{image_prompt} 答：", "用户：Why? 答："),
        ("v1.5 Q {image_prompt}{text_prompt} A", "v1.5 Q Why? A"),
    ],
)
def test_a_follow_up_repeats_the_template_without_opening_and_image(
    tiny_tokenizer, template, expected
):
    builder = PromptBuilder(tiny_tokenizer, template)
    assert text(builder, builder.follow_up("Why?")) == expected


def test_what_the_system_says_replaces_the_templates_opening(tiny_tokenizer):
    builder, asked = PromptBuilder(tiny_tokenizer, "chat"), [Message("user", (Text("Why?"),))]
    own = "You are a helpful assistant."
    assert builder.conversation(asked, opening=own) == builder.conversation(asked)
    ids = builder.conversation(asked, opening="Be <|endoftext|> brief.")
    assert text(builder, ids[1:]) == "Be <|endoftext|> brief. USER: Why?. ASSISTANT:"
    assert builder.vocabulary.bos not in ids[1:]


def test_a_template_without_an_opening_takes_no_words_of_the_system(tiny_tokenizer):
    builder = PromptBuilder(tiny_tokenizer, "stage1")
    with pytest.raises(InputError, match="leave the system message out"):
        builder.conversation([Message("user", (Text("Why?"),))], opening="Be brief.")
