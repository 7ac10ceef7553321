"""Clips and interleaved parts to features: cut at latent frames, restartable, honest otherwise."""

import json

import numpy as np
import pytest
from PIL import Image

from emu3 import runtime
from emu3.mllm.parts import Coded, Message
from tests.support import write_tiny_checkpoint
from train import prepare_interleaved_data, prepare_video_data
from train.data.features import list_files, read_feature


@pytest.fixture(autouse=True)
def context():
    """Undo the device and mode that the commands choose."""
    yield
    runtime.setup(device="CPU")


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))[1]


@pytest.fixture
def data(tmp_path):
    """A folder of 10 frames of 24x16 pixels, an animation of 3, and a picture."""
    (tmp_path / "clip").mkdir()
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)) for _ in range(10)]
    for number, frame in enumerate(frames):
        frame.save(tmp_path / "clip" / f"{number}.png")
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:3], duration=125)
    frames[0].save(tmp_path / "a.png")
    return tmp_path


def prepare(folder, vision, records, command, *more) -> int:
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, records)))
    args = ["--data-path", folder / "data.jsonl", "--output-path", folder / "out"]
    return command.main([str(a) for a in (*args, "--model-path", vision, "--device", "CPU", *more)])


def features(folder):
    return [read_feature(f) for f in list_files(folder / "out" / "list" / "train.json", "--data")]


def test_a_long_clip_is_cut_between_latent_frames(data, vision):
    records = [{"name": "long", "text": "go", "captions": ["走"], "video": "clip"}]
    assert (
        prepare(data, vision, records, prepare_video_data, "--max-frames", "4", "--fps", "8") == 0
    )
    found = features(data)
    assert [f.name for f in found] == ["long", "long.0001"]  # 2 frames are left, no latent frame
    records[0]["given"] = 1
    assert prepare(data, vision, records, prepare_video_data, "--max-frames", "8") == 0
    (first,) = features(data)
    assert first.parts[1].part.codes.shape == (2, 4, 6)
    assert (first.parts[1].given, first.captions) == (1, ["go", "走"])


def test_frames_beyond_the_rate_are_left_out(data, vision):
    records = [{"name": "slow", "text": "go", "video": "clip"}]
    assert prepare(data, vision, records, prepare_video_data, "--fps", "4") == 0
    (feature,) = features(data)
    part = feature.parts[1].part
    assert (part.codes.shape, part.fps) == ((2, 4, 6), 4.0)  # every other one of 10 at 8 a second


def test_a_second_run_makes_only_what_changed(data, vision):
    records = [{"name": n, "text": "go", "video": v} for n, v in (("a", "a.gif"), ("b", "clip"))]
    prepare(data, vision, records, prepare_video_data)
    before = {p.name: p.stat().st_mtime_ns for p in (data / "out/feature").iterdir()}
    records[1]["text"] = "stop"
    assert prepare(data, vision, records, prepare_video_data) == 0
    after = {p.name: p.stat().st_mtime_ns for p in (data / "out/feature").iterdir()}
    assert [name for name in sorted(after) if after[name] != before[name]] == ["b.ckpt"]


@pytest.mark.parametrize("size", ["0", "2"])
def test_a_clip_that_lost_a_piece_is_made_again_whole(data, vision, size):
    records = [{"name": "a", "text": "go", "video": "clip"}]
    options = (prepare_video_data, "--max-frames", "2", "--shard-size", size)
    prepare(data, vision, records, *options)
    whole = features(data)
    piece = list_files(data / "out/list/train.json", "--data")[3]
    file = piece if size == "0" else piece.parent
    file.write_bytes(file.read_bytes()[:100])
    assert prepare(data, vision, records, *options) == 0
    for found, expected in zip(features(data), whole, strict=True):
        assert found.name == expected.name
        assert np.array_equal(found.parts[1].part.codes, expected.parts[1].part.codes)


