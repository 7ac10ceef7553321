"""Each task of emu3-mini on this device against what a CPU gave in float32, from a file.

Drawn pictures part ways at the first token whose draw a rounding turns, so pictures are compared
by what the network thinks of the CPU's own: its loss on them, and what it would choose.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mindspore import Tensor

from emu3 import bundled, runtime
from emu3.benchmarks.card_operators import Finding, distance
from emu3.files import atomic_path, read_json
from emu3.images import open_image
from emu3.loading import Emu3, load_models
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.pipeline import Answers, AskSettings, DrawSettings, Picture, TextToImage

RESULTS = bundled.ASSETS / "ascend_check.json"
PROMPT, QUESTION, SEED = "a red house and a green tree", "What is in the picture?", 7
WAYS = ("plain", "jacobi")
# What 16 bits may change: of losses and pixels relative, of codes and choices the share.
LOSS, PIXELS, CODES, CHOICES = 1e-2, 2e-2, 0.05, 0.1


@dataclass(frozen=True)
class Speed:
    """A picture drawn: new tokens a second, compiling left out, and seconds to the first time."""

    what: str
    rate: float
    compiling: float


class Tasks:
    """emu3-mini with its tasks."""

    def __init__(self, dtype: str | None) -> None:
        self.emu3: Emu3 = load_models(bundled.MINI_LANGUAGE, bundled.MINI_VISION, dtype)
        self.image = open_image(bundled.DEMO_IMAGE, "--image")
        factor = self.emu3.codec.config.spatial_scale_factor
        side = round(self.emu3.defaults.image_area**0.5) // factor
        self.size = (side, side)

    def draw(self, way: str) -> tuple[np.ndarray, float]:
        """Codes (h, w) of a picture, and new tokens a second."""
        settings = DrawSettings(decoding=way).filled(self.emu3.defaults)
        drawing = TextToImage(self.emu3.model, self.emu3.prompts)
        request = drawing.request([Picture(PROMPT, self.size, SEED)], settings)
        (codes,), done = drawing.codes(request)
        return codes, done.tokens / done.seconds

    def scored(self, codes: np.ndarray) -> tuple[float, np.ndarray]:
        """The network's loss on codes (h, w) after the prompt, and its choices of ids (n,)."""
        model, prompts = self.emu3.model, self.emu3.prompts
        settings = DrawSettings().filled(self.emu3.defaults)
        start = prompts.generation(PROMPT + settings.suffix, *self.size)
        request = TextToImage(model, prompts).request([Picture(PROMPT, self.size, SEED)], settings)
        grid = request.grid
        forced = grid.forced[0]
        made = np.array(forced)
        made[forced < 0] = grid.vocabulary.ids_of(codes).reshape(-1)
        ids = np.concatenate((start, made))[None].astype(np.int32)
        labels = np.full_like(ids, IGNORED_LABEL)
        labels[0, len(start) :][forced < 0] = made[forced < 0]
        out = model(Tensor(ids), labels=Tensor(labels), use_cache=False)
        choices = out.logits.asnumpy()[0, :-1].argmax(-1)
        return float(out.loss), choices[labels[0, 1:] != IGNORED_LABEL]

    def ask(self) -> str:
        """An answer about the demo picture."""
        codes = self.emu3.codec.encode(self.emu3.codec.pixels(self.image)[None])
        answers = Answers(self.emu3.model, self.emu3.prompts)
        settings = AskSettings(max_new_tokens=48).filled(self.emu3.defaults)
        return answers.texts(answers.request([QUESTION], list(codes), settings, [SEED]))[0]

    def encode(self) -> np.ndarray:
        """Codes (h, w) of the demo picture."""
        return self.emu3.codec.encode(self.emu3.codec.pixels(self.image)[None])[0]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The picture of codes, in blocks of 8 pixels: (h / 8, w / 8, 3) of 0..255."""
        picture = np.asarray(self.emu3.codec.picture(codes), np.float64)
        h, w = (side // 8 for side in picture.shape[:2])
        return picture[: h * 8, : w * 8].reshape(h, 8, w, 8, 3).mean((1, 3))


def write(path: Path) -> None:
    """Keep what this device gives in float32; meant for a CPU."""
    import json

    tasks = Tasks("float32")
    drawn, _ = tasks.draw("plain")
    loss, choices = tasks.scored(drawn)
    codes = tasks.encode()
    results = {
        "drawn": drawn.tolist(),
        "loss": loss,
        "choices": choices.tolist(),
        "answer": tasks.ask(),
        "codes": codes.tolist(),
        "blocks": np.round(tasks.decode(codes), 2).tolist(),
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results) + "\n", encoding="utf-8")


def findings(tasks: Tasks, path: Path = RESULTS) -> Iterator[Finding]:
    """Each task against the file's results."""
    kept = read_json(path)
    drawn, codes = np.array(kept["drawn"], np.int32), np.array(kept["codes"], np.int32)
    began = time.perf_counter()

    def found(what: str, error: float, limit: float, note: str = "") -> Finding:
        nonlocal began
        seconds, began = time.perf_counter() - began, time.perf_counter()
        return Finding(what, error, limit, seconds, note)

    loss, choices = tasks.scored(drawn)
    yield found("loss on a picture", abs(loss / kept["loss"] - 1), LOSS)
    differing = float((choices != np.array(kept["choices"])).mean())
    yield found("choices, share that differs", differing, CHOICES)
    for way in WAYS:
        made, _ = tasks.draw(way)
        same = (made == drawn).mean() if way == "plain" else 0
        note = f"{same:.0%} of the codes are the CPU's" if way == "plain" else ""
        yield found(f"a picture, {way}", float((made < 0).any()), 0, note)
    answer = tasks.ask()
    yield found("an answer, differs", float(answer != kept["answer"]), 1, repr(answer))
    differing = float((tasks.encode() != codes).mean())
    yield found("picture to codes, share that differs", differing, CODES)
    blocks = np.array(kept["blocks"])
    yield found("codes to picture", distance(tasks.decode(codes), blocks), PIXELS)


def speeds(tasks: Tasks) -> Iterator[Speed]:
    """Pictures again, now that what they need is compiled."""
    for way in WAYS:
        began = time.perf_counter()
        tasks.draw(way)
        first = time.perf_counter() - began
        began = time.perf_counter()
        _, rate = tasks.draw(way)
        yield Speed(f"a picture, {way}", rate, max(first - (time.perf_counter() - began), 0.0))


def peak() -> str:
    """Peak memory of this process so far."""
    return f"{runtime.peak_memory_bytes() / 2**30:.2f} GiB"
