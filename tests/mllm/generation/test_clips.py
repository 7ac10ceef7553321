"""Clips by generate() and stream(): one grammar with pictures, whatever the way of decoding."""

import numpy as np
import pytest
from mindspore import Tensor

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation import FrameDone, RowDone
from emu3.mllm.generation.schemes import ZipAR
from emu3.mllm.generation.zipar import IDLE, make_schedule
from emu3.mllm.grammar import make_grid, read_sizes
from tests.mllm.generation.conftest import MARKERS, left_padded, prompt

POSITIVE, NEGATIVE = prompt(9, seed=1), prompt(6, seed=2)
SAMPLED = {"do_sample": True, "top_k": 20, "jit": False}
GUIDED = {"guidance_scale": 3.0, "negative_prompt_ids": NEGATIVE, **SAMPLED}
SIZE = [[3, 2, 4]]


def new_ids(model, ids=POSITIVE, **options) -> np.ndarray:
    """New ids (N, n)."""
    return model.generate(Tensor(ids), **options).asnumpy()[:, ids.shape[1] :]


def gone_on(model, clip, begun: int, **options) -> np.ndarray:
    """New ids of `clip` behind its first `begun` ids, which both of its prompts hold."""
    ids, negative = (np.concatenate([p, clip[:, :begun]], 1) for p in (POSITIVE, NEGATIVE))
    options = {**GUIDED, "negative_prompt_ids": negative, **options}
    return new_ids(model, ids, video_size=SIZE, seed=5, **options)


@pytest.fixture(scope="module")
def clip(model) -> np.ndarray:
    """A guided, sampled clip of 3 frames of 2 x 4 codes: ids (1, 35)."""
    return new_ids(model, video_size=SIZE, seed=5, **GUIDED)


def test_a_clip_is_its_frames_one_after_the_other(vocabulary, clip):
    frame = [-1, -1, -1, -1, MARKERS["eol"]] * 2 + [MARKERS["eof"]]
    forced = np.array([*frame * 3, MARKERS["eoi"], MARKERS["eos"]])
    assert np.array_equal(vocabulary.forced_ids(2, 4, 3), forced)
    assert np.array_equal(np.where(vocabulary.is_visual(clip[0]), -1, clip[0]), forced)


def test_a_clip_of_one_latent_frame_is_a_picture(model):
    options = {"seed": 3, **GUIDED}
    picture = new_ids(model, image_size=[[3, 4]], **options)
    assert np.array_equal(new_ids(model, video_size=[[1, 3, 4]], **options), picture)


def test_cached_steps_equal_whole_passes(model, vocabulary):
    made = new_ids(model, video_size=[[2, 2, 3]], do_sample=False, jit=True)[0]
    ids = np.concatenate([POSITIVE[0], made])[None]
    logits = as_numpy(model(Tensor(ids)).logits)[0, POSITIVE.size - 1 : -1]
    free = vocabulary.forced_ids(2, 3, 2) < 0
    best = vocabulary.visual_start + logits[:, vocabulary.visual_start :].argmax(1)
    assert np.array_equal(best[free], made[free])


def test_each_clip_of_a_mixed_batch_equals_itself_alone(model, clip):
    other = prompt(5, seed=3)
    ids, mask = left_padded(POSITIVE, other)
    sizes = [SIZE[0], [2, 3, 1]]
    both = new_ids(model, ids, attention_mask=mask, video_size=sizes, seed=[5, 8], **GUIDED)
    alone = new_ids(model, other, video_size=sizes[1:], seed=8, **GUIDED)
    assert np.array_equal(both[0], clip[0])
    assert np.array_equal(both[1, : alone.shape[1]], alone[0])
    assert (both[1, alone.shape[1] :] == MARKERS["pad"]).all()


@pytest.mark.parametrize(
    "way",
    [
        {"decoding": "jacobi", "coupling": "fixed", "window": 7},
        {"decoding": "zipar", "zipar_window": 4},
    ],
)
def test_exact_ways_make_the_plain_clip_also_from_the_middle(model, clip, way):
    assert np.array_equal(new_ids(model, video_size=SIZE, seed=5, **GUIDED, **way), clip)
    for begun in (10, 11, 13):  # before an end of frame, after it, inside a row
        assert np.array_equal(gone_on(model, clip, begun, **way), clip[:, begun:])


