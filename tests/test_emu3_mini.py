"""The bundled checkpoint: published tensor names, and what it does by default."""

from pathlib import Path

import numpy as np
from mindspore import Tensor
from mindspore.nn.utils import no_init_parameters
from PIL import Image
from safetensors import safe_open

from emu3 import bundled
from emu3.cli import img_rec
from emu3.metrics import psnr
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.prompts import PromptBuilder
from emu3.tokenizer import (
    Emu3VisionVQConfig,
    Emu3VisionVQImageProcessor,
    Emu3VisionVQModel,
    VisionCodec,
)
from train.mini.world.cells import cell_kinds, clip_kinds, kind_count, unmet_names
from train.mini.world.compose import random_scene
from train.mini.world.motion import frames_of, random_clip
from train.tuning.lora import never_met


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(folder / "model.safetensors", "np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def test_the_language_file_has_the_published_names_and_shapes():
    c = Emu3Config.from_pretrained(bundled.MINI_LANGUAGE)
    kv, ffn = c.num_key_value_heads * c.head_dim, c.intermediate_size
    layer = {
        "self_attn.q_proj": (c.hidden_size, c.hidden_size),
        "self_attn.k_proj": (kv, c.hidden_size),
        "self_attn.v_proj": (kv, c.hidden_size),
        "self_attn.o_proj": (c.hidden_size, c.hidden_size),
        "mlp.gate_proj": (ffn, c.hidden_size),
        "mlp.up_proj": (ffn, c.hidden_size),
        "mlp.down_proj": (c.hidden_size, ffn),
        "input_layernorm": (c.hidden_size,),
        "post_attention_layernorm": (c.hidden_size,),
    }
    expected = {
        f"model.layers.{i}.{name}.weight": shape
        for i in range(c.num_hidden_layers)
        for name, shape in layer.items()
    }
    table = (c.vocab_size, c.hidden_size)
    expected |= {"model.embed_tokens.weight": table, "lm_head.weight": table}
    expected["model.norm.weight"] = (c.hidden_size,)
    assert stored_shapes(bundled.MINI_LANGUAGE) == expected


def test_the_vision_file_has_the_networks_names_and_shapes():
    config = Emu3VisionVQConfig.from_pretrained(bundled.MINI_VISION)
    with no_init_parameters():
        model = Emu3VisionVQModel(config)
    expected = {name: tuple(p.shape) for name, p in model.parameters_and_names()}
    assert stored_shapes(bundled.MINI_VISION) == expected


def test_the_bundled_image_and_every_frame_of_the_bundled_clip_are_rebuilt(tmp_path):
    assert img_rec.main(["--output", str(tmp_path), "--animation", "none"]) == 0
    image, clip = bundled.DEMO_IMAGE, bundled.DEMO_CLIP
    pairs = [(image, tmp_path / "rec_0000.png")]
    pairs += zip(sorted(clip.iterdir()), sorted((tmp_path / "rec_0001").iterdir()))
    assert len(pairs) == 17
    for original, rebuilt in pairs:
        with Image.open(original) as first, Image.open(rebuilt) as second:
            assert psnr(np.asarray(first), np.asarray(second)) > 24, rebuilt


def test_frames_between_two_moments_are_drawn_with_both_in_view():
    vision = Emu3VisionVQModel.from_pretrained(bundled.MINI_VISION).set_train(False)
    codec = VisionCodec(vision, Emu3VisionVQImageProcessor.from_pretrained(bundled.MINI_VISION))
    clip = random_clip(np.random.default_rng(3), "train", "1:1")
    made = [frame for some in codec.frames(clip_kinds(clip.moments), 16) for frame in some]
    scores = [psnr(frame, np.asarray(drawn)) for frame, drawn in zip(frames_of(clip), made)]
    assert min(scores) > 28


def test_fine_tuning_finds_every_name_that_emu3_mini_never_learnt():
    model = Emu3ForCausalLM.from_pretrained(bundled.MINI_LANGUAGE)
    unmet = model.config.vocab_size - kind_count() + unmet_names()
    assert len(unmet) and np.isin(unmet, never_met(model)).all()


def test_int8_weights_move_scores_by_less_than_a_hundredth():
    builder = PromptBuilder(Emu3Tokenizer.from_pretrained(bundled.MINI_LANGUAGE))
    scene = random_scene(np.random.default_rng(0), ratio="1:1")
    ids = Tensor([builder.understanding("What is in the picture?", cell_kinds(scene))])
    exact, near = (
        Emu3ForCausalLM.from_pretrained(bundled.MINI_LANGUAGE, weights=form)(ids).logits.asnumpy()
        for form in ("float32", "int8")
    )
    assert 0 < np.linalg.norm(near - exact) < 1e-2 * np.linalg.norm(exact)
