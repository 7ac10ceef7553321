"""Options of the fine-tuning command, from the command line or a YAML file in configs/."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from emu3.cli.shell import Parser, read_options
from emu3.errors import InputError
from train.tuning.parser import build_parser


@dataclass(frozen=True)
class ModelOptions:
    """What is trained."""

    model_name_or_path: str
    trainable_hidden_layers: int | None
    lora_rank: int
    lora_alpha: float
    lora_new_rows: bool
    attn_implementation: str | None
    dtype: str | None

    def __post_init__(self) -> None:
        if self.lora_new_rows and not self.lora_rank:
            raise InputError("--lora_new_rows needs adapters beside it; give --lora_rank")
        if self.lora_rank and self.trainable_hidden_layers is not None:
            raise InputError("--trainable_hidden_layers has no effect beside --lora_rank; give one")


@dataclass(frozen=True)
class DataOptions:
    """What it learns from."""

    train_data_path: list[str] | None
    eval_data_path: str | None
    max_position_embeddings: int | None
    image_area: int | None
    null_prompt_prob: float
    supervise_structure: bool
    pad_to_multiple: int

    def __post_init__(self) -> None:
        if not self.train_data_path:
            raise InputError("no data; give a feature folder with --train_data_path")


@dataclass(frozen=True)
class ScheduleOptions:
    """How many steps, and how large each is."""

    num_train_epochs: float
    max_steps: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    min_learning_rate: float
    warmup_steps: int
    attention_dropout: float | None
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    loss_scaler_type: str
    init_loss_scale: float
    loss_scale_factor: float
    scale_window: int
    seed: int


@dataclass(frozen=True)
class ParallelOptions:
    """What the processes share, and what each computes on."""

    sequence_parallel_shards: int
    ms_zero_stage: int
    gradient_checkpointing: bool
    mode: str
    device: str
    threads: int | None


@dataclass(frozen=True)
class OutputOptions:
    """What is written, how often, and what is gone on from."""

    output_dir: str
    save_dtype: str | None
    save_steps: int
    save_total_limit: int
    eval_steps: int
    logging_steps: int
    resume: str
    dry_run: bool


@dataclass(frozen=True)
class Options:
    """All of them; `config` is the YAML file that some came from."""

    config: str | None
    model: ModelOptions
    data: DataOptions
    schedule: ScheduleOptions
    parallel: ParallelOptions
    output: OutputOptions

    def settings(self) -> dict[str, Any]:
        """Every option by its own name, for settings.json."""
        groups = asdict(self)
        flat = {"config": groups.pop("config")}
        for group in groups.values():
            flat |= group
        return flat


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Options of the command line over those of --config over the defaults.

    Raises:
        InputError: the YAML file is missing, broken, or names an unknown option; or options that
            do not go together.
    """
    parser = build_parser()
    path = parser.parse_known_args(arguments)[0].config
    if path:
        parser.set_defaults(**_read_yaml(Path(path), parser))
    return read_options(Options, parser.parse_args(arguments))


def _read_yaml(path: Path, parser: Parser) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; change --config") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {error}; change --config") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no options; change --config")
    actions = {action.dest: action for action in parser._actions}
    for name, value in values.items():
        if name not in actions or name in ("config", "help"):
            raise InputError(f"{path}: {name} is no option; --help lists them; change --config")
        values[name] = _typed(path, actions[name], value)
    return values


def _typed(path: Path, action: argparse.Action, value: object) -> object:
    """A YAML value as the command line would have read it."""
    if action.nargs == "+":
        return [str(v) for v in (value if isinstance(value, list) else [value])]
    if isinstance(action.default, bool) and not isinstance(value, bool):
        raise InputError(f"{path}: {action.dest} {value!r}; allowed: true, false; change --config")
    if value is None and action.default is not None:
        raise InputError(
            f"{path}: {action.dest} has no value; give one or leave it out of --config"
        )
    if action.type is None or value is None:
        return value if value is None else _allowed(path, action, value)
    try:
        value = action.type(str(value))
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise InputError(f"{path}: {action.dest}: {error}; change --config") from None
    return _allowed(path, action, value)


def _allowed(path: Path, action: argparse.Action, value: object) -> object:
    if action.choices and value not in action.choices:
        raise InputError(
            f"{path}: {action.dest} {value!r}; allowed: {', '.join(map(str, action.choices))}; "
            "change --config"
        )
    return value
