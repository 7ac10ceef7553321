"""Reports beside the CSV files, with stand-ins for the packages that write them."""

import signal
import sys
from types import ModuleType

import pytest

from emu3.errors import InputError
from tests.train.tuning.runs import command, complaint, rows_of, train
from train.tuning.options import parse
from train.tuning.reports import open_reports, require_reports


class Written(dict):
    """What a stand-in was told."""

    def __init__(self, **about) -> None:
        super().__init__(about, figures=[], ended=False)


@pytest.fixture
def board(monkeypatch):
    """A stand-in for tensorboardX; the list of its writers."""
    made = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.written = Written(folder=folder, purge_step=purge_step)
            made.append(self.written)

        def add_text(self, name, text, step):
            self.written[name] = text

        def add_scalar(self, name, value, step):
            self.written["figures"].append((step, name, value))

        def close(self):
            self.written["ended"] = True

    module = ModuleType("tensorboardX")
    module.SummaryWriter, module.__spec__ = SummaryWriter, object()
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    return made


@pytest.fixture
def lab(monkeypatch):
    """A stand-in for swanlab, which takes Ctrl-C for itself as the real one does."""
    made = []

    class Run:
        def __init__(self, written):
            self.written = written

        def log(self, figures, step):
            self.written["figures"].append((step, figures))

        def finish(self):
            self.written["ended"] = True

    def init(**about):
        made.append(Written(**about))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return Run(made[-1])

    module = ModuleType("swanlab")
    module.init, module.__spec__ = init, object()
    monkeypatch.setitem(sys.modules, "swanlab", module)
    monkeypatch.delenv("SWANLAB_MODE", raising=False)
    return made


def test_a_run_reports_steps_and_evaluations_to_all_that_are_named(folder, board, lab):
    held_back = ["--eval_data_path", str(folder / "scenes/t2i")]
    output = train(folder, "reported", "--report_to", "csv,tensorboard,swanlab", *held_back)
    steps = {step: figures for step, figures in lab[0]["figures"] if "loss" in figures}
    assert [f"{steps[int(row[0])]['loss']:.6f}" for row in rows_of(output / "log.csv")] == [
        row[1] for row in rows_of(output / "log.csv")
    ]
    (last,) = rows_of(output / "evaluation.csv")
    assert last[0] == "4" and 0 <= float(last[2]) <= 1
    scalars = {(step, name): value for step, name, value in board[0]["figures"]}
    assert f"{scalars[4, 'evaluation_accuracy']:.6f}" == last[2]
    assert board[0]["ended"] and lab[0]["ended"]
    assert lab[0]["mode"] == "offline" and lab[0]["log_dir"] == str(output / "swanlab")
    assert lab[0]["config"]["max_steps"] == 4 and "max_steps: 4" in board[0]["settings"]
    assert (output / "curves.png").exists()


def test_swanlab_leaves_ctrl_c_to_the_trainer(lab, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    open_reports("swanlab", tmp_path, 0, {})
    assert signal.getsignal(signal.SIGINT) is before


def test_swanlab_sends_figures_away_only_where_its_own_variable_says_so(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("SWANLAB_MODE", "online")
    open_reports("swanlab", tmp_path, 0, {})
    assert lab[0]["mode"] is None


def test_figures_that_are_done_again_go(board, tmp_path):
    open_reports("tensorboard", tmp_path, 7, {})
    assert board[0]["purge_step"] == 8


def test_a_report_whose_package_is_missing_is_refused_with_the_command(folder, capsys, monkeypatch):
    monkeypatch.setattr("train.tuning.reports.find_spec", lambda name: None)
    text = complaint(capsys, command(folder, "unreported", "--report_to", "tensorboard"))
    assert "pip install tensorboardX" in text and not (folder / "unreported").exists()
    with pytest.raises(InputError, match="tensorboard,swanlab needs tensorboardX swanlab"):
        require_reports("csv,tensorboard,swanlab")
    require_reports("csv")


def test_reports_that_there_are_not_are_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        parse(["--train_data_path", "x", "--report_to", "csv,wandb"])
    assert "'wandb' is no report; allowed: csv, tensorboard" in capsys.readouterr().err
