"""The language model against the reference vectors and against itself."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.nn.utils import no_init_parameters

from emu3 import runtime
from emu3.errors import InputError
from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.modeling_emu3 import MLP, Emu3ForCausalLM, causal_loss
from tests.tiny import GOLDEN, golden_config, golden_model, golden_shapes, random_ids

NAMES = ["lm_gqa", "lm_linear_rope"]


def named_shapes(model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.parameters_and_names()}


def released_shapes() -> dict[str, tuple[int, ...]]:
    """The published tensors of the 8B models."""
    wide, inner, groups, vocabulary = 4096, 14336, 1024, 184622
    layer = {
        "self_attn.q_proj": (wide, wide),
        "self_attn.k_proj": (groups, wide),
        "self_attn.v_proj": (groups, wide),
        "self_attn.o_proj": (wide, wide),
        "mlp.gate_proj": (inner, wide),
        "mlp.up_proj": (inner, wide),
        "mlp.down_proj": (wide, inner),
        "input_layernorm": (wide,),
        "post_attention_layernorm": (wide,),
    }
    shapes = {
        f"model.layers.{i}.{name}.weight": shape for i in range(32) for name, shape in layer.items()
    }
    shapes["model.embed_tokens.weight"] = (vocabulary, wide)
    shapes["lm_head.weight"] = (vocabulary, wide)
    shapes["model.norm.weight"] = (wide,)
    return shapes


@pytest.fixture(scope="module", params=NAMES)
def golden(request):
    """A golden model, its vectors, and what the model gives for them."""
    model = golden_model(request.param)
    data = np.load(GOLDEN / f"{request.param}.npz")
    output = model(
        Tensor(data["input_ids"]),
        Tensor(data["attention_mask"]),
        labels=Tensor(data["labels"]),
        output_hidden_states=True,
    )
    return model, data, output


def test_logits_equal_the_reference(golden):
    _, data, output = golden
    kept = data["attention_mask"] == 1
    assert output.logits.dtype == ms.float32
    np.testing.assert_allclose(output.logits.asnumpy()[kept], data["logits"][kept], atol=1e-4)


def test_loss_equals_the_reference(golden):
    _, data, output = golden
    assert float(output.loss) == pytest.approx(float(data["loss"]), abs=1e-5)


def test_hidden_states_end_with_the_reference_output(golden):
    model, data, output = golden
    kept = data["attention_mask"] == 1
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1
    last = output.hidden_states[-1].asnumpy()
    np.testing.assert_allclose(last[kept], data["last_hidden"][kept], atol=1e-4)


def test_greedy_continuation_equals_the_reference(golden):
    model, data, _ = golden
    ids = data["input_ids"][:1]
    for _ in data["greedy_row0"]:
        logits = model(Tensor(ids), use_cache=False).logits.asnumpy()
        ids = np.append(ids, [[logits[0, -1].argmax()]], axis=1).astype(np.int32)
    assert ids[0, -12:].tolist() == data["greedy_row0"].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_parameter_names_and_shapes_are_the_published_ones(name):
    assert named_shapes(golden_model(name)) == golden_shapes(name)


def test_full_size_model_has_the_291_published_tensors():
    with no_init_parameters():
        model = Emu3ForCausalLM(Emu3Config())
    wanted = released_shapes()
    assert len(wanted) == 291
    assert named_shapes(model) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_cached_forward_equals_uncached(name):
    model, ids = golden_model(name), random_ids(2, 12)
    mask = np.ones((2, 12), np.int32)
    mask[1, :4] = 0
    whole = model(Tensor(ids), Tensor(mask)).logits.asnumpy()
    past, parts = None, []
    for begin, end in ((0, 7), (7, 8), (8, 12)):
        output = model(
            Tensor(ids[:, begin:end]),
            Tensor(mask[:, :end]),
            past_key_values=past,
            use_cache=True,
        )
        past = output.past_key_values
        parts.append(output.logits.asnumpy())
    cached = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(cached[mask == 1], whole[mask == 1], atol=1e-4)
    shape = (2, model.config.num_key_value_heads, 12, 16)
    assert [tuple(key.shape) for key, _ in past] == [shape] * 3


def test_cached_forward_needs_no_mask():
    model, ids = golden_model(), random_ids(1, 9)
    first = model(Tensor(ids[:, :5]))
    second = model(Tensor(ids[:, 5:]), past_key_values=first.past_key_values)
    whole = model(Tensor(ids)).logits.asnumpy()
    np.testing.assert_allclose(second.logits.asnumpy(), whole[:, 5:], atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batch_equals_single_rows(side):
    model, rows = golden_model(), [random_ids(1, n, seed=n)[0] for n in (5, 9, 3)]
    ids, mask = np.zeros((3, 9), np.int32), np.zeros((3, 9), np.int32)
    for i, row in enumerate(rows):
        columns = slice(9 - len(row), 9) if side == "left" else slice(0, len(row))
        ids[i, columns], mask[i, columns] = row, 1
    batch = model(Tensor(ids), Tensor(mask)).logits.asnumpy()
    for i, row in enumerate(rows):
        alone = model(Tensor(row[None])).logits.asnumpy()[0]
        np.testing.assert_allclose(batch[i][mask[i] == 1], alone, atol=1e-4)


def test_row_that_is_all_padding_gives_no_nan():
    mask = np.ones((2, 6), np.int32)
    mask[0] = 0
    output = golden_model()(Tensor(random_ids(2, 6)), Tensor(mask))
    assert np.isfinite(output.logits.asnumpy()).all()


def test_given_positions_replace_the_counted_ones():
    model, ids = golden_model(), Tensor(random_ids(1, 6))
    counted = model(ids).logits.asnumpy()
    same = model(ids, position_ids=Tensor(np.arange(6)[None])).logits.asnumpy()
    spread = model(ids, position_ids=Tensor(3 * np.arange(6)[None])).logits.asnumpy()
    np.testing.assert_array_equal(same, counted)
    assert np.abs(spread - counted).max() > 1e-3


def test_embeddings_in_place_of_ids_give_the_same_logits():
    model, ids = golden_model(), Tensor(random_ids(1, 6))
    embeds = model.model.embed_tokens(ids)
    given = model(inputs_embeds=embeds).logits.asnumpy()
    np.testing.assert_array_equal(given, model(ids).logits.asnumpy())


def test_dynamic_rope_beyond_its_limit_follows_the_length():
    scaled = golden_model(
        max_position_embeddings=8, rope_scaling={"type": "dynamic", "factor": 2.0}
    )
    plain, ids = golden_model(max_position_embeddings=8), random_ids(1, 12)
    short = Tensor(ids[:, :8])
    np.testing.assert_array_equal(scaled(short).logits.asnumpy(), plain(short).logits.asnumpy())
    base = 1e6 * (2.0 * 12 / 8 - 1) ** (16 / 14)
    other = golden_model(rope_theta=base)
    np.testing.assert_allclose(
        scaled(Tensor(ids)).logits.asnumpy(), other(Tensor(ids)).logits.asnumpy(), atol=1e-4
    )


def test_ignored_labels_do_not_count():
    model, ids = golden_model(), random_ids(1, 8)
    labels = ids.copy()
    labels[:, :5] = -100
    logits = model(Tensor(ids)).logits.asnumpy()[0, 4:7].astype(np.float64)
    exact = np.log(np.exp(logits).sum(-1)) - logits[np.arange(3), ids[0, 5:]]
    loss = model(Tensor(ids), labels=Tensor(labels)).loss
    assert float(loss) == pytest.approx(exact.mean(), abs=1e-5)


def test_loss_without_labels_that_count_is_zero():
    logits = Tensor(np.ones((1, 3, 5), np.float32))
    assert float(causal_loss(logits, Tensor(np.full((1, 3), -100)))) == 0


def test_use_cache_false_returns_no_cache():
    assert golden_model()(Tensor(random_ids(1, 3)), use_cache=False).past_key_values is None


def test_return_dict_false_returns_a_tuple():
    ids = Tensor(random_ids(1, 4))
    output = golden_model()(ids, labels=ids, use_cache=False, return_dict=False)
    assert isinstance(output, tuple)
    assert [tuple(x.shape) for x in output] == [(), (1, 4, 640)]


def test_an_output_reads_as_a_dict_and_by_index_as_a_tuple_of_what_is_set():
    output = golden_model()(Tensor(random_ids(1, 4)))
    assert list(output) == ["logits", "past_key_values"] and output.loss is None
    assert output["logits"] is output[0] is output.logits is output.to_tuple()[0]
    assert output[1:] == (output.past_key_values,) and "loss" not in output


def test_dropout_acts_in_training_only():
    model, ids = golden_model(attention_dropout=0.5), Tensor(random_ids(1, 6))
    quiet = model(ids).logits.asnumpy()
    np.testing.assert_array_equal(model(ids).logits.asnumpy(), quiet)
    model.set_train(True)
    assert np.abs(model(ids).logits.asnumpy() - quiet).max() > 1e-2


def test_attention_dropout_zero_switches_every_dropout_off():
    model, ids = golden_model(attention_dropout=0.0), Tensor(random_ids(1, 6))
    quiet = model(ids).logits.asnumpy()
    np.testing.assert_array_equal(model.set_train(True)(ids).logits.asnumpy(), quiet)


def test_initial_weights_follow_the_range_and_the_pad_row_is_zero():
    model = Emu3ForCausalLM(golden_config(initializer_range=0.05, pad_token_id=7))
    table = model.model.embed_tokens.weight.asnumpy()
    assert (table[7] == 0).all()
    assert np.delete(table, 7, axis=0).std() == pytest.approx(0.05, rel=0.05)
    assert model.lm_head.weight.asnumpy().std() == pytest.approx(0.05, rel=0.05)
    assert (model.model.norm.weight.asnumpy() == 1).all()


def test_both_ids_and_embeddings_or_neither_is_refused():
    model, ids = golden_model(), Tensor(random_ids(1, 3))
    for given in ({}, {"input_ids": ids, "inputs_embeds": model.model.embed_tokens(ids)}):
        with pytest.raises(InputError, match="exactly one"):
            model(**given)


@pytest.mark.parametrize("ids", [[[5, 640]], [[-1, 5]], [5, 6], [[]]])
def test_ids_outside_the_vocabulary_or_of_another_shape_are_refused(ids):
    with pytest.raises(InputError, match="input_ids"):
        golden_model()(np.array(ids, np.int32))


@pytest.mark.parametrize("positions", [[[0, 1]], [[-1, 0, 1]], [0, 1, 2]])
def test_positions_that_do_not_fit_are_refused(positions):
    with pytest.raises(InputError, match="position_ids"):
        golden_model()(Tensor(random_ids(1, 3)), position_ids=Tensor(positions))


def test_mask_that_does_not_cover_the_cache_is_refused():
    model, ids = golden_model(), Tensor(random_ids(1, 4))
    past = model(ids).past_key_values
    with pytest.raises(InputError, match=r"\(1, 8\)"):
        model(ids, Tensor(np.ones((1, 4), np.int32)), past_key_values=past)


def test_flash_attention_on_cpu_becomes_eager_with_a_notice(monkeypatch, capsys):
    monkeypatch.setattr(runtime, "_told", set())
    model = golden_model(attn_implementation="flash_attention_2")
    assert "using eager" in capsys.readouterr().err
    ids = Tensor(random_ids(1, 4))
    np.testing.assert_array_equal(model(ids).logits.asnumpy(), golden_model()(ids).logits.asnumpy())


def test_unknown_attention_is_refused():
    with pytest.raises(InputError, match="fancy"):
        golden_model(attn_implementation="fancy")


def test_gradients_reach_every_parameter():
    model, ids = golden_model(), Tensor(random_ids(2, 6))
    weights = model.trainable_params()
    step = ms.value_and_grad(lambda: model(ids, labels=ids).loss, None, weights)
    _, gradients = step()
    assert len(gradients) == 30
    assert all(np.abs(g.asnumpy()).max() > 0 for g in gradients)


@pytest.mark.parametrize("added", [False, True])
def test_an_mlp_as_one_kernel_equals_its_parts_digit_for_digit(added):
    mlp = MLP(golden_config("lm_gqa")).set_train(False)
    width, inner = mlp.down_proj.shape
    if added:  # as LoRA does
        mlp.gate_proj.adapter = nn.Dense(width, inner, has_bias=False)
    rows = np.random.default_rng(0).standard_normal((2, 20, width)).astype(np.float32)
    x = Tensor(rows)
    parts = mlp.down_proj(mlp.swiglu(mlp.gate_proj(x), mlp.up_proj(x))).asnumpy()
    np.testing.assert_array_equal(mlp(x).asnumpy(), parts)
    assert mlp.gated is not None
