"""Pictures by generate() and stream(): guidance, batches, grids, seeds, events."""

import numpy as np
import pytest
from mindspore import Tensor

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation import Done, PrefillDone, RowDone
from tests.mllm.generation.conftest import MARKERS, left_padded, prompt

POSITIVE, NEGATIVE = prompt(9, seed=1), prompt(6, seed=2)
GUIDED = {"guidance_scale": 3.0, "negative_prompt_ids": NEGATIVE}
SAMPLED = {"do_sample": True, "top_k": 20, "seed": 5}


def new_ids(model, ids=POSITIVE, **options) -> np.ndarray:
    """New ids (N, n) of generate(), run operator by operator unless `options` say otherwise."""
    output = model.generate(Tensor(ids), **{"jit": False, **options}).asnumpy()
    assert np.array_equal(np.unique(output[:, : ids.shape[1]], axis=0), np.unique(ids, axis=0))
    return output[:, ids.shape[1] :]


def two_passes(model, size, scale, floor=0.0) -> list[int]:
    """Greedy guided decoding spelled out: two separate full passes for every token."""
    vocabulary_start = MARKERS["eoi"] + 1
    height, width = size
    made: list[int] = []
    for place in range(height * (width + 1)):
        if place % (width + 1) == width:
            made.append(MARKERS["eol"])
            continue
        tail = np.array([made], np.int32)
        rows = [np.concatenate([start, tail], 1) for start in (POSITIVE, NEGATIVE)]
        wanted, unwanted = (as_numpy(model(Tensor(row)).logits)[0, -1] for row in rows)
        mixed = (unwanted + scale * (wanted - unwanted))[vocabulary_start:]
        chances = np.exp(wanted[vocabulary_start:])
        mixed[chances < floor * chances.max()] = -np.inf
        made.append(vocabulary_start + int(mixed.argmax()))
    return [*made, *(MARKERS[name] for name in ("eof", "eoi", "eos"))]


@pytest.fixture(scope="module")
def picture(model) -> np.ndarray:
    """A guided, sampled picture of 3 x 4 codes: ids (1, 18)."""
    return new_ids(model, image_size=[[3, 4]], **GUIDED, **SAMPLED)


def test_batched_guidance_equals_two_separate_passes(model):
    made = new_ids(model, image_size=[[2, 3]], do_sample=False, **GUIDED)
    assert made[0].tolist() == two_passes(model, (2, 3), 3.0)


def test_what_the_prompt_makes_unlikely_stays_out_under_a_guidance_floor(model):
    options = {"image_size": [[2, 3]], "do_sample": False, **GUIDED, "guidance_scale": 30.0}
    expected = two_passes(model, (2, 3), 30.0, floor=0.9)
    assert new_ids(model, guidance_floor=0.9, **options)[0].tolist() == expected
    assert new_ids(model, guidance_floor=0.9, jit=True, **options)[0].tolist() == expected
    assert new_ids(model, **options)[0].tolist() != expected


def test_compiled_steps_make_the_same_picture(model, picture):
    made = new_ids(model, image_size=[[3, 4]], jit=True, **GUIDED, **SAMPLED)
    assert np.array_equal(made, picture)


def test_the_grid_is_exact(vocabulary, picture):
    assert picture.shape == (1, vocabulary.grid_length(3, 4))
    forced = vocabulary.forced_ids(3, 4)
    assert np.array_equal(picture[0][forced >= 0], forced[forced >= 0])
    assert vocabulary.is_visual(picture[0][forced < 0]).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (2, 2)])
def test_narrow_pictures_end_well(model, vocabulary, size):
    made = new_ids(model, image_size=[size], **SAMPLED)[0]
    (codes,) = (piece for piece in vocabulary.parse_images(made) if piece.ndim == 2)
    assert codes.shape == size
    assert made[-1] == MARKERS["eos"]


def test_each_picture_of_a_mixed_batch_equals_itself_alone(model, picture):
    other, sizes = prompt(5, seed=3), [[3, 4], [2, 2]]
    ids, mask = left_padded(POSITIVE, other)
    options = {"negative_prompt_ids": NEGATIVE, "guidance_scale": 3.0, "do_sample": True}
    both = new_ids(
        model, ids, attention_mask=mask, image_size=sizes, seed=[5, 8], top_k=20, **options
    )
    alone = new_ids(model, other, image_size=sizes[1:], seed=8, top_k=20, **options)
    assert np.array_equal(both[0], picture[0])
    assert np.array_equal(both[1, : alone.shape[1]], alone[0])
    assert (both[1, alone.shape[1] :] == MARKERS["pad"]).all()


def test_the_padding_side_changes_nothing(model, picture):
    ids = np.pad(POSITIVE, ((0, 0), (0, 4)))
    mask = np.pad(np.ones_like(POSITIVE), ((0, 0), (0, 4)))
    output = new_ids(model, ids, attention_mask=mask, image_size=[[3, 4]], **GUIDED, **SAMPLED)
    assert np.array_equal(output, picture)


