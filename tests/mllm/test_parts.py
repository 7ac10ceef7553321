"""Prompts as lists of parts and conversations; pictures and questions are two cases of them."""

import numpy as np
import pytest
from PIL import Image as Pillow

from emu3.errors import InputError
from emu3.mllm.parts import Clip, Coded, Image, Message, Open, Text
from emu3.mllm.prompts import PromptBuilder

CODES = np.arange(6, dtype=np.int32).reshape(2, 3)
FRAMES = np.arange(12, dtype=np.int32).reshape(2, 2, 3)


@pytest.fixture
def builder(tiny_tokenizer) -> PromptBuilder:
    return PromptBuilder(tiny_tokenizer)


def said(builder, ids) -> str:
    """The ids as text, with [h, w] or [t, h, w] for codes."""
    pieces = builder.vocabulary.parse_images(np.array(ids))
    shown = [builder.tokenizer.decode(p) if p.ndim == 1 else str([*p.shape]) for p in pieces]
    return "".join(shown)


def test_modes_g_and_u_are_two_cases(builder):
    assert builder.prompt([Text("red"), Open((2, 3))]) == builder.generation("red", 2, 3)
    asked = builder.understanding("why", CODES)
    assert builder.conversation([Message("user", [Coded(CODES), Text("why")])]) == asked


def test_parts_stand_in_any_order_and_number(builder):
    parts = [Coded(CODES), "a", Coded(FRAMES), Coded(CODES), "b", "c"]
    assert said(builder, builder.prompt(parts)) == "<|extra_203|>[2, 3]a[2, 2, 3][2, 3]bc"


def test_a_clip_says_rows_columns_frames_and_rate(builder):
    words = builder.vocabulary
    ids = builder.ids_of([Coded(FRAMES, fps=7.5)])
    head = ids[: ids.index(words.img)]
    assert builder.tokenizer.decode(head[1:]) == "2*3*2*7.5"
    assert ids == builder.ids_of([Open((2, 2, 3), 7.5)]) + words.image_body(FRAMES).tolist()


def test_a_clip_of_one_latent_frame_is_a_picture(builder):
    assert builder.ids_of([Coded(CODES[None])]) == builder.ids_of([Coded(CODES)])
    assert builder.ids_of([Open((1, 2, 3))]) == builder.ids_of([Open((2, 3))])


def test_a_checkpoint_may_state_the_text_of_clips(tiny_tokenizer):
    builder = PromptBuilder(tiny_tokenizer, video_prefix_template="{T} x {H}*{W}")
    assert builder.tokenizer.decode(builder.size_ids(4, 5, 6)) == "6 x 4*5"
    assert builder.tokenizer.decode(builder.size_ids(4, 5)) == "4*5"


@pytest.mark.parametrize("template", ["{H}*{W}", "{H}{W}{T}{X}", "{H}{W}{T}{T}", "{H}{W}{T}{"])
def test_a_text_of_clips_that_does_not_fit_is_refused(tiny_tokenizer, template):
    with pytest.raises(InputError, match="video_prefix_template"):
        PromptBuilder(tiny_tokenizer, video_prefix_template=template)


def test_first_frames_stand_behind_the_head_of_what_is_to_be_made(builder):
    ids = builder.prompt(["go", Open((3, 2, 3), begun=FRAMES[:1])])
    words = builder.vocabulary
    whole = words.image_body(FRAMES)
    assert ids == builder.prompt(["go", Open((3, 2, 3))]) + whole[:9].tolist()
    assert whole[8] == words.eof


def test_turns_repeat_the_template_without_its_opening(builder):
    talk = [
        Message("user", [Coded(CODES), "What?"]),
        Message("assistant", ["A car", Coded(FRAMES)]),
        Message("user", ["And", Coded(CODES), "this"]),
    ]
    assert said(builder, builder.conversation(talk)[1:]) == (
        "You are a helpful assistant. USER: [2, 3]What?. ASSISTANT:A car[2, 2, 3]<|extra_204|>"
        "USER: And[2, 3]this. ASSISTANT:"
    )
    answered = builder.conversation(talk, Open((2, 3)))
    assert answered == builder.conversation(talk) + builder.ids_of([Open((2, 3))])


def test_turns_are_tokenised_as_training_does(builder):
    from train.data.samples import dialogue_sample

    sample = dialogue_sample(builder, CODES, [("ab", "c"), ("abc", "d")])
    talk = [
        Message("user", [Coded(CODES), "ab"]),
        Message("assistant", "c"),
        Message("user", "abc"),
    ]
    ids = builder.conversation(talk)
    assert sample.ids[: len(ids)].tolist() == ids


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda b: b.prompt([]), "nothing is no part"),
        (lambda b: b.prompt([7]), "int is no part"),
        (lambda b: b.prompt([Open((2, 3)), "a"]), "before the end"),
        (lambda b: b.prompt([Image(Pillow.new("RGB", (8, 8)))]), "Emu3Processor"),
        (lambda b: b.conversation([]), "nobody"),
        (lambda b: b.conversation([Message("assistant", "a")]), "from the user"),
        (lambda b: b.conversation([Message(r, "a") for r in ("user", "assistant")]), "to the user"),
        (lambda b: b.conversation(["a"]), "str"),
        (lambda b: Message("system", "a"), "user, assistant"),
        (lambda b: Message("user", [Open((2, 3))]), "Open is no part"),
        (lambda b: b.prompt([Text(3)]), "no text"),
        (lambda b: Coded(np.zeros(3)), "shape"),
        (lambda b: Coded(FRAMES, fps=0), "--fps"),
        (lambda b: Clip([]), "no frames"),
        (lambda b: Open((2, 2, 3), begun=FRAMES), "1 to 1 latent"),
        (lambda b: Open((3, 2, 4), begun=FRAMES), "2x4"),
    ],
)  # fmt: skip
def test_what_fits_no_prompt_is_refused_in_one_line(builder, make, message):
    with pytest.raises(InputError, match=message) as caught:
        make(builder)
    assert "\n" not in str(caught.value)


def test_a_processor_takes_pixels_and_says_the_size_to_make(tiny):
    tiny.codec.vision.config.temporal_downsample_factor = 1
    tiny.vision_tokenizer.encode = lambda pixels: FakeCodes(pixels.shape)
    picture, frames = Pillow.new("RGB", (24, 16)), [Pillow.new("RGB", (24, 16))] * 3
    given = tiny.prompt([Image(picture), "and", Clip(frames), Open((2, 3))])
    pieces = tiny.vocabulary.parse_images(np.array(given["input_ids"][0]))
    assert [p.shape for p in pieces if p.ndim > 1] == [(2, 3), (3, 2, 3)]
    assert given["image_size"] == [[2, 3]]
    both = tiny.prompt([["a", Open((2, 2, 3))], ["b", Open((2, 3))]])
    assert both["video_size"] == [[2, 2, 3], [1, 2, 3]]
    talk = tiny.conversation([Message("user", [Image(picture), "What?"])])
    assert "image_size" not in talk
    assert talk["input_ids"][0] == tiny.prompts.understanding("What?", np.zeros((2, 3), int))


class FakeCodes:
    """Codes 0 as a vision tokenizer without weights gives them."""

    def __init__(self, shape) -> None:
        self.shape = shape

    def asnumpy(self) -> np.ndarray:
        *lead, _, h, w = self.shape
        return np.zeros((*lead, h // 8, w // 8), np.int32)
