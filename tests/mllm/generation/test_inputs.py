"""What generate() makes of its arguments: padding, eos, guidance, sizes of whole pictures."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from transformers.generation.configuration_utils import GenerationConfig

from emu3.errors import InputError
from tests.mllm.generation.conftest import MARKERS, left_padded, prompt

FIRST, SECOND = prompt(9, seed=1), prompt(4, seed=7)
PAD, EOS = MARKERS["pad"], MARKERS["eos"]


def made_ids(model, ids, **options) -> np.ndarray:
    """Ids (N, T + n) of generate(), greedy and operator by operator."""
    ids = ids if isinstance(ids, list) else Tensor(ids)
    return model.generate(ids, **{"jit": False, "do_sample": False, **options}).asnumpy()


def padded(side: str) -> tuple[np.ndarray, np.ndarray]:
    """Two prompts with pad ids on a side, and their mask."""
    ids, mask = left_padded(FIRST, SECOND)
    if side == "right":
        ids[1], mask[1] = np.roll(ids[1], -5), np.roll(mask[1], -5)
    return ids, mask


@pytest.mark.parametrize("side", ["left", "right"])
def test_without_a_mask_pad_ids_are_padding(model, side):
    ids, mask = padded(side)
    options = {"max_new_tokens": 4, "eos_token_id": None}
    wanted = made_ids(model, ids, attention_mask=mask, **options)
    assert np.array_equal(made_ids(model, ids, **options), wanted)
    assert np.array_equal(made_ids(model, ids.tolist(), **options), wanted)


def test_a_pad_that_ends_answers_too_is_part_of_the_prompt(model):
    ids, _ = padded("left")
    options = {"max_new_tokens": 4, "eos_token_id": [PAD, 62]}
    wanted = made_ids(model, ids, attention_mask=np.ones_like(ids), **options)
    assert np.array_equal(made_ids(model, ids, **options), wanted)


def test_pads_of_a_negative_prompt_are_padding(model):
    options = {"image_size": [[1, 2]], "guidance_scale": 3.0}
    bare = made_ids(model, FIRST, negative_prompt_ids=SECOND, **options)
    longer = np.pad(SECOND, ((0, 0), (3, 0)), constant_values=PAD)
    assert np.array_equal(made_ids(model, FIRST, negative_prompt_ids=longer, **options), bare)


def test_a_configuration_without_eos_ends_at_the_models(model, monkeypatch):
    eos = int(made_ids(model, FIRST, max_new_tokens=6, eos_token_id=None)[0, 12])
    monkeypatch.setattr(model.config, "eos_token_id", eos)
    config = GenerationConfig(max_new_tokens=30, do_sample=False, pad_token_id=PAD)
    assert made_ids(model, FIRST, generation_config=config)[0, -1] == eos
    assert made_ids(model, FIRST, generation_config=config, eos_token_id=None).shape[1] == 39


def head() -> np.ndarray:
    """A prompt that begins a picture of 2 x 3 codes: bos, text, boi, size text, img."""
    ids = [MARKERS["bos"], 9, 10, 11, MARKERS["boi"], 20, 21, MARKERS["img"]]
    return np.array([ids], np.int32)


def test_guidance_without_negative_prompts_steers_away_from_the_empty_prompt(model):
    options = {"image_size": [[2, 3]], "guidance_scale": 3.0}
    empty = np.concatenate([head()[:, :1], head()[:, 4:]], 1)
    wanted = made_ids(model, head(), negative_prompt_ids=empty, **options)
    assert np.array_equal(made_ids(model, head(), **options), wanted)
    plain = made_ids(model, head(), image_size=[[2, 3]])
    assert not np.array_equal(wanted, plain)


def test_the_guidance_a_checkpoint_states_counts_for_pictures_alone(model, monkeypatch):
    monkeypatch.setattr(model.generation_config, "guidance_scale", 3.0)
    stated = model.request(Tensor(head()), image_size=[[2, 3]])
    assert stated.rows.guided and stated.settings.guidance_scale == 3
    assert not model.request(Tensor(head()), image_size=[[2, 3]], guidance_scale=1).rows.guided
    assert not model.request(Tensor(head()), max_new_tokens=3).rows.guided


def test_the_size_of_a_picture_that_is_whole_asks_for_none(model, vocabulary):
    codes = np.arange(6).reshape(2, 3)
    ids = np.concatenate([head()[0], vocabulary.image_body(codes), [12, 13]])[None]
    ids = ids.astype(np.int32)
    options = {"max_new_tokens": 4, "eos_token_id": None}
    wanted = made_ids(model, ids, **options)
    assert np.array_equal(made_ids(model, ids, image_size=[[2, 3]], **options), wanted)


def test_token_types_are_idle_unless_they_differ(model):
    zeros = np.zeros_like(FIRST)
    options = {"max_new_tokens": 3, "eos_token_id": None}
    wanted = made_ids(model, FIRST, **options)
    assert np.array_equal(made_ids(model, FIRST, token_type_ids=zeros, **options), wanted)
    with pytest.raises(InputError, match="token_type_ids"):
        made_ids(model, FIRST, token_type_ids=zeros + 1, **options)


def test_copies_of_a_greedy_answer_are_alike(model):
    made = made_ids(model, FIRST, max_new_tokens=3, num_return_sequences=2, eos_token_id=None)
    assert np.array_equal(made[0], made[1])


@pytest.mark.parametrize(
    "seeds",
    [[2**63 - 1, 2**63], [-(2**63), 2**64 - 1], np.array([3, 2**63 - 1]), Tensor([3, 4]),
     [np.int32(3), 4], range(5, 7)],
)  # fmt: skip
def test_seeds_are_taken_as_they_are(model, seeds):
    request = model.request(Tensor(FIRST), max_new_tokens=3, num_return_sequences=2, seed=seeds)
    assert [(type(seed), seed) for seed in request.seeds] == [(int, int(seed)) for seed in seeds]


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": "64"},
        {"temperature": "0.5"},
        {"temperature": "x"},
        {"temperature": float("nan")},
        {"temperature": 1e-38},
        {"top_p": 1e-300},
        {"guidance_scale": 1e300},
        {"guidance_floor": 1.1},
        {"max_new_tokens": "5"},
        {"max_new_tokens": float("nan")},
        {"max_new_tokens": float("inf")},
        {"num_return_sequences": 10**5000},
        {"do_sample": "no"},
        {"eos_token_id": "1"},
        {"eos_token_id": [[1]]},
        {"eos_token_id": 63},
        {"pad_token_id": "0"},
        {"min_length": [1]},
        {"repetition_penalty": "x"},
        {"seed": "a"},
        {"seed": 1.5},
        {"seed": 2**64},
        {"seed": True},
        {"seed": [[1, 2]]},
        {"stopping_criteria": [None]},
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(model, options):
    with pytest.raises(InputError, match=next(iter(options))) as caught:
        model.request(Tensor(FIRST), **options)
    assert len(str(caught.value)) < 400


def test_ids_beyond_32_bits_are_no_small_ids(model):
    with pytest.raises(InputError, match=r"0\.\.62"):
        model.request(np.array([[2**32 + 3]]))


def test_scores_that_are_no_numbers_are_named(model):
    weight = model.model.norm.weight
    kept = weight.asnumpy().copy()
    weight.set_data(Tensor(np.full_like(kept, np.nan), ms.float32))
    try:
        with pytest.raises(InputError, match="NaN"):
            made_ids(model, FIRST, max_new_tokens=3)
    finally:
        weight.set_data(Tensor(kept))


@pytest.mark.parametrize("scheme", [{}, {"decoding": "jacobi"}, {"decoding": "zipar"}])
def test_scores_that_become_no_numbers_on_the_way_are_named(model, scheme):
    weight = model.model.embed_tokens.weight
    kept = weight.asnumpy().copy()
    broken = kept.copy()
    broken[MARKERS["eol"]] = np.inf  # not of the prompt: first met after a row
    weight.set_data(Tensor(broken))
    try:
        with pytest.raises(InputError, match="NaN"):
            made_ids(model, FIRST, image_size=[[2, 3]], **scheme)
    finally:
        weight.set_data(Tensor(kept))
    assert made_ids(model, FIRST, image_size=[[2, 3]], **scheme).shape[0] == 1
