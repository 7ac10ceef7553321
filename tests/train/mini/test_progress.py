"""The progress page shows what there is, from the first round on."""

from train.mini import progress
from train.mini.progress import Options, run
from train.tuning import curves


def test_a_page_before_anything_is_trained_and_one_with_curves(tmp_path):
    run(Options(output=str(tmp_path)))
    assert "world.png" in (tmp_path / "progress.html").read_text()
    log = tmp_path / "vision" / "log.csv"
    log.parent.mkdir()
    log.write_text("".join(f"{i},naming,{9 / (i + 1)}\n{i},drawing,1.5\n" for i in range(90)))
    run(Options(output=str(tmp_path)))
    assert "losses_vision.png" in (tmp_path / "progress.html").read_text()
    losses = progress.read_log(log)
    assert curves.curves(losses).size == (640, 480)
    assert losses["naming"][-1] == (89, 0.1)
