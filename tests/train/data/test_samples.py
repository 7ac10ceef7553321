"""What is supervised, span by span."""

from dataclasses import astuple

import numpy as np
import pytest
from mindspore import Tensor, nn

from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from train.data.features import Feature
from train.data.samples import (
    PADDING,
    collate,
    conversation_sample,
    dialogue_sample,
    feature_sample,
    fitted,
    t2i_sample,
)
from train.mini.step import MeanLoss

CODES = np.arange(12, dtype=np.int32).reshape(3, 4)
TURNS = [
    ("How many shapes?", "two"),
    ("图中有几个星形", "一个"),
    ("what colour is the star", "red"),
]


def labelled(sample):
    return sample.ids[sample.labels != IGNORED_LABEL]


def test_t2i_supervises_exactly_the_visual_ids(builder):
    sample = t2i_sample(builder, "a red star", CODES)
    np.testing.assert_array_equal(labelled(sample), builder.vocabulary.ids_of(CODES).ravel())
    assert sample.ids[-1] == builder.vocabulary.eos
    assert sample.labels[-1] == IGNORED_LABEL


def test_a_visual_token_in_a_caption_is_text_and_unsupervised(builder):
    sample = t2i_sample(builder, "<|visual token 000001|>", CODES)
    assert len(labelled(sample)) == CODES.size


def test_t2i_begins_with_the_prompt_that_inference_uses(builder):
    prompt = builder.generation("a red star", 3, 4)
    sample = t2i_sample(builder, "a red star", CODES)
    assert sample.ids[: len(prompt)].tolist() == prompt


def test_a_conversation_supervises_responses_and_their_eos_only(builder):
    sample = conversation_sample(builder, CODES, TURNS)
    encode, eos = builder.tokenizer.encode_ordinary, builder.vocabulary.eos
    expected = [i for _, answer in TURNS for i in [*encode(answer), eos]]
    assert labelled(sample).tolist() == expected


def test_each_branch_reads_as_the_inference_prompt_and_answer(builder):
    sample = conversation_sample(builder, CODES, TURNS)
    for k, (question, answer) in enumerate(TURNS, 1):
        seen = (sample.branches == 0) | (sample.branches == k)
        alone = builder.understanding(question, CODES)
        alone += [*builder.tokenizer.encode_ordinary(answer), builder.vocabulary.eos]
        assert sample.ids[seen].tolist() == alone
        assert sample.positions[seen].tolist() == list(range(len(alone)))


def answers(builder, turns=TURNS):
    encode, eos = builder.tokenizer.encode_ordinary, builder.vocabulary.eos
    return [[*encode(answer), eos] for _, answer in turns]


def test_structure_supervises_everything_after_the_prompt(builder):
    sample = t2i_sample(builder, "a red star", CODES, structure=True)
    prompt = len(builder.generation("a red star", *CODES.shape))
    assert (sample.labels[:prompt] == IGNORED_LABEL).all()
    np.testing.assert_array_equal(sample.labels[prompt:], sample.ids[prompt:])
    v = builder.vocabulary
    silent = t2i_sample(builder, "a red star", CODES)
    added = sample.ids[(sample.labels != silent.labels)].tolist()
    assert added == [v.eol] * len(CODES) + [v.eof, v.eoi, v.eos]


@pytest.mark.parametrize("codes", [CODES, None])
def test_a_dialogue_supervises_every_response_and_its_eos_only(builder, codes):
    sample = dialogue_sample(builder, codes, TURNS)
    assert labelled(sample).tolist() == [i for answer in answers(builder) for i in answer]
    supervised = sample.labels != IGNORED_LABEL
    np.testing.assert_array_equal(sample.labels[supervised], sample.ids[supervised])


def test_a_dialogue_is_one_context_of_turns_one_after_the_other(builder):
    sample = dialogue_sample(builder, CODES, TURNS)
    expected = builder.understanding(TURNS[0][0], CODES) + answers(builder)[0]
    for turn, answer in list(zip(TURNS, answers(builder)))[1:]:
        expected += builder.follow_up(turn[0]) + answer
    assert sample.ids.tolist() == expected
    assert sample.positions.tolist() == list(range(len(expected)))
    assert not sample.branches.any()


def test_plain_text_begins_with_the_prompt_without_an_image(builder):
    sample = dialogue_sample(builder, None, TURNS[:1])
    assert sample.ids.tolist() == builder.understanding(TURNS[0][0]) + answers(builder)[0]
    assert not builder.vocabulary.is_visual(sample.ids).any()
    assert builder.vocabulary.boi not in sample.ids


def test_one_turn_is_the_same_alone_and_as_a_branch(builder):
    dialogue = dialogue_sample(builder, CODES, TURNS[:1])
    branch = conversation_sample(builder, CODES, TURNS[:1])
    for name in ("ids", "labels", "positions"):
        np.testing.assert_array_equal(getattr(dialogue, name), getattr(branch, name))


