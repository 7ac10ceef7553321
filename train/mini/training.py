"""Train emu3-mini's language model on scenes drawn as it goes: `python -m train.mini`.

No feature folders: emu3-mini's codes name what a cell shows, one by one (`train.mini.cells`), so a
scene is its own picture. Text to image learns from the teacher's pictures and targets, questions
from scenes and answers.
Stopping loses at most the steps since the last save; the same command goes on.
"""

import argparse
import csv
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3 import runtime
from emu3.cli.common import Parser, leave, parser_with_defaults, run_command
from emu3.cli.flags import (
    add_numbers,
    below_one,
    non_negative_float,
    non_negative_int,
    positive_int,
    share,
)
from emu3.configfile import config_of_sizes
from emu3.errors import InputError
from emu3.files import atomic_path
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.prompts import PromptBuilder
from emu3.tokenizer import Emu3VisionVQModel
from train.mini.cells import kind_count
from train.mini.deeper import deeper, reconfigured
from train.mini.batches import Batches
from train.mini.step import Loss, TrainStep
from train.tuning.schedule import cosine_schedule
from train.mini.scenes import RATIOS
from train.mini.runs import Run, add_run_options

MOST_CELLS = max(rows * cols for rows, cols in RATIOS.values())
SHORTEST_ROW = 96  # a picture of so many cells, its frame and a caption
TASKS = ("t2i", "vqa")
SPECIAL_IDS = ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")


def new_model(
    config_path: str, tokenizer: Emu3Tokenizer, seed: int, codebook: np.ndarray | None = None
) -> Emu3ForCausalLM:
    """A model from scratch: the sizes of a JSON file, the ids of the tokenizer.

    With a codebook (codes, e), visual embeddings and head rows start as random projections of it,
    so that codes which look alike begin alike.
    """
    vocabulary = PromptBuilder(tokenizer).vocabulary
    ids = {f"{name}_token_id": getattr(vocabulary, name) for name in SPECIAL_IDS}
    ids["vocab_size"] = tokenizer.vocab_size
    config = config_of_sizes(Emu3Config, config_path, "--config", **ids)
    ms.set_seed(seed)
    model = Emu3ForCausalLM(config)
    if codebook is not None:
        rng = np.random.default_rng(seed)
        for cell in (model.model.embed_tokens, model.lm_head):
            _start_from_codebook(cell.weight, codebook, vocabulary.visual_start, config, rng)
    return model


def _start_from_codebook(weight, codebook: np.ndarray, first: int, config, rng) -> None:
    """Set the visual rows of `weight` (V, C) to a projection of the codebook, at its scale."""
    spread = (codebook - codebook.mean(0)) / codebook.std(0)
    shape = (codebook.shape[1], config.hidden_size)
    rows = spread @ rng.normal(0, config.initializer_range / np.sqrt(shape[0]), shape)
    table = weight.asnumpy().copy()
    table[first : first + len(codebook)] = rows
    weight.set_data(Tensor(table))


def codebook_of(folder: str) -> np.ndarray | None:
    """The codebook (codes, e) of a vision tokenizer's folder; None without a folder."""
    if not folder:
        return None
    return Emu3VisionVQModel.from_pretrained(folder).quantize.embedding.weight.asnumpy()


def check_codes(tokenizer: Emu3Tokenizer) -> None:
    """Refuse a tokenizer that has not just one visual token for each thing a cell can show."""
    count = PromptBuilder(tokenizer).vocabulary.visual_count
    if count != kind_count():
        raise InputError(
            f"a tokenizer of {count} visual tokens; allowed: {kind_count()}, one for each thing a "
            "cell of a scene can show (`train.mini.rank_file`); change --tokenizer or --model"
        )


def start(args: argparse.Namespace, tokenizer: Emu3Tokenizer) -> tuple[Emu3ForCausalLM, float]:
    """The model to train, and the dropout its config states without --dropout."""
    if args.model:
        model = deeper(Emu3ForCausalLM.from_pretrained(args.model), args.add_layers)
    else:
        model = new_model(args.config, tokenizer, args.seed, codebook_of(args.vq_model))
    stated = model.config.attention_dropout
    if args.dropout is None or args.dropout == stated:
        return model, stated
    return with_dropout(model, args.dropout), stated


def with_dropout(model: Emu3ForCausalLM, rate: float) -> Emu3ForCausalLM:
    """A model of the same weights that drops so much of its activations in training."""
    other = reconfigured(model, attention_dropout=rate)
    ms.load_param_into_net(other, {p.name: p for p in model.get_parameters()}, True)
    return other


def forget(log: Path, step: int) -> None:
    """Drop the rows of a log from `step` on, which are run again; makes the folder."""
    log.parent.mkdir(parents=True, exist_ok=True)
    rows = log.read_text(encoding="utf-8").splitlines(True) if log.exists() else []
    with atomic_path(log) as path:
        kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) < step]
        path.write_text("".join(kept), encoding="utf-8")


