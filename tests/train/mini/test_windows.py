"""Windows of Jacobi decoding are measured beside plain decoding."""

from tests.cli.conftest import tiny  # noqa: F401 - a fixture
from train.mini import windows


def test_windows_are_compared_with_plain_decoding(tiny, capsys):  # noqa: F811
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--repeats=1"]
    assert windows.main([*models, "--prompts=1", "--window=4", "--coupling=fixed"]) == 0
    out = capsys.readouterr().out
    assert "jacobi, window 4, coupling fixed" in out
    for what in ("runs a picture", "of plain's runs", "| 100% |", "fastest on this machine"):
        assert what in out


def test_a_coupling_that_there_is_not_is_refused(capsys):
    assert windows.main(["--coupling=loose"]) == 2
    assert "--coupling" in capsys.readouterr().err
