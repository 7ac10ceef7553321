"""The vision tokenizer's training: what it learns from, what its kernels over time may learn."""

import numpy as np
import pytest
from mindspore import Tensor, ops

from emu3.cli.shell import read_options
from emu3.errors import InputError
from train.mini.vision.__main__ import build_parser
from train.mini.vision.data import Drawn, Seen
from train.mini.vision.options import VisionOptions
from train.mini.vision.step import (
    NEARNESS,
    SHARPNESS,
    DrawStep,
    NameStep,
    NamingLoss,
    frames_of,
)
from train.mini.vision.training import Course, new_model, save_model

CONFIG = "configs/emu3_mini_vision.json"


@pytest.fixture(scope="module")
def trained():
    """A model after two steps of each kind."""
    model = new_model(CONFIG)
    name, draw = (kind(model).set_train(True) for kind in (NameStep, DrawStep))
    for step in range(2):
        name(*map(Tensor, Seen(0, 1, 3)(step)), Tensor(1e-3))
        draw(*map(Tensor, Drawn(0, 1, 3, 2)(step)), Tensor(1e-3))
    return model.set_train(False)


def test_batches_are_a_function_of_the_step():
    for kind in (Seen(0, 2, 5), Drawn(0, 2, 5, 3)):
        for a, b in zip(kind(5), kind(5)):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(kind(5)[0], kind(6)[0])


def test_a_course_begins_with_the_weights_of_a_folder(trained, tmp_path):
    save_model(trained, str(tmp_path), "float32")
    course = Course(
        read_options(VisionOptions, build_parser().parse_args(["--model", str(tmp_path)]))
    )
    wanted = {name: p.asnumpy() for name, p in trained.parameters_and_names()}
    for name, parameter in course.model.parameters_and_names():
        np.testing.assert_array_equal(parameter.asnumpy(), wanted[name])


def test_each_part_of_a_course_ends_on_whole_pictures():
    told = [
        "--apart-steps",
        "3",
        "--both-steps",
        "1",
        "--draw-steps",
        "2",
        "--name-steps",
        "2",
        "--whole-steps",
        "1",
    ]
    course = Course(read_options(VisionOptions, build_parser().parse_args(told)))
    due = [course.due(step) for step in range(course.last)]
    apart = ["naming", "drawing"]
    assert [list(kinds) for kinds in due] == [
        *[apart] * 3, ["both"], *[["drawing"]] * 2, *[["naming"]] * 2
    ]  # fmt: skip
    cells = [make.cells for kinds in due[:3] + due[4:] for _, make in kinds.values()]
    assert cells == [5, 5, 5, 5, 8, 8, 5, 8, 5, 8]


def test_a_codebook_of_another_size_is_refused(tmp_path):
    path = tmp_path / "vision.json"
    path.write_text('{"codebook_size": 5}')
    with pytest.raises(InputError, match="codebook_size 5"):
        new_model(str(path))


def test_a_clip_is_coded_by_the_last_frame_of_each_moment(trained):
    rng = np.random.default_rng(0)
    clip = rng.uniform(-1, 1, (1, 12, 3, 32, 32)).astype(np.float32)
    codes = trained.encode(Tensor(clip)).asnumpy()[0]
    alone = trained.encode(Tensor(clip[0, 3::4])).asnumpy()
    np.testing.assert_array_equal(codes, alone)


def test_some_frames_of_a_clip_are_those_of_the_whole(trained):
    codes = Tensor(np.random.default_rng(0).integers(0, 99, (1, 3, 2, 2)).astype(np.int32))
    latent = trained.quantize.embedding(codes).transpose(0, 4, 1, 2, 3)
    whole = trained.decode_latent(latent, still=False).asnumpy()[0]
    some = frames_of(trained, latent, Tensor(np.array([2, 7], np.int32))).asnumpy()
    np.testing.assert_allclose(some, whole[[2, 7]], atol=1e-4)


def test_a_frame_does_not_depend_on_moments_long_past(trained):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 99, (1, 6, 2, 2)).astype(np.int32)
    later = trained.decode(Tensor(codes)).asnumpy()[0, 16:]
    short = trained.decode(Tensor(codes[:, 2:])).asnumpy()[0, 8:]
    np.testing.assert_allclose(later, short, atol=1e-4)


def test_the_naming_loss_is_cross_entropy_by_distance_plus_squared_distance():
    rng = np.random.default_rng(0)
    vectors, table = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    names = np.array([0, 6, 2, 2, 5], np.int32)
    distances = ((vectors[:, None] - table[None]) ** 2).sum(-1)
    shares = np.exp(-SHARPNESS * distances)
    shares = shares / shares.sum(1, keepdims=True)
    expected = -np.log(shares[np.arange(5), names]).mean()
    expected += NEARNESS * distances[np.arange(5), names].mean()
    inputs = Tensor(vectors.astype(np.float32)), Tensor(table.astype(np.float32)), Tensor(names)
    assert float(NamingLoss()(*inputs)) == pytest.approx(expected, rel=1e-4)


def test_vectors_near_their_names_make_the_naming_loss_sharper():
    table = Tensor(np.eye(3, dtype=np.float32))
    loss, names = NamingLoss(), Tensor(np.arange(3, dtype=np.int32))
    slope = ops.grad(loss, grad_position=None, weights=loss.sharpness)
    assert float(slope(table, table, names)) < 0 < float(slope(1 - table, table, names))