@pytest.mark.parametrize("names", [("a", "a.0001"), ("a.0001", "a")])
def test_a_piece_takes_no_other_records_name(data, vision, capsys, names):
    records = [{"name": n, "text": n, "video": "clip" if n == "a" else "a.gif"} for n in names]
    assert prepare(data, vision, records, prepare_video_data, "--max-frames", "4") == 1
    assert f"data.jsonl:{names.index('a') + 1}: a piece of its clip is" in capsys.readouterr().err
    (kept,) = features(data)
    assert kept.parts[0].part.text == "a.0001"


def test_a_piece_takes_no_name_of_another_split(data, vision):
    other = [{"name": "a.0001", "text": "go", "video": "a.gif"}]
    prepare(data, vision, other, prepare_video_data, "--split", "test")
    records = [{"name": n, "text": "go", "video": "clip"} for n in ("a", "b")]
    assert prepare(data, vision, records, prepare_video_data, "--max-frames", "4") == 1
    assert [feature.name for feature in features(data)] == ["b", "b.0001"]


def test_conversations_and_prompts_hold_pictures_and_clips(data, vision):
    image, clip = {"type": "image", "image": "a.png"}, {"type": "video", "video": "a.gif"}
    text = {"type": "text", "text": "and"}
    talk = [
        {"role": "user", "content": [image, text, clip]},
        {"role": "assistant", "content": "so"},
    ]
    records = [{"id": 1, "messages": talk}, {"id": 2, "parts": [image, text, image]}]
    assert prepare(data, vision, records, prepare_interleaved_data) == 0
    said, listed = features(data)
    assert isinstance(said.parts[0], Message)
    shapes = [part.codes.shape for part in said.parts[0].parts if isinstance(part, Coded)]
    assert shapes == [(4, 6), (1, 4, 6)]
    assert [type(entry).__name__ for entry in listed.parts] == ["Given", "Given", "Wanted"]


def test_a_clip_that_cannot_be_cut_and_is_too_long_is_skipped(data, vision, capsys):
    clip, text = {"type": "video", "video": "clip"}, {"type": "text", "text": "which way?"}
    talk = [{"role": "user", "content": [clip, text]}, {"role": "assistant", "content": "left"}]
    records = [{"id": 1, "messages": talk}, {"id": 2, "parts": [clip, text]}]
    assert prepare(data, vision, records, prepare_interleaved_data, "--max-frames", "9") == 2
    err = capsys.readouterr().err
    for line in (1, 2):
        assert f"data.jsonl:{line}: {data / 'clip'}: the clip has more than 9 frames" in err
    assert prepare(data, vision, records, prepare_interleaved_data, "--max-frames", "10") == 0
    assert features(data)[1].parts[0].part.codes.shape == (3, 4, 6)


def test_records_that_cannot_be_used_are_skipped_by_line(data, vision, capsys):
    user = {"role": "user", "content": "a"}
    bad = [
        {"id": 1},
        {"id": 2, "messages": [user]},
        {"id": 3, "messages": [user, user]},
        {"id": 4, "parts": [{"type": "audio"}]},
        {"id": 5, "parts": [{"type": "image", "image": "nowhere.png"}]},
        {"id": 6, "parts": [{"type": "video", "video": "a.png"}]},
        {"id": 7, "messages": [{"role": "system", "content": "x"}, user]},
    ]
    good = {"id": 8, "parts": [{"type": "text", "text": "x"}]}
    assert prepare(data, vision, [*bad, good], prepare_interleaved_data) == 1
    err = capsys.readouterr().err
    assert [n for n in range(1, 9) if f"data.jsonl:{n}:" in err] == [1, 2, 3, 4, 5, 6, 7]
    clips = [{"name": "a", "text": "", "video": "clip"}, {"name": "b", "text": "x", "video": 3},
             {"name": "c", "text": "x", "video": "clip", "given": -1}]  # fmt: skip
    assert prepare(data, vision, clips, prepare_video_data) == 2
