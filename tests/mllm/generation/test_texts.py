"""Text by generate(): the golden tokens, eos, ceilings, growth, streamers, penalties."""

import numpy as np
import pytest
from mindspore import Tensor
from transformers.generation.configuration_utils import GenerationConfig

from emu3.errors import InputError
from emu3.mllm.generation import Done, TextPiece
from tests.mllm.generation.conftest import MARKERS, left_padded, prompt
from tests.tiny import GOLDEN, golden_model

PROMPT = prompt(9, seed=1)


def new_ids(model, ids=PROMPT, **options) -> np.ndarray:
    """New ids (N, n), greedy and operator by operator unless `options` say otherwise."""
    options = {"jit": False, "do_sample": False, **options}
    return model.generate(Tensor(ids), **options).asnumpy()[:, ids.shape[1] :]


@pytest.fixture(scope="module")
def answer(model) -> np.ndarray:
    """Forty greedy tokens, no eos: ids (1, 40)."""
    return new_ids(model, max_new_tokens=40, eos_token_id=None)


@pytest.mark.parametrize(("name", "jit"), [("lm_gqa", True), ("lm_linear_rope", False)])
def test_cached_decoding_gives_the_uncached_golden_tokens(name, jit):
    data = np.load(GOLDEN / f"{name}.npz")
    made = golden_model(name).generate(
        Tensor(data["input_ids"]),
        attention_mask=Tensor(data["attention_mask"]),
        max_new_tokens=12,
        eos_token_id=None,
        do_sample=False,
        jit=jit,
    )
    assert made.asnumpy()[0, 17:].tolist() == data["greedy_row0"].tolist()


def test_a_padded_batch_equals_each_prompt_alone(model, answer):
    other = prompt(4, seed=7)
    ids, mask = left_padded(PROMPT, other)
    both = new_ids(model, ids, attention_mask=mask, max_new_tokens=12, eos_token_id=None)
    alone = new_ids(model, other, max_new_tokens=12, eos_token_id=None)
    assert np.array_equal(both, np.concatenate([answer[:, :12], alone]))


def test_the_cache_grows_without_changing_a_token(model):
    ids = np.tile(PROMPT, (1, 13))  # 117 tokens in a first cache of 128 slots
    grown = new_ids(model, ids, max_new_tokens=20, eos_token_id=None)
    for start in (8, 16):
        longer = np.concatenate([ids, grown[:, :start]], 1)
        part = new_ids(model, longer, max_new_tokens=20 - start, eos_token_id=None)
        assert np.array_equal(part, grown[:, start:])


def test_an_answer_stops_at_its_eos_and_is_padded(model, answer):
    eos = int(answer[0, 5])
    first = answer[0].tolist().index(eos)
    other = prompt(9, seed=3)
    ids = np.concatenate([PROMPT, other])
    both = new_ids(model, ids, max_new_tokens=10, eos_token_id=[eos, 62], pad_token_id=0)
    assert both[0, first] == eos
    assert (both[0, first + 1 :] == 0).all()
    alone = new_ids(model, max_new_tokens=10, eos_token_id=eos)
    assert alone.shape == (1, first + 1)


def test_a_ceiling_is_a_ceiling(model, answer):
    assert np.array_equal(new_ids(model, max_new_tokens=3, eos_token_id=None), answer[:, :3])


def test_without_a_pad_id_an_answer_is_padded_with_its_models_eos(model, answer, monkeypatch):
    for config in (model.config, model.generation_config):
        monkeypatch.setattr(config, "pad_token_id", None)
    eos = int(answer[0, 5])
    first = answer[0].tolist().index(eos)
    both = np.concatenate([PROMPT, prompt(9, seed=3)])
    made = new_ids(model, both, max_new_tokens=10, eos_token_id=[eos, 62])
    assert (made[0, first + 1 :] == MARKERS["eos"]).all()


def test_a_max_length_of_20_is_honoured_when_asked_for_and_unsaid_when_stated(model):
    def length(**options) -> int:
        return PROMPT.shape[1] + new_ids(model, eos_token_id=None, **options).shape[1]

    assert length(max_length=20) == 20
    stated = {"generation_config": GenerationConfig(max_new_tokens=5)}
    assert length(max_length=20, **stated) == 20
    assert length(max_length=20, max_new_tokens=3) == PROMPT.shape[1] + 3
    assert length(max_new_tokens=30, generation_config=GenerationConfig(max_length=20)) == 39
    long = np.tile(PROMPT, (1, 43))  # 387 of 400 positions
    stated = {"generation_config": GenerationConfig(max_length=20)}
    assert new_ids(model, long, eos_token_id=None, **stated).shape[1] == 13


