"""What is said of a picture's pixels."""

import json

from tests.support import tiny_vision_config
from train.measure import pixels


def test_pixels_are_measured_and_held_against_the_estimate(tmp_path, capsys):
    sizes = tmp_path / "sizes.json"
    kept = tiny_vision_config().to_diff_dict()
    kept.pop("model_type", None)
    sizes.write_text(json.dumps(kept))
    assert pixels.main(["--vq-model", str(sizes), "--height", "16", "--width", "16"]) == 0
    out = capsys.readouterr().out
    assert "codes to pixels in" in out and "by the estimate" in out
