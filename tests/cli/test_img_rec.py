"""Reconstruction: images, folders of frames, video files, and decoding the codes later."""

import shutil

import numpy as np
import pytest
from PIL import Image

from emu3.cli import decode, img_rec
from emu3.cli.outputs import write_animation
from emu3.codesfile import Codes
from emu3.images import FrameSource
from emu3.tokenizer import VisionCodec


def rebuild(tiny, output, *inputs, extra=()) -> int:
    named = [word for path in inputs for word in ("--input", str(path))]
    return img_rec.main([*named, "--vq-model", tiny[1], "--output", str(output), *extra])


def pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_an_image_gives_codes_a_picture_and_two_scores(tiny, image_file, tmp_path, capsys):
    assert rebuild(tiny, tmp_path, image_file) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"rec_0000.npz", "rec_0000.png"}
    assert pixels(tmp_path / "rec_0000.png").shape == (16, 24, 3)
    out = capsys.readouterr().out
    assert "PSNR" in out
    assert "SSIM" in out
    assert "peak memory" in out


def test_a_clip_keeps_its_number_of_frames(tiny, frame_folder, tmp_path, capsys):
    assert rebuild(tiny, tmp_path, frame_folder) == 0
    frames = sorted(p.name for p in (tmp_path / "rec_0000").iterdir())
    assert frames == [f"frame_{i:05d}.png" for i in range(6)]
    assert Codes.load(tmp_path / "rec_0000.npz").codes.shape == (2, 4, 6)
    with Image.open(tmp_path / "rec_0000.gif") as gif:
        assert gif.n_frames == 6
    told = capsys.readouterr().out
    assert told.count("PSNR") == 2 and "mean of 6 frames; frame " in told


def test_frames_coded_together_equal_the_whole_clip_encoded_at_once(tiny, frame_folder, tmp_path):
    import mindspore as ms

    from emu3.tokenizer import Emu3VisionVQImageProcessor, Emu3VisionVQModel

    assert rebuild(tiny, tmp_path, frame_folder, extra=["--clip-frames", "8"]) == 0
    frames = list(FrameSource(frame_folder).frames())
    processor = Emu3VisionVQImageProcessor.from_pretrained(tiny[1])
    values = processor(frames + frames[-1:] * 2, return_tensors="np")["pixel_values"]
    whole = Emu3VisionVQModel.from_pretrained(tiny[1]).encode(ms.Tensor(values[None])).asnumpy()[0]
    assert np.array_equal(Codes.load(tmp_path / "rec_0000.npz").codes, whole)


def test_a_video_file_gives_the_frames_it_holds(tiny, frame_folder, tmp_path):
    pytest.importorskip("av")
    files = sorted(frame_folder.iterdir())
    video = write_animation(files, tmp_path / "clip", "mp4", 8.0)
    assert FrameSource(video).fps() == 8.0
    assert rebuild(tiny, tmp_path / "out", video, extra=["--animation", "none"]) == 0
    assert len(list((tmp_path / "out" / "rec_0000").iterdir())) == 6
    assert not list((tmp_path / "out").glob("*.gif"))


def test_saved_codes_decode_to_the_same_pixels(tiny, image_file, frame_folder, tmp_path):
    assert rebuild(tiny, tmp_path, image_file, frame_folder) == 0
    files = [str(tmp_path / f"rec_000{i}.npz") for i in (0, 1)]
    assert decode.main([*files, "--vq-model", tiny[1]]) == 0
    again = pixels(tmp_path / "rec_0000_decoded_0000.png")
    assert np.array_equal(again, pixels(tmp_path / "rec_0000.png"))
    for name in ("frame_00000.png", "frame_00005.png"):
        again = pixels(tmp_path / "rec_0001_decoded_0000" / name)
        assert np.array_equal(again, pixels(tmp_path / "rec_0001" / name))


def test_a_picture_cut_short_decodes_to_its_rows_and_grey(tiny, tmp_path):
    codes = np.full((4, 6), -1)
    codes[:2] = 5
    Codes(codes).save(tmp_path / "cut.npz")
    assert decode.main([str(tmp_path / "cut.npz"), "--vq-model", tiny[1]]) == 0
    image = pixels(tmp_path / "cut_decoded_0000.png")
    assert image.shape == (16, 24, 3)
    assert (image[8:] == 128).all()
    assert not (image[:8] == 128).all()


def test_codes_without_a_finished_row_are_refused(tiny, tmp_path, capsys):
    Codes(np.full((4, 6), -1)).save(tmp_path / "cut.npz")
    assert decode.main([str(tmp_path / "cut.npz"), "--vq-model", tiny[1]]) == 2
    assert "no finished row" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["cut.npz"]


