"""The training of emu3-mini's vision tokenizer, from its options to its folder."""

import mindspore as ms
from mindspore import Tensor
from tqdm import trange

from emu3.configfile import config_of_sizes
from emu3.errors import InputError
from emu3.tokenizer import (
    Emu3VisionVQConfig,
    Emu3VisionVQImageProcessor,
    Emu3VisionVQModel,
)
from train.mini.adamw import AdamW
from train.mini.cells import kind_count, kind_vectors
from train.mini.options import VisionOptions
from train.mini.runs import Run
from train.mini.vision_batches import Batches
from train.mini.vision_step import NameStep, TeachStep, TrainStep
from train.tuning.schedule import cosine_schedule

# Small pictures are not enlarged, large ones are brought down to what the scenes look like.
MIN_PIXELS, MAX_PIXELS = 64 * 64, 256 * 256
SMALL, WHOLE = 5, 7  # rows and columns of the scenes, in cells


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


def train(options: VisionOptions) -> None:
    """Run or resume training until the last step; saves state and the model folder."""
    steps, seed = options.steps, options.run.seed
    model = new_model(options.config)
    optimizer = AdamW(model.trainable_params(), betas=(0.9, 0.95), weight_decay=1e-4)
    teach, together = (
        kind(model, optimizer, options.naming).set_train(True) for kind in (TeachStep, TrainStep)
    )
    run = Run(options.run, steps, teach)
    rate = cosine_schedule(options.lr, options.lr / 50, 50, steps)
    small, whole = (
        Batches(seed, options.batch, SMALL),
        Batches(seed, max(1, options.batch // 2), WHOLE),
    )
    for step in run.steps():
        taught = step < steps * options.taught
        arrays = [Tensor(array) for array in (small if taught else whole)(step)]
        lr = Tensor(rate(step), ms.float32)
        figures = (teach if taught else together)(*arrays, lr)
        if step % 20 == 0:
            rebuilt, named, norm = (float(figure) for figure in figures)
            run.bar.write(f"step {step} error {rebuilt:.4f} naming {named:.4f} norm {norm:.2f}")
    if run.done >= steps:
        name_codes(options, model)
    save_model(model, options.run.output, options.run.save_dtype)


def name_codes(options: VisionOptions, model: Emu3VisionVQModel) -> None:
    """Train the encoder alone for `encoder_steps` further steps; not resumed."""
    if not options.encoder_steps:
        return
    step_cell = NameStep(model).set_train(True)
    batches = Batches(options.run.seed + 1, options.encoder_batch, WHOLE)
    rate = cosine_schedule(options.encoder_lr, options.encoder_lr / 50, 20, options.encoder_steps)
    for step in (bar := trange(options.encoder_steps, desc="encoder")):
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
