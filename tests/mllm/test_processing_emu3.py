"""Emu3Processor: the reference's prompts and grammar, safe and honest with input."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from emu3.errors import InputError
from emu3.mllm import Emu3Processor
from emu3.mllm.grammar import latent_size
from emu3.mllm.parts import Text
from emu3.mllm.prompts import PromptBuilder
from emu3.tokenizer import Emu3VisionVQImageProcessor
from tests.mllm.fakes import FakeVision, picture

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((FOLDER / "text_51.json").read_text())
KEYS = ("input_ids", "attention_mask", "image_size")


@pytest.fixture
def released(released_tokenizer) -> Emu3Processor:
    images = Emu3VisionVQImageProcessor(min_pixels=32 * 32, max_pixels=96 * 96)
    return Emu3Processor(images, FakeVision(32768), released_tokenizer)


def golden_codes(processor: Emu3Processor, case: dict) -> list[np.ndarray]:
    rows = [np.array(row) for row in case["input_ids"]]
    return [processor.vocabulary.parse_images(row)[1] for row in rows]


@pytest.mark.parametrize("case", GOLDEN["generation"], ids=lambda case: str(case["ratio"]))
def test_generation_prompts_equal_the_reference(released, case):
    call = {key: case[key] for key in ("text", "ratio", "image_area")}
    inputs = released(**call, mode="G", padding="longest", return_tensors="np")
    for key in KEYS:
        assert inputs[key].tolist() == case[key], key


@pytest.mark.parametrize("case", GOLDEN["understanding"], ids=lambda case: case["text"][-1])
def test_understanding_prompts_equal_the_reference(released, case):
    arrays = np.load(FOLDER / "images_51.npz")
    images = [Image.fromarray(arrays[f"image_{i}"]) for i in case["images"]]
    codes = golden_codes(released, case)
    if len({c.shape for c in codes}) == 1:
        released.vision_tokenizer.queue = [np.stack(codes)]
    elif case["padding_image"]:
        h, w = (max(c.shape[axis] for c in codes) for axis in (0, 1))
        fill = [np.pad(c, ((0, h - c.shape[0]), (0, w - c.shape[1]))) for c in codes]
        released.vision_tokenizer.queue = [np.stack(fill)]
    else:
        released.vision_tokenizer.queue = [c[None] for c in codes]
    inputs = released(
        case["text"],
        images,
        mode="U",
        padding_image=case["padding_image"],
        padding="longest",
        return_tensors="np",
    )
    for key in KEYS:
        assert inputs[key].tolist() == case[key], key


@pytest.mark.parametrize("case", GOLDEN["grammar"], ids=lambda c: f"{c['height']}x{c['width']}")
def test_the_grammar_equals_the_reference(released, case):
    vocabulary = released.vocabulary
    allowed_ids = released.build_prefix_constrained_fn(case["height"], case["width"])
    row = [vocabulary.bos, vocabulary.img]
    for expected in case["allowed"]:
        allowed = allowed_ids(0, ms.Tensor(row))
        if expected == "visual":
            assert (allowed[0], allowed[-1], len(allowed)) == (151854, 184621, 32768)
        else:
            assert allowed == [getattr(vocabulary, expected)]
        row.append(allowed[0])
    assert allowed_ids(0, row) == [vocabulary.pad]


@pytest.mark.parametrize("width", [1, 2])
def test_narrow_grids_end_properly(tiny, width):
    allowed_ids = tiny.build_prefix_constrained_fn(np.array(2), ms.Tensor(width))
    row = [tiny.vocabulary.img]
    while row[-1] != tiny.vocabulary.pad:
        row.append(allowed_ids(0, row)[0])
    v = tiny.vocabulary
    line = [v.visual_start] * width + [v.eol]
    assert row == [v.img, *line, *line, v.eof, v.eoi, v.eos, v.pad]


def test_each_row_has_its_own_grid(tiny):
    allowed_ids = tiny.build_prefix_constrained_fn([1, 1], ms.Tensor([1, 3]))
    row = [tiny.vocabulary.img, tiny.vocabulary.visual_start]
    assert allowed_ids(0, row) == [tiny.vocabulary.eol]
    assert len(allowed_ids(1, row)) == 16
    with pytest.raises(InputError, match="row 2"):
        allowed_ids(2, row)


def test_a_constraint_serves_prompts_of_any_length(tiny):
    allowed_ids = tiny.build_prefix_constrained_fn(1, 1)
    v = tiny.vocabulary
    assert allowed_ids(0, [v.img, v.visual_start]) == [v.eol]
    assert allowed_ids(0, [v.bos, 97, v.img, v.visual_start]) == [v.eol]


def test_special_tokens_in_a_users_text_are_text(tiny):
    row = tiny("<|image token|>", height=1, width=1)["input_ids"][0]
    v = tiny.vocabulary
    assert row == [v.bos, *b"<|image token|>", v.boi, *b"1*1", v.img]


def test_special_tokens_in_a_users_text_are_kept_on_request(tiny):
    processor = Emu3Processor(
        tiny.image_processor, tiny.vision_tokenizer, tiny.tokenizer, allow_special_tokens=True
    )
    row = processor("<|image token|>", height=1, width=1)["input_ids"][0]
    v = tiny.vocabulary
    assert row == [v.bos, v.img, v.boi, *b"1*1", v.img]


def test_a_special_token_cannot_grow_across_text_and_template(tiny):
    prompts = PromptBuilder(tiny.tokenizer, "{image_prompt}{text_prompt}start|>")
    row = prompts.understanding("<|image ", np.zeros((1, 1), int))
    assert row[-15:] == list(b"<|image start|>")


def test_special_tokens_of_a_template_are_special(tiny):
    prompts = PromptBuilder(tiny.tokenizer, "<|im_start|>{image_prompt}{text_prompt}<|im_end|>")
    row = prompts.understanding("x", np.zeros((1, 1), int))
    first, last = tiny.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert (row[1], row[-1]) == (first, last)


def test_the_template_is_chosen_by_name_text_or_tokenizer(tiny_tokenizer):
    codes = np.zeros((1, 1), int)
    bare = PromptBuilder(tiny_tokenizer, "stage1").understanding("x", codes)
    assert tiny_tokenizer.decode(bare[-2:]) == "<|image end|>x"
    assert PromptBuilder(tiny_tokenizer, "{image_prompt}{text_prompt}").chat_template == (
        PromptBuilder(tiny_tokenizer, "stage1").chat_template
    )
    assert "ASSISTANT" in PromptBuilder(tiny_tokenizer).chat_template
    tiny_tokenizer.chat_template = "Q {image_prompt}{text_prompt}"
    assert PromptBuilder(tiny_tokenizer).chat_template == "Q {image_prompt}{text_prompt}"


@pytest.mark.parametrize(
    "options", [{"chat_template": "{text_prompt}"}, {"prefix_template": "{H}"}]
)
def test_a_template_without_its_fields_is_refused(tiny_tokenizer, options):
    with pytest.raises(InputError, match=next(iter(options))):
        PromptBuilder(tiny_tokenizer, **options)


@pytest.mark.parametrize("template", ["{H}*{W}*{area}", "{H}*{W}*{T}", "{H}*{W}}", "{H}*{W}{}", 7])
def test_a_size_text_with_other_fields_is_refused(tiny_tokenizer, template):
    with pytest.raises(InputError, match=r"prefix_template.*no other braces; change prefix_temp"):
        PromptBuilder(tiny_tokenizer, prefix_template=template)


def test_other_braces_of_a_chat_template_are_text(tiny_tokenizer):
    builder = PromptBuilder(tiny_tokenizer, "{image_prompt}{text_prompt}{x}")
    assert builder.tokenizer.decode(builder.user_turn([Text("a")], True)).endswith("a{x}")


def test_the_size_text_follows_the_prefix_template(tiny_tokenizer):
    prompts = PromptBuilder(tiny_tokenizer, prefix_template="{W}x{H}")
    assert prompts.size_ids(3, 4) == list(b"4x3")


def test_visual_tokens_may_have_another_spelling(tiny_folder, tiny_tokenizer):
    path = tiny_folder / "emu3_vision_tokens.txt"
    path.write_text(path.read_text().replace("visual token 0000", "v"))
    tokenizer = type(tiny_tokenizer).from_pretrained(tiny_folder)
    with pytest.raises(InputError, match="visual token"):
        PromptBuilder(tokenizer)
    vocabulary = PromptBuilder(tokenizer, visual_template="<|v{token_id:0>2d}|>").vocabulary
    assert vocabulary.visual_count == 16


@pytest.mark.parametrize(
    "area, ratio, size",
    [
        (518400, "1:1", (90, 90)),
        (518400, "4:3", (78, 104)),
        (518400, "3:4", (104, 78)),
        (518400, "16:9", (68, 120)),
        (518400, "9:16", (120, 68)),
        (518400, "3:2", (73, 110)),
        (262144, "1:1", (64, 64)),
        (262144, "16:9", (48, 85)),
        (262144, "4:3", (55, 74)),
    ],
)
def test_latent_sizes_equal_the_reference(area, ratio, size):
    assert latent_size(ratio, area) == size


def test_explicit_sizes_replace_ratio_and_area(tiny):
    assert tiny(["a", "b"], height=3, width=[2, 5])["image_size"] == [[3, 2], [3, 5]]


def test_tensors_are_int32(tiny):
    inputs = tiny(["a", "abc x"], padding="longest", return_tensors="ms")
    for key in KEYS:
        assert inputs[key].dtype == ms.int32
    assert inputs.attention_mask.asnumpy()[0, :2].tolist() == [0, 0]


@pytest.mark.parametrize(
    "call, named",
    [
        ({"text": []}, "--prompt"),
        ({"text": [5]}, "5"),
        ({"text": "x", "mode": "Q"}, "'Q'"),
        ({"text": "x", "image": picture(8, 8)}, 'mode "G"'),
        ({"text": "x", "ratio": "1:0"}, "--ratio"),
        ({"text": "x", "ratio": "wide"}, "wide"),
        ({"text": "x", "ratio": "100:1"}, "16 to 1"),
        ({"text": "x", "ratio": ["1:1", "4:3"]}, "2 ratios"),
        ({"text": "x", "image_area": 3}, "--image-area"),
        ({"text": "x", "image_area": -1}, "-1"),
        ({"text": "x", "image_area": 10**12}, "--image-area"),
        ({"text": "x", "height": 3}, "both or neither"),
        ({"text": "x", "height": 0, "width": 2}, "0x2"),
        ({"text": "x", "height": [1, 2], "width": 2}, "2 heights"),
        ({"text": "x", "height": [1, 2], "width": [1, 2, 3]}, "3 widths"),
        ({"text": "x", "mode": "U"}, "--image"),
        ({"text": "x", "mode": "U", "image": "cat.png"}, "--image"),
        ({"text": "x", "mode": "U", "image": [picture(8, 8)] * 2}, "2 images"),
        ({"text": "x", "mode": "U", "image": picture(80, 8)}, "80x8"),
        ({"text": "x", "colour": 1}, "colour"),
        ({"text": "x", "padding": "somehow"}, "somehow"),
        ({"text": "x", "return_tensors": "pt"}, "pt"),
        ({"text": ["x", "longer"], "return_tensors": "np"}, "padding"),
    ],
)
def test_bad_calls_are_named(tiny, call, named):
    with pytest.raises(InputError, match=named):
        tiny(**call)


def test_a_constraint_needs_an_image_prompt(tiny):
    with pytest.raises(InputError, match="img"):
        tiny.build_prefix_constrained_fn(1, 1)(0, [97])


@pytest.mark.parametrize("vision", [None, FakeVision(17)])
def test_a_vision_tokenizer_that_does_not_fit_is_refused(tiny, vision):
    with pytest.raises(InputError, match="--vq-model"):
        Emu3Processor(tiny.image_processor, vision, tiny.tokenizer)


def test_template_and_picture_area_are_the_checkpoints_unless_given(tiny, tiny_folder, tmp_path):
    tiny.image_processor.save_pretrained(tmp_path / "vision")
    stated = {"chat_template": "{image_prompt}{text_prompt}?", "image_area": 1024}
    (tiny_folder / "config.json").write_text(json.dumps(stated))
    paths = (tiny_folder, tmp_path / "vision", tiny.vision_tokenizer)
    loaded = Emu3Processor.from_pretrained(*paths)
    assert loaded.prompts.chat_template == stated["chat_template"]
    side = 32 // loaded.vis_tok_spatial_factor
    assert loaded("a")["image_size"] == [[side, side]]
    assert loaded("a", image_area=4096)["image_size"] == [[2 * side, 2 * side]]
    given = Emu3Processor.from_pretrained(*paths, chat_template="stage1", image_area=4096)
    assert given.prompts.chat_template == "{image_prompt}{text_prompt}"
    assert given("a")["image_size"] == [[2 * side, 2 * side]]


def test_a_processor_loads_from_two_folders(tiny, tiny_folder, tmp_path):
    tiny.image_processor.save_pretrained(tmp_path / "vision")
    loaded = Emu3Processor.from_pretrained(
        tiny_folder, tmp_path / "vision", tiny.vision_tokenizer, chat_template="stage1"
    )
    assert loaded.image_processor.max_pixels == 1024
    assert loaded.tokenizer.padding_side == "left"
    assert loaded.prompts.chat_template == "{image_prompt}{text_prompt}"
    assert loaded.model_input_names == [
        "input_ids",
        "attention_mask",
        "pixel_values",
    ]


def test_calls_give_what_generate_takes(tiny):
    assert set(tiny("a")) == {"input_ids", "attention_mask", "image_size"}
    assert "token_type_ids" in tiny("a", return_token_type_ids=True)