def test_a_clip_goes_on_behind_its_first_frames_as_it_would_have(model, clip):
    assert np.array_equal(gone_on(model, clip, 11), clip[:, 11:])


@pytest.mark.parametrize("start_after", [1, 2, 4])
@pytest.mark.parametrize("begun", [0, 4, 9, 10, 11, 12])
def test_every_free_place_of_a_clip_follows_the_place_before_it_once(
    vocabulary, start_after, begun
):
    ids = np.concatenate([prompt(5)[0], np.full(begun, 40, np.int32)])
    grid = make_grid(vocabulary, read_sizes([[3, 2, 4], [2, 1, 6]], "video_size"), [ids] * 2, None)
    plan = make_schedule(grid, start_after)
    assert plan.window <= max(
        ZipAR(start_after).places(2, 4, 3), ZipAR(start_after).places(1, 6, 2)
    )
    for sequence in range(2):
        feeds, targets = plan.feeds[:, sequence].ravel(), plan.targets[:, sequence].ravel()
        made = targets != IDLE
        assert (targets[made] == feeds[made] + 1).all()
        free = np.flatnonzero(grid.forced[sequence] == -1)
        assert sorted(targets[made]) == free[free > 0].tolist()
        # Whatever stands before a token is run no later than the token is made.
        runs = np.repeat(np.arange(len(plan.feeds)), plan.window)
        first = {int(f): int(r) for f, r in zip(feeds[::-1], runs[::-1])}
        marks = np.flatnonzero(grid.forced[sequence][: grid.free_until] != -1)
        behind = [int(runs[targets == m + 1][0]) for m in marks if m + 1 in targets]
        before = [first[int(m)] for m in marks if m + 1 in targets]
        assert all(b <= t for b, t in zip(before, behind))


def test_lossy_rows_reach_across_frames(model, clip):
    way = {"decoding": "zipar", "zipar_window": 1}
    *_, done = model.stream(Tensor(POSITIVE), video_size=SIZE, seed=5, **GUIDED, **way)
    assert done.forwards[0] < 20
    assert not np.array_equal(done.sequences[:, 9:], clip)


def test_events_tell_every_row_and_frame(model, vocabulary, clip):
    events = list(model.stream(Tensor(POSITIVE), video_size=SIZE, seed=5, **GUIDED))
    (codes,) = (piece for piece in vocabulary.parse_images(clip[0]) if piece.ndim == 3)
    rows = [event for event in events if isinstance(event, RowDone)]
    frames = [event for event in events if isinstance(event, FrameDone)]
    assert [(e.frame, e.row) for e in rows] == [(t, r) for t in range(3) for r in range(2)]
    assert np.array_equal(np.stack([e.codes for e in rows]).reshape(3, 2, 4), codes)
    assert [e.frame for e in frames] == [0, 1, 2]
    assert np.array_equal(np.stack([e.codes for e in frames]), codes)


def test_more_frames_than_positions_are_refused_with_what_fits(model):
    with pytest.raises(InputError, match=r"up to (\d+) latent frames at once") as caught:
        model.request(Tensor(POSITIVE), video_size=[[90, 2, 4]])
    fitting = int(str(caught.value).split("up to ")[1].split()[0])
    assert model.request(Tensor(POSITIVE), video_size=[[fitting, 2, 4]]).forced.size
    with pytest.raises(InputError, match="positions"):
        model.request(Tensor(POSITIVE), video_size=[[fitting + 1, 2, 4]])


@pytest.mark.parametrize(
    "options",
    [{"video_size": [[2, 3]]}, {"video_size": [[0, 2, 2]]}, {"video_size": [[1.5, 2, 2]]},
     {"video_size": "abc"}],
)  # fmt: skip
def test_sizes_no_clip_has_are_refused(model, options):
    with pytest.raises(InputError, match=r"video_size|--frames"):
        model.request(Tensor(POSITIVE), **options)
    with pytest.raises(InputError, match="exclude each other"):
        model.request(Tensor(POSITIVE), image_size=[[2, 2]], **options)
