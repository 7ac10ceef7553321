"""Train emu3-mini's vision tokenizer on drawn scenes: `python -m train.mini.vision_tokenizer`.

Every thing a cell can show has a code of its own (`train.mini.cells`), so that a language model need
never guess between codes that look alike. First the encoder learns to name those codes while the
decoder learns to draw them; then both are trained together, straight through the encoder's codes.
"""

import argparse

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from tqdm import trange

from emu3 import runtime
from emu3.cli.common import Parser, leave, parser_with_defaults, run_command
from emu3.cli.flags import add_numbers, non_negative_float, non_negative_int, share
from emu3.configfile import config_of_sizes
from emu3.errors import InputError
from emu3.tokenizer import (
    Emu3VisionVQConfig,
    Emu3VisionVQImageProcessor,
    Emu3VisionVQModel,
)
from train.mini.cells import cell_kinds, kind_count, kind_vectors
from train.mini.adamw import AdamW
from train.tuning.schedule import cosine_schedule
from train.mini.scenes import (
    FULL,
    Scene,
    draw_array,
    foreground,
    held_out,
    place,
    random_ground,
    random_look,
)
from train.mini.runs import Run, add_run_options

COMMITMENT = 0.25
SHARPNESS = 4.0  # of the naming loss: logits are -SHARPNESS * squared distance
# Small pictures are not enlarged, large ones are brought down to what the scenes look like.
MIN_PIXELS, MAX_PIXELS = 64 * 64, 256 * 256
SMALL, WHOLE = 5, 7  # rows and columns of the scenes, in cells


class NamingLoss(nn.Cell):
    """Cross-entropy of the right code among all, by distance, plus the squared distance to it."""

    def __init__(self) -> None:
        super().__init__()
        self.product = ops.MatMul(transpose_b=True)

    def construct(self, vectors: Tensor, table: Tensor, kinds: Tensor) -> Tensor:
        """vectors (n, e), table (codes, e), kinds (n,) -> scalar; trains the vectors alone."""
        table = ops.stop_gradient(table)
        scores = 2 * self.product(vectors, table) - (table * table).sum(-1)
        scores = SHARPNESS * scores
        scores = scores - ops.stop_gradient(scores.max(-1, keepdims=True))
        chosen = ops.gather_elements(scores, 1, kinds.expand_dims(1))[:, 0]
        named = (ops.log(ops.exp(scores).sum(-1)) - chosen).mean()
        return named + ((vectors - ops.gather(table, kinds, 0)) ** 2).mean()


