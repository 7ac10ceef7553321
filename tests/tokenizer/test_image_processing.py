"""The image processor: the reference's pixels, every kind of picture, honest errors."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from emu3.errors import InputError
from emu3.images import open_image
from emu3.tokenizer import Emu3VisionVQImageProcessor
from emu3.tokenizer.pictures import smart_resize

FOLDER = Path(__file__).parents[1] / "golden"
SIZES = json.loads((FOLDER / "text_51.json").read_text())["smart_resize"]


@pytest.fixture
def processor() -> Emu3VisionVQImageProcessor:
    return Emu3VisionVQImageProcessor(min_pixels=32 * 32, max_pixels=96 * 96)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("index", [0, 1])
def test_pixels_equal_the_reference_both_ways(processor, index):
    arrays = np.load(FOLDER / "images_51.npz")
    image = Image.fromarray(arrays[f"image_{index}"])
    pixels = processor(image, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(pixels, arrays[f"pixel_values_{index}"])
    (back,) = processor.postprocess(pixels)["pixel_values"]
    np.testing.assert_array_equal(np.asarray(back), arrays[f"postprocess_{index}"])


def test_sizes_equal_the_reference():
    for height, width, *expected in SIZES:
        if expected == ["error"]:
            with pytest.raises(InputError):
                smart_resize(height, width)
        else:
            assert list(smart_resize(height, width)) == expected


def test_the_side_ratio_is_five_at_most():
    assert smart_resize(100, 500) == (232, 1152)
    with pytest.raises(InputError, match="501x100"):
        smart_resize(100, 501)


def test_resizing_is_bicubic(processor, noise):
    resized = processor(noise, min_pixels=64 * 96, do_rescale=False, do_normalize=False)
    expected = Image.fromarray(noise).resize((96, 64), Image.Resampling.BICUBIC)
    actual = resized["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_array_equal(actual, np.asarray(expected))


@pytest.mark.parametrize(
    "convert",
    [
        Image.fromarray,
        lambda a: a.transpose(2, 0, 1),
        lambda a: a[None],
        lambda a: [a],
        lambda a: a.astype(np.int64),
        lambda a: a.astype(np.float32),
        ms.Tensor,
        lambda a: ms.Tensor(a[None]),
        lambda a: [ms.Tensor(a)],
    ],
)
def test_every_kind_of_picture_gives_the_same_pixels(processor, noise, convert):
    pixels = processor(convert(noise), return_tensors="np")["pixel_values"]
    expected = (noise.transpose(2, 0, 1)[None] / 127.5 - 1).astype(np.float32)
    np.testing.assert_allclose(pixels, expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_picture_modes_become_rgb(processor, mode):
    assert processor(Image.new(mode, (48, 32)), return_tensors="np")["pixel_values"].shape == (
        (1, 3, 32, 48)
    )


def test_grey_arrays_become_rgb(processor, noise):
    grey = noise[:, :, 0]
    for array in (grey, grey[None], grey[:, :, None]):
        pixels = processor(array, return_tensors="np")["pixel_values"]
        assert pixels.shape == (1, 3, 32, 48)
        np.testing.assert_array_equal(pixels[:, 0], pixels[:, 2])


def test_pixel_values_come_back_as_pictures_whatever_they_are(processor, noise):
    pixels = processor(noise, return_tensors="np")["pixel_values"]
    expected = np.asarray(processor.postprocess(pixels)["pixel_values"][0])
    for values in (pixels[0], [pixels[0]], ms.Tensor(pixels), ms.Tensor(pixels[0])):
        (picture,) = processor.postprocess(values)["pixel_values"]
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), expected)


def test_sixteen_bit_pixel_values_are_taken(processor):
    for dtype in (ms.float16, ms.bfloat16):
        values = ms.Tensor(np.ones((3, 8, 8)), dtype)
        assert processor.postprocess(values)["pixel_values"][0].getpixel((0, 0)) == (255,) * 3


def test_values_beyond_the_range_are_clipped(processor):
    values = np.array([-3.0, 0.0, 0.999, 7.0]).reshape(1, 2, 2).repeat(3, axis=0)
    picture = processor.postprocess(values)["pixel_values"][0]
    assert np.asarray(picture)[:, :, 0].tolist() == [[0, 127], [254, 255]]


def test_rounding_gives_back_the_picture(processor, noise):
    pixels = processor(noise, return_tensors="np")["pixel_values"]
    rounded = processor.postprocess(pixels, do_round=True)["pixel_values"][0]
    truncated = processor.postprocess(pixels)["pixel_values"][0]
    np.testing.assert_array_equal(np.asarray(rounded), noise)
    assert (np.asarray(truncated) != noise).any()


def test_postprocessed_arrays_keep_one_picture_an_item(processor):
    values = np.zeros((2, 3, 8, 16), np.float32)
    assert processor.postprocess(values, return_tensors="np")["pixel_values"].shape == values.shape
    tensor = processor.postprocess(values, return_tensors="ms", output_data_format="channels_last")[
        "pixel_values"
    ]
    assert tensor.shape == (2, 8, 16, 3) and tensor.dtype == ms.uint8


def test_pictures_pass_through_postprocess(processor, noise):
    picture = Image.fromarray(noise)
    assert processor.postprocess([picture])["pixel_values"] == [picture]


def test_several_sizes_come_as_a_list_only(processor, noise):
    pictures = [noise, noise[:, :40]]
    assert len(processor(pictures)["pixel_values"]) == 2
    with pytest.raises(InputError, match="stacked"):
        processor(pictures, return_tensors="np")


def test_saved_options_are_read_again(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "Emu3VisionVQImageProcessor"
    assert saved["size"] == {"min_pixels": 1024, "max_pixels": 9216}
    loaded = Emu3VisionVQImageProcessor.from_pretrained(tmp_path, max_pixels=5000)
    assert (loaded.min_pixels, loaded.max_pixels, loaded.size["max_pixels"]) == (1024, 5000, 5000)


@pytest.mark.parametrize(
    "layout, shape", [("channels_first", (3, 3, 48)), ("channels_last", (3, 48, 3))]
)
def test_a_stated_layout_decides(processor, layout, shape):
    pixels = processor(np.zeros((3, 48, 3), np.uint8), do_resize=False, input_data_format=layout)
    assert pixels["pixel_values"][0].shape == (
        (3, 48, 3) if layout == "channels_first" else (3, 3, 48)
    )


@pytest.mark.parametrize(
    "images, named",
    [
        ("cat.png", "cat.png"),
        (None, "NoneType"),
        ([], "no picture"),
        ([1, 2], "no picture"),
        (np.zeros((5, 5, 5)), r"\(5, 5, 5\)"),
        (np.zeros((3, 7, 7), np.uint8), "7x7"),
        (np.full((3, 32, 32), 300), "300"),
    ],
)
def test_what_is_no_picture_is_named(processor, images, named):
    with pytest.raises(InputError, match=named):
        processor(images)


def turned(path) -> Image.Image:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, exif=exif)
    return Image.open(path)


@pytest.mark.parametrize(
    "make",
    [
        turned,
        lambda path: Image.fromarray((np.arange(40 * 64) * 25).astype(np.uint16).reshape(40, 64)),
        lambda path: Image.new("RGBA", (64, 40), (10, 20, 30, 90)),
    ],
    ids=["turned", "16 bits", "alpha"],
)
def test_a_picture_is_read_as_its_file_would_be(processor, make, tmp_path):
    image = make(tmp_path / "a.png")
    path = tmp_path / "b.png"
    image.save(path, **({"exif": image.getexif()} if image.getexif() else {}))
    pixels = [processor(picture)["pixel_values"][0] for picture in (image, open_image(path))]
    assert np.array_equal(*pixels)


def test_a_truncated_file_is_named(processor, noise, tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"cut\.png"):
        processor(Image.open(path))


@pytest.mark.parametrize(
    "options",
    [
        {"min_pixels": 0},
        {"min_pixels": 100, "max_pixels": 99},
        {"max_pixels": "many"},
        {"resample": 9},
        {"spatial_factor": 0},
        {"image_std": [0.5, 0, 0.5]},
        {"rescale_factor": "1"},
        {"image_mean": ["0.5", "0.5", "0.5"]},
        {"image_std": True},
        {"image_mean": [0.5, 0.5]},
        {"rescale_factor": "x"},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match="change preprocessor_config"):
        Emu3VisionVQImageProcessor(**options)


def test_an_unknown_option_is_named(processor, noise):
    with pytest.raises(InputError, match="crop"):
        processor(noise, crop=1)


@pytest.mark.parametrize(
    "content, named",
    [
        (None, "--vq-model"),
        ("{", "--vq-model"),
        ('{"max_pixels": 3}', "max_pixels 3"),
        ('{"resample": "bicubic"}', "bicubic.*--vq-model"),
        ('{"resample": []}', "--vq-model"),
    ],
)
def test_a_missing_or_broken_file_is_named(tmp_path, content, named):
    if content:
        (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(InputError, match=named):
        Emu3VisionVQImageProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[]", "no JSON object"),
        ("[" * 100_000, "nested"),
        ('{"preprocess": 1}', "preprocess"),
        ('{"__class__": "x"}', "__class__"),
        ('{"image_mean": NaN}', "NaN"),
        ('{"image_mean": 1e999}', "image_mean"),
        ('{"rescale_factor": [1, 1, 1]}', "rescale_factor"),
        ('{"do_resize": "no"}', "do_resize"),
        ('{"min_pixels": true}', "min_pixels"),
        ('{"max_pixels": 1' + "0" * 400 + "}", "max_pixels"),
        ('{"resample": "x"}', "invalid literal"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, content, named):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(InputError, match=named):
        Emu3VisionVQImageProcessor.from_pretrained(tmp_path)


def test_a_published_file_with_code_beside_it_is_read(tmp_path):
    stated = {"auto_map": {"AutoImageProcessor": "x.Y"}, "size": {"max_pixels": 9}, "more": 1}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated | {"max_pixels": 300000}))
    loaded = Emu3VisionVQImageProcessor.from_pretrained(tmp_path)
    assert (loaded.max_pixels, loaded.more) == (300000, 1)
    loaded.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())
    assert "auto_map" not in written and written["more"] == 1


@pytest.mark.parametrize("name", ["trust_remote_code", "revision", "max_pixel"])
def test_an_option_of_loading_without_a_meaning_is_named(processor, tmp_path, name):
    processor.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=name):
        Emu3VisionVQImageProcessor.from_pretrained(tmp_path, **{name: 1})
