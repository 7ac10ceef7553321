"""The learning rate of every step."""

import pytest

from train.tuning.schedule import cosine_schedule


def test_the_schedule_warms_up_and_ends_on_its_floor():
    rate = cosine_schedule(1.0, 0.1, 10, 110)
    assert rate(0) == pytest.approx(0.1)
    assert rate(9) == pytest.approx(1.0)
    assert rate(60) == pytest.approx(0.55)
    assert rate(110) == rate(500) == pytest.approx(0.1)
