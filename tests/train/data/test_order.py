"""Which source a pass reads: a function of the pass, however long the run."""

import numpy as np

from train.data.order import BLOCK, PassOrder


def test_draws_are_those_of_one_generator_across_blocks():
    weights, passes = [1.0, 2.5, 0.5], BLOCK + 300
    probabilities = np.array(weights) / sum(weights)
    whole = np.random.default_rng((7, 1)).choice(3, passes, p=probabilities)
    order = PassOrder(weights, (7, 1))
    for index in (passes - 1, 0, 1, 2, 500, BLOCK - 1, BLOCK, BLOCK + 1):
        source = whole[index]
        assert order(index) == (source, (whole[:index] == source).sum())


def test_a_far_pass_costs_no_memory_of_those_before_it():
    assert PassOrder([3.0], (0, 1))(2**40) == (0, 2**40)
    order = PassOrder([1.0, 1.0], (0, 1))
    source, ordinal = order(2**22)
    assert source in (0, 1) and abs(ordinal - 2**21) < 2**14


def test_weights_whose_sum_no_float_holds_are_shares_all_the_same():
    np.testing.assert_allclose(PassOrder([1e308, 1e308], (0, 1)).shares, [0.5, 0.5])
