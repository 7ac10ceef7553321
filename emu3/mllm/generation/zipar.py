"""ZipAR: several rows of a picture or clip at once. Lossy: a row starts before the last is whole.

Row r+1 starts when row r holds s tokens; each run of the network makes one token in every row
under way. Tokens see what has been run so far and stands before them in raster order, so the
right-hand end of the rows above may be missing. With s = the row's width nothing is missing.
A clip's frames follow one another like rows: the first row of a frame starts by the last above it.
arXiv 2412.04062, without its adaptive windows.

Shapes: N sequences, R rows of the network, W rows of a picture under way at most, M = N * W,
S slots, F runs in a block, T runs of a picture, n new tokens.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from mindspore import Parameter, Tensor, ops

from emu3.mllm.generation.decoder import StepStore, number
from emu3.mllm.generation.step import StepKind
from emu3.mllm.generation.step_weights import StepWeights
from emu3.mllm.generation.window import RUNS, WindowDecoder, WindowStep
from emu3.mllm.vocabulary import FREE

if TYPE_CHECKING:
    from emu3.mllm.generation.request import Request
    from emu3.mllm.grammar import Grid

NEVER = np.iinfo(np.int32).max
IDLE = -1


@dataclass(frozen=True)
class Schedule:
    """Which places each run takes, all known beforehand. Places count new tokens from 0.

    `feeds` (T, N, W) are run, `targets` (T, N, W) get the token that follows; IDLE for none.
    `born` (N, n) is the run in which a place is run first. `counts` (T + 2, N) are the tokens
    that are final, without a gap: before the first token, after it, and after each run.
    """

    feeds: np.ndarray
    targets: np.ndarray
    born: np.ndarray
    counts: np.ndarray

    @property
    def window(self) -> int:
        """Places a run takes of each sequence."""
        return self.feeds.shape[2]

    @property
    def runs(self) -> np.ndarray:
        """Runs up to each sequence's last token: (N,)."""
        return (self.counts[1:] < self.counts[-1]).sum(0)


def make_schedule(grid: "Grid", start_after: int) -> Schedule:
    """The schedule of a grid whose rows start `start_after` tokens after the one above."""
    pictures = [_runs(grid, sequence, start_after) for sequence in range(len(grid.forced))]
    total = max(map(len, pictures))
    shape = (total, len(pictures), max([1, *(len(run) for runs in pictures for run in runs)]))
    feeds, targets = np.full(shape, IDLE, np.int32), np.full(shape, IDLE, np.int32)
    born = np.full(grid.forced.shape, NEVER, np.int32)
    made = np.where(grid.forced == FREE, NEVER, 0)  # after which run a token is there
    made[:, 0] = 0  # the prompt leads to it
    for sequence, runs in enumerate(pictures):
        for turn, run in enumerate(runs):
            for lane, (feed, target) in enumerate(run):
                feeds[turn, sequence, lane], targets[turn, sequence, lane] = feed, target
                born[sequence, feed] = min(born[sequence, feed], turn)
                if target != IDLE:
                    made[sequence, target] = turn + 1
    whole = np.maximum.accumulate(made, 1)
    counts = (whole <= np.arange(-1, total + 1)[:, None, None]).sum(2)
    return Schedule(feeds, targets, born, counts)


def _runs(grid: "Grid", sequence: int, start_after: int) -> list[list[tuple[int, int]]]:
    """The places (feed, target) that each run takes of a sequence.

    run    0 1 2 3 4 5 6 7 8     what is fed; each run makes the token after it
    row 0  a b c d |             rows of 4 codes start 2 tokens after the one above
    row 1    ^ a b c d |         ^ the end-of-line above the row leads to its first code
    row 2        ^ a b c d |     | a row's own end-of-line again, now that the row is whole
    row 3            ^ . a b c d |   the next frame's first row: an end-of-frame . comes between
    """
    frames, height, width = grid.shape(sequence)
    length, step = grid.forced.shape[1], min(start_after, width)
    row = grid.rows_done(sequence, 0)
    runs: list[list[tuple[int, int]]] = []
    begin = -max(-_above(grid, sequence, row), 0)  # the run that takes the row's first place
    while row < frames * height:
        lead = _lead(row, height)
        above = _above(grid, sequence, row)
        last = lead + width
        if step < width:  # ends that were run before the row was whole are run once more
            last += 1 + _lead(row + 1, height)
        for k in range(max(-begin, 0), last + 1):
            feed, target = above + k, above + k + 1
            if feed < length:
                while len(runs) <= begin + k:
                    runs.append([])
                makes = lead <= k < lead + width and target < length
                runs[begin + k].append((feed, target if makes else IDLE))
        row, begin = row + 1, max(begin + lead + step, 0)
    while runs and all(target == IDLE for _, target in runs[-1]):
        runs.pop()
    return runs


