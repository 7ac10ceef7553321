"""Weights stored in 16 or 8 bits: what is loaded, what comes out, what is refused."""

import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3 import weights as module
from emu3.arrays import as_numpy
from emu3.cli import quantize
from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM
from emu3.mllm.generation import decoder, step
from emu3.nn import forms
from emu3.tensorfile import from_bfloat16, to_bfloat16
from tests.support import randomised, tiny_config, write_tokenizer

PICTURE = {"image_size": (4, 4), "do_sample": True, "top_k": 16, "guidance_scale": 3.0, "seed": 5}


def rounded(model: Emu3ForCausalLM) -> Emu3ForCausalLM:
    """`model` with its matrices rounded to bfloat16, in float32."""
    for parameter in model.get_parameters():
        if len(parameter.shape) == 2:
            parameter.set_data(Tensor(from_bfloat16(to_bfloat16(parameter.asnumpy()))))
    return model


def tiny(form: str = "float32") -> Emu3ForCausalLM:
    """A tiny model with its matrices in a form."""
    model = randomised(Emu3ForCausalLM(tiny_config()), 0).set_train(False)
    model.convert(form)
    return model


def picture(model: Emu3ForCausalLM, **settings) -> np.ndarray:
    """Ids of a guided picture after a prompt of 90 tokens, which is more than kernels take."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 256, (1, 90), np.int32)
    ids[0, -1] = model.config.img_token_id
    made = model.generate(ids, negative_prompt_ids=ids[:, 40:], **PICTURE | settings)
    return as_numpy(made)


@pytest.fixture
def no_kernels(monkeypatch):
    """As on a machine without a compiler."""
    without_kernels(monkeypatch)


def without_kernels(monkeypatch) -> None:
    for name in ("product_kernel", "widen_kernel", "lines_kernel"):
        monkeypatch.setattr(forms, name, lambda form: None)
    for place in (step, decoder):
        monkeypatch.setattr(place, "step_attention", lambda cache: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of the tiny model in float32, in several files."""
    path = tmp_path_factory.mktemp("checkpoint") / "plain"
    write_tokenizer(path)
    tiny().save_pretrained(path, max_shard_size="20KB")
    return path


@pytest.fixture(scope="module")
def quantised(folder):
    """The same in int8."""
    path = folder.parent / "int8"
    assert quantize.main([str(folder), str(path)]) == 0
    return path


# Sums of another order move a logit by 1e-6; none of these tokens hangs on so little.
@pytest.mark.parametrize("settings", [{}, {"decoding": "jacobi", "window": 5, "coupling": "fixed"}])
def test_bfloat16_makes_the_tokens_of_rounded_float32(settings):
    narrow, wide = tiny("bfloat16"), rounded(tiny())
    assert narrow.weights == "bfloat16" and narrow.dtype == ms.float32
    assert np.array_equal(picture(narrow, **settings), picture(wide, **settings))


def test_without_kernels_tokens_are_the_same(no_kernels):
    narrow, wide = tiny("bfloat16"), rounded(tiny())
    assert np.array_equal(picture(narrow), picture(wide))


def test_int8_is_near(no_kernels):
    slow = tiny("int8")(Tensor([[1, 2, 3]])).logits.asnumpy()
    wanted = tiny()(Tensor([[1, 2, 3]])).logits.asnumpy()
    assert 0 < np.abs(slow - wanted).max() < 0.02 * np.abs(wanted).max()


def test_int8_draws_with_kernels_and_without(monkeypatch):
    ids = picture(tiny("int8"))
    without_kernels(monkeypatch)
    assert np.array_equal(picture(tiny("int8")), ids)


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_a_folder_loads_as_bfloat16(folder, tmp_path, stored):
    place = folder
    if stored == "bfloat16":
        place = tmp_path / "narrow"
        Emu3ForCausalLM.from_pretrained(folder).save_pretrained(place, dtype=stored)
    model = Emu3ForCausalLM.from_pretrained(place, weights="bfloat16")
    wanted = rounded(tiny())
    for name, parameter in model.parameters_and_names():
        values = wanted.parameters_dict()[name].asnumpy()
        assert np.array_equal(parameter.astype(ms.float32).asnumpy(), values), name


def test_what_quantize_writes_loads_as_it_was_rounded(folder, quantised):
    loaded, made = Emu3ForCausalLM.from_pretrained(quantised), tiny("int8")
    again = Emu3ForCausalLM.from_pretrained(folder, weights="int8")
    assert loaded.weights == "int8" and loaded.config.quantised
    names = dict(made.parameters_and_names())
    assert sorted(names) == sorted(dict(loaded.parameters_and_names()))
    for name, parameter in loaded.parameters_and_names():
        assert np.array_equal(parameter.asnumpy(), names[name].asnumpy()), name
        assert np.array_equal(again.parameters_dict()[name].asnumpy(), names[name].asnumpy())
    files = {path.name for path in folder.iterdir()}
    assert {path.name for path in quantised.iterdir()} == files and len(files) > 5


def test_quantised_folders_have_one_form_and_are_not_overwritten(folder, quantised, capsys):
    with pytest.raises(InputError, match="allowed for this model: int8"):
        Emu3ForCausalLM.from_pretrained(quantised, weights="float32")
    assert quantize.main([str(folder), str(quantised)]) == 2
    assert quantize.main([str(quantised), str(folder.parent / "twice")]) == 2
    assert "quantised already" in capsys.readouterr().err
    assert not list(folder.parent.glob(".*"))


def test_a_folder_quantised_by_others_is_refused_by_name(quantised, tmp_path):
    fields = json.loads((quantised / "config.json").read_text())
    fields["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(InputError, match="gptq"):
        Emu3ForCausalLM.from_pretrained(tmp_path)


def test_weights_are_what_fits(folder, monkeypatch, capsys):
    model = tiny()
    sizes = {form: module.stored_bytes(model, form) for form in ("float32", "bfloat16", "int8")}
    assert sizes["float32"] > sizes["bfloat16"] > sizes["int8"]
    monkeypatch.setattr(module, "available_memory_bytes", lambda: sizes["bfloat16"])
    assert Emu3ForCausalLM.from_pretrained(folder).weights == "bfloat16"
    assert "weights are kept in bfloat16" in capsys.readouterr().err
    with pytest.raises(InputError, match="change --weights to bfloat16"):
        Emu3ForCausalLM.from_pretrained(folder, weights="float32")
    monkeypatch.setattr(module, "available_memory_bytes", lambda: sizes["int8"] - 1)
    with pytest.raises(InputError, match="in int8 need"):
        Emu3ForCausalLM.from_pretrained(folder)
