"""log.csv after people and power losses have been at it."""

import pytest

from train.tuning.log import COLUMNS, Figures, Log, forget_from

HEAD = (",".join(COLUMNS) + "\n").encode()
ONE, TWO, THREE = b"1,0.5,1,1,1,1\n", b"2,0.4,1,1,1,1\n", b"3,0.3,1,1,1,1\n"


@pytest.mark.parametrize(
    "content, kept",
    [
        (HEAD + ONE + TWO + THREE, HEAD + ONE + TWO),
        (HEAD + ONE + TWO + b"\0" * 500, HEAD + ONE + TWO),
        (HEAD + ONE + b"2,0.4\0\0\0\n" + b"\0" * 9, HEAD + ONE),
        (HEAD + ONE + TWO + b"3,0.", HEAD + ONE + TWO),
        (HEAD + ONE + b"\n  \n" + TWO, HEAD + ONE + TWO),
        (HEAD + ONE + b"# another rate\n" + TWO, HEAD + ONE + b"# another rate\n" + TWO),
        (HEAD + ONE + b"\xd5\xd5,a\n" + TWO, HEAD + ONE + b"\xd5\xd5,a\n" + TWO),
        (HEAD + ONE + b"1" * 5000 + b",0\n", HEAD + ONE),
        (b"", HEAD),
    ],
)
def test_rows_before_a_step_stay_and_what_is_no_whole_row_goes(content, kept, tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    forget_from(path, 3, COLUMNS)
    assert path.read_bytes() == kept


def test_a_terminal_that_is_gone_does_not_end_the_run(tmp_path, monkeypatch):
    class Gone:
        def write(self, text):
            raise OSError(5, "Input/output error")

        flush = write

    monkeypatch.setattr("sys.stdout", Gone())
    log = Log(tmp_path, 0, 1)
    log.say("one")
    log.say("two")


def test_the_time_left_does_not_count_the_first_step_which_compiles(tmp_path, monkeypatch, capsys):
    seconds = iter([0.0, 100.0, 101.0, 102.0])
    monkeypatch.setattr("train.tuning.log.time.monotonic", lambda: next(seconds))
    log = Log(tmp_path, 0, 10)
    for step in (1, 2, 3):
        log.add(step, Figures(1.0, 1.0, 8), 0.1, show=True)
    lines = capsys.readouterr().out.splitlines()
    assert "left" not in lines[0] and lines[1].endswith("0:00:08 left")
    assert lines[2].endswith("0:00:07 left")
