"""For the tests of the language side: the released vocabulary, a tiny one, and its processor."""

import base64
from pathlib import Path

import pytest

from emu3.mllm import Emu3Processor, Emu3Tokenizer
from emu3.tokenizer import Emu3VisionVQImageProcessor
from tests.mllm.fakes import FakeVision

GOLDEN = Path(__file__).parents[1] / "golden"
MARKERS = ("<|image token|>", "<|image start|>", "<|image end|>")


def write_special_tokens(folder: Path, visual_count: int) -> None:
    """The special token file with `visual_count` visual tokens."""
    visual = [f"<|visual token {i:06d}|>" for i in range(visual_count)]
    (folder / "emu3_vision_tokens.txt").write_text("\n".join([*MARKERS, *visual]) + "\n")


def write_ranks(folder: Path, pieces: list[bytes]) -> None:
    """A rank file of `pieces`."""
    lines = [f"{base64.b64encode(piece).decode()} {rank}" for rank, piece in enumerate(pieces)]
    (folder / "emu3.tiktoken").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def released_tokenizer(tmp_path_factory) -> Emu3Tokenizer:
    """151,643 ranks and 32,768 visual tokens, padding left."""
    folder = tmp_path_factory.mktemp("released")
    (folder / "emu3.tiktoken").symlink_to(GOLDEN / "emu3.tiktoken")
    write_special_tokens(folder, 32768)
    return Emu3Tokenizer.from_pretrained(folder, padding_side="left")


@pytest.fixture
def tiny_folder(tmp_path) -> Path:
    """A tokenizer folder with 258 ranks and 16 visual tokens."""
    write_ranks(tmp_path, [bytes([byte]) for byte in range(256)] + [b"ab", b"abc"])
    write_special_tokens(tmp_path, 16)
    return tmp_path


@pytest.fixture
def tiny_tokenizer(tiny_folder) -> Emu3Tokenizer:
    """The tokenizer of `tiny_folder`, padding left."""
    return Emu3Tokenizer.from_pretrained(tiny_folder, padding_side="left")


@pytest.fixture
def tiny(tiny_tokenizer) -> Emu3Processor:
    """A processor of `tiny_tokenizer` and 16 codes; no VQ weights are needed."""
    images = Emu3VisionVQImageProcessor(min_pixels=64, max_pixels=1024)
    return Emu3Processor(images, FakeVision(16), tiny_tokenizer)
