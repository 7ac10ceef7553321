"""The command that times fine-tuning steps, on a tiny net."""

from train.measure import step_time

SIZES = {"hidden": 32, "layers": 1, "heads": 4, "kv-heads": 2, "inner": 48}
NET = [f"--{name}={value}" for name, value in (SIZES | {"vocabulary": 200, "visual": 150}).items()]
SMALL = ["--device=CPU", *NET, "--repeats=2"]


def test_a_step_of_forward_backward_and_update_is_printed(capsys):
    assert step_time.main([*SMALL, "--batch-size=2", "--length=12", "--labels=4"]) == 0
    out = capsys.readouterr().out
    assert "12 tokens, 4 count" in out
    assert "| graph |" in out


def test_the_mode_asked_for_is_measured(capsys):
    assert step_time.main([*SMALL, "--length=12", "--labels=4", "--mode=pynative"]) == 0
    assert "| pynative |" in capsys.readouterr().out


def test_more_labels_than_a_sample_has_are_refused(capsys):
    assert step_time.main([*SMALL, "--length=4", "--labels=4"]) == 2
    assert "--labels" in capsys.readouterr().err
