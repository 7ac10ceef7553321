"""A tiny Emu3 with random weights: every file of a checkpoint, written in a second."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from mindspore import Tensor

from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.tokenization_emu3 import BUILT_IN_SPECIALS, Emu3Tokenizer
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQImageProcessor, Emu3VisionVQModel

RANKS = 256
CODES = 32
AREA = 16 * 16  # pixels of a generated picture: 4x4 codes of 4x4 pixels


def write_tiny_checkpoint(folder: Path) -> tuple[Path, Path]:
    """Write a language and a vision folder; returns both."""
    language, vision = folder / "language", folder / "vision"
    write_tokenizer(language)
    randomised(Emu3ForCausalLM(tiny_config()), 0).save_pretrained(language)
    state = {"guidance_scale": 2.0, "top_k": 16, "do_sample": True}
    (language / "generation_config.json").write_text(json.dumps(state))
    randomised(Emu3VisionVQModel(tiny_vision_config()), 1).save_pretrained(vision)
    processor = Emu3VisionVQImageProcessor(min_pixels=64, max_pixels=1024, spatial_factor=4)
    processor.save_pretrained(vision)
    return language, vision


def tiny_config() -> Emu3Config:
    """One layer of width 32; ids as `write_tokenizer` lays them out."""
    special = {token: RANKS + i for i, token in enumerate(BUILT_IN_SPECIALS)}
    img = RANKS + len(BUILT_IN_SPECIALS)
    return Emu3Config(
        vocab_size=img + 3 + CODES,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=special["<|endoftext|>"],
        bos_token_id=special["<|extra_203|>"],
        eos_token_id=special["<|extra_204|>"],
        eol_token_id=special["<|extra_200|>"],
        eof_token_id=special["<|extra_201|>"],
        img_token_id=img,
        boi_token_id=img + 1,
        eoi_token_id=img + 2,
        image_area=AREA,
        example_prompt="a red circle",
        positive_prompt=" nice.",
        negative_prompt="ugly",
    )


def tiny_vision_config() -> Emu3VisionVQConfig:
    """Three levels of width 32: one code for 4x4 pixels and 4 frames."""
    return Emu3VisionVQConfig(
        codebook_size=CODES, ch=32, ch_mult=[1, 1, 1], num_res_blocks=1, attn_resolutions=[2]
    )


def golden_vision_config(name: str) -> Emu3VisionVQConfig:
    """The configuration of a golden file of the vision tokenizer."""
    about = json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text())
    return Emu3VisionVQConfig(**about["config"])


def write_tokenizer(folder: Path) -> None:
    """A tokenizer whose ranks are the 256 bytes."""
    folder.mkdir(parents=True)
    lines = [base64.b64encode(bytes([i])).decode() + f" {i}" for i in range(RANKS)]
    (folder / "emu3.tiktoken").write_text("\n".join(lines) + "\n")
    visual = [f"<|visual token {i:06d}|>" for i in range(CODES)]
    markers = ["<|image token|>", "<|image start|>", "<|image end|>"]
    (folder / "emu3_vision_tokens.txt").write_text("\n".join(markers + visual) + "\n")
    files = (folder / "emu3.tiktoken", folder / "emu3_vision_tokens.txt")
    Emu3Tokenizer(*files).save_pretrained(folder)


def randomised(model, seed: int):
    """`model` with weights from a seeded generator: matrices random, the rest as made."""
    rng = np.random.default_rng(seed)
    for parameter in model.get_parameters():
        if len(parameter.shape) > 1:
            scale = 1 / np.sqrt(np.prod(parameter.shape[1:]))
            values = rng.standard_normal(parameter.shape) * scale
            parameter.set_data(Tensor(values, parameter.dtype))
    return model


def output_of(code: str) -> str:
    """The last line that Python code prints in a new process."""
    root = Path(__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]
