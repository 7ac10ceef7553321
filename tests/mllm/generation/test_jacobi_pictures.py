"""Jacobi decoding and ZipAR of pictures by generate() and stream(), against plain decoding."""

import numpy as np
import pytest
from mindspore import Tensor
from transformers.generation.configuration_utils import GenerationConfig

from emu3.errors import InputError
from emu3.mllm.generation import Done, PrefillDone, RowDone
from emu3.mllm.generation.schemes import merged
from tests.mllm.generation.conftest import MARKERS, left_padded, prompt

POSITIVE, NEGATIVE = prompt(9, seed=1), prompt(6, seed=2)
SAMPLED = {"do_sample": True, "top_k": 20, "jit": False}
GUIDED = {"guidance_scale": 3.0, "negative_prompt_ids": NEGATIVE, **SAMPLED}
FIXED = {"decoding": "jacobi", "coupling": "fixed", "window": 4}

WAYS = [
    {"decoding": "jacobi", "coupling": coupling, "window": 4}
    for coupling in ("none", "maximal", "gumbel")
] + [{"decoding": "zipar", "zipar_window": 2}]
LONG = {"decoding": "jacobi", "coupling": "maximal", "window": 40}  # longer than the pictures


def last_event(model, ids=POSITIVE, **options) -> Done:
    *_, done = model.stream(Tensor(ids), **options)
    return done


def new_ids(model, ids=POSITIVE, **options) -> np.ndarray:
    """New ids (N, n)."""
    return last_event(model, ids, **options).sequences[:, ids.shape[1] :]


@pytest.fixture(scope="module")
def batch() -> dict:
    """Two guided prompts of different lengths and pictures of different sizes."""
    ids, mask = left_padded(POSITIVE, prompt(5, seed=3))
    return {"ids": ids, "attention_mask": mask, "image_size": [[3, 4], [2, 5]], **GUIDED}


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("seeds", [(0, 1), (2, 3)])
def test_fixed_noise_equals_plain_decoding_token_for_token(model, batch, seeds, jit):
    plain = new_ids(model, **batch, seed=seeds)
    batch = {**batch, "jit": jit}
    assert np.array_equal(new_ids(model, **batch, seed=seeds, **FIXED), plain)


@pytest.mark.parametrize("change", [{"do_sample": False}, {"top_p": 0.7}, {"guidance_scale": 1.0}])
def test_fixed_noise_equals_plain_decoding_under_other_settings(model, batch, change):
    batch = {**batch, **change, "seed": [6, 7]}
    assert np.array_equal(new_ids(model, **batch, **FIXED), new_ids(model, **batch))


@pytest.mark.parametrize("jit", [False, True])
def test_rows_that_wait_for_the_whole_row_above_equal_plain_decoding(model, batch, jit):
    plain = new_ids(model, **batch, seed=[4, 5])
    batch = {**batch, "jit": jit}
    made = new_ids(model, **batch, seed=[4, 5], decoding="zipar", zipar_window=5)
    assert np.array_equal(made, plain)


@pytest.mark.parametrize("option", [*WAYS, LONG])
def test_each_picture_of_a_batch_equals_itself_alone_and_compiled(model, batch, option):
    both = last_event(model, **batch, seed=[8, 9], **option)
    options = {**GUIDED, **option, "image_size": [[2, 5]], "seed": 9, "jit": True}
    alone = last_event(model, prompt(5, seed=3), **options)
    assert np.array_equal(both.sequences[1, 9:24], alone.sequences[0, 5:])
    assert both.forwards[1] == alone.forwards[0]


@pytest.mark.parametrize("option", WAYS)
def test_the_cache_grows_without_changing_a_token(model, option, monkeypatch):
    options = {"image_size": [[4, 12]], "seed": 3, **SAMPLED, **option}
    whole = new_ids(model, **options)
    sizes = [24, 34, 48, 80]
    monkeypatch.setattr("emu3.mllm.generation.decoder.capacities", lambda *_: sizes)
    assert np.array_equal(new_ids(model, **options), whole)
    assert not sizes


def test_events_tell_every_row_in_order_and_what_it_took(model, vocabulary):
    options = {"image_size": [[3, 4]], "seed": 5, **GUIDED, "decoding": "jacobi", "window": 4}
    events = list(model.stream(Tensor(POSITIVE), **options))
    rows = [event for event in events if isinstance(event, RowDone)]
    new = events[-1].sequences[0, POSITIVE.size :]
    (codes,) = (piece for piece in vocabulary.parse_images(new) if piece.ndim == 2)
    assert isinstance(events[0], PrefillDone)
    assert [event.row for event in rows] == [0, 1, 2]
    assert np.array_equal(np.stack([event.codes for event in rows]), codes)
    assert events[-1].tokens == vocabulary.grid_length(3, 4)
    assert 4 <= events[-1].forwards[0] < vocabulary.grid_length(3, 4) - 4
    assert events[-1].tokens_per_forward == events[-1].tokens / events[-1].forwards[0]


def test_plain_decoding_takes_a_forward_for_every_place_of_the_rows(model):
    done = last_event(model, image_size=[[3, 4]], seed=5, **SAMPLED)
    assert done.forwards == (3 * 5,)


@pytest.mark.parametrize(("start_after", "forwards"), [(2, 2 * 2 + 4), (4, 3 * 4), (9, 3 * 4)])
def test_zipar_takes_the_forwards_its_schedule_says(model, start_after, forwards):
    options = {"image_size": [[3, 4]], "seed": 5, **SAMPLED, "decoding": "zipar"}
    done = last_event(model, zipar_window=start_after, **options)
    assert done.forwards == (forwards - 1,)  # the first token comes from the prompt's run


