"""What every door calls: settings are filled in once, requests are kept, pictures come back."""

import numpy as np
import pytest
from PIL import Image

from emu3.errors import InputError
from emu3.loading import load
from emu3.mllm.defaults import CheckpointDefaults
from emu3.mllm.generation import Done, PrefillDone, RowDone, TextPiece
from emu3.mllm.generation.schemes import Jacobi, Plain, ZipAR
from emu3.mllm.parts import Clip
from emu3.mllm.prompts import PromptBuilder
from emu3.pipeline import (
    Answers,
    AskSettings,
    DrawSettings,
    Picture,
    PictureSize,
    Reconstruction,
    TextToImage,
    in_lists,
)
from tests.support import write_tiny_checkpoint

STATED = CheckpointDefaults(decoding="jacobi", window=6, coupling="fixed", guidance_scale=2.0)
TWO = [Picture("red", (4, 4), 5), Picture("blue", (2, 6), 6)]


@pytest.fixture(scope="module")
def emu3(tmp_path_factory):
    """The tiny checkpoint, loaded."""
    folders = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return load(*folders, device="CPU")


@pytest.fixture(scope="module")
def drawing(emu3) -> TextToImage:
    return TextToImage(emu3.model, emu3.prompts)


@pytest.fixture(scope="module")
def settings(emu3) -> DrawSettings:
    return DrawSettings().filled(emu3.defaults)


def test_settings_left_out_are_the_checkpoints():
    filled = DrawSettings(guidance=7.0, suffix="").filled(STATED)
    assert (filled.guidance, filled.suffix) == (7.0, "")
    assert (filled.top_k, filled.negative_prompt) == (STATED.top_k, STATED.negative_prompt)
    assert filled.scheme == Jacobi(6, "fixed")


@pytest.mark.parametrize(
    ("asked", "scheme"),
    [
        ({"window": 4}, Jacobi(4, "fixed")),
        ({"decoding": "plain"}, Plain()),
        ({"decoding": "zipar", "zipar_window": 2}, ZipAR(2)),
    ],
)
def test_another_scheme_leaves_the_stated_ones_options(asked, scheme):
    assert DrawSettings(**asked).filled(STATED).scheme == scheme


def test_a_scheme_that_there_is_not_is_refused_when_it_is_asked_for():
    with pytest.raises(InputError, match="--decoding"):
        DrawSettings(decoding="fast")


def test_answers_take_the_likeliest_tokens_unless_there_is_a_temperature():
    assert AskSettings().arguments == {"do_sample": False}
    hot = AskSettings(temperature=2.0).filled(STATED).arguments
    assert hot == {"do_sample": True, "temperature": 2.0, "top_k": STATED.top_k, "top_p": 1.0}


def test_sizes_come_from_ratios_or_from_sides():
    assert PictureSize(["4:1", "1:4"]).grids(2, 1024, 4) == [(4, 16), (16, 4)]
    assert PictureSize(image_area=256).grids(3, 1024, 4) == [(4, 4)] * 3
    assert PictureSize(height=9, width=22).grids(2, 1024, 4) == [(2, 6)] * 2
    assert "become 8, 24" in PictureSize(height=9, width=22).snapped_notice(4)
    assert PictureSize(height=8, width=24).snapped_notice(4) is None
    assert PictureSize(["1:1"]).snapped_notice(4) is None


def test_a_request_is_kept_and_may_run_again(drawing, settings):
    request = drawing.request(TWO, settings, jit=False)
    events = list(drawing.run(request))
    assert isinstance(events[0], PrefillDone)
    assert isinstance(events[-1], Done)
    assert sum(isinstance(event, RowDone) for event in events) == 6
    first, _ = drawing.codes(request)
    again, _ = drawing.codes(request)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))


def test_each_picture_of_a_batch_is_the_picture_alone(drawing, settings):
    both, _ = drawing.codes(drawing.request(TWO, settings, jit=False))
    for picture, codes in zip(TWO, both):
        (alone,), _ = drawing.codes(drawing.request([picture], settings, jit=False))
        assert codes.shape == picture.size
        assert np.array_equal(alone, codes)


def test_the_guidance_of_the_checkpoint_counts(drawing, settings):
    without = drawing.request(TWO, DrawSettings(**vars(settings) | {"guidance": 1.0}), jit=False)
    assert not without.rows.guided
    assert drawing.request(TWO, settings, jit=False).rows.guided


def test_pieces_of_an_answer_make_the_answer(emu3):
    answers = Answers(emu3.model, emu3.prompts)
    codes = [np.zeros((4, 4), np.int32), np.ones((2, 3), np.int32)]
    asked = AskSettings(max_new_tokens=6).filled(emu3.defaults)
    request = answers.request(["why", "what"], codes, asked, jit=False)
    pieces = [event for event in answers.run(request) if isinstance(event, TextPiece)]
    ids = [[i for p in pieces if p.sequence == row for i in p.ids] for row in range(2)]
    assert answers.texts(request) == [answers.text(row) for row in ids]


