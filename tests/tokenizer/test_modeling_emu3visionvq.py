"""The vision tokenizer: reference vectors, shapes of the released model, exact shortcuts."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.nn.utils import no_init_parameters

from emu3.errors import InputError
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQModel
from emu3.tokenizer import modeling_emu3visionvq as module
from tests.golden_weights import set_golden_weights

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = ["vq_small", "vq_mult1"]


def load(case: str) -> tuple[Emu3VisionVQModel, dict, dict[str, np.ndarray]]:
    about = json.loads((GOLDEN / f"{case}.json").read_text())
    arrays = dict(np.load(GOLDEN / f"{case}.npz"))
    model = set_golden_weights(Emu3VisionVQModel(Emu3VisionVQConfig(**about["config"])))
    model.quantize.embedding.weight.set_data(Tensor(arrays["quantize.embedding.weight"]))
    return model.set_train(False), about, arrays


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return load(request.param)


@pytest.fixture(scope="module")
def small():
    return load("vq_small")


def test_parameter_names_and_shapes_are_the_published_ones(case):
    model, about, _ = case
    found = {name: list(p.shape) for name, p in model.parameters_and_names()}
    assert found == about["parameters"]


@pytest.mark.parametrize("kind", ["image", "video"])
def test_codes_equal_the_reference_wherever_the_margin_decides(case, kind):
    model, _, arrays = case
    codes = model.encode(Tensor(arrays[kind])).asnumpy()
    clear = arrays[f"{kind}_code_margin"] > 1e-5
    assert codes.dtype == np.int32
    assert (codes == arrays[f"{kind}_codes"])[clear].all()


@pytest.mark.parametrize("kind", ["image", "video"])
def test_decoded_pixels_equal_the_reference(case, kind):
    model, _, arrays = case
    pixels = model.decode(Tensor(arrays[f"{kind}_codes"])).asnumpy()
    np.testing.assert_allclose(pixels, arrays[f"{kind}_decoded"], atol=1e-4)


def test_random_codes_decode_as_in_the_reference(case):
    model, _, arrays = case
    pixels = model.decode(Tensor(arrays["codes"])).asnumpy()
    np.testing.assert_allclose(pixels, arrays["codes_decoded"], atol=1e-4)


class Published(dict):
    """Names and shapes of the tensors of BAAI/Emu3-VisionTokenizer, written out by hand."""

    def __init__(self) -> None:
        super().__init__({"quantize.embedding.weight": (32768, 4)})
        for net in ("encoder", "decoder"):
            for i in range(2):
                self.stack(f"{net}.time_res_stack.{i}")
                frames = 4 if net == "encoder" else 3
                self.pair(f"{net}.time_conv.{i}.conv.conv", 4, 4, frames, 3, 3)
            for i in (1, 2):
                self.block(f"{net}.mid.block_{i}", 1024, 1024)
            self.attention(f"{net}.mid.attn_1")
        for level, (a, b) in enumerate([(256, 256), (256, 512), (512, 512), (512, 1024)]):
            for i in range(2):
                self.block(f"encoder.down.{level}.block.{i}", b if i else a, b)
        for level, (a, b) in enumerate([(512, 256), (512, 512), (1024, 512), (1024, 1024)]):
            for i in range(3):
                self.block(f"decoder.up.{level}.block.{i}", b if i else a, b)
        for i in range(2):
            self.attention(f"encoder.down.3.attn.{i}")
        for i in range(3):
            self.attention(f"decoder.up.3.attn.{i}")
            self.pair(f"encoder.down.{i}.downsample.conv", *[(256, 512, 512)[i]] * 2, 3, 3)
            self.pair(f"decoder.up.{i + 1}.upsample.conv", *[(512, 512, 1024)[i]] * 2, 3, 3)
        self.norm("encoder.norm_out", 1024)
        self.norm("decoder.norm_out", 256)
        for name, out, into in (("en", 256, 3), ("de", 1024, 4)):
            self.pair(f"{name}coder.conv_in", out, into, 3, 3)
        for name, out, into in (("en", 4, 1024), ("de", 3, 256)):
            self.pair(f"{name}coder.conv_out", out, into, 3, 3)
        for name in ("quant_conv.conv", "post_quant_conv.conv"):
            self.pair(name, 4, 4, 3, 1, 1)

    def pair(self, name: str, *shape: int) -> None:
        self[f"{name}.weight"], self[f"{name}.bias"] = shape, shape[:1]

    def norm(self, name: str, width: int) -> None:
        conditioned = name.startswith("decoder")
        self.pair(f"{name}.norm_layer" if conditioned else name, width)
        for part in ("conv_y", "conv_b") if conditioned else ():
            self.pair(f"{name}.{part}", width, 4, 1, 1)

    def block(self, name: str, a: int, b: int) -> None:
        for i, width in ((1, a), (2, b)):
            self.norm(f"{name}.norm{i}", width)
            self.pair(f"{name}.conv{i}", b, width, 3, 3)
        if a != b:
            self.pair(f"{name}.nin_shortcut", b, a, 1, 1)

    def attention(self, name: str) -> None:
        self.norm(f"{name}.norm", 1024)
        for part in ("q", "k", "v", "proj_out"):
            self.pair(f"{name}.{part}", 1024, 1024, 1, 1)

    def stack(self, name: str) -> None:
        for i in (1, 2):
            self.pair(f"{name}.norm{i}", 4)
            buffers = {"running_mean": (4,), "running_var": (4,), "num_batches_tracked": ()}
            self.update({f"{name}.norm{i}.{buffer}": shape for buffer, shape in buffers.items()})
            self.pair(f"{name}.conv{i}.conv", 4, 4, 3, 3, 3)


def test_the_full_size_model_has_the_495_published_tensors():
    with no_init_parameters():
        model = Emu3VisionVQModel(Emu3VisionVQConfig())
    shapes = {name: tuple(p.shape) for name, p in model.parameters_and_names()}
    assert shapes == dict(Published())
    assert len(shapes) == 495
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    sizes = [np.prod(s) for name, s in shapes.items() if not name.endswith(buffers)]
    assert sum(sizes) == 270_740_287


def test_a_picture_equals_a_clip_of_four_equal_frames(small):
    model, _, arrays = small
    image = arrays["image"]
    clip = np.repeat(image[:, None], 4, axis=1)
    codes = model.encode(Tensor(clip)).asnumpy()
    np.testing.assert_array_equal(model.encode(Tensor(image)).asnumpy(), codes[:, 0])
    still = model.decode(Tensor(codes[:, 0])).asnumpy()
    moving = model.decode(Tensor(codes)).asnumpy()
    np.testing.assert_allclose(still, moving[:, 0], atol=1e-5)


def test_a_batch_gives_what_each_item_gives_alone(small):
    model, _, arrays = small
    clips = np.concatenate([arrays["video"], -arrays["video"][:, ::-1]])
    together = model.encode(Tensor(clips)).asnumpy()
    alone = [model.encode(Tensor(clips[i : i + 1])).asnumpy()[0] for i in range(2)]
    np.testing.assert_array_equal(together, np.stack(alone))
    pixels = model.decode(Tensor(together)).asnumpy()
    single = model.decode(Tensor(together[1:])).asnumpy()[0]
    np.testing.assert_allclose(pixels[1], single, atol=1e-5)


def test_small_chunks_change_nothing(small, monkeypatch):
    model, _, arrays = small
    video = np.tile(arrays["video"], (1, 2, 1, 1, 1))
    codes = model.encode(Tensor(video)).asnumpy()
    pixels = model.decode(Tensor(codes)).asnumpy()
    monkeypatch.setattr(module, "DISTANCES_AT_ONCE", 1280)
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 1600)
    np.testing.assert_array_equal(model.encode(Tensor(video)).asnumpy(), codes)
    np.testing.assert_allclose(model.decode(Tensor(codes)).asnumpy(), pixels, atol=1e-5)


def test_saved_weights_come_back_bit_equal(small, tmp_path):
    model, _, arrays = small
    model.save_pretrained(tmp_path)
    again = Emu3VisionVQModel.from_pretrained(tmp_path)
    for name, parameter in model.parameters_and_names():
        other = dict(again.parameters_and_names())[name]
        assert other.dtype == parameter.dtype, name
        np.testing.assert_array_equal(other.asnumpy(), parameter.asnumpy(), err_msg=name)
    codes = again.encode(Tensor(arrays["image"])).asnumpy()
    np.testing.assert_array_equal(codes, model.encode(Tensor(arrays["image"])).asnumpy())


def test_mixed_precision_of_mindone_keeps_encode_and_decode(tmp_path):
    amp = pytest.importorskip("mindone.utils.amp")  # asks for transformers 4
    from mindspore import mint

    model, _, arrays = load("vq_small")
    mixed = amp.auto_mixed_precision(
        model, amp_level="O2", dtype=ms.float32, custom_fp32_cells=[mint.nn.BatchNorm3d]
    )
    codes = mixed.encode(Tensor(arrays["image"])).asnumpy()
    assert (codes == arrays["image_codes"]).mean() > 0.99
    pixels = mixed.decode(Tensor(arrays["image_codes"])).asnumpy()
    np.testing.assert_allclose(pixels, arrays["image_decoded"], atol=1e-4)


def test_the_training_forward_reconstructs_what_encode_and_decode_give(small):
    model, _, arrays = small
    picture, codes, vectors, commitment, codebook = model(Tensor(arrays["image"]))
    expected = model.encode(Tensor(arrays["image"]))
    np.testing.assert_array_equal(codes.asnumpy(), expected.asnumpy().reshape(-1))
    np.testing.assert_allclose(picture.asnumpy(), model.decode(expected).asnumpy(), atol=1e-4)
    table = model.quantize.embedding.weight.asnumpy()
    distance = ((table[codes.asnumpy()] - vectors.asnumpy()) ** 2).mean()
    np.testing.assert_allclose([float(commitment), float(codebook)], distance, rtol=1e-4)


def test_gradients_pass_straight_through_the_codes():
    model, _, arrays = load("vq_small")
    model.set_train(True)
    weights = [model.encoder.conv_in.weight, model.quantize.embedding.weight]

    def loss(pixels):
        picture, _, _, _, codebook = model(pixels)
        return ((picture - pixels) ** 2).mean() + codebook

    grads = ops.value_and_grad(loss, None, ms.ParameterTuple(weights))(Tensor(arrays["image"]))[1]
    for grad in grads:
        assert np.isfinite(grad.asnumpy()).all() and np.abs(grad.asnumpy()).max() > 0


def test_training_moves_the_running_statistics():
    model, _, arrays = load("vq_small")
    norm = model.encoder.time_res_stack[0].norm1
    before = norm.running_mean.asnumpy().copy()
    model.set_train(True)(Tensor(arrays["image"]))
    assert np.abs(norm.running_mean.asnumpy() - before).max() > 0
    model.set_train(False)(Tensor(arrays["image"]))
    frozen = norm.running_mean.asnumpy().copy()
    model(Tensor(arrays["image"]))
    np.testing.assert_array_equal(norm.running_mean.asnumpy(), frozen)


def test_graph_mode_gives_the_same_codes(small):
    class Encode(nn.Cell):
        def __init__(self, model):
            super().__init__()
            self.model = model

        @ms.jit
        def construct(self, pixels):
            return self.model.encode_latent(pixels)

    model, _, arrays = small
    compiled = Encode(model)(Tensor(arrays["image"])).asnumpy()
    plain = model.encode_latent(Tensor(arrays["image"])).asnumpy()
    np.testing.assert_allclose(compiled, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "word"),
    [((3, 32, 32), "shape"), ((1, 4, 32, 32), "shape"), ((1, 3, 4, 32), ">= 8")],
)
def test_pixels_of_a_wrong_shape_are_refused(small, shape, word):
    with pytest.raises(InputError, match=word):
        small[0].encode(Tensor(np.zeros(shape, np.float32)))


def test_too_short_a_clip_is_refused(small):
    with pytest.raises(InputError, match="3 frames"):
        small[0].encode(Tensor(np.zeros((1, 3, 3, 16, 16), np.float32)))


@pytest.mark.parametrize("code", [-1, 256])
def test_codes_outside_the_codebook_are_refused(small, code):
    with pytest.raises(InputError, match=r"0\.\.255"):
        small[0].decode(Tensor(np.full((1, 2, 2), code, np.int32)))


@pytest.mark.parametrize(
    "change",
    [
        {"ch": 48},
        {"codebook_size": 0},
        {"temporal_downsample_factor": 3},
        {"double_z": True},
        {"clip_frames": 6},
        {"clip_frames": 0},
    ],
)
def test_impossible_sizes_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        Emu3VisionVQConfig(**change)
