"""A checkpoint of any size with random weights: `python -m train.measure.random_weights FOLDER`.

It has the published names, layout and shards in bfloat16, so that loading and speed of a model can
be measured without its files. Its pictures mean nothing.
"""

from dataclasses import dataclass

import numpy as np
from mindspore.nn.utils import no_init_parameters

from emu3.cli.shell import command, leave
from emu3.loading import RELEASED, read_configs
from emu3.mllm import Emu3ForCausalLM
from emu3.options import option, path_text
from emu3.tensorfile import to_bfloat16

POOL = 2**22  # numbers that are drawn; every tensor repeats them


@dataclass(frozen=True)
class Options:
    """Of this command."""

    folder: str = option("where to write", positional=True, kind=path_text, metavar="FOLDER")
    sizes: str = option(f"a JSON file of sizes, or {RELEASED}", RELEASED, path_text, metavar="FILE")


class Filling:
    """Stands for a tensor until it is written: then its bits, small numbers around 0 or ones."""

    dtype = "float32"

    def __init__(self, shape: tuple[int, ...], pool: np.ndarray) -> None:
        self.shape, self.pool = shape, pool

    def asnumpy(self) -> np.ndarray:
        """Bits of bfloat16."""
        if len(self.shape) == 1:
            return to_bfloat16(np.ones(self.shape, np.float32))
        return np.resize(self.pool, self.shape)


def run(options: Options) -> None:
    """Write the folder."""
    config, _ = read_configs(options.sizes, RELEASED)
    with no_init_parameters():
        model = Emu3ForCausalLM(config)
    values = np.random.default_rng(0).standard_normal(POOL, np.float32) * np.float32(0.02)
    pool = to_bfloat16(values)
    tensors = {name: Filling(p.shape, pool) for name, p in model.parameters_and_names()}
    model.save_pretrained(options.folder, dtype="bfloat16", weights=tensors)
    print(options.folder)


build_parser, main = command(
    "train.measure.random_weights", "Write a checkpoint with random weights.", Options, run
)

if __name__ == "__main__":
    leave(main())
