"""Options of the fine-tuning command, from the command line or a YAML file in configs/.

Names are those of the original scripts.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os.path import expanduser
from pathlib import Path
from typing import Any

from emu3.bundled import MINI_LANGUAGE
from emu3.cli.shell import Parser, make_parser, read_options
from emu3.errors import InputError
from emu3.names import DTYPES, PRODUCTS
from emu3.options import group, option, share
from train.tuning.portflags import in_our_words
from train.tuning.ranges import FLAGS, SHOWN, real, whole
from train.tuning.reports import report_names
from train.tuning.yamlfile import Scalar, read_options_file

STAGES = (0, 1, 2, 3)  # of ZeRO; `train.tuning.zero` says what each shares
SCALERS = ("none", "static", "dynamic")
LARGEST_RANK = 2**16
LARGEST_LENGTH = 2**17  # tokens of a row; a table of its square is built
LARGEST_BATCH = 2**16
LARGEST_THREADS = 1024
YES_OR_NO = argparse.BooleanOptionalAction


@dataclass(frozen=True)
class ModelOptions:
    """What is trained."""

    model_name_or_path: str = option("folder or hub id to start from", str(MINI_LANGUAGE))
    trainable_hidden_layers: int | None = option(
        "train this many last layers, norm and head (default: everything)", None, whole(0)
    )
    lora_rank: int = option(
        "train adapters of this rank; 0 = the weights", 0, whole(0, LARGEST_RANK)
    )
    lora_alpha: float = option("adapters count alpha / rank times", 16.0, real(0, above=True))
    lora_new_rows: bool = option(
        "beside adapters, train the tables' rows of ids that the model has never met",
        False,
        action=YES_OR_NO,
    )
    attn_implementation: str | None = option(
        "eager, sdpa or flash_attention_2 (default: device's best)"
    )
    dtype: str | None = option("float32, bfloat16 or float16 (default: the device's)")
    products: str = option(
        "on CPU: what factors of products are rounded to in training", "float32", choices=PRODUCTS
    )

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
        None,
        expanduser,
        nargs="+",
        metavar="LIST[:WEIGHT]",
    )
    eval_data_path: str | None = option(
        "feature folder (its test list) or list file held back (default: none)", None, expanduser
    )
    max_position_embeddings: int | None = option(
        "longest row (default: the model's)", None, whole(1, LARGEST_LENGTH)
    )
    image_area: int | None = option(
        "stored as the new model's image area (default: the model's)", None, whole(1)
    )
    null_prompt_prob: float = option("chance that a caption is dropped", 0.05, share)
    supervise_structure: bool = option("T2I: also eol, eof, eoi and eos", False)
    pad_to_multiple: int = option("row lengths are multiples of it", 64, whole(1, LARGEST_LENGTH))

    def __post_init__(self) -> None:
        if not self.train_data_path:
            raise InputError("no data; give a feature folder with --train_data_path")


@dataclass(frozen=True)
class ScheduleOptions:
    """How many steps, and how large each is."""

    num_train_epochs: float = option("passes over the data", 4.0, real(0))
    max_steps: int = option("optimizer steps; -1 = by the epochs", -1, whole(-1))
    per_device_train_batch_size: int = option("rows a pass", 1, whole(1, LARGEST_BATCH))
    gradient_accumulation_steps: int = option("passes a step", 1, whole(1, LARGEST_BATCH))
    learning_rate: float = option("peak learning rate", 1e-5, real(0))
    min_learning_rate: float = option("last learning rate of the cosine", 1e-6, real(0))
    warmup_steps: int = option("optimizer steps of linear warm-up", 30, whole(0))
    attention_dropout: float | None = option(
        "share of activations dropped (default: what the model's config states)",
        None,
        real(0, below=1),
    )
    weight_decay: float = option("decoupled decay of matrices", 0.1, real(0))
    adam_beta1: float = option("decay of the first moment", 0.9, real(0, below=1))
    adam_beta2: float = option("decay of the second moment", 0.95, real(0, below=1))
    adam_epsilon: float = option("AdamW's epsilon", 1e-6, real(0, above=True))
    max_grad_norm: float = option("gradients' largest global norm", 5.0, real(0, above=True))
    loss_scaler_type: str = option("for float16: dynamic", "none", choices=SCALERS)
    init_loss_scale: float = option("first or fixed loss scale", 1024.0, real(0, above=True))
    loss_scale_factor: float = option("a dynamic scale's change", 2.0, real(1, above=True))
    scale_window: int = option("good steps before it grows", 1000, whole(1))
    seed: int = option("seed of data order, dropped captions and dropout", 42, whole(0))


@dataclass(frozen=True)
class ParallelOptions:
    """What the processes share, and what each computes on."""

    sequence_parallel_shards: int = option("processes a sequence", 1, whole(1))
    ms_zero_stage: int = option("what processes share", 0, choices=STAGES)
    gradient_checkpointing: bool = option(
        "recompute layers in the backward pass: less memory, more time",
        False,
        action=YES_OR_NO,
    )
    mode: str | None = option(
        "compiled or not (default: graph on CPU, pynative on Ascend)",
        None,
        choices=("graph", "pynative"),
    )
    device: str = option("auto, CPU or Ascend", "auto")
    threads: int | None = option(
        "threads of this process (default: by processes)", None, whole(1, LARGEST_THREADS)
    )


@dataclass(frozen=True)
class OutputOptions:
    """What is written, how often, and what is gone on from."""

    output_dir: str = option("folder of checkpoints, logs and settings", "outputs/sft", expanduser)
    save_dtype: str | None = option(
        "dtype of saved weights (default: what training computes in)", choices=tuple(DTYPES)
    )
    save_steps: int = option("steps between checkpoints", 500, whole(1))
    save_total_limit: int = option("checkpoints kept", 3, whole(1))
    eval_steps: int = option("steps between evaluations", 500, whole(1))
    logging_steps: int = option("steps between printed lines", 1, whole(1))
    resume: str = option("auto, none or a checkpoint folder", "auto", expanduser)
    report_to: str = option(
        "where figures go: csv, always; tensorboard, swanlab; with commas between",
        "csv",
        report_names,
    )
    dry_run: bool = option("print the plan and stop", False)


@dataclass(frozen=True)
class Options:
    """All of them; `config` is the YAML file that some came from."""

    config: str | None = option(
        "YAML file of these options; the command line wins (default: none)",
        None,
        expanduser,
        metavar="FILE",
    )
    model: ModelOptions = group()
    data: DataOptions = group()
    schedule: ScheduleOptions = group()
    parallel: ParallelOptions = group()
    output: OutputOptions = group()

    def settings(self) -> dict[str, Any]:
        """Every option by its own name, for settings.yaml and reports."""
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
        InputError: the YAML file is missing, broken, or names an unknown option; options that do
            not go together; or flags that only the original port has.
    """
    parser, arguments = build_parser(), in_our_words(arguments)
    path = parser.parse_known_args(arguments)[0].config
    if path:
        parser.set_defaults(**_read_yaml(Path(path), parser))
    return read_options(Options, parser.parse_args(arguments))


