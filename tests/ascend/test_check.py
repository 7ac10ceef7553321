"""The command that the first person with a card runs: here on a CPU, and with doubles of a card."""

import json

import mindspore as ms

from emu3.benchmarks import card_operators, card_tasks
from emu3.cli import ascend_check


def test_each_operator_of_a_card_is_held_against_the_right_numbers(exact):
    found = list(card_operators.findings(ms.float32))
    assert len(found) == len(card_operators.CHECKS)
    loose = {"Conv3D, float32"}  # its product is in float16
    wrong = [each for each in found if each.verdict != "ok" and each.what not in loose]
    assert not wrong


def test_an_operator_that_raises_is_a_finding(monkeypatch):
    monkeypatch.setattr(card_operators, "CHECKS", {"RmsNorm": card_operators.rms_norm})
    (found,) = card_operators.findings(ms.float32)
    assert found.verdict == "failed" and "RmsNorm" in found.note


def test_a_wrong_number_is_seen(exact, monkeypatch):
    monkeypatch.setattr(card_operators.ascend, "swiglu", lambda x: x[:, :512])
    monkeypatch.setattr(card_operators, "CHECKS", {"Swiglu": card_operators.swiglu})
    (found,) = card_operators.findings(ms.float32)
    assert found.verdict == "WRONG"


def test_a_cpu_gives_the_results_that_are_kept(capsys, monkeypatch):
    monkeypatch.setattr(card_operators, "CHECKS", {})
    monkeypatch.setattr(card_tasks, "WAYS", ("plain",))
    assert ascend_check.main(["--device", "CPU"]) == 0
    text = capsys.readouterr().out
    assert "100% of the codes are the CPU's" in text
    answer = json.loads(card_tasks.RESULTS.read_text())["answer"]
    assert repr(answer) in text and "0 of 6 checks are not fine" in text


def test_what_a_card_does_not_compute_in_is_refused(capsys):
    assert ascend_check.main(["--dtype", "float32"]) == 2
    assert "change --dtype" in capsys.readouterr().err