def test_a_feature_becomes_the_sample_of_its_kind(builder):
    question, answer = TURNS[-1]
    for feature, expected in (
        (Feature("a", CODES, "a star"), t2i_sample(builder, "a star", CODES)),
        (Feature("a", CODES, question, answer), conversation_sample(builder, CODES, TURNS[-1:])),
        (Feature("a", None, question, answer), dialogue_sample(builder, None, TURNS[-1:])),
        (
            Feature("a", CODES, question, answer, turns=TURNS),
            conversation_sample(builder, CODES, TURNS),
        ),
        (
            Feature("a", CODES, question, answer, turns=TURNS, independent=False),
            dialogue_sample(builder, CODES, TURNS),
        ),
    ):
        sample = feature_sample(builder, feature)
        np.testing.assert_array_equal(sample.ids, expected.ids)
        np.testing.assert_array_equal(sample.labels, expected.labels)
        np.testing.assert_array_equal(sample.branches, expected.branches)


def test_a_caption_is_dropped_as_often_as_asked_and_equally_for_equal_seeds(builder):
    feature = Feature("a", CODES, "a star", captions=["a star", "one star"])
    empty = t2i_sample(builder, "", CODES).ids.tolist()

    def drawn(seed):
        rng = np.random.default_rng(seed)
        return [feature_sample(builder, feature, rng, 0.25).ids.tolist() for _ in range(200)]

    first = drawn(0)
    assert first == drawn(0) != drawn(1)
    assert 30 <= first.count(empty) <= 70
    rows = {tuple(row) for row in first}
    assert len(rows) == 3
    rng = np.random.default_rng(0)
    assert all(feature_sample(builder, feature, rng).ids.tolist() != empty for _ in range(50))


def test_only_independent_questions_change_their_order(builder):
    rng = np.random.default_rng(0)
    orders = {True: set(), False: set()}
    for independent in orders:
        feature = Feature("a", CODES, *TURNS[-1], turns=TURNS, independent=independent)
        for _ in range(20):
            orders[independent].add(tuple(labelled(feature_sample(builder, feature, rng))))
    assert len(orders[True]) > 1 and len(orders[False]) == 1


@pytest.mark.parametrize("make", [conversation_sample, dialogue_sample])
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_long_sample_loses_its_last_turns_whole(builder, make, kept):
    shorter = make(builder, CODES, TURNS[:kept])
    for spare in (0, 1):
        got, lost = fitted(builder, make(builder, CODES, TURNS), len(shorter.ids) + spare)
        assert lost == len(TURNS) - kept
        for name in ("ids", "labels", "positions", "branches"):
            np.testing.assert_array_equal(getattr(got, name), getattr(shorter, name))


@pytest.mark.parametrize("make", [conversation_sample, dialogue_sample])
def test_a_sample_whose_first_turn_does_not_fit_is_left_out_whole(builder, make):
    length = len(make(builder, CODES, TURNS[:1]).ids) - 1
    assert fitted(builder, make(builder, CODES, TURNS), length) == (None, len(TURNS))


@pytest.mark.parametrize("structure", [False, True])
def test_a_long_picture_is_left_out_whole(builder, structure):
    sample = t2i_sample(builder, "a star", CODES, structure)
    assert fitted(builder, sample, len(sample.ids)) == (sample, 0)
    assert fitted(builder, sample, len(sample.ids) - 1) == (None, 1)


def test_padding_is_never_supervised(builder):
    sample = t2i_sample(builder, "a star", CODES)
    batch = collate([sample], 64, 40, builder.vocabulary.pad)
    used = batch.labels != IGNORED_LABEL
    assert used.sum() == CODES.size
    assert (batch.places[used] < len(sample.ids)).all()
    assert (batch.branches[0, len(sample.ids) :] == PADDING).all()


def test_a_label_stands_after_its_place(builder):
    samples = [t2i_sample(builder, text, CODES) for text in ("a star", "two red circles")]
    batch = collate(samples, 64, 40, builder.vocabulary.pad)
    used = batch.labels != IGNORED_LABEL
    np.testing.assert_array_equal(batch.ids.ravel()[batch.places[used] + 1], batch.labels[used])


def test_a_sample_that_does_not_fit_is_left_out_whole(builder):
    sample = t2i_sample(builder, "a star", CODES)
    for length, labels in ((len(sample.ids) - 1, 40), (64, CODES.size - 1)):
        batch = collate([sample], length, labels, builder.vocabulary.pad)
        assert (batch.labels == IGNORED_LABEL).all()


def tiny_model(builder) -> Emu3ForCausalLM:
    config = Emu3Config(
        vocab_size=builder.tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_dropout=0.0,
        pad_token_id=builder.vocabulary.pad,
        initializer_range=0.3,
    )
    return Emu3ForCausalLM(config).set_train(False)


def loss_of(loss: nn.Cell, batch) -> float:
    return float(loss(*map(Tensor, astuple(batch))))


def test_branches_give_the_loss_of_separate_samples(builder):
    loss, pad = MeanLoss(tiny_model(builder), 160), builder.vocabulary.pad
    whole = loss_of(loss, collate([conversation_sample(builder, CODES, TURNS)], 160, 40, pad))
    total = count = 0
    for turn in TURNS:
        sample = conversation_sample(builder, CODES, [turn])
        n = len(labelled(sample))
        total += n * loss_of(loss, collate([sample], 160, 40, pad))
        count += n
    np.testing.assert_allclose(whole, total / count, rtol=1e-5)


def test_the_training_loss_is_the_models_own(builder):
    model, pad = tiny_model(builder), builder.vocabulary.pad
    sample = t2i_sample(builder, "a red star", CODES)
    ours = loss_of(MeanLoss(model, 64), collate([sample], 64, 40, pad))
    theirs = float(model(Tensor(sample.ids[None]), labels=Tensor(sample.labels[None])).loss)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
