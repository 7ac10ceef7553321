"""Options of the fine-tuning command, from the command line or a YAML file in configs/."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from emu3.bundled import MINI_LANGUAGE
from emu3.cli.options import (
    below_one,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
    share,
)
from emu3.cli.shell import Parser, parser_with_defaults, read_options
from emu3.errors import InputError
from emu3.names import DTYPES

STAGES = (0, 1, 2, 3)  # of ZeRO; `train.tuning.zero` says what each shares
SCALERS = ("none", "static", "dynamic")


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


def build_parser() -> Parser:
    """Every option with its default; names as in the original scripts."""
    parser = parser_with_defaults("train.train_seq_parallel", "Fine-tune an Emu3 language model.")
    parser.add_argument("--config", help="YAML file of these options; the command line wins")
    _add_model(parser.add_argument_group("model"))
    _add_data(parser.add_argument_group("data"))
    _add_schedule(parser.add_argument_group("steps and optimizer"))
    _add_parallel(parser.add_argument_group("processes and memory"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model_name_or_path", default=str(MINI_LANGUAGE), help="folder or hub id to start from")
    add("--trainable_hidden_layers", type=int, help="train this many last layers, norm and head")
    add("--lora_rank", type=int, default=0, help="train adapters of this rank; 0 = the weights")
    add("--lora_alpha", type=float, default=16.0, help="adapters count alpha / rank times")
    add(
        "--lora_new_rows",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="beside adapters, train the tables' rows of ids that the model has never met",
    )
    add("--attn_implementation", help="eager, sdpa or flash_attention_2 (default: device's best)")
    add("--dtype", help="float32, bfloat16 or float16 (default: the device's)")


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--train_data_path",
        nargs="+",
        metavar="LIST[:WEIGHT]",
        help="feature folders or list files; several are mixed by weight",
    )
    add("--eval_data_path", help="feature folder (its test list) or list file held back")
    add("--max_position_embeddings", type=positive_int, help="longest row (default: the model's)")
    add("--image_area", type=positive_int, help="stored as the new model's image area")
    add("--null_prompt_prob", type=share, default=0.05, help="chance that a caption is dropped")
    add("--supervise_structure", action="store_true", help="T2I: also eol, eof, eoi and eos")
    add("--pad_to_multiple", type=positive_int, default=64, help="row lengths are multiples of it")


def _add_schedule(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--num_train_epochs", type=non_negative_float, default=4.0, help="passes over the data")
    add("--max_steps", type=int, default=-1, help="optimizer steps; -1 = by the epochs")
    add("--per_device_train_batch_size", type=positive_int, default=1, help="rows a pass")
    add("--gradient_accumulation_steps", type=positive_int, default=1, help="passes a step")
    add("--learning_rate", type=non_negative_float, default=1e-5, help="peak learning rate")
    add(
        "--min_learning_rate",
        type=non_negative_float,
        default=1e-6,
        help="last learning rate of the cosine",
    )
    add(
        "--warmup_steps",
        type=non_negative_int,
        default=30,
        help="optimizer steps of linear warm-up",
    )
    add(
        "--attention_dropout",
        type=below_one,
        help="share of activations dropped (default: what the model's config states)",
    )
    add("--weight_decay", type=non_negative_float, default=0.1, help="decoupled decay of matrices")
    add("--adam_beta1", type=below_one, default=0.9, help="decay of the first moment")
    add("--adam_beta2", type=below_one, default=0.95, help="decay of the second moment")
    add("--adam_epsilon", type=positive_float, default=1e-6, help="AdamW's epsilon")
    add("--max_grad_norm", type=positive_float, default=5.0, help="gradients' largest global norm")
    add("--loss_scaler_type", choices=SCALERS, default="none", help="for float16: dynamic")
    add("--init_loss_scale", type=positive_float, default=1024.0, help="first or fixed loss scale")
    add("--loss_scale_factor", type=positive_float, default=2.0, help="a dynamic scale's change")
    add("--scale_window", type=positive_int, default=1000, help="good steps before it grows")
    add(
        "--seed",
        type=non_negative_int,
        default=42,
        help="seed of data order, dropped captions and dropout",
    )


def _add_parallel(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--sequence_parallel_shards", type=positive_int, default=1, help="processes a sequence")
    add("--ms_zero_stage", type=int, choices=STAGES, default=0, help="what processes share")
    add(
        "--gradient_checkpointing",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="recompute layers in the backward pass: less memory, more time",
    )
    add("--mode", choices=("graph", "pynative"), default="graph", help="compiled or not")
    add("--device", default="auto", help="auto, CPU or Ascend")
    add("--threads", type=positive_int, help="threads of this process (default: by processes)")


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--output_dir", default="outputs/sft", help="folder of checkpoints, log and settings")
    add(
        "--save_dtype",
        choices=tuple(DTYPES),
        help="dtype of saved weights (default: what training computes in)",
    )
    add("--save_steps", type=positive_int, default=500, help="steps between checkpoints")
    add("--save_total_limit", type=positive_int, default=3, help="checkpoints kept")
    add("--eval_steps", type=positive_int, default=500, help="steps between evaluations")
    add("--logging_steps", type=positive_int, default=1, help="steps between printed lines")
    add("--resume", default="auto", help="auto, none or a checkpoint folder")
    add("--dry_run", action="store_true", help="print the plan and stop")


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
