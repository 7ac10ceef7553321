"""Samples as lists of parts: files hold them; labels are what is generated, never what is given."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.parts import Coded, Message, Open, Text
from emu3.mllm.prompts import PromptBuilder
from tests.support import CODES as CODES_KNOWN
from tests.support import randomised, tiny_config, write_tokenizer
from train.data.features import Feature, Given, Wanted, read_feature, write_feature
from train.data.inspection import marked_text
from train.data.parts import read
from train.data.samples import feature_sample, parts_sample, t2i_sample

CODES = np.arange(6, dtype=np.int32).reshape(2, 3)
CLIP = np.arange(12, dtype=np.int32).reshape(2, 2, 3)
TALK = [
    Message("user", [Coded(CODES), "make it blue"]),
    Message("assistant", ["Here:", Coded(CODES + 1)]),
]


@pytest.fixture(scope="module")
def builder(tmp_path_factory) -> PromptBuilder:
    folder = tmp_path_factory.mktemp("parts") / "tokenizer"
    write_tokenizer(folder)
    return PromptBuilder(Emu3Tokenizer.from_pretrained(folder))


def labels_of(sample) -> list[int]:
    return sample.labels[sample.labels != IGNORED_LABEL].tolist()


@pytest.mark.parametrize("structure", [False, True])
def test_a_caption_and_its_picture_are_a_sample_of_text_to_image(builder, structure):
    parts = [Given(Text("a cat")), Wanted(Coded(CODES))]
    sample, same = (
        parts_sample(builder, parts, structure),
        t2i_sample(builder, "a cat", CODES, structure),
    )
    assert np.array_equal(sample.ids, same.ids)
    assert np.array_equal(sample.labels, same.labels)


def test_a_samples_prompt_is_what_generation_starts_from(builder):
    sample = parts_sample(builder, [Given(Text("go")), Wanted(Coded(CLIP, 4.0), given=1)])
    prompt = builder.prompt(["go", Open(CLIP.shape, 4.0, CLIP[:1])])
    assert sample.ids[: len(prompt)].tolist() == prompt
    assert (sample.labels[: len(prompt)] == IGNORED_LABEL).all()
    assert labels_of(sample) == builder.vocabulary.ids_of(CLIP[1]).ravel().tolist()


def test_structure_adds_the_ends_behind_what_is_given(builder):
    words = builder.vocabulary
    sample = parts_sample(builder, [Given(Text("")), Wanted(Coded(CLIP), given=1)], structure=True)
    assert labels_of(sample) == [*words.image_body(CLIP)[9:].tolist(), words.eos]


def test_answers_are_supervised_with_their_boi_and_eos(builder):
    words = builder.vocabulary
    sample = parts_sample(builder, TALK)
    here = builder.tokenizer.encode_ordinary("Here:")
    codes = words.ids_of(CODES + 1).ravel().tolist()
    assert labels_of(sample) == [*here, words.boi, *codes, words.eos]
    prompt = builder.conversation(TALK[:1])
    assert sample.ids[: len(prompt)].tolist() == prompt


def test_parts_come_back_from_their_file(builder, tmp_path):
    parts = [Given(Text("走")), Given(Coded(CODES)), Wanted(Coded(CLIP, 5.0), 1), Wanted(Text("x"))]
    for entries in (parts, TALK):
        write_feature(tmp_path, Feature("a", parts=entries, captions=["走"]))
        found = read_feature(tmp_path / "feature" / "a.ckpt")
        same, sample = parts_sample(builder, entries), feature_sample(builder, found)
        assert np.array_equal(sample.ids, same.ids)
        assert np.array_equal(sample.labels, same.labels)
    assert (found.kind, found.captions) == ("conversation", ["走"])


@pytest.mark.parametrize(
    "text",
    ["[", "[]", "{}", "[1]", '[{"codes": [2]}]', '[{"codes": [2, -3]}]', '[{"codes": [1, 2]}]',
     '[{"text": 1}]', '[{"role": "x", "parts": [{"text": "a"}]}]', '[{"role": "user"}]',
     '[{"text": "a", "wanted": true, "given": 3}]'],
)  # fmt: skip
def test_damaged_parts_are_refused(text):
    with pytest.raises(InputError):
        read(text, np.zeros(6, np.int32))


def test_a_caption_is_drawn_and_all_words_may_be_dropped(builder):
    rng = np.random.default_rng(0)
    parts = [Given(Text("a")), Wanted(Coded(CODES))]
    drawn = feature_sample(builder, Feature("n", parts=parts, captions=["b"]), rng)
    assert drawn.ids[1] == builder.tokenizer.encode_ordinary("b")[0]
    for entries in (parts, TALK):
        dropped = feature_sample(builder, Feature("n", parts=entries), rng, null_prompt_prob=1.0)
        text = builder.tokenizer.decode(dropped.ids)
        assert "make it blue" not in text and "a<" not in text
    told = [Message("user", "why"), Message("assistant", "so")]
    kept = feature_sample(builder, Feature("n", parts=told), rng, null_prompt_prob=1.0)
    assert "why" in builder.tokenizer.decode(kept.ids)


def test_the_checker_shows_frames_and_what_is_given(builder):
    parts = [Given(Text("go")), Wanted(Coded(np.stack([CODES] * 3)), given=1)]
    shown = marked_text(builder, parts_sample(builder, parts))
    assert "2*3*3*8<|image token|>" in shown
    assert "[3 codes]<|extra_200|> (2 times) <|extra_201|>" in shown
    assert "⟦[3 codes]⟧<|extra_200|> (2 times) <|extra_201|> (2 times) " in shown


def test_a_net_that_knows_two_clips_extends_each_exactly(builder):
    """Trained until it knows them; then each goes on behind its first frame."""
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, CODES_KNOWN, (3, 2, 3)).astype(np.int32) for _ in range(2)]
    samples = [parts_sample(builder, [Given(Text("")), Wanted(Coded(clip), 1)]) for clip in clips]
    model = randomised(Emu3ForCausalLM(tiny_config()), 0).set_train(False)
    ids, labels = (Tensor(np.stack([getattr(s, n) for s in samples])) for n in ("ids", "labels"))
    adam = nn.Adam(model.trainable_params(), 1e-2)
    loss = ms.value_and_grad(lambda: model(ids, labels=labels).loss, None, adam.parameters)
    for _ in range(60):
        value, gradients = loss()
        adam(gradients)
    assert value < 0.1
    for clip in clips:
        prompt = np.array([builder.prompt(["", Open(clip.shape, begun=clip[:1])])])
        made = model.generate(prompt, jit=False, video_size=[clip.shape], do_sample=False)
        (found,) = (p for p in builder.vocabulary.parse_images(made.asnumpy()[0]) if p.ndim == 3)
        assert np.array_equal(found, clip)
