"""Give a trained language model more layers without changing what it computes at first."""

from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from emu3.mllm import Emu3Config, Emu3ForCausalLM

# What a layer adds to the stream leaves through these; at zero it adds nothing.
EXITS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


@dataclass(frozen=True)
class Layer:
    """A layer of the deeper model: the old one it is taken from, and whether it is a new copy."""

    source: int
    new: bool


def plan(layers: int, added: int) -> list[Layer]:
    """The layers of the deeper model in order; new ones spread evenly, each after its source."""
    after = [(2 * i + 1) * layers // (2 * added) for i in range(added)]
    order = []
    for i in range(layers):
        order += [Layer(i, False)] + [Layer(i, True)] * after.count(i)
    return order


def deeper(model: Emu3ForCausalLM, added: int) -> Emu3ForCausalLM:
    """The model with `added` more layers, each a copy of the layer before it with closed exits.

    Its outputs are those of `model` until it is trained (Chen et al. 2015, Net2Net, arXiv
    1511.05641). The model itself is returned when nothing is to be added.
    """
    if not added:
        return model
    old = {p.name: p.asnumpy() for p in model.get_parameters()}
    order = plan(model.config.num_hidden_layers, added)
    grown = reconfigured(model, num_hidden_layers=len(order))
    for parameter in grown.get_parameters():
        parameter.set_data(Tensor(_value(parameter.name, order, old)))
    return grown


def reconfigured(model: Emu3ForCausalLM, **values) -> Emu3ForCausalLM:
    """A new model with these values in its config; it keeps how `model` generates, no weights."""
    other = Emu3ForCausalLM(Emu3Config(**model.config.to_dict() | values))
    other.generation_config = model.generation_config
    other.stated_settings = model.stated_settings
    return other


def _value(name: str, order: list[Layer], old: dict[str, np.ndarray]) -> np.ndarray:
    """What the deeper model's parameter starts as."""
    head, found, rest = name.partition("layers.")
    if not found:
        return old[name]
    number, tail = rest.split(".", 1)
    layer = order[int(number)]
    value = old[f"{head}layers.{layer.source}.{tail}"]
    return np.zeros_like(value) if layer.new and tail in EXITS else value