def test_the_streamer_gets_every_column_once(model):
    columns = []

    class Streamer:
        def put(self, ids):
            columns.append(ids)

        def end(self):
            columns.append(None)

    options = {"image_size": [[3, 4]], "seed": 5, **SAMPLED, "decoding": "jacobi", "window": 4}
    output = model.generate(Tensor(POSITIVE), streamer=Streamer(), **options).asnumpy()
    assert columns[-1] is None
    assert np.array_equal(np.stack(columns[1:-1], 1), output[:, POSITIVE.size :])


@pytest.mark.parametrize("option", WAYS)
def test_the_grid_is_exact_when_a_ceiling_cuts_it(model, vocabulary, option):
    options = {"image_size": [[3, 4]], "seed": 5, **GUIDED, **option}
    whole = new_ids(model, **options)[0]
    assert np.array_equal(new_ids(model, max_new_tokens=8, **options)[0], whole[:8])
    forced = vocabulary.forced_ids(3, 4)
    assert np.array_equal(whole[forced >= 0], forced[forced >= 0])
    assert vocabulary.is_visual(whole[forced < 0]).all()


@pytest.mark.parametrize("option", [FIXED, *WAYS])
def test_a_picture_continues_where_its_prompt_stops(model, option):
    options = {"image_size": [[3, 4]], "do_sample": False, "jit": False, **option}
    whole = new_ids(model, **options)
    begun = np.concatenate([POSITIVE, whole[:, :7]], 1)
    made = new_ids(model, begun, **options)
    assert made.shape == (1, 11)
    if option.get("decoding") == "jacobi":
        assert np.array_equal(made, whole[:, 7:])


@pytest.mark.parametrize("option", [FIXED, *WAYS])
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (2, 2)])
def test_narrow_pictures_end_well(model, vocabulary, size, option):
    option = {**option, "window": 3} if "window" in option else option
    made = new_ids(model, image_size=[size], seed=5, **SAMPLED, **option)[0]
    (codes,) = (piece for piece in vocabulary.parse_images(made) if piece.ndim == 2)
    assert codes.shape == size
    assert made[-1] == MARKERS["eos"]


def test_every_option_has_an_effect(model):
    options = {"image_size": [[3, 6]], "seed": 5, **GUIDED, "temperature": 2.0}
    jacobi = [{"coupling": "none"}, {"coupling": "maximal"}, {"coupling": "gumbel"}, {"window": 3}]
    zipar = [{"zipar_window": 1}, {"zipar_window": 3}]
    ways = [{"decoding": "jacobi", **o} for o in jacobi] + [
        {"decoding": "zipar", **o} for o in zipar
    ]
    pictures = {new_ids(model, **options, **way).tobytes() for way in [{}, *ways]}
    assert len(pictures) == 1 + len(ways)


def test_a_generation_config_may_hold_the_options(model):
    config = GenerationConfig(do_sample=True, top_k=20, decoding="jacobi", window=4)
    options = {"image_size": [[3, 4]], "seed": 5}
    made = new_ids(model, generation_config=config, jit=False, **options)
    wanted = new_ids(model, **options, **SAMPLED, decoding="jacobi", window=4)
    assert np.array_equal(made, wanted)


def test_a_stated_scheme_is_idle_for_text(model):
    config = GenerationConfig(max_new_tokens=4, decoding="jacobi", window=4)
    made = new_ids(model, generation_config=config)
    assert np.array_equal(made, new_ids(model, max_new_tokens=4))
    with pytest.raises(InputError, match="for pictures"):
        model.stream(Tensor(POSITIVE), generation_config=config, window=3)


def test_what_is_asked_for_wins_over_what_is_stated():
    stated = {"decoding": "jacobi", "window": 8, "coupling": "none"}
    silent = {"decoding": "plain", "window": None, "coupling": None, "zipar_window": None}
    assert merged({}, {}) == silent
    assert merged(stated, {"window": 6}) == {**silent, **stated, "window": 6}
    assert merged(stated, {"decoding": "plain"}) == silent
    zipar = {"decoding": "zipar", "zipar_window": 4}
    assert merged(stated, zipar) == {**silent, **zipar}


PICTURE = {"image_size": [[3, 4]]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**PICTURE, "decoding": "fast"}, "--decoding"),
        ({**PICTURE, "decoding": "jacobi", "coupling": "tight"}, "--coupling"),
        ({**PICTURE, "decoding": "jacobi", "window": 1}, "window"),
        ({**PICTURE, "decoding": "jacobi", "window": 2.5}, "window"),
        ({**PICTURE, "decoding": "jacobi", "window": 4097}, "--window"),
        ({**PICTURE, "decoding": "zipar", "zipar_window": 0}, "zipar_window"),
        ({**PICTURE, "window": 4}, "--window or --decoding"),
        ({**PICTURE, "decoding": "zipar", "coupling": "none"}, "--coupling or --decoding"),
        ({**PICTURE, "decoding": "jacobi", "zipar_window": 4}, "--zipar-window or --decoding"),
        ({"decoding": "jacobi"}, "for pictures"),
        ({**PICTURE, "decoding": "jacobi", "repetition_penalty": 1.2}, "repetition_penalty"),
        ({**PICTURE, "decoding": "zipar", "suppress_tokens": [40]}, "suppressed_tokens"),
        ({**PICTURE, "decoding": "jacobi", "logits_processor": [str]}, "type"),
        ({**PICTURE, "decoding": "jacobi", "num_beams": 2}, "num_beams"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(model, options, message):
    with pytest.raises(InputError, match=message):
        model.stream(Tensor(POSITIVE), **options)
