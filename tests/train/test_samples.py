"""What is supervised, span by span."""

import numpy as np
from mindspore import Tensor, nn

from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from train.samples import PADDING, collate, conversation_sample, t2i_sample
from train.sft import Loss

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
    arrays = (batch.ids, batch.positions, batch.branches, batch.places, batch.labels)
    return float(loss(*(Tensor(a) for a in arrays)))


def test_branches_give_the_loss_of_separate_samples(builder):
    loss, pad = Loss(tiny_model(builder), 160), builder.vocabulary.pad
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
    ours = loss_of(Loss(model, 64), collate([sample], 64, 40, pad))
    theirs = float(model(Tensor(sample.ids[None]), labels=Tensor(sample.labels[None])).loss)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
