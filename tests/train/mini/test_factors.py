"""What names share while the model learns: whose rows move together, what is written at last."""

import numpy as np
import pytest
from mindspore import Tensor

from emu3.nn.linear import Linear
from train.mini.lm.factors import SLOWER, SharedRows
from train.mini.world.cells import (
    cell_kinds,
    kind_count,
    name_factors,
    pattern_count,
    unmet_names,
)
from train.mini.world.scenes import Scene, Thing


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    return name_factors()


def names(colour: str, kind: str = "house") -> np.ndarray:
    """Of a thing's cells."""
    scene = Scene(8, 8, "plain", (Thing(kind, colour, "medium", 2, 2, "left"),))
    return cell_kinds(scene)[3:5, 2:5].ravel()


def test_every_name_has_factors_of_its_own(factors):
    assert len(factors) == kind_count() == len(np.unique(factors, axis=0))
    np.testing.assert_allclose(factors.sum(1)[: pattern_count()], 2)
    np.testing.assert_allclose(factors.sum(1)[pattern_count() :], 5, rtol=1e-6)


def test_a_thing_in_another_colour_shares_all_but_that(factors):
    red, blue = factors[names("red")], factors[names("blue")]
    assert ((red != blue).sum(1) == 2).all()


def test_another_thing_of_the_colour_shares_it(factors):
    house, fish, blue = names("red"), names("red", "fish"), names("blue", "fish")
    shared = (factors[house] * factors[fish]).sum(1) - (factors[house] * factors[blue]).sum(1)
    np.testing.assert_allclose(shared, 1)


def test_a_table_is_as_it_was_at_first_and_moves_by_what_is_shared(factors):
    layer = Linear(4, len(factors) + 3)
    layer.rows = SharedRows(layer.weight, factors)
    before = layer.weight.asnumpy()
    np.testing.assert_array_equal(layer.whole().asnumpy(), before)
    shared = np.random.default_rng(0).normal(size=layer.rows.shared.shape).astype(np.float32)
    layer.rows.shared.set_data(Tensor(shared))
    moved = layer.whole().asnumpy() - before
    np.testing.assert_array_equal(moved[:3], 0)
    np.testing.assert_allclose(moved[3:], SLOWER * factors @ shared, atol=1e-5)


def test_names_of_the_new_colour_and_kind_are_those_never_met():
    unmet = set(unmet_names())
    pink, heart, red = names("pink"), names("red", "heart"), names("red")
    assert unmet.issuperset(pink) and unmet.isdisjoint(red)
    assert unmet.intersection(heart)  # some of its tiles are others' too
