"""Plain values of a resume file are looked at where it is read."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from emu3.errors import InputError
from train.tuning.statefile import open_state
from train.tuning.states import check_values

GOOD = {"step": 2, "scaler": {"scale": 1.0, "good": 0}, "identity": {"samples of a step": 1}}


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"other": "1"},
        {"values": "no JSON"},
        {"values": "[" * 100_000},
        {"values": "[]"},
        {"values": "{}"},
        {"values": '{"step": "x"}'},
        {"values": '{"step": true}'},
        {"values": '{"step": -1}'},
        {"values": '{"step": ' + "1" * 5000 + "}"},
    ],
)
def test_a_file_that_does_not_say_its_step_is_refused_by_name(metadata, tmp_path):
    path = tmp_path / "state.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, path, metadata=metadata)
    opened = open_state(path, {"a": (1,)}, "--resume")
    with pytest.raises(InputError, match="how many steps") as error, opened:
        pass
    assert str(path) in str(error.value) and "change --resume" in str(error.value)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"step": 3}, "is of step 3"),
        ({"scaler": None}, "no loss scale"),
        ({"scaler": {"scale": float("nan"), "good": 0}}, "no loss scale"),
        ({"scaler": {"scale": "1", "good": 0}}, "no loss scale"),
        ({"identity": []}, "trained with"),
        ({"identity": {"samples of a step": "x"}}, "trained with"),
    ],
)
def test_values_that_the_trainer_did_not_write_are_refused(change, words, tmp_path):
    path = tmp_path / "checkpoint-2" / "state.safetensors"
    check_values(path, json.loads(json.dumps(GOOD)))
    with pytest.raises(InputError, match=words):
        check_values(path, GOOD | change)