def test_ctrl_c_keeps_the_codes_made_so_far(tiny, frame_folder, tmp_path, monkeypatch, capsys):
    encode, calls = VisionCodec.encode_clip, []

    def interrupted(self, pixels):
        calls.append(len(pixels))
        if len(calls) > 1:
            raise KeyboardInterrupt
        return encode(self, pixels)

    monkeypatch.setattr(VisionCodec, "encode_clip", interrupted)
    assert rebuild(tiny, tmp_path, frame_folder) == 130
    assert Codes.load(tmp_path / "rec_0000.npz").codes.shape == (1, 4, 6)
    assert f"emu3.cli.decode {tmp_path / 'rec_0000.npz'}" in capsys.readouterr().err


def refused(tiny, path, output, capsys, extra=()) -> str:
    assert rebuild(tiny, output, path, extra=extra) == 2
    assert not output.exists() or not list(output.iterdir())
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("emu3.cli.img_rec: error: ")
    assert "--image" not in message
    return message


def test_bad_inputs_are_named(tiny, tmp_path, capsys):
    output = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.mp4").write_text("no video")
    Image.new("RGB", (200, 8)).save(tmp_path / "long.png")
    (tmp_path / "clip").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "clip" / "small.png")
    reasons = {
        "none.png": "no image, folder or video",
        "empty": "holds no image",
        "text.png": "cannot be read",
        "text.mp4": "cannot be read",
        "long.png": "200x8 pixels is too long",
        "clip": "small.png: image of 2x2 pixels is too small",
    }
    for name, reason in reasons.items():
        message = refused(tiny, tmp_path / name, output, capsys)
        assert str(tmp_path / name) in message and reason in message
        assert message.endswith("change --input")


@pytest.mark.parametrize("place", ["frame_1a.png", "frame_9.png"])  # in the first chunk, the last
def test_frames_of_several_sizes_are_refused(tiny, frame_folder, tmp_path, capsys, place):
    folder = tmp_path / "mixed"
    shutil.copytree(frame_folder, folder)
    Image.new("RGB", (16, 20)).save(folder / place)
    message = refused(tiny, folder, tmp_path / "out", capsys)
    assert f"frames of {folder} have sizes 24x16 and 16x20" in message
    assert place in message and message.endswith("change --input")


def test_clip_frames_must_fit_the_model(tiny, image_file, tmp_path, capsys):
    message = refused(tiny, image_file, tmp_path / "out", capsys, ["--clip-frames", "6"])
    assert "multiples of 4; change --clip-frames" in message


def test_broken_models_and_outputs_are_named(tiny, image_file, tmp_path, capsys):
    output = tmp_path / "out"
    missing = refused(tiny, image_file, output, capsys, ["--vq-model", str(tmp_path / "none")])
    assert "--vq-model" in missing
    broken = tmp_path / "broken"
    shutil.copytree(tiny[1], broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert str(weights) in refused(tiny, image_file, output, capsys, ["--vq-model", str(broken)])
    (tmp_path / "file").write_text("")
    assert rebuild(tiny, tmp_path / "file" / "below", image_file) == 2
    assert "change --output" in capsys.readouterr().err


def test_tiles_are_used_where_the_picture_is_larger_and_change_nothing_elsewhere(
    tiny, image_file, tmp_path, monkeypatch
):
    from emu3.tokenizer import TiledVision

    used, blend = [], TiledVision._blend

    def watched(self, *arguments):
        used.append(True)
        return blend(self, *arguments)

    monkeypatch.setattr(TiledVision, "_blend", watched)
    large = tmp_path / "large.png"
    Image.open(image_file).resize((40, 24)).save(large)
    assert rebuild(tiny, tmp_path / "whole", image_file) == 0
    assert rebuild(tiny, tmp_path / "tiled", image_file, large, extra=["--tile", "32"]) == 0
    assert len(used) == 2  # once to codes, once to pixels
    whole, tiled = (Codes.load(tmp_path / name / "rec_0000.npz") for name in ("whole", "tiled"))
    assert np.array_equal(whole.codes, tiled.codes)
    picture = pixels(tmp_path / "tiled" / "rec_0001.png")
    assert picture.shape == (24, 40, 3)
    codes = str(tmp_path / "tiled" / "rec_0001.npz")
    assert decode.main([codes, "--vq-model", tiny[1], "--tile", "32"]) == 0
    assert np.array_equal(pixels(tmp_path / "tiled" / "rec_0001_decoded_0000.png"), picture)
