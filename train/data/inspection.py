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
    """The sample as text: ⟦supervised⟧ spans, codes counted, equal rows written once.

    Each independent question begins a line of its own.
    """
    vocabulary = builder.vocabulary
    row_ends = np.isin(sample.ids, (vocabulary.img, vocabulary.eol))
    branch_starts = np.diff(sample.branches, prepend=sample.branches[:1]) != 0
    cuts = np.flatnonzero(np.roll(row_ends, 1) | branch_starts)
    edges = sorted({0, *cuts.tolist(), len(sample.ids)})
    units = []
    for start, stop in itertools.pairwise(edges):
        line = "\n" if branch_starts[start] else ""
        units.append(line + _marked(builder, sample, slice(start, stop)))
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