def _lead(row: int, height: int) -> int:
    """Ends of frames between a row and the end-of-line above it."""
    return int(row > 0 and row % height == 0)


def _above(grid: "Grid", sequence: int, row: int) -> int:
    """New place of the end-of-line above a row; below 0 where it is in the prompt."""
    return grid.row_start(sequence, row) - 1 - _lead(row, grid.shape(sequence)[1])


class ZipStep(WindowStep):
    """One token in every row under way per run, as one compiled block."""

    def __init__(self, model, weights: StepWeights, kind: StepKind) -> None:
        super().__init__(model, weights, kind)
        born = np.full((kind.rows, 1, 1, kind.slots), NEVER, np.int32)
        self.born = Parameter(Tensor(born), name="step.born", requires_grad=False)

    def construct(self, turn, end, first, feeds, targets, guidance, temperature, top_p):
        """Runs turn..end-1 of a block, (1,) each, whose first one is the picture's `first` (1,).

        feeds and targets (F, M): slots. Returns `end`.
        """
        while turn < end:
            turn = self.once(turn, first, feeds, targets, guidance, temperature, top_p)
        return turn

    def once(self, turn, first, feeds, targets, guidance, temperature, top_p):
        """Run `turn` of a block; returns the next one."""
        slots = self.gather(feeds, turn, 0).reshape((-1,))
        before = self.slot_numbers <= self.rows_of(slots)
        seen = self.logical_and(before, self.born <= first + turn)
        logits = self.forward(slots, seen, guidance)
        places = self.places(self.gather(targets, turn, 0))
        token = self.sampler(logits, self.gather_nd(self.uniform, places), temperature, top_p)
        self.scatter_nd_update(self.tokens, places, token + self.first_id)
        return turn + 1

    def one_by_one(self, once, turn, end, *arguments):
        """As `construct`, the loop in Python."""
        for _ in range(int(end) - int(turn)):
            turn = once(turn, *arguments)
        return turn


class ZipDecoder(WindowDecoder):
    """As many places of each picture as it has rows under way, by a schedule."""

    scratch = 2

    def __init__(self, store: StepStore, request: "Request") -> None:
        schedule = make_schedule(request.grid, request.settings.scheme.start_after)
        super().__init__(store, request, schedule.window)
        self.schedule, self.turn = schedule, -1

    @property
    def counts(self) -> np.ndarray:
        """Tokens of each sequence that are final: (N,)."""
        return self.schedule.counts[self.turn + 1]

    @property
    def forwards(self) -> np.ndarray:
        """Runs of the network for each sequence, the prompt's not counted: (N,)."""
        return np.minimum(self.schedule.runs, self.turn)

    def choose(self, logits: Tensor) -> None:
        """Take the first token from logits (N, V)."""
        super().choose(logits)
        self.turn = 0

    def advance(self, count: int) -> None:
        """Run the schedule `count` times further, a block at most."""
        block = slice(self.turn, self.turn + min(count, RUNS))
        feeds, targets = self.schedule.feeds[block], self.schedule.targets[block]
        last = int(max(feeds.max(), targets.max()))
        self._make_room(self.prompt_slots + last + self.kind.spare)
        self.current.block(*self._arguments(feeds, targets))
        self.turn += len(feeds)
        self._read()

    def _arguments(self, feeds: np.ndarray, targets: np.ndarray) -> tuple[Tensor, ...]:
        """What a block takes to run places (F, N, W); idle ones go to the last two slots."""
        slots = []
        for places, idle in ((feeds, self.kind.slots - 2), (targets, self.kind.slots - 1)):
            table = np.full((RUNS, *places.shape[1:]), idle, np.int32)
            table[: len(places)] = np.where(places == IDLE, idle, places + self.prompt_slots)
            slots.append(Tensor(table.reshape(RUNS, -1)))
        return (number(0), number(len(feeds)), number(self.turn), *slots, *self.scalars)

    def _no_steps(self) -> tuple[Tensor, ...]:
        shape = (0, self.kind.sequences, self.kind.window)
        return self._arguments(np.zeros(shape, np.int32), np.zeros(shape, np.int32))

    def _enter(self, slots: int) -> None:
        super()._enter(slots)
        step = self.current.step
        born = np.full((slots, self.kind.sequences), NEVER, np.int32)
        born[: self.prompt_slots] = -1
        known = min(self.count, slots - self.prompt_slots)
        born[self.prompt_slots : self.prompt_slots + known] = self.schedule.born[:, :known].T
        rows = np.tile(born.T, (self.kind.rows // self.kind.sequences, 1))
        ops.assign(step.born, Tensor(rows.reshape(step.born.shape)))
