"""transformers' own layout against outputs of transformers' own classes on the same files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor

import emu3
from emu3.errors import InputError
from emu3.hflayout import FIELDS, published_fields, published_name
from emu3.loading import holds_both, load_language, load_vision
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.rank_files import BUILT_IN_SPECIALS
from emu3.mllm.tokenizer_json import byte_spellings
from emu3.tensorfile import write_tensors
from emu3.tokenizer import Emu3VisionVQModel
from emu3.weights import stored_tensors
from tests.golden_weights import golden_weight
from tests.support import tiny_config, write_tiny_checkpoint

GOLDEN = Path(__file__).parent / "golden"
ABOUT = json.loads((GOLDEN / "hf_both.json").read_text())
CODEBOOK = "vqmodel.quantize.embedding.weight"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    """What transformers' classes computed."""
    return dict(np.load(GOLDEN / "hf_both.npz"))


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory) -> Path:
    """The folder they computed it from."""
    folder = tmp_path_factory.mktemp("hf")
    (folder / "config.json").write_text(json.dumps(ABOUT["config"]))
    shapes = {name: tuple(shape) for name, shape in ABOUT["parameters"].items()}
    weights = {name: golden_weight(name, shape) for name, shape in shapes.items()}
    weights[CODEBOOK] = golden["codebook"]
    codes = {name: "F32" if array.dtype == np.float32 else "I64" for name, array in weights.items()}
    table = {name: (codes[name], shape) for name, shape in shapes.items()}
    write_tensors(folder / "model.safetensors", table, weights.get)
    return folder


def write_tokenizer_json(path: Path, words: list[str], more: dict[bytes, int] | None = None):
    """A byte-level tokenizer of the 256 bytes, `more` ranks, and special tokens `words`."""
    spelled = {byte: character for character, byte in byte_spellings().items()}
    ranks = {bytes([byte]): byte for byte in range(256)} | (more or {})
    vocabulary = {"".join(spelled[b] for b in piece): rank for piece, rank in ranks.items()}
    added = [{"id": len(ranks) + i, "content": word} for i, word in enumerate(words)]
    content = {"model": {"type": "BPE", "vocab": vocabulary}, "added_tokens": added}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def hf_words(config) -> list[str]:
    """Special tokens as transformers keeps them: its own word stands for one of the extras."""
    visual = [
        f"<|visual token {i:06d}|>" for i in range(config.vocab_size - 1 - config.eoi_token_id)
    ]
    built_in = ["<image>" if word == "<|extra_0|>" else word for word in BUILT_IN_SPECIALS]
    return [*built_in, "<|image token|>", "<|image start|>", "<|image end|>", *visual]


def test_the_language_model_computes_what_transformers_computes(folder, golden):
    logits = Emu3ForCausalLM.from_pretrained(folder)(Tensor(golden["ids"])).logits.asnumpy()
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-5, atol=1e-5)


def test_the_vision_tokenizer_gives_the_same_codes_and_pixels(folder, golden):
    model = Emu3VisionVQModel.from_pretrained(folder)
    codes = model.encode(Tensor(golden["pixels"])).asnumpy()
    np.testing.assert_array_equal(codes, golden["codes"])
    pixels = model.decode(Tensor(golden["codes"])).asnumpy()
    np.testing.assert_allclose(pixels, golden["decoded"], rtol=1e-4, atol=1e-5)


def test_ids_of_the_markers_come_from_the_vocabulary_map(folder):
    config = Emu3Config(**published_fields(ABOUT["config"], "Emu3"))
    ids = [getattr(config, f"{name}_token_id") for name in ("eol", "eof", "img", "boi", "eoi")]
    assert ids == [50, 51, 61, 62, 63]


def test_what_is_loaded_is_saved_under_the_published_names(folder, tmp_path):
    Emu3VisionVQModel.from_pretrained(folder).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["model_type"], config["ch"]) == ("Emu3VisionVQ", 32)
    again = dict(Emu3VisionVQModel.from_pretrained(tmp_path).parameters_and_names())
    assert again["encoder.mid.attn_1.q.weight"].shape == (64, 64, 1, 1)


@pytest.mark.parametrize(
    ("theirs", "model_type", "ours"),
    [
        ("text_model.lm_head.weight", "Emu3", "lm_head.weight"),
        ("lm_head.weight", "Emu3VisionVQ", None),
        ("model.text_model.norm.weight", "Emu3", "model.norm.weight"),
        ("model.vqmodel.quantize.embedding.weight", "Emu3", None),
        ("encoder.time_res_stack.0.norm1.bn2d.gamma", "Emu3VisionVQ",
         "encoder.time_res_stack.0.norm1.weight"),
        ("decoder.time_res_stack.1.norm2.bn2d.moving_variance", "Emu3VisionVQ",
         "decoder.time_res_stack.1.norm2.running_var"),
    ],
)  # fmt: skip
def test_names_of_either_model_in_either_form(theirs, model_type, ours):
    assert published_name(theirs, model_type) == ours


