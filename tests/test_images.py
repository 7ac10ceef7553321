"""Pictures and clips as people have them."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from emu3.animations import write_animation
from emu3.errors import InputError
from emu3.images import (
    FrameSource,
    eight_bits,
    open_image,
    picture_size,
    steady,
    upright_rgb,
)

RAMP = np.arange(256, dtype=np.uint8).reshape(8, 32)
WAY = Image.Transpose
STORED = {
    2: WAY.FLIP_LEFT_RIGHT,
    3: WAY.ROTATE_180,
    4: WAY.FLIP_TOP_BOTTOM,
    5: WAY.TRANSPOSE,
    6: WAY.ROTATE_90,
    7: WAY.TRANSVERSE,
    8: WAY.ROTATE_270,
}


def opened(image: Image.Image, path, **how) -> np.ndarray:
    image.save(path, **how)
    return np.asarray(open_image(path))


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (24, 16), (60 * number, 0, 200)) for number in range(count)]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_stands_as_its_orientation_says(orientation, suffix, tmp_path):
    upright = Image.fromarray(RAMP).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    found = opened(upright.transpose(STORED[orientation]), path, exif=exif, **lossless)
    assert np.array_equal(found, np.asarray(upright))


def test_a_picture_that_was_read_is_turned_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    once = open_image(tmp_path / "a.png")
    assert np.array_equal(np.asarray(upright_rgb(once)), np.asarray(once))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_header_tells_the_size_as_the_picture_stands(suffix, tmp_path):
    for orientation in (1, 3, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"a.{suffix}"
        Image.new("RGB", (24, 16)).save(path, exif=exif)
        assert picture_size(path) == open_image(path).size


def test_a_large_picture_within_the_limit_is_no_warning(tmp_path, recwarn):
    Image.new("L", (1, 1)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 10_000, 10_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    assert picture_size(tmp_path / "a.png") == (10_000, 10_000)
    assert not recwarn.list


def test_a_document_named_as_a_picture_starts_no_program(tmp_path):
    Image.new("RGB", (24, 16)).save(tmp_path / "a.eps")
    path = (tmp_path / "a.eps").rename(tmp_path / "a.png")
    for read in (open_image, picture_size):
        with pytest.raises(InputError, match=r"a\.png cannot be read as an image"):
            read(path)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_become_8_by_257(suffix, tmp_path):
    found = opened(Image.fromarray(RAMP.astype(np.uint16) * 257), tmp_path / f"a.{suffix}")
    assert np.array_equal(found[:, :, 0], RAMP)


@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype(np.int32),
        RAMP.astype(np.int32) * 257,
        RAMP.astype(np.int32) * 1_000_000 - 5_000_000,
        RAMP.astype(np.float32) / 255,
        RAMP.astype(np.float32),
        RAMP.astype(np.float32) * 1e6 - 3e6,
    ],
)
def test_32_bits_become_8_by_the_range_of_their_values(values, tmp_path):
    assert np.array_equal(opened(Image.fromarray(values), tmp_path / "a.tif")[:, :, 0], RAMP)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: .*no numbers.*change --image"):
        open_image(tmp_path / "a.tif")


def test_one_value_alone_is_black_where_its_range_says_nothing():
    assert not eight_bits(np.full((2, 2), 70000, np.int32)).any()


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_what_is_transparent_is_white(mode, tmp_path):
    image = Image.new("LA", (16, 16), (90, 255))
    image.paste((7, 0), (0, 0, 16, 8))  # black but for its alpha
    image = image.convert("RGBA").quantize(8) if mode == "P" else image.convert(mode)
    found = opened(image, tmp_path / "a.png")
    assert (found[:8] == 255).all()
    assert (found[8:] == 90).all()


def test_a_colour_marked_as_transparent_is_white(tmp_path):
    found = opened(Image.new("RGB", (8, 8), "red"), tmp_path / "a.png", transparency=(255, 0, 0))
    assert (found == 255).all()


def test_cmyk_becomes_rgb(tmp_path):
    found = opened(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg", quality=95)
    assert np.abs(found.astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_is_a_clip_whatever_its_name(suffix, tmp_path):
    first, *rest = frames(3)
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=rest, duration=50)
    path = (tmp_path / f"a.{suffix}").rename(tmp_path / "a.jpg")
    assert FrameSource.is_clip(path)
    source = FrameSource(path)
    found = [frame.getpixel((3, 3))[0] for frame in source.frames()]
    assert np.abs(np.subtract(found, [0, 60, 120])).max() < 5
    assert source.fps() == 20
    with pytest.raises(InputError, match=r"animation of 3 frames.*one picture.*change --image"):
        open_image(path)


def test_a_gif_of_one_frame_is_a_picture(tmp_path):
    frames(1)[0].save(tmp_path / "a.gif")
    assert not FrameSource.is_clip(tmp_path / "a.gif")
    assert open_image(tmp_path / "a.gif").size == (24, 16)


def test_frames_of_a_folder_come_in_natural_order(tmp_path):
    for number in (1, 10, 11, 2):
        frames(1)[0].save(tmp_path / f"{number}.png")
    assert [p.stem for p in FrameSource(tmp_path).files] == ["1", "2", "10", "11"]


def test_only_listed_formats_are_opened(tmp_path):
    frames(1)[0].save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match="cannot be read as an image"):
        open_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [13000, 30000])
def test_a_picture_too_large_is_refused_before_it_is_expanded(side, tmp_path):
    frames(1)[0].resize((16, 16)).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = struct.pack("<ii", side, side)
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.bmp .* pixels.*change --image"):
        open_image(tmp_path / "a.bmp")


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png is no regular file.*change --image"):
        open_image(tmp_path / "pipe.png")


def test_a_name_too_long_is_no_clip():
    with pytest.raises(InputError, match=r"change --input"):
        FrameSource.is_clip("x" * 5000)


@pytest.mark.parametrize("fps", [5, 8, 12, 24, 30])
def test_a_clip_keeps_its_rate_and_frames_as_a_gif(fps, tmp_path):
    first, second, third = frames(3)
    shown = [first, second, second, second, third] * 3
    path = write_animation(shown, tmp_path / "a.gif", fps)
    source = FrameSource(path)
    assert source.fps() == fps
    found = [frame.getpixel((3, 3))[0] for frame in source.frames()]
    assert np.abs(np.subtract(found, [0, 60, 60, 60, 120] * 3)).max() < 5


def test_times_that_are_no_multiples_keep_every_frame_once():
    assert steady([100, 250, 140]) == ([1, 1, 1], pytest.approx(3000 / 490))
    assert steady([50, 50, 5000]) == ([1, 1, 1], pytest.approx(3000 / 5100))
    assert steady([0, 0]) == ([1, 1], None)


def test_a_still_of_many_frames_counts_as_often_as_it_lasted():
    assert steady([30, 170, 30, 40, 160, 40, 30, 170, 30]) == ([1, 5, 1] * 3, 30.0)


def test_a_picture_is_a_clip_of_one_frame_without_a_rate(tmp_path):
    frames(1)[0].save(tmp_path / "a.png")
    source = FrameSource(tmp_path / "a.png")
    assert source.fps() is None and [frame.size for frame in source.frames()] == [(24, 16)]
