"""The loss scale: follows overflows, or stays."""

import math

from train.tuning.scaling import LossScaler


def test_a_dynamic_scale_halves_after_an_overflow_and_doubles_after_good_steps():
    scaler = LossScaler("dynamic", 8.0, 2.0, 3)
    assert not scaler.accepts(math.inf)
    assert scaler.scale == 4
    assert [scaler.accepts(1.0) for _ in range(3)] == [True] * 3
    assert scaler.scale == 8


def test_an_overflow_starts_the_count_again():
    scaler = LossScaler("dynamic", 8.0, 2.0, 2)
    scaler.accepts(1.0)
    scaler.accepts(math.nan)
    scaler.accepts(1.0)
    assert scaler.scale == 4


def test_other_scales_stay_but_refuse_overflows_too():
    for kind, scale in (("none", 1.0), ("static", 64.0)):
        scaler = LossScaler(kind, 64.0, 2.0, 1)
        assert scaler.accepts(1.0) and not scaler.accepts(math.inf)
        assert scaler.scale == scale


def test_a_scale_survives_a_checkpoint():
    scaler = LossScaler("dynamic", 8.0, 2.0, 3)
    scaler.accepts(1.0)
    scaler.accepts(math.inf)
    scaler.accepts(1.0)
    other = LossScaler("dynamic", 1.0, 2.0, 3)
    other.restore(scaler.values())
    assert (other.scale, other.good) == (4, 1)
