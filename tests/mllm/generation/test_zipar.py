"""ZipAR: its schedule, and that tokens see what it says they see."""

import numpy as np
import pytest
from mindspore import Tensor

from emu3.arrays import as_numpy
from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.generation.schemes import ZipAR
from emu3.mllm.generation.zipar import IDLE, make_schedule
from emu3.mllm.grammar import make_grid, read_sizes
from emu3.mllm.modeling_emu3 import Emu3ForCausalLM
from tests.golden_weights import set_golden_weights
from tests.mllm.generation.conftest import MARKERS, SIZES, prompt


def schedule(vocabulary, sizes, start_after, begun=0, limit=None):
    """The schedule of pictures of `sizes` whose prompts hold `begun` grid tokens."""
    ids = np.concatenate([prompt(5)[0], np.full(begun, 40, np.int32)])
    grid = make_grid(vocabulary, read_sizes(sizes), [ids] * len(sizes), limit)
    return grid, make_schedule(grid, start_after)


@pytest.mark.parametrize("start_after", [1, 2, 4, 5, 50])
@pytest.mark.parametrize("begun", [0, 3, 5, 6])
def test_every_free_place_follows_the_place_before_it_once(vocabulary, start_after, begun):
    grid, plan = schedule(vocabulary, [[4, 5], [3, 7]], start_after, begun)
    for sequence in range(2):
        feeds, targets = plan.feeds[:, sequence].ravel(), plan.targets[:, sequence].ravel()
        made = targets != IDLE
        assert (targets[made] == feeds[made] + 1).all()
        free = np.flatnonzero(grid.forced[sequence] == -1)
        assert sorted(targets[made]) == free[free > 0].tolist()


@pytest.mark.parametrize("start_after", [1, 3, 5])
def test_rows_start_when_the_one_above_holds_enough_tokens(vocabulary, start_after):
    _, plan = schedule(vocabulary, [[4, 5]], start_after)
    runs, _, _ = np.nonzero(np.isin(plan.targets, [6, 12, 18]))
    assert runs.tolist() == [start_after * row - 1 for row in (1, 2, 3)]
    assert plan.runs.tolist() == [3 * start_after + 5 - 1]


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3), (7, 9)])
@pytest.mark.parametrize("start_after", [1, 2, 5, 16])
def test_the_scheme_knows_how_many_rows_are_under_way(vocabulary, size, start_after):
    _, plan = schedule(vocabulary, [size], start_after)
    assert ZipAR(start_after).places(*size) == plan.window


def test_an_end_of_line_runs_again_when_its_row_is_whole(vocabulary):
    _, plan = schedule(vocabulary, [[4, 5]], 2)
    runs, _, _ = np.nonzero(plan.feeds == 5)
    assert runs.tolist() == [1, 5]
    assert plan.born[0, 5] == 1


def test_counts_are_the_tokens_without_a_gap(vocabulary):
    grid, plan = schedule(vocabulary, [[2, 3]], 1)
    # Row 0 is made by the prompt and runs 0, 1; row 1 one run later.
    assert plan.counts[:, 0].tolist() == [0, 1, 2, 6, grid.forced.shape[1]]


def test_a_ceiling_leaves_out_what_lies_beyond(vocabulary):
    _, plan = schedule(vocabulary, [[4, 5]], 2, limit=9)
    assert plan.targets.max() == 8
    assert plan.feeds.max() < 9
    assert plan.counts[-1].tolist() == [9]


def test_tokens_see_what_has_run_and_stands_before_them(vocabulary):
    # In one layer keys and values do not depend on what a token saw, so that leaving tokens out
    # of an uncached pass is the same as not seeing them.
    markers = {f"{name}_token_id": value for name, value in MARKERS.items()}
    config = Emu3Config(**{**SIZES, "num_hidden_layers": 1}, **markers)
    model = set_golden_weights(Emu3ForCausalLM(config)).set_train(False)
    start, (height, width), step = prompt(6), (4, 5), 2
    ids = np.full(height * (width + 1), MARKERS["eol"], np.int32)
    # When each place runs first: a token after it was made, an end-of-line with the next row.
    row, column = np.divmod(np.arange(ids.size), width + 1)
    runs = np.where(column < width, row * step + column + 1, (row + 1) * step)
    for now in range((height - 1) * step + width):
        for place in np.flatnonzero((row * step + column == now) & (column < width)):
            seen = np.flatnonzero((runs <= now) & (np.arange(ids.size) < place))
            tokens = np.concatenate([start[0], ids[seen]])[None]
            positions = np.concatenate([np.arange(6), 6 + seen])[None].astype(np.int32)
            logits = as_numpy(model(Tensor(tokens), position_ids=Tensor(positions)).logits)[0, -1]
            ids[place] = vocabulary.visual_start + logits[vocabulary.visual_start :].argmax()
    options = {"image_size": [[height, width]], "do_sample": False, "decoding": "zipar"}
    made = model.generate(Tensor(start), jit=False, zipar_window=step, **options).asnumpy()
    plain = model.generate(Tensor(start), jit=False, **{**options, "decoding": "plain"}).asnumpy()
    assert np.array_equal(made[0, 6 : 6 + ids.size], ids)
    assert not np.array_equal(made, plain)
