"""Sizes of the preallocated cache: how many slots, in buckets, so that compiled steps are reused.

A slot holds one token of every row: the prompt's slots first, then one per new token in raster
order. Steps compiled for a bucket serve every generation that fits it.
"""

SMALLEST = 128


def bucket(slots: int) -> int:
    """The smallest bucket with at least `slots` slots: 8 sizes per doubling, at most 1/8 waste."""
    step = SMALLEST
    while slots > 16 * step:
        step *= 2
    return -(-slots // step) * step


def capacities(first: int, last: int, known: bool) -> list[int]:
    """Cache sizes to go through, from one that holds `first` slots to one that holds `last`.

    With `known` the last slot is sure to be reached: a short way needs one size only. Otherwise
    sizes double, since an answer may end at any time and unused slots cost reading time.
    """
    final = bucket(last)
    sizes = [bucket(first)]
    if known and final <= 8 * SMALLEST:
        return [final]
    while sizes[-1] < final:
        sizes.append(min(2 * sizes[-1], final))
    return sizes
