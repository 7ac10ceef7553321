"""The best of several candidates: chosen by what the model itself holds for right."""

import numpy as np
import pytest
from mindspore import Tensor
from transformers.generation.configuration_utils import GenerationConfig

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation import CandidateRow, ChoicePart, Done, FrameDone, RowDone, choosing
from tests.mllm.generation.conftest import MARKERS

SIZE = [[2, 3]]
SAMPLED = {"do_sample": True, "image_size": SIZE, "jit": False}


def head(*text: int) -> np.ndarray:
    """A prompt that begins a picture of 2 x 3 codes: bos, text, boi, size text, img."""
    return np.array([[MARKERS["bos"], *text, MARKERS["boi"], 20, 21, MARKERS["img"]]], np.int32)


PROMPT = head(9, 10, 11)
EMPTY = head()


def made(model, ids=PROMPT, **options) -> np.ndarray:
    """New ids (N, n)."""
    return model.generate(Tensor(ids), **SAMPLED | options).asnumpy()[:, ids.shape[1] :]


def by_hand(model, vocabulary, ids: np.ndarray, new: np.ndarray) -> float:
    """log P of the visual ids among `new` behind a prompt, from one whole pass."""
    row = np.concatenate([ids[0], new])
    logits = as_numpy(model(Tensor(row[None])).logits)[0, :, vocabulary.visual_start :]
    total = 0.0
    for place in range(ids.shape[1], len(row)):
        if row[place] >= vocabulary.visual_start:
            before = logits[place - 1].astype(np.float64)
            chance = np.exp(before) / np.exp(before).sum()
            total += np.log(chance[row[place] - vocabulary.visual_start])
    return total


@pytest.fixture(scope="module")
def candidates(model) -> np.ndarray:
    """Four pictures of PROMPT, which share a seed."""
    return made(model, num_return_sequences=4, seed=7)


@pytest.fixture(scope="module")
def best(model, vocabulary, candidates) -> int:
    """Which of them fits PROMPT best; not the first one, or the tests below would prove less."""
    fit, usual = (
        np.array([by_hand(model, vocabulary, ids, new) for new in candidates])
        for ids in (PROMPT, EMPTY)
    )
    place = int(np.argmax(fit - choosing.WEIGHT * usual))
    assert place != 0
    return place


def test_the_best_is_the_one_a_whole_pass_scores_highest(model, candidates, best):
    assert np.array_equal(made(model, best_of=4, seed=7), candidates[[best]])


def test_scores_do_not_depend_on_how_many_columns_are_computed_at_once(
    model, vocabulary, candidates, monkeypatch
):
    free = vocabulary.is_visual(candidates[0])
    arguments = (model, vocabulary, PROMPT[0], candidates, free)
    whole = choosing.log_likelihoods(*arguments)
    monkeypatch.setattr(choosing, "CHUNK", 5)
    monkeypatch.setattr(choosing, "SCORES_AT_ONCE", 1)
    monkeypatch.setattr(choosing, "LEAST_AT_ONCE", 2)
    np.testing.assert_allclose(choosing.log_likelihoods(*arguments), whole, rtol=1e-5)


def test_each_prompt_of_a_batch_has_the_best_it_has_alone(model):
    other = head(12, 13, 14)
    together = made(model, np.concatenate([PROMPT, other]), best_of=3, seed=[7, 8])
    alone = [made(model, ids, best_of=3, seed=seed)[0] for ids, seed in ((PROMPT, 7), (other, 8))]
    assert np.array_equal(together, np.stack(alone))


def test_candidates_judged_one_by_one_are_judged_alike(model, candidates, best, monkeypatch):
    monkeypatch.setattr(choosing, "TOKENS_AT_ONCE", 1)
    monkeypatch.setattr(choosing, "QUIET_SECONDS", -1.0)
    events = list(model.stream(Tensor(PROMPT), best_of=4, seed=7, **SAMPLED))
    assert np.array_equal(events[-1].sequences[0, PROMPT.shape[1] :], candidates[best])
    parts = [event.done for event in events if isinstance(event, ChoicePart)]
    assert parts == [1, 2, 3, 4]


def test_what_a_picture_is_compared_with_is_the_negative_prompt(model, vocabulary, candidates):
    negative = head(12, 13)
    fit, usual = (
        np.array([by_hand(model, vocabulary, ids, new) for new in candidates])
        for ids in (PROMPT, negative)
    )
    wanted = candidates[[int(np.argmax(fit - choosing.WEIGHT * usual))]]
    options = {"negative_prompt_ids": negative, "guidance_scale": 1.0}
    assert np.array_equal(made(model, best_of=4, seed=7, **options), wanted)


