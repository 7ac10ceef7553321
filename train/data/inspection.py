"""How training samples look: their text with the supervised spans marked, and histograms."""

import itertools
from collections.abc import Sequence

import numpy as np

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.prompts import PromptBuilder
from train.data.samples import Sample

OPEN, CLOSE = "⟦", "⟧"
BINS, BAR = 10, 40


def marked_text(builder: PromptBuilder, sample: Sample) -> str:
    """The sample as text: ⟦supervised⟧ spans, codes counted, equal rows and frames written once.

    Each independent question begins a line of its own.
    """
    vocabulary = builder.vocabulary
    branch_starts = np.diff(sample.branches, prepend=sample.branches[:1]) != 0
    head_ends = sample.ids == vocabulary.img
    frames = _spans(head_ends | (sample.ids == vocabulary.eof), branch_starts, 0, len(sample.ids))
    units = []
    for start, stop in frames:
        line = "\n" if branch_starts[start] else ""
        rows = _spans(sample.ids == vocabulary.eol, branch_starts, start, stop)
        units.append(line + _counted([_marked(builder, sample, slice(*row)) for row in rows]))
    return _counted(units)


def _spans(ends: np.ndarray, starts: np.ndarray, low: int, high: int) -> list[tuple[int, int]]:
    """[start, stop) of the parts of low..high: each up to one of `ends`, or before a start."""
    cuts = np.flatnonzero(ends[low : high - 1]) + 1 + low
    cuts = [*cuts.tolist(), *(np.flatnonzero(starts[low:high]) + low).tolist()]
    return list(itertools.pairwise(sorted({low, high, *cuts})))


def _counted(units: list[str]) -> str:
    counted = [(unit, len(list(same))) for unit, same in itertools.groupby(units)]
    return "".join(unit if n == 1 else f"{unit} ({n} times) " for unit, n in counted)


def _marked(builder: PromptBuilder, sample: Sample, part: slice) -> str:
    """The ids of `part` as text, with brackets around what is supervised."""
    ids = sample.ids[part]
    supervised = sample.labels[part] != IGNORED_LABEL
    visual = builder.vocabulary.is_visual(ids)
    text = ""
    for wanted, places in itertools.groupby(range(len(ids)), lambda i: supervised[i]):
        inside = ""
        for codes, run in itertools.groupby(places, lambda i: visual[i]):
            run = list(run)
            inside += f"[{len(run)} codes]" if codes else builder.tokenizer.decode(ids[run])
        text += OPEN + inside + CLOSE if wanted else inside
    return text


def histogram(title: str, values: Sequence[int]) -> str:
    """Lines of a histogram of whole numbers, with their range and median."""
    values = np.asarray(values)
    low, high = int(values.min()), int(values.max())
    lines = [f"{title}: {low} to {high}, median {int(np.median(values))}"]
    edges = np.unique(np.linspace(low, high + 1, BINS + 1).astype(int))
    counts, _ = np.histogram(values, edges)
    width = len(str(high))
    for first, end, count in zip(edges, edges[1:], counts):
        bar = "#" * -(-BAR * int(count) // int(counts.max()))
        lines.append(f"  {first:>{width}} - {end - 1:>{width}}  {bar} {count}")
    return "\n".join(lines)
