"""The arithmetic of memory and time against real shapes, a real cache and real memory."""

import json
from dataclasses import replace

import numpy as np
import pytest
from mindspore.nn.utils import no_init_parameters

from emu3 import estimate as module
from emu3.cli import estimate as command
from emu3.errors import InputError
from emu3.estimate import Work, check_fits, estimate
from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.generation.schemes import Jacobi
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQModel
from tests.support import golden_vision_config, output_of, tiny_config, tiny_vision_config
from tests.tiny import golden_config

RUNNING = ("running_mean", "running_var", "num_batches_tracked")

# In a process of its own: in this one, what earlier tests left may be freed meanwhile.
DECODE = """
import numpy as np
from mindspore import Tensor
from emu3 import runtime
from emu3.benchmarks.measure import peak_above
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQModel

runtime.setup(device="CPU")
vision = Emu3VisionVQModel(Emu3VisionVQConfig(ch=32, codebook_size=64)).set_train(False)
draw = lambda side: vision.decode(Tensor(np.zeros((1, side, side), np.int32))).asnumpy()
draw(2)
print(peak_above(lambda: draw(32)))
"""


def count(model_class, config) -> int:
    """Parameters of a real model, running statistics left out."""
    with no_init_parameters():
        named = model_class(config).parameters_and_names()
    return sum(p.size for name, p in named if not name.endswith(RUNNING))


@pytest.mark.parametrize("config", [tiny_config(), golden_config(), Emu3Config()])
def test_language_parameters_are_those_of_the_network(config):
    assert module.language_parameters(config) == count(Emu3ForCausalLM, config)


@pytest.mark.parametrize(
    "config", [tiny_vision_config(), golden_vision_config("vq_mult1"), Emu3VisionVQConfig()]
)
def test_vision_parameters_are_those_of_the_network(config):
    assert module.vision_parameters(config) == count(Emu3VisionVQModel, config)


def test_the_released_models_have_their_published_sizes():
    needed = estimate(Emu3Config(), Emu3VisionVQConfig(), Work())
    assert needed.language_parameters == 8_492_011_520
    assert needed.vision_parameters == 270_740_287
    assert module.token_bytes(Emu3Config(), 2) == 131_072
    assert needed.step_weights == 14_227_611_648  # with the visual rows of the head only


@pytest.fixture(scope="module")
def model() -> Emu3ForCausalLM:
    return Emu3ForCausalLM(tiny_config()).set_train(False)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_cache_and_steps_are_those_of_a_real_generation(model, guidance, monkeypatch):
    from emu3.mllm.generation.decoder import Decoder

    ran, advance = [], Decoder.advance

    def counted(self, count):
        ran.append(count)
        return advance(self, count)

    monkeypatch.setattr(Decoder, "advance", counted)
    prompt = np.full((2, 5), model.config.img_token_id, np.int32)
    guided = {"negative_prompt_ids": prompt[:1, -2:]} if guidance != 1 else {}
    model.generate(
        prompt, image_size=(3, 4), guidance_scale=guidance, do_sample=False, jit=False, **guided
    )
    work = Work(sequences=2, guided=guidance != 1, prompt=5, grid=(3, 4), width=4)
    needed = estimate(model.config, tiny_vision_config(), work)
    # Tokens are read back a row of the picture at a time, so that a few steps may come on top.
    assert needed.steps <= sum(ran) <= needed.steps + 4
    assert model._step_store().steps[-1].step.cache_bytes == needed.cache


def test_answers_read_the_whole_head_and_pictures_the_visual_rows():
    config = tiny_config()
    picture, answer = Work(grid=(4, 4)), Work(grid=None, answer=10)
    assert module.head_candidates(config, picture) == 32
    assert module.head_candidates(config, answer) == config.vocab_size


def test_a_window_multiplies_the_rows_and_what_it_accepts_divides_the_steps():
    config, vision = tiny_config(), tiny_vision_config()
    plain = Work(grid=(4, 4))
    wide = replace(plain, scheme=Jacobi(8), accepted=2.5)
    one, many = estimate(config, vision, plain), estimate(config, vision, wide)
    assert many.decoding == 8 * one.decoding
    assert many.steps == -(-one.steps // 2.5)


def test_every_candidate_of_a_picture_has_rows_of_its_own():
    config, vision = tiny_config(), tiny_vision_config()
    alone, several = Work(sequences=6, grid=(4, 4)), Work(sequences=2, best_of=3, grid=(4, 4))
    assert several.rows == alone.rows
    one, many = (estimate(config, vision, work) for work in (alone, several))
    assert (many.cache, many.decoding) == (one.cache, one.decoding)
    assert (one.choosing, many.choosing > 0) == (0, True)


def test_too_many_candidates_are_refused_with_how_many_fit():
    config, vision = tiny_config(), tiny_vision_config()
    room = estimate(config, vision, Work(best_of=3, grid=(4, 4))).peak
    with pytest.raises(InputError, match="up to 3 candidates; change --best-of"):
        check_fits(config, vision, Work(best_of=8, grid=(4, 4)), room)


def test_a_window_needs_more_cache_than_one_place():
    config, vision = tiny_config(), tiny_vision_config()
    plain = Work(grid=(8, 7), prompt=60)  # 60 + 63 slots of 128
    wide = replace(plain, scheme=Jacobi(16))
    one, many = estimate(config, vision, plain), estimate(config, vision, wide)
    assert many.cache == 2 * one.cache


def test_seconds_are_bytes_over_bandwidth():
    needed = estimate(tiny_config(), tiny_vision_config(), Work(grid=(4, 4)))
    assert needed.seconds(1e6) == pytest.approx(needed.steps * needed.step / 1e6)


def test_memory_of_real_decoding_to_pixels_is_within_a_factor_of_two():
    expected = module.vision_bytes(Emu3VisionVQConfig(ch=32, codebook_size=64), (32, 32), 4)
    assert expected / 2 < int(output_of(DECODE)) < expected * 2


def test_what_does_not_fit_is_refused_with_the_estimate_and_what_would():
    config, vision = tiny_config(), tiny_vision_config()
    room = estimate(config, vision, Work(sequences=3, grid=(4, 4))).peak
    check_fits(config, vision, Work(sequences=3, grid=(4, 4)), room)
    with pytest.raises(InputError, match=r"up to 3 together; change --batch-size"):
        check_fits(config, vision, Work(sequences=9, grid=(4, 4)), room)
    with pytest.raises(InputError, match="--image-area"):
        check_fits(config, vision, Work(grid=(4, 4)), 1000)
    check_fits(config, vision, Work(sequences=9, grid=(4, 4)), None)


def test_the_command_reads_folders_and_files_and_prints_every_quantity(tmp_path, capsys):
    sizes = tmp_path / "sizes.json"
    sizes.write_text(
        json.dumps({"hidden_size": 64, "num_attention_heads": 8, "vocab_size": 160000})
    )
    arguments = ["--model", str(sizes), "--ratio", "16:9", "--bandwidth", "50", "--batch-size", "2"]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    for what in ("parameters", "cache", "peak memory", "read per step", "at 50 GB/s", "960x544"):
        assert what in printed


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--model", "/nowhere.json"], "--model"),
        (["--tokens-per-step", "2"], "--tokens-per-step"),
        (["--height", "64"], "--width"),
    ],
)
def test_the_command_refuses_what_cannot_be(arguments, flag, capsys):
    assert command.main(arguments) == 2
    assert flag in capsys.readouterr().err
