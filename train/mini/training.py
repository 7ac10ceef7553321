"""The training of emu3-mini's language model, from its options to its folder.

No feature folders: emu3-mini's codes name what a cell shows, one by one (`train.mini.cells`), so a
scene is its own picture. Text to image learns from the teacher's pictures and targets, questions
from scenes and answers.
"""

import csv
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor

from emu3.configfile import config_of_sizes
from emu3.errors import InputError
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.prompts import PromptBuilder
from emu3.tokenizer import Emu3VisionVQModel
from train.mini.batches import Batches
from train.mini.cells import kind_count
from train.mini.deeper import deeper, reconfigured
from train.mini.options import LanguageOptions, StartOptions
from train.mini.runs import Run
from train.mini.step import Loss, TrainStep
from train.tuning.log import forget_from
from train.tuning.schedule import cosine_schedule

SPECIAL_IDS = ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")


def train(options: LanguageOptions) -> None:
    """Run or resume until the last step or minute; saves state and the model folder."""
    tokenizer = Emu3Tokenizer.from_pretrained(options.start.tokenizer or options.start.model)
    check_codes(tokenizer)
    seed, step, drawn = options.run.seed, options.step, options.drawn
    model, stated_dropout = start(options.start, step.dropout, seed, tokenizer)
    batches = Batches(drawn, seed, PromptBuilder(tokenizer))
    loss = Loss(model, max(drawn.t2i_length, drawn.vqa_length))
    step_cell = TrainStep(loss, step.weight_decay)
    run = Run(options.run, step.steps, step_cell)
    rate = cosine_schedule(step.lr, step.lr * step.floor, step.warmup, step.steps)
    log = Path(options.run.output) / "log.csv"
    forget_from(log, run.done)
    with log.open("a", newline="", buffering=1) as file:
        writer = csv.writer(file)
        for number in run.steps():
            name, batch, *wanted = batches.at(number)
            arrays = (batch.ids, batch.positions, batch.branches, batch.places, *wanted)
            inputs = (*(Tensor(a) for a in arrays), Tensor(rate(number), ms.float32))
            step_cell.set_train(name in step.dropout_tasks)  # a graph is compiled for each task
            loss, norm = (float(x) for x in step_cell(*inputs))
            run.bar.set_postfix_str(f"{name} loss {loss:.3f} norm {norm:.2f}")
            writer.writerow([number, name, f"{loss:.5f}", f"{norm:.4f}", f"{rate(number):.3e}"])
    model.config.attention_dropout = stated_dropout
    model.set_train(False).save_pretrained(options.run.output, dtype=options.run.save_dtype)
    tokenizer.save_pretrained(options.run.output)


def check_codes(tokenizer: Emu3Tokenizer) -> None:
    """Refuse a tokenizer that has not just one visual token for each thing a cell can show."""
    count = PromptBuilder(tokenizer).vocabulary.visual_count
    if count != kind_count():
        raise InputError(
            f"a tokenizer of {count} visual tokens; allowed: {kind_count()}, one for each thing a "
            "cell of a scene can show (`train.mini.rank_file`); change --tokenizer or --model"
        )


def start(
    options: StartOptions, dropout: float | None, seed: int, tokenizer: Emu3Tokenizer
) -> tuple[Emu3ForCausalLM, float]:
    """The model to train, and the dropout its config states, which `dropout` replaces for now."""
    if options.model:
        start = Emu3ForCausalLM.from_pretrained(options.model, weights="float32")
        model = deeper(start, options.add_layers)
    else:
        model = new_model(options.config, tokenizer, seed, codebook_of(options.vq_model))
    stated = model.config.attention_dropout
    if dropout is None or dropout == stated:
        return model, stated
    return with_dropout(model, dropout), stated


def with_dropout(model: Emu3ForCausalLM, rate: float) -> Emu3ForCausalLM:
    """A model of the same weights that drops so much of its activations in training."""
    other = reconfigured(model, attention_dropout=rate)
    ms.load_param_into_net(other, {p.name: p for p in model.get_parameters()}, True)
    return other


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


def codebook_of(folder: str) -> np.ndarray | None:
    """The codebook (codes, e) of a vision tokenizer's folder; None without a folder."""
    if not folder:
        return None
    return Emu3VisionVQModel.from_pretrained(folder).quantize.embedding.weight.asnumpy()


def _start_from_codebook(
    weight: Parameter,
    codebook: np.ndarray,
    first: int,
    config: Emu3Config,
    rng: np.random.Generator,
) -> None:
    """Set the visual rows of `weight` (V, C) to a projection of the codebook, at its scale."""
    normalised = (codebook - codebook.mean(0)) / codebook.std(0)
    shape = (codebook.shape[1], config.hidden_size)
    rows = normalised @ rng.normal(0, config.initializer_range / np.sqrt(shape[0]), shape)
    table = weight.asnumpy().copy()
    table[first : first + len(codebook)] = rows
    weight.set_data(Tensor(table))
