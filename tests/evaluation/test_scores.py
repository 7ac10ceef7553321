"""Right answers, as VQA counts them."""

import pytest

from emu3.evaluation.scores import accuracy, normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A red circle.", "red circle"),
        ("Three", "3"),
        ("don't know", "dont know"),
        ("1,000", "1000"),
        ("the  Blue\none", "blue 1"),
        ("三个。", "三个"),
        ("ｒｅｄ", "red"),
        ("yes!", "Yes"),
    ],
)
def test_what_means_the_same_is_the_same(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1.5", "15"), ("10:30", "1030"), ("red", "bred"), ("-1", "1"), ("5%", "5")]
)
def test_what_means_something_else_is_not(one, other):
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize("same, right", [(0, 0), (1, 1 / 3), (2, 2 / 3), (3, 1), (10, 1)])
def test_with_ten_answers_three_people_are_enough(same, right):
    assert accuracy("Red.", ["red"] * same + ["blue"] * (10 - same)) == pytest.approx(right)


def test_with_fewer_answers_any_of_them_is_right():
    assert accuracy("3", ["three", "several"]) == 1
    assert accuracy("four", ["three"]) == 0