def test_guided_candidates_are_guided(model, monkeypatch):
    monkeypatch.setattr(
        choosing, "log_likelihoods", lambda _m, _v, _p, new, _f: -np.arange(len(new))
    )
    guided = made(model, guidance_scale=3.0, seed=7)
    assert np.array_equal(made(model, best_of=3, guidance_scale=3.0, seed=7), guided)


@pytest.mark.parametrize("option", [{"do_sample": False}, {"top_k": 1}])
def test_candidates_that_were_all_alike_are_one(model, option):
    request = model.request(Tensor(PROMPT), best_of=4, **SAMPLED | option)
    assert (request.settings.best_of, len(request.seeds)) == (1, 1)


def test_copies_of_a_prompt_have_candidates_of_their_own(model, candidates):
    request = model.request(Tensor(PROMPT), num_return_sequences=2, best_of=3, seed=7, **SAMPLED)
    assert request.seeds == (7,) * 6
    assert request.streams == (0, 2, 4, 1, 3, 5)
    assert made(model, num_return_sequences=2, best_of=3, seed=7).shape == candidates[:2].shape


def test_the_first_candidate_is_the_picture_of_its_seed(model, candidates, monkeypatch):
    monkeypatch.setattr(choosing, "log_likelihoods", lambda _m, _v, _p, new, _f: np.zeros(len(new)))
    assert np.array_equal(made(model, best_of=4, seed=7), candidates[:1])


@pytest.mark.parametrize(
    "way", [{"decoding": "jacobi", "window": 4, "coupling": "fixed"}, {"jit": True}]
)
def test_exact_ways_choose_the_same(model, candidates, best, way):
    assert np.array_equal(made(model, best_of=4, seed=7, **way), candidates[[best]])


def test_drafts_show_the_first_and_rows_the_best(model, vocabulary, candidates, best):
    events = list(model.stream(Tensor(PROMPT), best_of=4, seed=7, **SAMPLED))

    def codes(kind: type) -> np.ndarray:
        return np.stack([event.codes for event in events if isinstance(event, kind)])

    grids = [vocabulary.codes_of(new[vocabulary.is_visual(new)]) for new in candidates]
    assert np.array_equal(codes(CandidateRow), grids[0].reshape(2, 3))
    assert np.array_equal(codes(RowDone), grids[best].reshape(2, 3))
    assert np.array_equal(codes(FrameDone)[0], codes(RowDone))
    assert [event.sequence for event in events if isinstance(event, RowDone)] == [0, 0]
    (done,) = (event for event in events if isinstance(event, Done))
    assert len(done.seeds) == len(done.forwards) == len(done.sequences) == 1
    assert done.tokens == candidates.shape[1]


def test_of_a_clip_cut_short_its_whole_rows_are_told(model, vocabulary):
    options = {"video_size": [[2, 2, 3]], "max_new_tokens": vocabulary.row_start(2, 3, 3)}
    events = model.stream(Tensor(PROMPT), best_of=2, seed=7, do_sample=True, jit=False, **options)
    rows = [(event.frame, event.row) for event in events if isinstance(event, RowDone)]
    assert rows == [(0, 0), (0, 1), (1, 0)]


def test_the_best_of_that_a_checkpoint_states_counts_for_pictures_alone(model, monkeypatch):
    monkeypatch.setattr(model.generation_config, "best_of", 3, raising=False)
    sampled = {"do_sample": True}
    assert model.request(Tensor(PROMPT), image_size=SIZE, **sampled).settings.best_of == 3
    assert model.request(Tensor(PROMPT), max_new_tokens=3, **sampled).settings.best_of == 1
    no_boi = Tensor(PROMPT[:, -1:])
    assert model.request(no_boi, image_size=SIZE, **sampled).settings.best_of == 1


@pytest.mark.parametrize(
    ("ids", "options"),
    [
        (PROMPT, {"best_of": 2, "max_new_tokens": 3}),
        (PROMPT, {"best_of": 0, "image_size": SIZE}),
        (PROMPT, {"best_of": 65, "image_size": SIZE}),
        (PROMPT, {"best_of": "4", "image_size": SIZE}),
        (PROMPT[:, -1:], {"best_of": 2, "image_size": SIZE}),
    ],
)
def test_what_has_no_best_is_refused(model, ids, options):
    with pytest.raises(InputError, match="best_of"):
        model.request(Tensor(ids), **options)


def test_a_streamer_which_cannot_wait_is_refused(model):
    config = GenerationConfig(do_sample=True, pad_token_id=0)
    with pytest.raises(InputError, match="streamer"):
        made(model, generation_config=config, best_of=2, streamer=object())