class TeachStep(nn.Cell):
    """Encoder and decoder apart: one learns to name the right codes, the other to draw them."""

    def __init__(self, model: Emu3VisionVQModel, optimizer: AdamW, naming: float) -> None:
        super().__init__()
        self.model, self.optimizer, self.weight = model, optimizer, naming
        self.parameters = optimizer.weights
        self.naming = NamingLoss()
        self.gradient = ops.GradOperation(get_by_list=True, sens_param=True)

    def loss(self, pixels: Tensor, weight: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sum, the error of the picture, and the naming loss."""
        latent = self.model.encode_latent(pixels)
        b, e, t, h, w = latent.shape
        vectors = latent.transpose(0, 2, 3, 4, 1).reshape(-1, e)
        table = self.model.quantize.embedding.weight
        named = self.naming(vectors, table, kinds)
        right = self.model.quantize.embedding(kinds)
        passed = right.reshape(b, t, h, w, e).transpose(0, 4, 1, 2, 3)
        rebuilt = weighted_error(self.model.decode_latent(passed, True), pixels, weight)
        return rebuilt + self.weight * named, rebuilt, named

    def construct(
        self, pixels: Tensor, weight: Tensor, kinds: Tensor, lr: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step; returns error, naming loss and gradient norm."""
        loss, rebuilt, named = self.loss(pixels, weight, kinds)
        slopes = (ops.ones_like(loss), ops.zeros_like(rebuilt), ops.zeros_like(named))
        grads = self.gradient(self.loss, self.parameters)(pixels, weight, kinds, slopes)
        return rebuilt, named, self.optimizer(grads, lr)


class TrainStep(TeachStep):
    """Both together, straight through the encoder's own codes."""

    def loss(self, pixels: Tensor, weight: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As in TeachStep, with commitment and codebook terms."""
        picture, _, vectors, commitment, codebook = self.model(pixels, 1.0)
        rebuilt = weighted_error(picture, pixels, weight)
        named = self.naming(vectors, self.model.quantize.embedding.weight, kinds)
        loss = rebuilt + COMMITMENT * commitment + 0.1 * codebook + self.weight * named
        return loss, rebuilt, named


class NameStep(nn.Cell):
    """The encoder alone, at a quarter of the cost: codes keep their meaning, so it may."""

    def __init__(self, model: Emu3VisionVQModel) -> None:
        super().__init__()
        self.model = model
        encoder = [*model.encoder.trainable_params(), *model.quant_conv.trainable_params()]
        self.optimizer = AdamW(encoder, betas=(0.9, 0.95), weight_decay=1e-4)
        self.naming = NamingLoss()
        self.gradient = ops.GradOperation(get_by_list=True)

    def loss(self, pixels: Tensor, kinds: Tensor) -> Tensor:
        """The naming loss."""
        latent = self.model.encode_latent(pixels)
        vectors = latent.transpose(0, 2, 3, 4, 1).reshape(-1, latent.shape[1])
        return self.naming(vectors, self.model.quantize.embedding.weight, kinds)

    def construct(self, pixels: Tensor, kinds: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
        """One step; returns the loss and the gradient norm."""
        loss = self.loss(pixels, kinds)
        grads = self.gradient(self.loss, self.optimizer.weights)(pixels, kinds)
        return loss, self.optimizer(grads, lr)


def weighted_error(picture: Tensor, pixels: Tensor, weight: Tensor) -> Tensor:
    """Absolute and squared error (b, 3, h, w), each pixel by its weight (b, 1, h, w) -> scalar."""
    error = picture - pixels
    return (weight * (ops.abs(error) + 2 * error * error)).mean()


class Batches:
    """Random scenes of `cells` x `cells` cells with the weight of each pixel.

    The plain ground dominates a picture, so shapes and what lies next to them count 6 times and
    textured ground 3 times.
    """

    def __init__(self, seed: int, batch: int, cells: int) -> None:
        self.seed, self.batch, self.cells = seed, batch, cells

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels (b, 3, s, s) in [-1, 1], weights (b, 1, s, s), and each cell's kind (n,).

        Kinds are those of `train.mini.cells.cell_kinds`. Same for same step.
        """
        rng = np.random.default_rng((self.seed, self.cells, step))
        parts = [self._arrays(self._scene(rng)) for _ in range(self.batch)]
        pixels, weights, kinds = (np.stack(part) for part in zip(*parts))
        return pixels, weights, kinds.reshape(-1)

    def _scene(self, rng: np.random.Generator) -> Scene:
        """A scene without held-out combinations, as full as it happens to get."""
        while True:
            looks = [random_look(rng, FULL) for _ in range(rng.integers(1, 4))]
            shapes = place(rng, self.cells, self.cells, looks)
            if shapes is not None:
                scene = Scene(self.cells, self.cells, random_ground(rng), shapes, FULL)
                if not held_out(scene):
                    return scene

    def _arrays(self, scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels = draw_array(scene).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
        near = _widen(foreground(scene) > 0)
        ground = 1.0 if scene.ground.texture == "plain" else 3.0
        return pixels, np.where(near, 6.0, ground).astype(np.float32)[None], cell_kinds(scene)


def _widen(mask: np.ndarray, by: int = 2) -> np.ndarray:
    """Grow a mask by `by` pixels in all eight directions."""
    padded = np.pad(mask, by)
    shifts = [(dy, dx) for dy in (0, by, 2 * by) for dx in (0, by, 2 * by)]
    rows, cols = mask.shape
    return np.any([padded[dy : dy + rows, dx : dx + cols] for dy, dx in shifts], axis=0)


def new_model(config_path: str) -> Emu3VisionVQModel:
    """A model from scratch, its codebook one vector for each thing a cell can show.

    Raises:
        InputError: the codebook has not just as many codes.
    """
    config = config_of_sizes(Emu3VisionVQConfig, config_path, "--config")
    if config.codebook_size != kind_count():
        raise InputError(
            f"{config_path}: codebook_size {config.codebook_size}; allowed: {kind_count()}, one "
            "for each thing a cell of a scene can show; change --config"
        )
    model = Emu3VisionVQModel(config).set_train(True)
    model.quantize.embedding.weight.set_data(Tensor(kind_vectors(config.embed_dim)))
    return model


def train(args: argparse.Namespace) -> None:
    """Run or resume training until `args.steps`; saves state and the model folder."""
    model = new_model(args.config)
    optimizer = AdamW(model.trainable_params(), betas=(0.9, 0.95), weight_decay=1e-4)
    teach, together = (
        kind(model, optimizer, args.naming).set_train(True) for kind in (TeachStep, TrainStep)
    )
    run = Run(args, teach)
    rate = cosine_schedule(args.lr, args.lr / 50, 50, args.steps)
    small, whole = (
        Batches(args.seed, args.batch, SMALL),
        Batches(args.seed, max(1, args.batch // 2), WHOLE),
    )
    for step in run.steps():
        taught = step < args.steps * args.taught
        arrays = [Tensor(array) for array in (small if taught else whole)(step)]
        lr = Tensor(rate(step), ms.float32)
        figures = (teach if taught else together)(*arrays, lr)
        if step % 20 == 0:
            rebuilt, named, norm = (float(figure) for figure in figures)
            run.bar.write(f"step {step} error {rebuilt:.4f} naming {named:.4f} norm {norm:.2f}")
    if run.done >= args.steps:
        name_codes(args, model)
    save_model(model, args.output, args.save_dtype)


def name_codes(args: argparse.Namespace, model: Emu3VisionVQModel) -> None:
    """Train the encoder alone for `args.encoder_steps` further steps; not resumed."""
    if not args.encoder_steps:
        return
    step_cell = NameStep(model).set_train(True)
    batches = Batches(args.seed + 1, args.encoder_batch, WHOLE)
    rate = cosine_schedule(args.encoder_lr, args.encoder_lr / 50, 20, args.encoder_steps)
    for step in (bar := trange(args.encoder_steps, desc="encoder")):
        pixels, _, kinds = batches(step)
        lr = Tensor(rate(step), ms.float32)
        loss, norm = step_cell(Tensor(pixels), Tensor(kinds), lr)
        if step % 20 == 0:
            bar.write(f"step {step} naming {float(loss):.4f} norm {float(norm):.2f}")


def save_model(model: Emu3VisionVQModel, output: str, dtype: str) -> None:
    """Write the folder that inference loads."""
    forget_past(model)
    model.set_train(False).save_pretrained(output, dtype=dtype)
    images = Emu3VisionVQImageProcessor(
        min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, spatial_factor=model.spatial_scale_factor
    )
    images.save_pretrained(output)


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


def build_parser() -> Parser:
    """Every option with its default."""
    parser = parser_with_defaults("train.mini.vision_tokenizer", __doc__)
    add = parser.add_argument
    add("--config", default="configs/emu3_mini_vision.json", help="sizes")
    add_run_options(parser, "vision")
    add("--taught", type=share, default=0.7, help="first share: encoder and decoder apart")
    add(
        "--naming", type=non_negative_float, default=0.2, help="weight of the loss that names codes"
    )
    add("--lr", type=non_negative_float, default=2e-3, help="peak learning rate")
    add(
        "--encoder-lr",
        type=non_negative_float,
        default=1e-3,
        help="peak learning rate of further steps",
    )
    add(
        "--encoder-steps", type=non_negative_int, default=1000, help="further, of the encoder alone"
    )
    add_numbers(
        parser,
        ("--steps", 2200, "optimizer steps in all"),
        ("--batch", 8, "small pictures a step; later half as many, larger"),
        ("--encoder-batch", 16, "pictures of a further step"),
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Train on this machine's CPU."""
    runtime.setup(device="CPU", mode="graph", seed=args.seed)
    train(args)


def main(argv: list[str] | None = None) -> int:
    """Parse options and train; returns the exit code."""
    return run_command(run, build_parser(), argv)


if __name__ == "__main__":
    leave(main())