def _read_yaml(path: Path, parser: Parser) -> dict[str, Any]:
    actions = {action.dest: action for action in parser._actions}
    values = {}
    for name, value in read_options_file(path).items():
        if name not in actions or name in ("config", "help"):
            raise InputError(
                f"{path}: {name[:SHOWN]} is no option; --help lists them; change --config"
            )
        values[name] = _typed(path, actions[name], value)
    return values


def _typed(path: Path, action: argparse.Action, value: Scalar | list[Scalar]) -> object:
    """A value of the file as the command line would have read it."""
    if action.nargs == "+":
        items = value if isinstance(value, list) else [value]
        return [_allowed(path, action, item.text) for item in items]
    if isinstance(value, list):
        raise InputError(f"{path}: {action.dest} is a list; allowed: one value; change --config")
    if isinstance(action.default, bool):
        if not value.plain or value.text.lower() not in FLAGS:
            raise InputError(
                f"{path}: {action.dest} {value.text[:SHOWN]!r}; allowed: true, false; "
                "change --config"
            )
        return FLAGS[value.text.lower()]
    if value.empty and action.default is not None:
        raise InputError(
            f"{path}: {action.dest} has no value; give one or leave it out of --config"
        )
    return None if value.empty else _allowed(path, action, value.text)


def _allowed(path: Path, action: argparse.Action, text: str) -> object:
    try:
        value = action.type(text)
    except argparse.ArgumentTypeError as error:
        raise InputError(f"{path}: {action.dest}: {error}; change --config") from None
    except ValueError:
        kind = {int: "a whole number", float: "a number"}[action.type]
        raise InputError(
            f"{path}: {action.dest}: {text[:SHOWN]!r} is not {kind}; change --config"
        ) from None
    if action.choices and value not in action.choices:
        raise InputError(
            f"{path}: {action.dest} {value!r}; allowed: {', '.join(map(str, action.choices))}; "
            "change --config"
        )
    return value
