"""Language models of given sizes with random weights, and prompts for them."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from emu3.cli.options import Device
from emu3.errors import InputError
from emu3.options import option, whole

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM

IMG, EOL, MARKERS = 3, 5, 8  # ids: 0..7 are markers, texts and the visual range follow


@dataclass(frozen=True)
class Net:
    """Sizes: `visual` of the `vocabulary` ids, its last ones, stand for codes."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    visual: int


NETS = {
    "4m": Net(256, 4, 4, 4, 688, 2048, 1024),
    "small": Net(512, 8, 8, 4, 1376, 33000, 32768),
    "wide-vocabulary": Net(768, 12, 12, 4, 2048, 184622, 32768),
    "narrow-vocabulary": Net(768, 12, 12, 4, 2048, 33000, 32768),
    "300m": Net(1024, 20, 16, 8, 2816, 33000, 32768),
}


@dataclass(frozen=True)
class NetOptions:
    """A net by its name, and sizes that replace its own.

    Raises:
        InputError: no room for texts in the vocabulary.
    """

    net: str = option("sizes of the net, with random weights", "small", choices=list(NETS))
    hidden: int | None = option("width (default: the net's)", None, whole(1, 2**16))
    layers: int | None = option("decoder layers (default: the net's)", None, whole(1, 1000))
    heads: int | None = option("attention heads (default: the net's)", None, whole(1, 2**10))
    kv_heads: int | None = option("key and value heads (default: the net's)", None, whole(1, 2**10))
    inner: int | None = option("width of the MLP (default: the net's)", None, whole(1, 2**18))
    vocabulary: int | None = option("ids (default: the net's)", None, whole(1, 2**20))
    visual: int | None = option(
        "visual ids, the last of the vocabulary (default: the net's)", None, whole(1, 2**20)
    )

    def __post_init__(self) -> None:
        if self.sizes.vocabulary - self.sizes.visual < 2 * MARKERS:
            raise InputError(
                f"{self.sizes.visual} visual ids in a vocabulary of {self.sizes.vocabulary}; "
                f"allowed: up to {self.sizes.vocabulary - 2 * MARKERS}; change --visual or "
                "--vocabulary"
            )

    @cached_property
    def sizes(self) -> Net:
        """The sizes in the end."""
        named = asdict(NETS[self.net])
        given = {name: getattr(self, name) for name in named if getattr(self, name) is not None}
        return Net(**named | given)


def random_model(
    net: Net, positions: int, device: Device, weights: str = "float32"
) -> "Emu3ForCausalLM":
    """A model of the net's sizes for up to `positions` tokens, on the chosen device, with its
    matrices stored as `weights`."""
    from emu3.mllm import Emu3Config, Emu3ForCausalLM

    config = Emu3Config(
        vocab_size=net.vocabulary,
        hidden_size=net.hidden,
        intermediate_size=net.inner,
        num_hidden_layers=net.layers,
        num_attention_heads=net.heads,
        num_key_value_heads=net.kv_heads,
        max_position_embeddings=positions,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        img_token_id=IMG,
        boi_token_id=4,
        eol_token_id=EOL,
        eof_token_id=6,
        eoi_token_id=net.vocabulary - net.visual - 1,
        attention_dropout=0.0,
        attn_implementation=device.attn_implementation,
    )
    model = in_dtype(Emu3ForCausalLM(config), device.dtype).set_train(False)
    model.convert(weights)
    return model


def in_dtype(model, name: str | None):
    """`model` with its weights in the dtype named, or the device's own for None."""
    from emu3 import runtime

    dtype = runtime.resolve_dtype(name)
    for parameter in model.get_parameters():
        if parameter.is_floating_point():
            parameter.set_dtype(dtype)
    return model


def random_prompts(net: Net, rows: int, length: int) -> np.ndarray:
    """Text ids (rows, length) int32, each row ending in the img token."""
    rng = np.random.default_rng(0)
    ids = rng.integers(MARKERS, net.vocabulary - net.visual - 1, (rows, length), np.int32)
    ids[:, -1] = IMG
    return ids