def test_copies_of_a_prompt_begin_with_its_first_picture(model, picture):
    made = new_ids(model, image_size=[[3, 4]], num_return_sequences=3, **GUIDED, **SAMPLED)
    assert np.array_equal(made[0], picture[0])
    assert len(np.unique(made, axis=0)) == 3


def test_a_seed_repeats_and_another_differs(model, picture):
    options = {**GUIDED, **SAMPLED}
    again = new_ids(model, image_size=[[3, 4]], **options)
    other = new_ids(model, image_size=[[3, 4]], **{**options, "seed": 6})
    assert np.array_equal(again, picture)
    assert not np.array_equal(other, picture)


def test_without_a_seed_pictures_differ_and_say_their_seed(model):
    runs = []
    for _ in range(2):
        options = {"image_size": [[2, 3]], "do_sample": True, "jit": False}
        *_, done = model.stream(Tensor(POSITIVE), **options)
        runs.append(done)
    again = model.generate(Tensor(POSITIVE), seed=list(runs[0].seeds), **options).asnumpy()
    assert not np.array_equal(runs[0].sequences, runs[1].sequences)
    assert np.array_equal(again, runs[0].sequences)


@pytest.mark.parametrize("change", [{"temperature": 0.2}, {"top_k": 2}, {"top_p": 0.3}])
def test_sampling_settings_have_an_effect(model, picture, change):
    changed = new_ids(model, image_size=[[3, 4]], **{**GUIDED, **SAMPLED, **change})
    assert not np.array_equal(changed, picture)


def test_guidance_has_an_effect_and_one_is_without(model, picture):
    options = {"image_size": [[3, 4]], "negative_prompt_ids": NEGATIVE, **SAMPLED}
    without = new_ids(model, image_size=[[3, 4]], **SAMPLED)
    assert np.array_equal(new_ids(model, guidance_scale=1.0, **options), without)
    assert not np.array_equal(without, picture)


def test_a_ceiling_cuts_the_picture(model, picture):
    made = new_ids(model, image_size=[[3, 4]], max_new_tokens=7, **GUIDED, **SAMPLED)
    assert np.array_equal(made, picture[:, :7])


def test_a_huge_ceiling_without_eos_ends_with_the_grid(model, picture):
    options = {"max_new_tokens": 40960, "eos_token_id": None, **GUIDED, **SAMPLED}
    assert np.array_equal(new_ids(model, image_size=[[3, 4]], **options), picture)


def test_a_picture_continues_where_its_prompt_stops(model):
    # Greedy, since a seed counts new tokens from the prompt's end.
    options = {"image_size": [[3, 4]], "do_sample": False}
    whole = new_ids(model, POSITIVE, **options)
    begun = np.concatenate([POSITIVE, whole[:, :7]], 1)
    assert np.array_equal(new_ids(model, begun, **options), whole[:, 7:])


def test_events_tell_every_row_in_order(model, vocabulary, picture):
    events = list(
        model.stream(Tensor(POSITIVE), image_size=[[3, 4]], jit=False, **GUIDED, **SAMPLED)
    )
    rows = [event for event in events if isinstance(event, RowDone)]
    (codes,) = (piece for piece in vocabulary.parse_images(picture[0]) if piece.ndim == 2)
    assert isinstance(events[0], PrefillDone)
    assert events[0].tokens == POSITIVE.size + NEGATIVE.size
    assert [(event.sequence, event.row) for event in rows] == [(0, 0), (0, 1), (0, 2)]
    assert np.array_equal(np.stack([event.codes for event in rows]), codes)
    assert isinstance(events[-1], Done)
    assert events[-1].tokens == picture.size


def test_two_streams_at_a_time_do_not_disturb_each_other(model, picture):
    options = {"image_size": [[3, 4]], "jit": False, **GUIDED, **SAMPLED}
    first, second = (model.stream(Tensor(POSITIVE), **options) for _ in range(2))
    ends = list(zip(first, second))[-1]
    assert all(np.array_equal(end.sequences[:, 9:], picture) for end in ends)


def test_stopping_early_leaves_the_rows_made_and_the_training_mode(model):
    model.set_train(True)
    try:
        events = model.stream(Tensor(POSITIVE), image_size=[[3, 4]], jit=False)
        first = next(event for event in events if isinstance(event, RowDone))
        events.close()
        assert model.training
    finally:
        model.set_train(False)
    assert first.codes.shape == (4,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance_scale": 3.0}, "negative_prompt_ids"),
        ({"image_size": [[40, 40]]}, "positions"),
        ({"image_size": [[0, 4]]}, "latent rows"),
        ({"image_size": [[2, 2]], "seed": [1, 2]}, "seed"),
        ({"negative_prompt_ids": np.array([[9], [9]]), "guidance_scale": 2.0}, "negative prompts"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(model, options, message):
    with pytest.raises(InputError, match=message):
        model.stream(Tensor(POSITIVE), **options)
