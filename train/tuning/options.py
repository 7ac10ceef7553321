"""Options of the fine-tuning command, from the command line or a YAML file in configs/.

Names are those of the original scripts.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from emu3.bundled import MINI_LANGUAGE
from emu3.cli.shell import Parser, make_parser, read_options
from emu3.errors import InputError
from emu3.names import DTYPES
from emu3.options import (
    below_one,
    group,
    non_negative_float,
    non_negative_int,
    option,
    positive_float,
    positive_int,
    share,
)

STAGES = (0, 1, 2, 3)  # of ZeRO; `train.tuning.zero` says what each shares
SCALERS = ("none", "static", "dynamic")
YES_OR_NO = argparse.BooleanOptionalAction


@dataclass(frozen=True)
class ModelOptions:
    """What is trained."""

    model_name_or_path: str = option("folder or hub id to start from", str(MINI_LANGUAGE))
    trainable_hidden_layers: int | None = option(
        "train this many last layers, norm and head (default: everything)"
    )
    lora_rank: int = option("train adapters of this rank; 0 = the weights", 0)
    lora_alpha: float = option("adapters count alpha / rank times", 16.0)
    lora_new_rows: bool = option(
        "beside adapters, train the tables' rows of ids that the model has never met",
        False,
        action=YES_OR_NO,
    )
    attn_implementation: str | None = option(
        "eager, sdpa or flash_attention_2 (default: device's best)"
    )
    dtype: str | None = option("float32, bfloat16 or float16 (default: the device's)")

    def __post_init__(self) -> None:
        if self.lora_new_rows and not self.lora_rank:
            raise InputError("--lora_new_rows needs adapters beside it; give --lora_rank")
        if self.lora_rank and self.trainable_hidden_layers is not None:
            raise InputError("--trainable_hidden_layers has no effect beside --lora_rank; give one")


@dataclass(frozen=True)
class DataOptions:
    """What it learns from."""

    train_data_path: list[str] | None = option(
        "feature folders or list files; several are mixed by weight (default: none)",
        nargs="+",
        metavar="LIST[:WEIGHT]",
    )
    eval_data_path: str | None = option(
        "feature folder (its test list) or list file held back (default: none)"
    )
    max_position_embeddings: int | None = option(
        "longest row (default: the model's)", None, positive_int
    )
    image_area: int | None = option(
        "stored as the new model's image area (default: the model's)", None, positive_int
    )
    null_prompt_prob: float = option("chance that a caption is dropped", 0.05, share)
    supervise_structure: bool = option("T2I: also eol, eof, eoi and eos", False)
    pad_to_multiple: int = option("row lengths are multiples of it", 64, positive_int)

    def __post_init__(self) -> None:
        if not self.train_data_path:
            raise InputError("no data; give a feature folder with --train_data_path")


@dataclass(frozen=True)
class ScheduleOptions:
    """How many steps, and how large each is."""

    num_train_epochs: float = option("passes over the data", 4.0, non_negative_float)
    max_steps: int = option("optimizer steps; -1 = by the epochs", -1)
    per_device_train_batch_size: int = option("rows a pass", 1, positive_int)
    gradient_accumulation_steps: int = option("passes a step", 1, positive_int)
    learning_rate: float = option("peak learning rate", 1e-5, non_negative_float)
    min_learning_rate: float = option("last learning rate of the cosine", 1e-6, non_negative_float)
    warmup_steps: int = option("optimizer steps of linear warm-up", 30, non_negative_int)
    attention_dropout: float | None = option(
        "share of activations dropped (default: what the model's config states)", None, below_one
    )
    weight_decay: float = option("decoupled decay of matrices", 0.1, non_negative_float)
    adam_beta1: float = option("decay of the first moment", 0.9, below_one)
    adam_beta2: float = option("decay of the second moment", 0.95, below_one)
    adam_epsilon: float = option("AdamW's epsilon", 1e-6, positive_float)
    max_grad_norm: float = option("gradients' largest global norm", 5.0, positive_float)
    loss_scaler_type: str = option("for float16: dynamic", "none", choices=SCALERS)
    init_loss_scale: float = option("first or fixed loss scale", 1024.0, positive_float)
    loss_scale_factor: float = option("a dynamic scale's change", 2.0, positive_float)
    scale_window: int = option("good steps before it grows", 1000, positive_int)
    seed: int = option("seed of data order, dropped captions and dropout", 42, non_negative_int)


@dataclass(frozen=True)
class ParallelOptions:
    """What the processes share, and what each computes on."""

    sequence_parallel_shards: int = option("processes a sequence", 1, positive_int)
    ms_zero_stage: int = option("what processes share", 0, choices=STAGES)
    gradient_checkpointing: bool = option(
        "recompute layers in the backward pass: less memory, more time",
        False,
        action=YES_OR_NO,
    )
    mode: str = option("compiled or not", "graph", choices=("graph", "pynative"))
    device: str = option("auto, CPU or Ascend", "auto")
    threads: int | None = option(
        "threads of this process (default: by processes)", None, positive_int
    )


@dataclass(frozen=True)
class OutputOptions:
    """What is written, how often, and what is gone on from."""

    output_dir: str = option("folder of checkpoints, log and settings", "outputs/sft")
    save_dtype: str | None = option(
        "dtype of saved weights (default: what training computes in)", choices=tuple(DTYPES)
    )
    save_steps: int = option("steps between checkpoints", 500, positive_int)
    save_total_limit: int = option("checkpoints kept", 3, positive_int)
    eval_steps: int = option("steps between evaluations", 500, positive_int)
    logging_steps: int = option("steps between printed lines", 1, positive_int)
    resume: str = option("auto, none or a checkpoint folder", "auto")
    dry_run: bool = option("print the plan and stop", False)


@dataclass(frozen=True)
class Options:
    """All of them; `config` is the YAML file that some came from."""

    config: str | None = option(
        "YAML file of these options; the command line wins (default: none)", metavar="FILE"
    )
    model: ModelOptions = group()
    data: DataOptions = group()
    schedule: ScheduleOptions = group()
    parallel: ParallelOptions = group()
    output: OutputOptions = group()

    def settings(self) -> dict[str, Any]:
        """Every option by its own name, for settings.json."""
        groups = asdict(self)
        flat = {"config": groups.pop("config")}
        for fields in groups.values():
            flat |= fields
        return flat


def build_parser() -> Parser:
    """The command's options."""
    about = "Fine-tune an Emu3 language model."
    return make_parser("train.train_seq_parallel", about, Options, underscores=True)


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
