"""Train emu3-mini's vision tokenizer on drawn scenes: `python -m train.vision_tokenizer`.

Order of a run: a warm-up without quantisation, a codebook seeded by k-means from the encoder's
vectors, then straight-through training in which codes nobody uses are seeded anew.
"""

import argparse
import json
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from scipy.cluster.vq import kmeans2
from tqdm import tqdm

from emu3 import runtime
from emu3.tokenizer.configuration_emu3visionvq import Emu3VisionVQConfig
from emu3.tokenizer.modeling_emu3visionvq import Emu3VisionVQModel
from train.optimizer import AdamW, cosine_schedule
from train.scenes import (
    CELL,
    TEXTURES,
    TONES,
    Ground,
    draw_array,
    foreground,
    random_scene,
)
from train.state import load_state, save_state

RESEED_EVERY = 100
COMMITMENT = 0.25
CONSISTENCY = 0.5
GROUNDS = [Ground(tone, texture) for tone in TONES for texture in TEXTURES]
NO_GROUND = -1


class TrainStep(nn.Cell):
    """Forward, backward and update in one compiled graph."""

    def __init__(self, model: Emu3VisionVQModel) -> None:
        super().__init__()
        self.model = model
        self.parameters = ms.ParameterTuple(model.trainable_params())
        self.optimizer = AdamW(list(self.parameters), betas=(0.9, 0.95), weight_decay=1e-4)
        self.gradient = ops.GradOperation(get_by_list=True)

    def loss(self, pixels: Tensor, weight: Tensor, grounds: Tensor, quantised: Tensor) -> Tensor:
        """Weighted absolute and squared error, consistency, commitment and codebook terms."""
        picture, _, vectors, commitment, codebook = self.model(pixels, quantised)
        error = picture - pixels
        rebuilt = (weight * (ops.abs(error) + 2 * error * error)).mean()
        terms = COMMITMENT * commitment + codebook
        return rebuilt + CONSISTENCY * spread(vectors, grounds) + quantised * terms

    def construct(
        self, pixels: Tensor, weight: Tensor, grounds: Tensor, quantised: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One step; returns loss and gradient norm."""
        loss = self.loss(pixels, weight, grounds, quantised)
        grads = self.gradient(self.loss, self.parameters)(pixels, weight, grounds, quantised)
        return loss, self.optimizer(grads, lr)


def spread(vectors: Tensor, grounds: Tensor) -> Tensor:
    """Mean squared distance of ground vectors (n, e) from the mean of their kind, grounds (n,).

    Cells that look alike then get the same code, instead of one of fifty by chance, and a
    language model need not guess which.
    """
    kinds = Tensor(np.arange(len(GROUNDS), dtype=np.int32))
    member = ops.cast(grounds.expand_dims(1) == kinds, ms.float32)  # (n, kinds)
    counts = ops.maximum(member.sum(0), 1.0).expand_dims(1)
    means = ops.MatMul(transpose_a=True)(member, vectors) / counts
    away = vectors - ops.MatMul()(member, means)
    inside = member.sum(1, keepdims=True)
    return (inside * away * away).sum() / (ops.maximum(inside.sum(), 1.0) * vectors.shape[1])


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
    """Random cell-aligned crops of training scenes with the weight of each pixel.

    The plain ground dominates a picture, so shapes and what lies next to them count 6 times and
    textured ground 3 times.
    """

    def __init__(self, seed: int, batch: int, cells: int) -> None:
        self.seed, self.batch, self.cells = seed, batch, cells

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels (b, 3, s, s) in [-1, 1], weights (b, 1, s, s), and each cell's ground (n,).

        The ground is an index of GROUNDS, NO_GROUND where a shape is near. Same for same step.
        """
        rng = np.random.default_rng((self.seed, self.cells, step))
        crops = [self._crop(rng) for _ in range(self.batch)]
        pixels, weights, grounds = (np.stack(part) for part in zip(*crops))
        return pixels, weights, grounds.reshape(-1)

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ratio = "1:1" if self.cells > 9 else None
        scene = random_scene(rng, "train", ratio)
        top = CELL * int(rng.integers(0, scene.rows - self.cells + 1))
        left = CELL * int(rng.integers(0, scene.cols - self.cells + 1))
        window = np.s_[top : top + self.cells * CELL, left : left + self.cells * CELL]
        pixels = draw_array(scene)[window].astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
        near = _widen(foreground(scene) > 0)[window]
        ground = 1.0 if scene.ground.texture == "plain" else 3.0
        weights = np.where(near, 6.0, ground).astype(np.float32)[None]
        occupied = near.reshape(self.cells, CELL, self.cells, CELL).any((1, 3))
        kinds = np.where(occupied, NO_GROUND, GROUNDS.index(scene.ground)).astype(np.int32)
        return pixels, weights, kinds


def _widen(mask: np.ndarray, by: int = 2) -> np.ndarray:
    """Grow a mask by `by` pixels in the four directions."""
    padded = np.pad(mask, by)
    shifts = [(dy, dx) for dy in (0, by, 2 * by) for dx in (0, by, 2 * by)]
    rows, cols = mask.shape
    return np.any([padded[dy : dy + rows, dx : dx + cols] for dy, dx in shifts], axis=0)


def gather_vectors(vectors: Vectors, batches: Batches, first: int, count: int):
    """Encoder vectors (n, e), their codes (n,), and which are near a shape (n,), of batches."""
    found = []
    for step in range(first, first + count):
        pixels, _, grounds = batches(step)
        out = vectors(Tensor(pixels))
        found.append((out[0].asnumpy(), out[1].asnumpy(), grounds == NO_GROUND))
    return tuple(np.concatenate(part) for part in zip(*found))


def seed_codebook(model: Emu3VisionVQModel, vectors: np.ndarray, near: np.ndarray, seed: int):
    """Set the codebook to the k-means centres of the vectors, mostly those near shapes."""
    rng = np.random.default_rng(seed)
    ground = np.flatnonzero(~near)
    some = rng.choice(ground, min(len(ground), near.sum() // 5), replace=False)
    points = vectors[np.concatenate([np.flatnonzero(near), some])]
    table = model.quantize.embedding.weight
    centres, _ = kmeans2(points, table.shape[0], iter=8, minit="points", seed=seed, missing="warn")
    table.set_data(Tensor(centres.astype(np.float32)))


def reseed_unused(model: Emu3VisionVQModel, vectors, codes, near, rng) -> int:
    """Move every code that was not used onto a random vector near a shape; returns how many."""
    table = model.quantize.embedding.weight.asnumpy()
    unused = np.setdiff1d(np.arange(len(table)), codes)
    table[unused] = rng.choice(vectors[near], len(unused))
    table[unused] += rng.normal(0, 0.01, (len(unused), table.shape[1]))
    model.quantize.embedding.weight.set_data(Tensor(table))
    return len(unused)


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
    small, whole = Batches(args.seed, args.batch, 8), Batches(args.seed, args.batch // 2, 12)
    begun = saved = time.monotonic()
    with tqdm(total=args.steps, initial=first, desc="vision tokenizer") as bar:
        for step in range(first, args.steps):
            batches = small if step < args.steps * (1 - args.whole) else whole
            if step >= args.warmup:
                _tend_codebook(args, model, vectors, small, step)
            arrays = [Tensor(array) for array in batches(step)]
            quantised = Tensor(float(step >= args.warmup), ms.float32)
            loss, norm = step_cell(*arrays, quantised, Tensor(rate(step), ms.float32))
            bar.update()
            if step % 20 == 0:
                bar.write(f"step {step} loss {float(loss):.4f} norm {float(norm):.2f}")
            now = time.monotonic()
            last = step + 1 == args.steps or now - begun > args.minutes * 60
            if last or now - saved > args.save_every:
                save_state(state, step_cell, {"step": step + 1})
                saved = now
            if last:
                break
    forget_past(model)
    model.set_train(False).save_pretrained(args.output)


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
    since = step - args.warmup
    if since == 0:
        found, _, near = gather_vectors(vectors, batches, 10**6, 60)
        seed_codebook(model, found, near, args.seed)
    elif since % RESEED_EVERY == 0 and step < args.steps * 0.8:
        found, codes, near = gather_vectors(vectors, batches, 10**6 + step, 40)
        count = reseed_unused(model, found, codes, near, np.random.default_rng((args.seed, step)))
        tqdm.write(f"step {step}: {count} unused codes seeded anew")


def main(argv: list[str] | None = None) -> None:
    """Parse options and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--config", default="configs/emu3_mini_vision.json", help="sizes")
    parser.add_argument("--output", default="outputs/vision", help="folder of the trained model")
    parser.add_argument("--state", default="outputs/vision_state.safetensors", help="resume file")
    parser.add_argument("--steps", type=int, default=2200, help="optimizer steps in all")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop and save after these")
    parser.add_argument("--warmup", type=int, default=900, help="steps without quantisation")
    parser.add_argument("--whole", type=float, default=0.15, help="last share: whole pictures")
    parser.add_argument("--batch", type=int, default=8, help="crops of 64x64 pixels a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="seed of data and initial weights")
    parser.add_argument("--save-every", type=float, default=300, help="seconds between saves")
    args = parser.parse_args(argv)
    runtime.setup(device="CPU", mode="graph", seed=args.seed)
    train(args)


if __name__ == "__main__":
    main()