def test_a_clip_is_coded_a_few_frames_at_a_time(emu3):
    rebuild = Reconstruction(emu3.codec, clip_frames=4)
    pixels = [emu3.codec.pixels(Image.new("RGB", (24, 16), (20 * i, 9, 9))) for i in range(6)]
    parts = list(rebuild.encode_clip(pixels))
    assert [(codes.shape, count) for codes, count in parts] == [((1, 4, 6), 4), ((1, 4, 6), 2)]
    codes = np.concatenate([codes for codes, _ in parts])
    assert [frame.size for frame in rebuild.frames(codes, 6)] == [(24, 16)] * 6
    with pytest.raises(InputError, match="--clip-frames"):
        Reconstruction(emu3.codec, clip_frames=6)


def test_lists_hold_so_many_items_and_the_rest():
    assert list(in_lists(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_one_line_draws_asks_and_rebuilds(emu3, tmp_path):
    image = emu3.draw("a red star", seed=3)
    assert image.size == (16, 16)
    assert image.tobytes() == emu3.draw("a red star", seed=3).tobytes()
    assert image.tobytes() != emu3.draw("a red star", seed=4).tobytes()
    image.save(tmp_path / "star.png")
    asked = {"max_new_tokens": 4}
    answer = emu3.ask("what", image, **asked)
    assert answer == emu3.ask("what", tmp_path / "star.png", **asked)
    assert emu3.rebuild(image).size == (16, 16)


def test_a_clip_is_asked_about_at_its_own_rate(emu3, monkeypatch):
    clip = Clip([Image.new("RGB", (16, 16), (30 * i, 9, 9)) for i in range(4)], 12.0)
    seen, user_turn = [], PromptBuilder.user_turn

    def noted(self, parts, *more, **options):
        seen.extend(parts)
        return user_turn(self, parts, *more, **options)

    monkeypatch.setattr(PromptBuilder, "user_turn", noted)
    emu3.ask("what", clip, max_new_tokens=2)
    assert (seen[0].fps, seen[0].codes.ndim) == (12.0, 3)


def test_the_facade_draws_what_the_command_draws(emu3, tmp_path):
    from emu3.cli import img_gen

    folders = ["--model", str(emu3.model.source), "--vq-model", str(emu3.codec.vision.source)]
    options = ["--prompt", "a red star", "--ratio", "2:1", "--seed", "9", "--top-k", "8"]
    assert img_gen.main([*folders, *options, "--output", str(tmp_path)]) == 0
    with Image.open(tmp_path / "image_0000.png") as written:
        drawn = emu3.draw("a red star", ratio="2:1", seed=9, top_k=8)
        assert written.tobytes() == drawn.tobytes()


def test_an_unknown_setting_is_refused(emu3):
    with pytest.raises(InputError, match=r"'hot' is unknown; allowed: temperature, .*guidance"):
        emu3.draw("a", hot=True)


@pytest.mark.parametrize(
    "asked",
    [
        lambda emu3: emu3.film("a", frames=0),
        lambda emu3: emu3.film("a", frames=4.5),
        lambda emu3: emu3.film("a", fps=0),
        lambda emu3: emu3.film("a", piece=8, context=0),
        lambda emu3: emu3.draw("a", height=-5, width=-5),
        lambda emu3: emu3.draw("a", height=16, width=16, image_area=400),
        lambda emu3: emu3.draw("a", ratio=1.5),
        lambda emu3: emu3.draw("a", suffix=3),
        lambda emu3: emu3.draw("a", temperature="hot"),
        lambda emu3: emu3.edit("a", []),
    ],
)
def test_python_refuses_what_the_command_line_refuses(emu3, asked):
    with pytest.raises(InputError):
        asked(emu3)


def test_a_picture_given_is_rebuilt_as_its_file_would_be(emu3, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("RGBA", (24, 16), (0, 0, 0, 0))
    stored.paste((200, 30, 60, 255), (0, 0, 12, 16))
    stored.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        given = np.asarray(emu3.rebuild(image))
    assert given.shape == (24, 16, 3)
    assert np.array_equal(given, np.asarray(emu3.rebuild(tmp_path / "a.png")))


def test_a_broken_picture_given_is_named(emu3, tmp_path):
    Image.new("RGB", (24, 16)).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").write_bytes((tmp_path / "a.bmp").read_bytes()[:400])
    with Image.open(tmp_path / "a.bmp") as image, pytest.raises(InputError, match=r"a\.bmp cannot"):
        emu3.rebuild(image)
