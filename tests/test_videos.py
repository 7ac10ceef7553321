"""Video files: turned as they say, recognised by content, damaged ones refused by name."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emu3.errors import InputError
from emu3.images import FrameSource

av = pytest.importorskip("av")
ONE = 0x10000


def clip(path: Path, count: int = 3) -> Path:
    """A video whose left half is white and whose right half is black, 64x32 pixels."""
    image = Image.new("RGB", (64, 32), "black")
    image.paste((255, 255, 255), (0, 0, 32, 32))
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for _ in range(count):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return path


def turned(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """The same file with another matrix in its track header."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    matrix = [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 0x40000000]
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "size", "white"),
    [
        ((1, 0, 0, 1), (64, 32), (2, 16)),
        ((0, 1, -1, 0), (32, 64), (16, 2)),  # clockwise: the left side is on top
        ((0, -1, 1, 0), (32, 64), (16, 61)),
        ((-1, 0, 0, -1), (64, 32), (61, 16)),
    ],
)
def test_frames_stand_as_the_display_matrix_says(matrix, size, white, tmp_path):
    for frame in FrameSource(turned(clip(tmp_path / "a.mp4"), *matrix)).frames():
        assert frame.size == size
        assert min(frame.getpixel(white)) > 240
        assert np.asarray(frame).mean() == pytest.approx(127, abs=9)


def test_a_video_is_recognised_by_its_content(tmp_path):
    path = clip(tmp_path / "a.mp4").rename(tmp_path / "a.png")
    assert FrameSource.is_clip(path)
    assert len(list(FrameSource(path).frames())) == 3
    assert FrameSource(path).fps() == pytest.approx(29.97, abs=0.01)


def test_a_video_of_one_frame_is_a_clip(tmp_path):
    assert len(list(FrameSource(clip(tmp_path / "a.mp4", 1)).frames())) == 1


def test_a_file_that_crashes_the_decoder_is_refused_by_name():
    path = Path(__file__).parent / "data" / "damaged.mov"
    with pytest.raises(InputError, match=r"damaged\.mov cannot be read as a video.*--input"):
        list(FrameSource(path).frames())


def test_a_cut_video_is_refused_by_name(tmp_path):
    path = clip(tmp_path / "cut.mp4")
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"cut\.mp4 cannot be read as a video"):
        list(FrameSource(path).frames())


def test_a_file_with_sound_alone_is_refused_by_name(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"sound\.mp4 .*holds no pictures.*--input"):
        FrameSource(path).fps()


def test_a_decoder_that_dies_is_bad_input_not_our_end(tmp_path, monkeypatch):
    monkeypatch.setattr("emu3.videos.START", "import os; os.abort() # {path} {name} {most}")
    with pytest.raises(InputError, match="decoder ended with code -6"):
        list(FrameSource(clip(tmp_path / "a.mp4")).frames())


def test_a_decoder_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("emu3.videos.LONGEST_SILENCE", 0.5)
    monkeypatch.setattr("emu3.videos.START", "import time; time.sleep(60) # {path} {name} {most}")
    with pytest.raises(InputError, match="decoder ended with code -9"):
        list(FrameSource(clip(tmp_path / "a.mp4")).frames())