def test_max_length_counts_the_prompt(model, answer):
    made = new_ids(model, max_length=PROMPT.shape[1] + 5, eos_token_id=None)
    assert np.array_equal(made, answer[:, :5])


def test_a_huge_ceiling_ends_at_the_last_position(model):
    ids = np.tile(PROMPT, (1, 44))  # 396 of 400 positions
    assert new_ids(model, ids, max_new_tokens=40960, eos_token_id=None).shape[1] == 4


def test_a_given_configuration_replaces_the_checkpoints(model, answer):
    config = GenerationConfig(max_new_tokens=4, pad_token_id=0)
    assert np.array_equal(model.generate(Tensor(PROMPT), config).asnumpy()[:, 9:], answer[:, :4])


def test_pieces_joined_are_the_answer_without_eos(model, answer):
    eos = int(answer[0, 20])
    options = {"max_new_tokens": 40, "eos_token_id": eos, "jit": False, "do_sample": False}
    events = list(model.stream(Tensor(PROMPT), **options))
    pieces = [event.ids for event in events if isinstance(event, TextPiece)]
    first = answer[0].tolist().index(eos)
    assert np.concatenate(pieces).tolist() == answer[0, :first].tolist()
    assert isinstance(events[-1], Done)
    assert events[-1].tokens == first + 1


def test_a_streamer_gets_prompt_tokens_and_end(model, answer):
    class Streamer:
        def __init__(self):
            self.seen, self.ended = [], False

        def put(self, value):
            self.seen.append(value)

        def end(self):
            self.ended = True

    streamer = Streamer()
    new_ids(model, max_new_tokens=12, eos_token_id=None, streamer=streamer)
    assert np.array_equal(streamer.seen[0], PROMPT)
    assert np.concatenate(streamer.seen[1:]).tolist() == answer[0, :12].tolist()
    assert streamer.ended


def test_suppressed_ids_never_appear(model, answer):
    banned = sorted(set(answer[0, :6].tolist()))
    made = new_ids(model, max_new_tokens=6, eos_token_id=None, suppress_tokens=banned)
    assert not set(made[0].tolist()) & set(banned)


def test_min_new_tokens_puts_eos_off(model, answer):
    eos = int(answer[0, 0])
    made = new_ids(model, max_new_tokens=10, min_new_tokens=6, eos_token_id=eos)
    assert eos not in made[0, :6]


def test_repetition_penalty_forbids_repeats_when_extreme(model):
    made = new_ids(model, max_new_tokens=12, eos_token_id=None, repetition_penalty=1e9)
    seen = [*PROMPT[0].tolist(), *made[0].tolist()]
    assert len(set(made[0].tolist())) == 12
    assert len(set(seen)) == len(set(PROMPT[0].tolist())) + 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 4}, "num_beams"),
        ({"no_repeat_ngram_size": 2}, "no_repeat_ngram_size"),
        ({"temprature": 1.0}, "temprature"),
        ({"temperature": 0.0}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"suppress_tokens": [63]}, "suppress_tokens"),
        ({"attention_mask": np.zeros((1, 9))}, "empty"),
        ({"attention_mask": np.ones((1, 8))}, "attention mask"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(model, options, message):
    with pytest.raises(InputError, match=message):
        model.generate(Tensor(PROMPT), **options)


def test_a_prompt_beyond_the_positions_is_refused(model):
    with pytest.raises(InputError, match="max_position_embeddings"):
        model.generate(Tensor(np.tile(PROMPT, (1, 45))))


def test_ids_outside_the_vocabulary_are_refused(model):
    with pytest.raises(InputError, match=r"0\.\.62"):
        model.generate(Tensor(np.array([[63]], np.int32)))


@pytest.mark.parametrize("kind", ["linear", "dynamic"])
def test_scaled_positions_go_on_past_the_trained_ones(kind):
    scaling = {"type": kind, "factor": 2.0}
    model = golden_model(max_position_embeddings=11, rope_scaling=scaling)
    ids, cache, made = np.arange(3, 20, dtype=np.int32)[None], None, []
    part = ids
    for _ in range(6):  # the cache's way, token by token
        output = model(Tensor(part), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        part = output.logits.asnumpy()[:, -1:].argmax(-1).astype(np.int32)
        made.append(int(part[0, 0]))
    options = {"do_sample": False, "jit": False, "max_new_tokens": 6, "eos_token_id": None}
    assert new_ids(model, ids, **options)[0].tolist() == made
    other = np.arange(30, 35, dtype=np.int32)
    batch = model.generate([ids[0].tolist(), other.tolist()], **options).asnumpy()
    assert batch[0, 17:].tolist() == made
