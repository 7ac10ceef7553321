"""The course of the language model's training, from its options to its folder."""

import csv
from dataclasses import astuple
from pathlib import Path

import mindspore as ms
from mindspore import Tensor
from transformers.generation.configuration_utils import GenerationConfig

from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.caption_words import words_of
from emu3.mllm.prompts import PromptBuilder
from emu3.nn.short_products import use_products
from train.mini.lm.factors import share_rows, write_rows
from train.mini.lm.model import new_model
from train.mini.lm.options import LmOptions
from train.mini.lm.rows import Rows
from train.mini.lm.seen import seen_pictures
from train.mini.lm.tokenizer import asked_texts
from train.mini.runs import Run
from train.mini.start import start_from
from train.mini.step import MeanLoss, TrainStep
from train.mini.world.cells import kind_count, kind_vectors
from train.tuning.log import forget_from
from train.tuning.schedule import cosine_schedule

WORDS_READ = 3000  # pictures and clips whose captions and edits are read for it
VECTOR = 40  # numbers that tell a name's likeness, which embeddings begin with
ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")
# How the model draws where nobody says: chosen on prompts of another seed than the figures'.
DRAWING = {
    "do_sample": True,
    "guidance_floor": 0.1,
    "guidance_scale": 1.0,
    "temperature": 0.5,
    "top_k": 64,
}


def caption_words(seed: int) -> str:
    """The words of captions and edits, which the checkpoint states for who asks with others."""
    found: set[str] = set()
    for text in asked_texts(WORDS_READ, seed):
        found.update(words_of(text))
    return " ".join(sorted(found))


def ends_of(model: Emu3ForCausalLM) -> dict[str, int]:
    """The ids that begin, end and fill up texts."""
    return {name: getattr(model.config, name) for name in ENDS}


def train(options: LmOptions) -> None:
    """Run or resume until the last step or minute; saves state and the model folder."""
    tokenizer = Emu3Tokenizer.from_pretrained(options.tokenizer)
    builder = PromptBuilder(tokenizer)
    if (count := builder.vocabulary.visual_count) != kind_count():
        raise InputError(
            f"a tokenizer of {count} visual tokens; allowed: {kind_count()}, one for each thing a "
            "cell can show; make it with train.mini.lm.tokenizer"
        )
    names, dropout = kind_vectors(VECTOR), {"attention_dropout": options.dropout}
    model = new_model(options.config, tokenizer, options.run.seed, names, **dropout)
    if options.model:
        begun = Emu3ForCausalLM.from_pretrained(options.model, weights="float32")
        start_from(options.model, begun, model, "--config or --tokenizer")
    share_rows(model)
    seen = seen_pictures(options.vq_model, options.seen, options.run.seed) if options.seen else []
    rows = Rows(options.rows, options.steps, options.run.seed, builder, seen)
    cell = TrainStep(MeanLoss(model, options.rows.length), options.weight_decay)
    use_products(cell, options.products)
    run = Run(options.run, options.steps, cell)
    rate = cosine_schedule(options.lr, options.lr * options.floor, options.warmup, options.steps)
    log = Path(options.run.output) / "log.csv"
    log.parent.mkdir(parents=True, exist_ok=True)
    forget_from(log, run.done)
    with log.open("a", newline="", buffering=1) as file:
        writer = csv.writer(file)
        for step, batch in run.steps_with(rows.at):
            cell.set_train(step < options.steps * (1 - options.careful))
            lr = Tensor(rate(step), ms.float32)
            loss, norm = (float(x) for x in cell(*map(Tensor, astuple(batch)), lr))
            run.bar.set_postfix_str(f"loss {loss:.3f} norm {norm:.2f}")
            writer.writerow([step, "language", f"{loss:.5f}", f"{norm:.4f}"])
    write_rows(model)
    model.generation_config = GenerationConfig(**ends_of(model), **DRAWING)
    model.config.attention_dropout = 0.0
    model.config.caption_words = caption_words(options.run.seed)
    model.set_train(False).save_pretrained(options.run.output, dtype=options.run.save_dtype)
    tokenizer.save_pretrained(options.run.output)
    run.finish()
