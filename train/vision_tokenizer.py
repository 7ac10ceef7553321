"""Train emu3-mini's vision tokenizer on drawn scenes: `python -m train.vision_tokenizer`.

Order of a run: a warm-up without quantisation, a codebook seeded with one code for each thing a
cell can show, then straight-through training in which codes nobody uses are seeded anew.
"""

import argparse
import json
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from tqdm import tqdm

from emu3 import runtime
from emu3.tokenizer import (
    Emu3VisionVQConfig,
    Emu3VisionVQImageProcessor,
    Emu3VisionVQModel,
)
from train.cells import GROUNDS, cell_kinds
from train.optimizer import AdamW, cosine_schedule
from train.scenes import (
    FULL,
    Scene,
    draw_array,
    foreground,
    held_out,
    place,
    random_ground,
    random_look,
)
from train.state import load_state, save_state

RESEED_EVERY = 200
COMMITMENT = 0.25
CONSISTENCY = 0.5
# Small pictures are not enlarged, large ones are brought down to what the scenes look like.
MIN_PIXELS, MAX_PIXELS = 64 * 64, 256 * 256
SMALL, WHOLE = 5, 7  # rows and columns of the scenes, in cells


class TrainStep(nn.Cell):
    """Forward, backward and update in one compiled graph."""

    def __init__(self, model: Emu3VisionVQModel) -> None:
        super().__init__()
        self.model = model
        self.parameters = ms.ParameterTuple(model.trainable_params())
        self.optimizer = AdamW(list(self.parameters), betas=(0.9, 0.95), weight_decay=1e-4)
        self.gradient = ops.GradOperation(get_by_list=True, sens_param=True)

    def loss(
        self, pixels: Tensor, weight: Tensor, kinds: Tensor, quantised: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted absolute and squared error, consistency, commitment and codebook terms.

        Returns the sum, and of it the error and the consistency.
        """
        picture, _, vectors, commitment, codebook = self.model(pixels, quantised)
        error = picture - pixels
        rebuilt = (weight * (ops.abs(error) + 2 * error * error)).mean()
        terms = COMMITMENT * commitment + codebook
        spread = inner_spread(vectors, kinds)
        return rebuilt + CONSISTENCY * spread + quantised * terms, rebuilt, spread

    def construct(
        self, pixels: Tensor, weight: Tensor, kinds: Tensor, quantised: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One step; returns loss, error, consistency and gradient norm."""
        inputs = (pixels, weight, kinds, quantised)
        loss, rebuilt, spread = self.loss(*inputs)
        ones = (ops.ones_like(loss), ops.zeros_like(rebuilt), ops.zeros_like(spread))
        grads = self.gradient(self.loss, self.parameters)(*inputs, ones)
        return loss, rebuilt, spread, self.optimizer(grads, lr)


def inner_spread(vectors: Tensor, kinds: Tensor) -> Tensor:
    """Share of the variance of vectors (n, e) that lies inside the kinds (n,), each weighed alike.

    Cells that look alike then get the same code, instead of one of fifty by chance, and a
    language model need not guess which.
    """
    alike = ops.cast(kinds.expand_dims(0) == kinds.expand_dims(1), ms.float32)  # (n, n)
    counts = alike.sum(1, keepdims=True)
    weights = 1 / (counts * (1 / counts).sum())
    means = ops.MatMul()(alike, vectors) / counts
    inside = (weights * (vectors - means) ** 2).sum()
    middle = (weights * vectors).sum(0)
    return inside / ((weights * (vectors - middle) ** 2).sum() + 1e-6)


class Vectors(nn.Cell):
    """Encoder vectors and their codes, for seeding the codebook."""

    def __init__(self, model: Emu3VisionVQModel) -> None:
        super().__init__()
        self.model = model

    def construct(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(b, 3, h, w) -> vectors (b * H * W, e), codes (b * H * W,)."""
        latent = self.model.encode_latent(pixels)
        vectors = latent.transpose(0, 2, 3, 4, 1).reshape(-1, latent.shape[1])
        return vectors, self.model.quantize.nearest(vectors)


class Batches:
    """Random scenes of `cells` x `cells` cells with the weight of each pixel.

    Scenes come in pairs that show the same shapes, each at another place on another ground. The
    plain ground dominates a picture, so shapes and what lies next to them count 6 times and
    textured ground 3 times.
    """

    def __init__(self, seed: int, batch: int, cells: int) -> None:
        self.seed, self.batch, self.cells = seed, batch, cells

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels (b, 3, s, s) in [-1, 1], weights (b, 1, s, s), and each cell's kind (n,).

        Kinds are those of `train.cells.cell_kinds`. Same for same step.
        """
        rng = np.random.default_rng((self.seed, self.cells, step))
        scenes: list[Scene] = []
        while len(scenes) < self.batch:
            count = int(rng.integers(1, 4))
            looks = [random_look(rng, FULL) for _ in range(count)]
            pair = [self._scene(rng, looks) for _ in range(2)]
            scenes += [scene for scene in pair if scene is not None]
        parts = [self._arrays(scene) for scene in scenes[: self.batch]]
        pixels, weights, kinds = (np.stack(part) for part in zip(*parts))
        return pixels, weights, kinds.reshape(-1)

    def _scene(self, rng: np.random.Generator, looks: list) -> Scene | None:
        """The looks at random places on a random ground; None where nothing fits."""
        for _ in range(5):
            if (shapes := place(rng, self.cells, self.cells, looks)) is None:
                return None
            scene = Scene(self.cells, self.cells, random_ground(rng), shapes, FULL)
            if not held_out(scene):
                return scene
        return None

    def _arrays(self, scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = draw_array(scene).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
        near = _widen(foreground(scene) > 0)
        ground = 1.0 if scene.ground.texture == "plain" else 3.0
        return pixels, np.where(near, 6.0, ground).astype(np.float32)[None], cell_kinds(scene)


def _widen(mask: np.ndarray, by: int = 2) -> np.ndarray:
    """Grow a mask by `by` pixels in the four directions."""
    padded = np.pad(mask, by)
    shifts = [(dy, dx) for dy in (0, by, 2 * by) for dx in (0, by, 2 * by)]
    rows, cols = mask.shape
    return np.any([padded[dy : dy + rows, dx : dx + cols] for dy, dx in shifts], axis=0)


def gather_vectors(
    vectors: Vectors, batches: Batches, first: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encoder vectors (n, e), their codes (n,) and kinds (n,), of batches."""
    found = []
    for step in range(first, first + count):
        pixels, _, kinds = batches(step)
        out = vectors(Tensor(pixels))
        found.append((out[0].asnumpy(), out[1].asnumpy(), kinds))
    return tuple(np.concatenate(part) for part in zip(*found))


def seed_codebook(
    model: Emu3VisionVQModel, vectors: np.ndarray, kinds: np.ndarray, rng: np.random.Generator
) -> None:
    """A code at the mean vector of each kind; codes left over where these fit worst."""
    table = model.quantize.embedding.weight
    found, inverse, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    means = np.zeros((len(found), vectors.shape[1]), np.float32)
    np.add.at(means, inverse, vectors)
    means = (means / counts[:, None])[: table.shape[0]]
    away = ((vectors - means[np.minimum(inverse, len(means) - 1)]) ** 2).sum(1)
    rest = _poorly_served(vectors, away, kinds, table.shape[0] - len(means), rng)
    table.set_data(Tensor(np.concatenate([means, rest]).astype(np.float32)))


def reseed_unused(
    model: Emu3VisionVQModel,
    vectors: np.ndarray,
    codes: np.ndarray,
    kinds: np.ndarray,
    rng: np.random.Generator,
) -> int:
    """Move every code that was not used to a vector far from its code; returns how many."""
    table = model.quantize.embedding.weight.asnumpy().copy()
    unused = np.setdiff1d(np.arange(len(table)), codes)
    away = ((vectors - table[codes]) ** 2).sum(1)
    table[unused] = _poorly_served(vectors, away, kinds, len(unused), rng)
    model.quantize.embedding.weight.set_data(Tensor(table))
    return len(unused)


def _poorly_served(vectors, away, kinds, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the vectors by chance, those far `away` from their codes and on shapes first."""
    chance = np.where(kinds >= len(GROUNDS), away, 0) + 1e-12
    return vectors[rng.choice(len(vectors), count, replace=False, p=chance / chance.sum())]


def train(args: argparse.Namespace) -> None:
    """Run or resume training until `args.steps`; saves state and the model folder."""
    sizes = json.loads(Path(args.config).read_text(encoding="utf-8"))
    model = Emu3VisionVQModel(Emu3VisionVQConfig(**sizes)).set_train(True)
    step_cell, vectors = TrainStep(model), Vectors(model)
    step_cell.set_train(True)
    state, first = Path(args.state), 0
    if state.exists():
        first = load_state(state, step_cell)["step"]
    rate = cosine_schedule(args.lr, args.lr / 50, 50, args.steps)
    small, whole = Batches(args.seed, args.batch, SMALL), Batches(args.seed, args.batch // 2, WHOLE)
    begun = saved = time.monotonic()
    with tqdm(total=args.steps, initial=first, desc="vision tokenizer") as bar:
        for step in range(first, args.steps):
            if step >= args.warmup:
                _tend_codebook(args, model, vectors, small, step)
            batches = whole if step % args.whole == args.whole - 1 else small
            arrays = [Tensor(array) for array in batches(step)]
            quantised = Tensor(float(step >= args.warmup), ms.float32)
            figures = step_cell(*arrays, quantised, Tensor(rate(step), ms.float32))
            bar.update()
            if step % 20 == 0:
                loss, rebuilt, spread, norm = (float(figure) for figure in figures)
                bar.write(
                    f"step {step} loss {loss:.4f} rebuilt {rebuilt:.4f} spread {spread:.4f} "
                    f"norm {norm:.2f}"
                )
            now = time.monotonic()
            last = step + 1 == args.steps or now - begun > args.minutes * 60
            if last or now - saved > args.save_every:
                save_state(state, step_cell, {"step": step + 1})
                saved = now
            if last:
                break
    forget_past(model)
    model.set_train(False).save_pretrained(args.output, dtype=args.save_dtype)
    images = Emu3VisionVQImageProcessor(
        min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, spatial_factor=model.spatial_scale_factor
    )
    images.save_pretrained(args.output)


def forget_past(model: Emu3VisionVQModel) -> None:
    """Zero what the decoder's kernels take from earlier frames; pictures decode exactly as before.

    Pictures train only the last frame of each kernel, since all earlier ones are padding there.
    Without this the untrained part would spoil frames 1 to 3 of every code of a clip.
    """
    decoder = model.decoder
    for part in (model.post_quant_conv, decoder.time_res_stack, decoder.time_conv):
        for weight in part.get_parameters():
            if len(weight.shape) == 5:  # out, in, time, rows, columns
                kernel = weight.asnumpy().copy()
                kernel[:, :, :-1] = 0
                weight.set_data(Tensor(kernel))


def _tend_codebook(args, model, vectors, batches, step: int) -> None:
    """Seed the codebook when the warm-up ends; later look after unused codes, until the end."""
    since, rng = step - args.warmup, np.random.default_rng((args.seed, step))
    if since == 0:
        found, _, kinds = gather_vectors(vectors, batches, 10**6, 100)
        seed_codebook(model, found, kinds, rng)
    elif since % RESEED_EVERY == 0 and step < args.steps * 0.8:
        found, codes, kinds = gather_vectors(vectors, batches, 10**6 + step, 60)
        count = reseed_unused(model, found, codes, kinds, rng)
        tqdm.write(f"step {step}: {count} unused codes seeded anew")


def main(argv: list[str] | None = None) -> None:
    """Parse options and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--config", default="configs/emu3_mini_vision.json", help="sizes")
    parser.add_argument("--output", default="outputs/vision", help="folder of the trained model")
    parser.add_argument("--state", default="outputs/vision_state.safetensors", help="resume file")
    parser.add_argument("--steps", type=int, default=2600, help="optimizer steps in all")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop and save after these")
    parser.add_argument("--warmup", type=int, default=800, help="steps without quantisation")
    parser.add_argument("--whole", type=int, default=3, help="every so many steps: larger pictures")
    parser.add_argument("--batch", type=int, default=8, help="small pictures a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--save-dtype", default="float16", help="dtype of the saved weights")
    parser.add_argument("--seed", type=int, default=0, help="seed of data and initial weights")
    parser.add_argument("--save-every", type=float, default=300, help="seconds between saves")
    args = parser.parse_args(argv)
    runtime.setup(device="CPU", mode="graph", seed=args.seed)
    train(args)


if __name__ == "__main__":
    main()
