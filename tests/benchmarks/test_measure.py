"""Timings, turns, bandwidth and memory."""

import pytest

from emu3.benchmarks import measure
from emu3.benchmarks.measure import Timing
from emu3.benchmarks.table import Row, show
from tests.support import output_of


def test_runs_take_turns_and_the_first_round_is_not_counted():
    order = []

    def runner(name):
        def run():
            order.append(name)
            return float(len(order))

        return run

    timings = measure.take_turns({"a": runner("a"), "b": runner("b")}, 2)
    assert order == ["a", "b"] * 3
    assert timings["a"].seconds == [3.0, 5.0]
    assert timings["b"].seconds == [4.0, 6.0]


def test_a_ratio_compares_what_ran_at_the_same_time():
    ours, theirs = Timing([1.0, 10.0, 2.0]), Timing([3.0, 30.0, 8.0])
    assert ours.ratio(theirs) == 3.0
    assert ours.median == 2.0
    assert ours.spread(1000) == "1000-1e+04"


@pytest.mark.parametrize("threads", [1, 2])
def test_read_bandwidth_is_plausible(threads):
    assert 1e8 < measure.read_bandwidth(threads) < 1e13


def test_peak_memory_is_what_one_call_adds():
    # A new process: in this one, what earlier tests left may be freed meanwhile.
    code = "import numpy as np; from emu3.benchmarks import measure; "
    code += "print(measure.peak_above(lambda: np.ones(2**26, np.uint8).sum()))"
    assert 2**25 < int(output_of(code)) < 3 * 2**26


def test_a_table_holds_rates_and_leaves_empty_columns_out(capsys):
    row = Row("step", Timing([0.5]), rate=4, moved=2e9, bandwidth=8e9, against=Timing([0.25]))
    show([row])
    header, _, line = capsys.readouterr().out.splitlines()
    cells = dict(zip(header.split(" | "), line.split(" | ")))
    assert "mode" not in header
    assert cells["tokens/s"] == "8"
    assert cells["GB/s"] == "4.0"
    assert cells["of read bandwidth"] == "50%"
    assert line.endswith("2.00 |")
