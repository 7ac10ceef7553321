"""Checkpoint folders: save, load, shards, dtypes, and every broken file."""

import json

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from safetensors.numpy import load_file, save_file

from emu3 import pretrained, runtime
from emu3.errors import InputError
from emu3.mllm.modeling_emu3 import Emu3ForCausalLM
from emu3.mllm.tokenization_emu3 import Emu3Tokenizer
from emu3.tensorfile import from_bfloat16, read_entries, to_bfloat16
from emu3.tokenizer import Emu3VisionVQImageProcessor, Emu3VisionVQModel
from tests.support import write_tiny_checkpoint
from tests.tiny import golden_model, random_ids


@pytest.fixture(scope="module")
def model():
    """A golden model; tests leave it as it is."""
    return golden_model()


@pytest.fixture
def folder(model, tmp_path):
    """A good checkpoint of `model`."""
    model.save_pretrained(tmp_path)
    return tmp_path


def arrays(model) -> dict[str, np.ndarray]:
    return {name: p.asnumpy() for name, p in model.parameters_and_names()}


def rewrite(path, change) -> None:
    """Load the safetensors file, apply `change` to the dict of arrays, save it again."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def rewrite_json(path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def load(folder, **options) -> Emu3ForCausalLM:
    return Emu3ForCausalLM.from_pretrained(folder, **options)


def test_saved_and_loaded_weights_are_bit_equal(model, folder):
    loaded, wanted = arrays(load(folder)), arrays(model)
    assert list(loaded) == list(wanted)
    assert all((loaded[name] == wanted[name]).all() for name in wanted)


def test_loaded_model_computes_the_same_and_does_not_train(model, folder):
    loaded, ids = load(folder), Tensor(random_ids(1, 5))
    assert not loaded.training
    np.testing.assert_array_equal(loaded(ids).logits.asnumpy(), model(ids).logits.asnumpy())


def test_saved_file_opens_with_the_library_under_the_published_names(model, folder):
    stored, wanted = load_file(folder / "model.safetensors"), arrays(model)
    assert set(stored) == set(wanted)
    assert all((stored[name] == wanted[name]).all() for name in wanted)


@pytest.mark.parametrize(
    ("dtype", "rounded"),
    [
        ("float16", lambda x: x.astype(np.float16).astype(np.float32)),
        ("bfloat16", lambda x: from_bfloat16(to_bfloat16(x))),
    ],
)
def test_sixteen_bit_storage_rounds_once(model, tmp_path, dtype, rounded):
    model.save_pretrained(tmp_path, dtype=dtype)
    loaded = load(tmp_path)
    assert loaded.dtype == ms.float32
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == dtype
    for name, array in arrays(model).items():
        np.testing.assert_array_equal(arrays(loaded)[name], rounded(array))


def test_weights_load_into_the_device_dtype(folder, monkeypatch):
    monkeypatch.setattr(pretrained, "resolve_dtype", lambda requested: requested)
    loaded = load(folder, mindspore_dtype=ms.bfloat16)
    assert {p.dtype for p in loaded.get_parameters()} == {ms.bfloat16}


def test_sixteen_bits_asked_for_on_cpu_become_float32_with_a_notice(folder, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "_told", set())
    assert load(folder, mindspore_dtype=ms.bfloat16).dtype == ms.float32
    assert "using float32" in capsys.readouterr().err


def test_sharded_checkpoint_loads_bit_equal(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(a.nbytes for a in arrays(model).values())
    assert set(index["weight_map"]) == set(arrays(model))
    loaded = arrays(load(tmp_path))
    assert all((loaded[name] == array).all() for name, array in arrays(model).items())


def test_saving_again_removes_the_shards_of_before(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size=100_000)
    model.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}


def test_extra_config_fields_and_generation_settings_survive(folder):
    rewrite_json(folder / "config.json", positive_prompt=" sharp")
    rewrite_json(folder / "generation_config.json", top_k=77, guidance_scale=2.5)
    loaded = load(folder)
    loaded.save_pretrained(folder / "again")
    again = load(folder / "again")
    assert again.config.positive_prompt == " sharp"
    assert (again.generation_config.top_k, again.generation_config.guidance_scale) == (77, 2.5)


def test_a_saved_language_folder_holds_its_tokenizer(tmp_path):
    language, _ = write_tiny_checkpoint(tmp_path)
    load(language).save_pretrained(tmp_path / "again")
    Emu3Tokenizer.from_pretrained(language).save_pretrained(tmp_path / "tokenizer")
    text, again = "a <|image start|>", Emu3Tokenizer.from_pretrained(tmp_path / "again")
    assert again.encode(text) == Emu3Tokenizer.from_pretrained(language).encode(text)
    for path in (tmp_path / "tokenizer").iterdir():
        assert (tmp_path / "again" / path.name).exists()


def test_a_saved_vision_folder_holds_its_image_processor(tmp_path):
    _, vision = write_tiny_checkpoint(tmp_path)
    Emu3VisionVQModel.from_pretrained(vision).save_pretrained(tmp_path / "again")
    assert Emu3VisionVQImageProcessor.from_pretrained(tmp_path / "again").max_pixels == 1024


def test_saving_leaves_tokenizer_files_that_are_there(tmp_path):
    language, _ = write_tiny_checkpoint(tmp_path)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "tokenizer_config.json").write_text("{}")
    load(language).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "tokenizer_config.json").read_text() == "{}"


def test_of_a_hub_id_the_tokenizer_is_fetched_too(folder, monkeypatch):
    asked = []

    def fetch(name, allow_patterns, **options):
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    load("owner/name")
    assert {"emu3.tiktoken", "config.json", "*.safetensors"} <= set(asked)


def test_a_setting_equal_to_the_librarys_default_stays_stated(folder):
    rewrite_json(folder / "generation_config.json", top_k=50, temperature=1.0)
    load(folder).save_pretrained(folder / "again")
    written = json.loads((folder / "again" / "generation_config.json").read_text())
    assert (written["top_k"], written["temperature"]) == (50, 1.0)


@pytest.mark.parametrize("more", [{}, {"_from_model_config": True}])
def test_a_stated_way_of_decoding_survives(folder, more):
    path = folder / "generation_config.json"
    rewrite_json(path, decoding="jacobi", window=4, **more)
    load(folder).save_pretrained(folder / "again")
    again = load(folder / "again").generation_config
    assert (again.decoding, again.window) == ("jacobi", 4)


def test_overrides_replace_config_fields(folder):
    assert load(folder, attention_dropout=0.25).config.attention_dropout == 0.25


def test_unknown_override_is_refused(folder):
    with pytest.raises(InputError, match="atention_dropout"):
        load(folder, atention_dropout=0.0)


def test_attention_option_is_checked(folder):
    with pytest.raises(InputError, match="fancy"):
        load(folder, attn_implementation="fancy")
    attention = load(folder, attn_implementation="sdpa").model.layers[0].self_attn.attention
    assert attention == "eager"


def test_unused_tensors_are_told_and_left_out(folder, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "_told", set())
    path = folder / "model.safetensors"
    rewrite(path, lambda tensors: tensors.update({"rotary.inv_freq": np.ones(3, np.float32)}))
    load(folder)
    assert "rotary.inv_freq" in capsys.readouterr().err


def test_missing_tensor_is_named(folder):
    path = folder / "model.safetensors"
    rewrite(path, lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(InputError, match=r"lacks 1 of 30 tensors.*model\.norm\.weight"):
        load(folder)


def test_misshaped_tensor_is_named_with_its_file(folder):
    path = folder / "model.safetensors"
    rewrite(path, lambda tensors: tensors.update({"model.norm.weight": np.ones(3, np.float32)}))
    with pytest.raises(InputError, match=r"model\.safetensors: model\.norm\.weight.*\(3,\).*64"):
        load(folder)


def test_truncated_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors.*truncated"):
        load(folder)


def test_missing_shard_is_named(model, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    shard = sorted(tmp_path.glob("model-00002*"))[0]
    shard.unlink()
    with pytest.raises(InputError, match=shard.name):
        load(tmp_path)


@pytest.mark.parametrize(
    "table",
    [None, {}, *({"a": name} for name in ("../other.safetensors", 3, [], "\ud800", "a" * 5000))],
)
def test_index_without_files_beside_it_is_refused(folder, table):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    with pytest.raises(InputError, match=r"index\.json"):
        load(folder)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"pytorch_model\.bin is pickled"):
        load(folder)
    with pytest.raises(InputError, match="use_safetensors"):
        load(folder, use_safetensors=False)


def test_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="neither"):
        load(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "\xff\xfe", "[" * 100_000, '{"a": NaN}'])
def test_broken_config_is_named(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize("text", ["{", '{"max_new_tokens": -1}', '{"to_dict": 1}', "[]"])
def test_broken_generation_config_is_named(folder, text):
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(InputError, match=r"generation_config\.json"):
        load(folder)


@pytest.mark.parametrize(
    "stated",
    [
        {"eos_token_id": "x"},
        {"min_length": [1]},
        {"repetition_penalty": "x"},
        {"num_return_sequences": 1e9},
        {"guidance_scale": 3e38},
    ],
)
def test_a_wrong_value_for_generation_is_named_when_it_is_read(folder, stated):
    rewrite_json(folder / "generation_config.json", **stated)
    with pytest.raises(InputError, match=rf"generation_config\.json.*{next(iter(stated))}"):
        load(folder)


def test_what_generate_does_not_support_may_be_stated(folder):
    rewrite_json(folder / "generation_config.json", num_beams=4)
    assert load(folder).generation_config.num_beams == 4


def test_missing_config_and_missing_folder_are_named(folder):
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json"):
        load(folder)
    with pytest.raises(InputError, match=r"nowhere.*--model"):
        load(folder / "nowhere")


def test_config_of_another_model_is_refused(folder):
    rewrite_json(folder / "config.json", model_type="llama")
    with pytest.raises(InputError, match="llama"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("num_attention_heads", 7, "hidden_size"),
        ("bos_token_id", "one", "bos_token_id"),
        ("boi_token_id", 640, "boi_token_id"),
        ("id2label", 5, "id2label"),
        ("quantization_config", {"load_in_8bit": True}, "quantization_config"),
        ("__class__", "x", "__class__"),
        ("rope_parameters", {"rope_type": "yarn"}, "rope_scaling"),
        ("vocab_size", "9" * 200, "vocab_size"),
    ],
)
def test_an_impossible_config_value_is_refused_with_its_file(folder, name, value, word):
    rewrite_json(folder / "config.json", **{name: value})
    with pytest.raises(InputError, match=rf"{folder}/config\.json: .*{word}.*--model"):
        load(folder)


@pytest.mark.parametrize(
    "change",
    [{"ch_mult": 4}, {"attn_resolutions": 3}, {"attn_resolutions": [9]}, {"dropout": "0.1"}],
)
def test_an_impossible_vision_config_is_refused_with_its_file(tmp_path, change):
    _, vision = write_tiny_checkpoint(tmp_path)
    rewrite_json(vision / "config.json", **change)
    name = next(iter(change))
    with pytest.raises(InputError, match=rf"{vision}/config\.json: {name}.*--vq-model"):
        Emu3VisionVQModel.from_pretrained(vision)


@pytest.mark.parametrize("dtype", ["int8", ms.int32])
def test_unknown_storage_dtype_is_refused(model, tmp_path, dtype):
    with pytest.raises(InputError, match="cannot save as"):
        model.save_pretrained(tmp_path, dtype=dtype)


@pytest.mark.parametrize("size", ["big", "0GB", -1])
def test_unknown_shard_size_is_refused(model, tmp_path, size):
    with pytest.raises(InputError, match="max_shard_size"):
        model.save_pretrained(tmp_path, max_shard_size=size)


def test_failed_save_leaves_the_old_checkpoint(folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    other = golden_model()
    other.lm_head.weight.set_data(Tensor(np.full((640, 64), 1e30, np.float32)))
    with pytest.raises(InputError, match=r"lm_head\.weight exceeds float16"):
        other.save_pretrained(folder, dtype="float16")
    assert (folder / "model.safetensors").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_tensors_are_stored_at_aligned_offsets(folder):
    for entry in read_entries(folder / "model.safetensors").values():
        assert entry.start % 4 == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named(folder, value):
    def spoil(tensors):
        tensors["lm_head.weight"][3, 5] = value

    rewrite(folder / "model.safetensors", spoil)
    with pytest.raises(InputError, match=r"lm_head\.weight holds NaN"):
        load(folder)


def test_large_weights_are_numbers(folder):
    def enlarge(tensors):
        tensors["lm_head.weight"][:] = 3e38

    rewrite(folder / "model.safetensors", enlarge)
    assert load(folder).lm_head.weight.asnumpy().max() == np.float32(3e38)


def test_weights_stored_as_integers_are_refused(folder):
    def quantise(tensors):
        tensors["lm_head.weight"] = tensors["lm_head.weight"].astype(np.int8)

    rewrite(folder / "model.safetensors", quantise)
    with pytest.raises(InputError, match=r"lm_head\.weight is stored as I8.*quantised"):
        load(folder)


@pytest.mark.parametrize("layers", [200, 10**6])
def test_more_layers_than_there_are_tensors_are_refused_before_they_are_built(folder, layers):
    rewrite_json(folder / "config.json", num_hidden_layers=layers)
    with pytest.raises(InputError, match="describes at least"):
        load(folder)


@pytest.mark.parametrize("change", [{"num_res_blocks": 10**5}, {"ch_mult": [1] * 3000}])
def test_more_blocks_than_there_are_tensors_are_refused_before_they_are_built(tmp_path, change):
    _, vision = write_tiny_checkpoint(tmp_path)
    rewrite_json(vision / "config.json", **change)
    with pytest.raises(InputError, match="describes at least"):
        Emu3VisionVQModel.from_pretrained(vision)


def test_a_folder_of_transformers_layout_without_its_part_is_named(folder):
    rewrite_json(folder / "config.json", model_type="emu3")
    with pytest.raises(InputError, match=r"text_config is None.*--model"):
        load(folder)


def test_a_config_with_a_byte_order_mark_is_read(folder):
    path = folder / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(folder).config.hidden_size == 64


def test_of_a_hub_id_config_is_looked_at_before_weights_are_fetched(folder, monkeypatch):
    fetched = []

    def fetch(name, allow_patterns, **options):
        fetched.append((allow_patterns, options))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    load("owner/name", revision="v1", local_files_only=True, cache_dir="/tmp/x")
    wanted = {"revision": "v1", "local_files_only": True, "cache_dir": "/tmp/x"}
    assert [options for _, options in fetched] == [wanted, wanted]
    assert fetched[0][0] == ["config.json"]
    rewrite_json(folder / "config.json", model_type="llama")
    with pytest.raises(InputError, match="llama"):
        load("owner/name")
    assert len(fetched) == 3


def test_a_subfolder_is_below_the_folder(folder):
    assert load(folder.parent, subfolder=folder.name).config.hidden_size == 64
    for wrong in ("nowhere", "../x", "/tmp"):
        with pytest.raises(InputError, match="subfolder"):
            load(folder, subfolder=wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trust_remote_code", True),
        ("config", {}),
        ("torch_dtype", "float16"),
        ("dtype", "float16"),
        ("revision", "v1"),
        ("device_map", "auto"),
    ],
)
def test_options_without_a_meaning_here_are_refused_by_name(folder, name, value):
    if name == "config":
        value = load(folder).config
    with pytest.raises(InputError, match=name):
        load(folder, **{name: value})


def test_a_saved_folder_names_no_code_that_it_lacks(tmp_path):
    language, _ = write_tiny_checkpoint(tmp_path)
    code = {"AutoModelForCausalLM": "modeling_emu3.Emu3ForCausalLM"}
    words = {"AutoTokenizer": ["tokenization_emu3.Emu3Tokenizer", None]}
    rewrite_json(language / "config.json", auto_map=code)
    rewrite_json(language / "tokenizer_config.json", auto_map=words)
    load(language).save_pretrained(tmp_path / "bare")
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in json.loads((tmp_path / "bare" / name).read_text())
    for name in ("modeling_emu3.py", "tokenization_emu3.py"):
        (language / name).write_text("# theirs\n")
    load(language).save_pretrained(tmp_path / "whole")
    written = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert written["auto_map"] == code
    written = json.loads((tmp_path / "whole" / "tokenizer_config.json").read_text())
    assert written["auto_map"] == words
    assert (tmp_path / "whole" / "modeling_emu3.py").read_text() == "# theirs\n"
