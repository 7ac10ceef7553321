"""The command line of fine-tuning: every option with its default; names as in the original scripts.

YAML files in configs/ hold the same options (`train.tuning.options`).
"""

import argparse

from emu3.bundled import MINI_LANGUAGE
from emu3.cli.options import (
    below_one,
    non_negative_float,
    non_negative_int,
    positive_float,
    positive_int,
    share,
)
from emu3.cli.shell import Parser, parser_with_defaults
from emu3.names import DTYPES

STAGES = (0, 1, 2, 3)  # of ZeRO; `train.tuning.zero` says what each shares
SCALERS = ("none", "static", "dynamic")


def build_parser() -> Parser:
    """The parser, in the groups of `train.tuning.options.Options`."""
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
