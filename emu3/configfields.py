"""Which keys of a config.json a configuration may take beside the fields it declares."""

import inspect
from typing import Any

from transformers.configuration_utils import PretrainedConfig

from emu3.errors import InputError, shown

LIBRARY = {*inspect.signature(PretrainedConfig.__init__).parameters, "attn_implementation"}
LABELS = ("id2label", "label2id")
GROUP = 64  # input columns that share a scale; emu3/nn/kernels/product.cpp has it, too
# What `emu3 quantize` writes as quantization_config; other tools' weights are laid out otherwise.
QUANTISED = {"quant_method": "emu3-int8", "bits": 8, "group_size": GROUP}
# Would change what is computed, and is not done here: the values that leave it as it is.
REFUSED: dict[str, tuple[Any, ...]] = {
    "quantization_config": (QUANTISED, None),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "sliding_window": (None,),
    "layer_types": (None,),
    "partial_rotary_factor": (None, 1),
    "final_logit_softcapping": (None,),
    "attn_logit_softcapping": (None,),
}


def extra_fields(config_class: type[PretrainedConfig], given: dict[str, Any]) -> dict[str, Any]:
    """The keys of `given` to keep as they are, for round trips; transformers' marks are left out.

    Raises:
        InputError: a key that would change computing, or replace a part of the configuration.
    """
    kept = {}
    for name, value in given.items():
        if name == "model_type" and value == config_class.model_type:
            continue
        if value not in REFUSED.get(name, (value,)):
            idle = REFUSED[name][-1]
            raise InputError(
                f"{name} = {str(value)[:80]} is not supported; allowed: {idle!r}, or none; use a "
                "checkpoint without it"
            )
        if name in LABELS and not isinstance(value, dict | None):
            raise InputError(f"{name} = {shown(value)}; allowed: an object, or null; leave it out")
        if name.startswith("_") and not name.startswith("__"):
            continue
        if name not in LIBRARY and (name.startswith("__") or _fixed(config_class, name)):
            raise InputError(f"{name} cannot be set from outside; allowed: fields; leave it out")
        kept[name] = value
    return kept


def _fixed(config_class: type, name: str) -> bool:
    """Whether a class has an attribute of its own that is not there to be set."""
    attribute = getattr(config_class, name, None)
    settable = isinstance(attribute, property) and attribute.fset is not None
    return hasattr(config_class, name) and not settable
