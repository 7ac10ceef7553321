"""The JSON files of a checkpoint folder: what a model is, and how it generates."""

import inspect
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers.configuration_utils import PretrainedConfig
from transformers.generation.configuration_utils import GenerationConfig

from emu3.errors import InputError, shown
from emu3.files import read_json
from emu3.hflayout import published_fields
from emu3.hub import CONFIG

# transformers trips over wrong types of its own fields in any of these ways; version 5 in the last.
TRIPS = (ValueError, TypeError, AttributeError, KeyError, OverflowError, StrictDataclassError)


def read_config(
    config_class: type[PretrainedConfig],
    folder: Path,
    overrides: dict[str, Any],
    flag: str = "--model",
) -> PretrainedConfig:
    """The configuration of `folder` with `overrides`.

    Raises:
        InputError: no usable config.json, another kind of model, impossible values, or an unknown
            override; names `flag`.
    """
    fields = read_json(folder / CONFIG)
    try:
        fields = published_fields(fields, config_class.model_type)
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}; change {flag}") from None
    kind = fields.pop("model_type", config_class.model_type)
    if kind != config_class.model_type:
        raise InputError(
            f"{folder / CONFIG} describes model_type {shown(kind)}; allowed: "
            f"{config_class.model_type!r}; change {flag}"
        )
    fields.pop("transformers_version", None)
    known = {"attn_implementation", *fields, *_field_names(config_class)}
    for name in overrides:
        if name not in known:
            raise InputError(f"{name} is no field of {config_class.__name__}; leave it out")
    try:
        return config_class(**{**fields, **overrides})
    except TRIPS as error:
        raise InputError(f"{folder / CONFIG}: {error}; change it or {flag}") from None


def config_of_sizes(
    config_class: type[PretrainedConfig], path: str | Path, flag: str, **more: Any
) -> PretrainedConfig:
    """The configuration whose fields are those of a JSON file, and `more`.

    Raises:
        InputError: no such file, or its values are impossible; it names `flag`.
    """
    sizes = read_json(Path(path), f"change {flag}")
    try:
        return config_class(**sizes | more)
    except TRIPS as error:
        raise InputError(f"{path} holds no sizes: {error}; change {flag}") from None


def config_fields(config: PretrainedConfig, architecture: str, dtype: str) -> dict[str, Any]:
    """What config.json holds: every field of the class, and others that differ from defaults."""
    fields = config.to_diff_dict()
    fields |= {name: getattr(config, name) for name in _field_names(type(config))}
    fields.pop("dtype", None)
    fields |= {"architectures": [architecture], "torch_dtype": dtype}
    return dict(sorted(fields.items()))


def _field_names(config_class: type[PretrainedConfig]) -> list[str]:
    names = inspect.signature(config_class.__init__).parameters
    return [name for name in names if name not in ("self", "kwargs")]


def read_generation_config(path: Path) -> tuple[GenerationConfig, tuple[str, ...]]:
    """What the file says, and which settings it states, be they transformers' defaults or not.

    Settings transformers does not know, such as `decoding`, are kept.

    Raises:
        InputError: no such file, or its values are impossible.
    """
    settings = read_json(path)
    for name in settings:
        if name.startswith("__") or hasattr(GenerationConfig, name):
            raise InputError(f"{path}: {name} is no setting of a generation; leave it out")
    try:
        config = GenerationConfig.from_dict(settings)
    except TRIPS as error:
        raise InputError(f"{path} is no generation configuration: {error}") from None
    for name, value in settings.items():
        if not hasattr(config, name):  # left out of a file that says _from_model_config
            setattr(config, name, value)
    return config, tuple(settings)
