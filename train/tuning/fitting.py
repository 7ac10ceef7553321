"""Whether what a run is given fits: samples into its rows, its state into memory."""

from typing import TYPE_CHECKING, NamedTuple

from emu3.errors import InputError
from emu3.estimate import FLOAT32, block_parameters, gib, language_parameters
from train.data.batches import padded_length

if TYPE_CHECKING:
    from emu3.mllm import Emu3Config
    from train.data.batches import Data
    from train.tuning.options import ModelOptions, Options


class Fit(NamedTuple):
    """What became of the samples of a source that were looked at."""

    looked_at: int
    left_out: int
    shortened: int

    def __str__(self) -> str:
        """A remark for people; empty where everything fits."""
        if not self.left_out and not self.shortened:
            return ""
        return (
            f"of the first {self.looked_at}, {self.left_out} are longer than a row and left out, "
            f"{self.shortened} lose turns"
        )


def look(data: "Data", number: int, most: int) -> Fit:
    """How the first `most` samples that a run meets of source `number` fit.

    Raises:
        InputError: not one sample of the source fits.
    """
    source, left_out, shortened = data.sources[number], 0, 0
    for ordinal in range(len(source.files)):
        if ordinal >= most and left_out < ordinal:
            return Fit(ordinal, left_out, shortened)
        sample, turns = data.sample(number, ordinal)
        left_out += sample is None
        shortened += sample is not None and turns > 0
    if left_out == len(source.files):
        raise InputError(
            f"none of the {left_out} samples in {source.files[0].parent} fits into "
            f"{data.settings.max_length} tokens; allowed: smaller pictures, shorter texts, or a "
            f"longer row; change {source.flag} or --max_position_embeddings"
        )
    return Fit(len(source.files), left_out, shortened)


def parameter_counts(config: "Emu3Config", options: "ModelOptions") -> tuple[int, int]:
    """Parameters of the model with its adapters, and how many are trained, by arithmetic.

    Rows that `--lora_new_rows` adds are not counted: only the weights tell which they are.
    """
    total, rank = language_parameters(config), options.lora_rank
    wide, inner = config.hidden_size, config.intermediate_size
    if rank:
        groups = config.num_key_value_heads * config.head_dim
        sides = 2 * (wide + wide) + 2 * (wide + groups) + 3 * (wide + inner)
        adapters = config.num_hidden_layers * rank * sides
        return total + adapters, adapters
    if options.trainable_hidden_layers is None:
        return total, total
    layer = (block_parameters(config) - wide) // max(1, config.num_hidden_layers)
    head = config.vocab_size * wide
    return total, options.trainable_hidden_layers * layer + wide + head


def memory_of_a_process(
    total: int, trained: int, stage: int, processes: int, width: int = FLOAT32
) -> int:
    """Bytes of weights of `width` bytes a number, and of float32 gradients, masters and moments."""
    share = -(-trained // processes)
    weights = total if stage < 3 else total - trained + share
    gradients = trained if stage < 2 else share
    state = 3 * (trained if stage < 1 else share)
    return width * weights + FLOAT32 * (gradients + state)


def check_memory(
    config: "Emu3Config", options: "Options", data: "Data", width: int, together: int, free: int
) -> None:
    """Refuse a run whose weights, gradients, optimizer and mask cannot fit into `free` bytes.

    `together` processes take their share of them; activations, which come on top, are not counted.

    Raises:
        InputError: gives both numbers.
    """
    stage, length = (
        options.parallel.ms_zero_stage,
        padded_length(data.settings.max_length, data.settings, data.mesh),
    )
    total, trained = parameter_counts(config, options.model)
    needed = memory_of_a_process(total, trained, stage, data.mesh.world.size, width)
    needed = (needed + length * length) * together  # the mask says who stands before whom
    if needed <= free:
        return
    raise InputError(
        f"weights, gradients and optimizer of {total:,} parameters, {trained:,} of them trained, "
        f"and the mask of {length} tokens need {gib(needed)} in {together} process(es) here, "
        f"{gib(free)} are free; allowed: fewer trained weights (--lora_rank, "
        "--trainable_hidden_layers), more sharing (--ms_zero_stage), shorter rows "
        "(--max_position_embeddings, --pad_to_multiple), or a smaller --model_name_or_path"
    )
