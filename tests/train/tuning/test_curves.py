"""Curves of logs: what is read of them, and what is drawn."""

import numpy as np

from train.tuning.curves import PANEL, curve, curves, read_columns

HEAD = "step,loss,accuracy\n"


def test_rows_of_people_and_values_that_are_no_numbers_are_passed_over(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(HEAD + "1,2.0,0.1\n# slower from here\n2,nan,0.2\nx,y,z\n3,inf\n4,1.0,0.4\n")
    found = read_columns(path, ("loss", "accuracy", "other"))
    assert found == {"loss": [(1, 2.0), (4, 1.0)], "accuracy": [(1, 0.1), (2, 0.2), (4, 0.4)]}


def test_every_figure_has_a_panel_and_one_step_is_enough():
    sheet = curves({"loss": [(1, 2.0)], "accuracy": [(1, 0.5)]}, shares=("accuracy",))
    assert sheet.size == (PANEL[0], 2 * PANEL[1])
    for row in (0, 1):
        panel = np.asarray(sheet)[row * PANEL[1] : (row + 1) * PANEL[1]]
        assert (panel == (224, 52, 56)).all(-1).any()


def test_shares_stand_where_their_value_says():
    def height(value: float) -> float:
        red = (np.asarray(curve("a", [(1, value), (9, value)], True)) == (224, 52, 56)).all(-1)
        return np.flatnonzero(red.any(1)).mean()

    assert height(1.0) < height(0.5) < height(0.0)
    assert height(1.0) + height(0.0) == 2 * height(0.5)
