"""log.csv after people and power losses have been at it."""

import pytest

from train.tuning.log import COLUMNS, Log, forget_from

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