def train(args: argparse.Namespace) -> None:
    """Run or resume until `args.steps` or `args.minutes`; saves state and the model folder."""
    tokenizer = Emu3Tokenizer.from_pretrained(args.tokenizer or args.model)
    check_codes(tokenizer)
    model, stated_dropout = start(args, tokenizer)
    batches = Batches(args, PromptBuilder(tokenizer))
    loss = Loss(model, max(args.t2i_length, args.vqa_length))
    step_cell = TrainStep(loss, args.weight_decay)
    run = Run(args, step_cell)
    rate = cosine_schedule(args.lr, args.lr * args.floor, args.warmup, args.steps)
    log = Path(args.output) / "log.csv"
    forget(log, run.done)
    with log.open("a", newline="", buffering=1) as file:
        writer = csv.writer(file)
        for step in run.steps():
            name, batch, *wanted = batches.at(step)
            arrays = (batch.ids, batch.positions, batch.branches, batch.places, *wanted)
            inputs = (*(Tensor(a) for a in arrays), Tensor(rate(step), ms.float32))
            step_cell.set_train(name in args.dropout_tasks)  # a graph is compiled for each task
            loss, norm = (float(x) for x in step_cell(*inputs))
            run.bar.set_postfix_str(f"{name} loss {loss:.3f} norm {norm:.2f}")
            writer.writerow([step, name, f"{loss:.5f}", f"{norm:.4f}", f"{rate(step):.3e}"])
    model.config.attention_dropout = stated_dropout
    model.set_train(False).save_pretrained(args.output, dtype=args.save_dtype)
    tokenizer.save_pretrained(args.output)


def build_parser() -> Parser:
    """Every option with its default."""
    parser = parser_with_defaults("train.mini", __doc__)
    _add_files(parser.add_argument_group("model and files"))
    _add_steps(parser.add_argument_group("steps"))
    _add_data(parser.add_argument_group("what is drawn"))
    return parser


def _add_files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model", default="", help="folder to start from; empty = from scratch with --config")
    add("--add-layers", type=non_negative_int, default=0, help="new layers between --model's own")
    add(
        "--config",
        default="configs/emu3_mini.json",
        help="sizes of a model from scratch (without --model)",
    )
    add("--vq-model", default="", help="folder whose codebook a model from scratch starts from")
    add("--tokenizer", default="", help="tokenizer folder; empty = the one of --model")
    add_run_options(group, "language")


def _add_steps(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--steps", type=positive_int, default=9000, help="optimizer steps in all")
    add("--lr", type=non_negative_float, default=1.5e-3, help="peak learning rate")
    add("--floor", type=share, default=0.02, help="last learning rate as a share of the peak")
    add("--warmup", type=non_negative_int, default=100, help="steps of linear warm-up")
    add("--weight-decay", type=non_negative_float, default=0.05, help="decoupled, of matrices")
    add(
        "--dropout",
        type=below_one,
        help="share of activations dropped in training; None = what the model's config states",
    )
    add(
        "--dropout-tasks",
        nargs="+",
        choices=TASKS,
        default=TASKS,
        help="tasks whose steps drop activations",
    )
    add("--cycle", type=positive_int, default=2, help="steps of a cycle over the tasks")
    add("--vqa-share", type=non_negative_int, default=1, help="steps of it that ask questions")


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--small", type=share, default=0.0, help="questions' scenes of 4 x 4 to 5 x 4 cells")
    add(
        "--counts",
        type=non_negative_float,
        nargs=3,
        default=[0.2, 0.4, 0.4],
        metavar="SHARE",
        help="pictures of 1, 2 and 3 shapes",
    )
    add("--null-prompt-prob", type=share, default=0.1, help="chance to drop a caption")
    add_numbers(
        group,
        ("--t2i-batch", 32, "pictures a step"),
        ("--t2i-length", 96, "tokens of a T2I row"),
        ("--t2i-labels", 49, "labels a T2I row may hold"),
        ("--vqa-batch", 8, "conversations a step"),
        ("--vqa-length", 320, "tokens of a conversation row"),
        ("--vqa-labels", 96, "labels a conversation row may hold"),
    )


def run(args: argparse.Namespace) -> None:
    """Check options that depend on each other, then train."""
    if args.vqa_share > args.cycle:
        raise InputError(
            f"{args.vqa_share} steps on questions of a cycle of {args.cycle}; allowed: up to "
            "--cycle; change --vqa-share"
        )
    if not sum(args.counts):
        raise InputError("no pictures to draw; one of --counts must be above 0")
    least = (SHORTEST_ROW, MOST_CELLS)
    if args.t2i_length < least[0] or args.t2i_labels < least[1]:
        raise InputError(
            f"rows of {args.t2i_length} tokens, {args.t2i_labels} labels hold no picture with its "
            f"caption; allowed: from {least[0]}, {least[1]}; change --t2i-length, --t2i-labels"
        )
    if args.add_layers and not args.model:
        raise InputError("--add-layers deepens a trained model; give its folder with --model")
    if not args.model and not args.tokenizer:
        raise InputError("a model from scratch needs words and ids; give a folder with --tokenizer")
    runtime.setup(device="CPU", mode="graph", seed=args.seed)
    train(args)


def main(argv: list[str] | None = None) -> int:
    """Parse options and train; returns the exit code."""
    return run_command(run, build_parser(), argv)


if __name__ == "__main__":
    leave(main())