@pytest.mark.parametrize(
    ("golden_names", "model_type"), [("vq_mult1", "Emu3VisionVQ"), ("lm_gqa", "Emu3")]
)
def test_published_names_stay_as_they_are(golden_names, model_type):
    for name in json.loads((GOLDEN / f"{golden_names}.json").read_text())["parameters"]:
        assert published_name(name, model_type) == name


def test_a_vision_tokenizer_converted_for_the_port_loads(published, tmp_path):
    shutil.copytree(published[1], tmp_path, dirs_exist_ok=True)
    wanted = stored_tensors(published[1])
    converted = {
        "norm1.weight": "norm1.bn2d.gamma",
        "norm1.bias": "norm1.bn2d.beta",
        "norm1.running_mean": "norm1.bn2d.moving_mean",
        "norm1.running_var": "norm1.bn2d.moving_variance",
    }
    tensors = {}
    for name, entry in wanted.items():
        for ours, theirs in converted.items():
            name = name.replace(f"time_res_stack.0.{ours}", f"time_res_stack.0.{theirs}")
        if not name.endswith("num_batches_tracked"):
            tensors[name] = entry
    table = {name: (entry.code, entry.shape) for name, entry in tensors.items()}
    write_tensors(tmp_path / "model.safetensors", table, lambda name: tensors[name].read())
    loaded = dict(Emu3VisionVQModel.from_pretrained(tmp_path).parameters_and_names())
    assert all((loaded[name].asnumpy() == wanted[name].read()).all() for name in wanted)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, Path]:
    """A language folder that draws and its vision folder, in the published layout."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def both(published, tmp_path_factory) -> Path:
    """The same models in one folder of transformers' layout, but for the names inside a model."""
    language, vision = published
    folder = tmp_path_factory.mktemp("both")
    words = hf_words(tiny_config())
    write_tokenizer_json(folder / "tokenizer.json", words)
    text, vq = (json.loads((place / "config.json").read_text()) for place in published)
    for theirs, ours in FIELDS.items():
        vq[theirs] = vq.pop(ours)
    nested = {"text_config": text, "vq_config": vq}
    nested |= {"model_type": "emu3", "vocabulary_map": {w: 256 + i for i, w in enumerate(words)}}
    (folder / "config.json").write_text(json.dumps(nested))
    shutil.copy(vision / "preprocessor_config.json", folder)
    tensors = {f"text_model.{name}": entry for name, entry in stored_tensors(language).items()}
    tensors |= {f"vqmodel.{name}": entry for name, entry in stored_tensors(vision).items()}
    table = {name: (entry.code, entry.shape) for name, entry in tensors.items()}
    write_tensors(folder / "model.safetensors", table, lambda name: tensors[name].read())
    return folder


def test_one_folder_gives_both_models_and_draws(both):
    assert holds_both(both)
    model, tokenizer = load_language(both)
    vision, _ = load_vision(both)
    assert model.config.vocab_size == len(tokenizer) and vision.config.codebook_size == 32
    picture = emu3.load(both).draw("a red circle", image_area=256)
    assert picture.size == (16, 16)


def test_tokens_are_those_of_the_published_files(both, published):
    ours = Emu3Tokenizer.from_pretrained(published[0])
    theirs = Emu3Tokenizer.from_pretrained(both)
    for text in (
        "a red circle, 90*90",
        "一个红色的圆",
        "<|image start|>9<|visual token 000003|>\n",
    ):
        assert theirs(text)["input_ids"] == ours(text)["input_ids"]
    assert theirs.special_ids == ours.special_ids


def test_ranks_of_several_bytes_are_read_and_saved_in_the_published_files(tmp_path):
    words = hf_words(tiny_config())
    write_tokenizer_json(tmp_path / "tokenizer.json", words, {b" \xe4": 256, b"ab": 257})
    tokenizer = Emu3Tokenizer.from_pretrained(tmp_path)
    assert tokenizer("ab")["input_ids"] == [257]
    tokenizer.save_pretrained(tmp_path / "saved")
    again = Emu3Tokenizer.from_pretrained(tmp_path / "saved")
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.special_ids == tokenizer.special_ids


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda c: c["model"]["vocab"].pop("a"), "ranks of model.vocab"),
        (lambda c: c["model"]["vocab"].update({"一": 97}), "not spelled in bytes"),
        (lambda c: c["added_tokens"].pop(3), "once each"),
        (lambda c: c["added_tokens"][300 - 64].update(content="<|image end|>"), "alike"),
        (lambda c: c.pop("model"), "no model.vocab"),
        (lambda c: c["added_tokens"].append({"id": "x"}), "no added token"),
    ],
)
def test_a_broken_tokenizer_json_is_refused(tmp_path, change, what):
    path = tmp_path / "tokenizer.json"
    write_tokenizer_json(path, hf_words(tiny_config()))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=what):
        Emu3Tokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("change", [{"vq_config": None}, {"vq_config": {"num_attention_heads": 2}}])
def test_a_folder_without_that_vision_tokenizer_is_refused(folder, tmp_path, change):
    (tmp_path / "config.json").write_text(json.dumps({**ABOUT["config"], **change}))
    with pytest.raises(InputError, match=r"config.json.*--vq-model"):
        Emu3VisionVQModel.from_pretrained(tmp_path)
