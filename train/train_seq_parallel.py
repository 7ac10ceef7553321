"""Fine-tune an Emu3 language model: `python -m train.train_seq_parallel --train_data_path DIR`.

Several processes are started by `python -m train.launch -n N train.train_seq_parallel ...`
(or msrun); they share sequences, data, gradients, optimizer state and weights as the options say.
"""

import argparse
import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from mindspore.nn.utils import no_init_parameters

from emu3 import runtime
from emu3.cli.common import BAD_INPUT, INTERRUPTED
from emu3.configfile import read_config
from emu3.errors import InputError
from emu3.files import atomic_path, writable_folder
from emu3.hub import checkpoint_folder
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.defaults import CheckpointDefaults
from emu3.mllm.prompts import PromptBuilder
from emu3.parallel.mesh import Mesh, make_mesh
from emu3.parallel.sequence import share_sequence
from train.data.batches import Data, DataSettings, Source
from train.tuning.lora import adapt
from train.tuning.options import parse
from train.tuning.plan import describe_plan
from train.tuning.trainer import Trainer
from train.tuning.zero import share_weights


def load_model(options: argparse.Namespace) -> Emu3ForCausalLM:
    """The start model, with what is trained marked as such."""
    dropout = options.attention_dropout
    model = Emu3ForCausalLM.from_pretrained(
        options.model_name_or_path,
        mindspore_dtype=options.dtype,
        attn_implementation=options.attn_implementation,
        **({} if dropout is None else {"attention_dropout": dropout}),
    )
    mark_trained(model, options)
    if options.image_area:
        model.config.image_area = options.image_area
    if options.max_position_embeddings:
        model.config.max_position_embeddings = options.max_position_embeddings
    return model


def planned_model(options: argparse.Namespace, config: Emu3Config) -> Emu3ForCausalLM:
    """A model to count parameters of, without weights where the options do not depend on them."""
    if options.lora_new_rows:
        return load_model(options)
    with no_init_parameters():
        model = Emu3ForCausalLM(config)
    mark_trained(model, options)
    return model


def mark_trained(model: Emu3ForCausalLM, options: argparse.Namespace) -> None:
    """Freeze what the options leave alone; give the model adapters where they ask for them."""
    _freeze(model, options.trainable_hidden_layers)
    if options.lora_rank:
        rows = options.lora_new_rows
        adapt(model, options.lora_rank, options.lora_alpha, options.seed, rows)


def _freeze(model: Emu3ForCausalLM, last: int | None) -> None:
    """Train the `last` layers, the norm and the head only."""
    if last is None:
        return
    layers = len(model.model.layers)
    if not 0 <= last <= layers:
        raise InputError(
            f"{last} trainable layers of {layers}; allowed: 0..{layers}; change "
            "--trainable_hidden_layers"
        )
    frozen = [model.model.embed_tokens, *list(model.model.layers)[: layers - last]]
    for cell in frozen:
        for parameter in cell.get_parameters():
            parameter.requires_grad = False


def make_data(
    options: argparse.Namespace, config: Emu3Config, tokenizer: Emu3Tokenizer, mesh: Mesh
) -> tuple[Data, Data | None, int]:
    """Batches to train on, batches held back (or None), and the number of optimizer steps."""
    template = CheckpointDefaults.from_pretrained(options.model_name_or_path).chat_template
    builder = PromptBuilder(tokenizer, template)
    settings = DataSettings(
        rows=options.per_device_train_batch_size,
        max_length=options.max_position_embeddings or config.max_position_embeddings,
        null_prompt_prob=options.null_prompt_prob,
        supervise_structure=options.supervise_structure,
        pad_to_multiple=options.pad_to_multiple,
        seed=options.seed,
    )
    sources = [Source(text, "train", "--train_data_path") for text in options.train_data_path]
    rows = settings.rows * mesh.data_size
    a_step = rows * options.gradient_accumulation_steps
    steps = options.max_steps
    if steps < 0:
        samples = sum(len(source.files) for source in sources)
        steps = int(np.ceil(options.num_train_epochs * samples / a_step))
    if steps < 1:
        raise InputError(f"{steps} steps; allowed: at least 1; change --max_steps")
    data = Data(sources, builder, settings, steps * options.gradient_accumulation_steps, mesh)
    if not options.eval_data_path:
        return data, None, steps
    held_back = [Source(options.eval_data_path, "test", "--eval_data_path")]
    passes = math.ceil(len(held_back[0].files) / rows)
    settings = replace(settings, null_prompt_prob=0.0)
    return data, Data(held_back, builder, settings, passes, mesh, once=True), steps


def run(options: argparse.Namespace) -> int:
    """Plan or train; returns the exit code."""
    config = _start_config(options.model_name_or_path)
    tokenizer = Emu3Tokenizer.from_pretrained(options.model_name_or_path)
    runtime.setup(
        device=options.device, mode=options.mode, threads=options.threads, seed=options.seed
    )
    mesh = make_mesh(options.sequence_parallel_shards)
    data, eval_data, steps = make_data(options, config, tokenizer, mesh)
    if options.dry_run:
        print(describe_plan(options, planned_model(options, config), data, steps, mesh))
        return 0
    output = writable_folder(Path(options.output_dir), "--output_dir")
    model = load_model(options)
    shapes = {name: tuple(p.shape) for name, p in model.parameters_and_names()}
    share_sequence(model, mesh.sequence)
    if options.ms_zero_stage == 3:
        share_weights(model, mesh.world)
    if options.gradient_checkpointing:  # last: it notes the parameters that are there
        for layer in model.model.layers:
            layer.recompute()
    trainer = Trainer(options, model, tokenizer, shapes, data, eval_data, steps, mesh)
    if trainer.leads:
        with atomic_path(output / "settings.json") as path:
            path.write_text(json.dumps(vars(options), indent=1), encoding="utf-8")
    trainer.run()
    return INTERRUPTED if trainer.stopping else 0


def _start_config(path: str) -> Emu3Config:
    folder = checkpoint_folder(path, ["config.json"], "--model_name_or_path")
    return read_config(Emu3Config, folder, {}, "--model_name_or_path")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, 2 for bad input, 130 when a signal stopped it (saved)."""
    os.environ.setdefault("GLOG_v", "3")
    try:
        return run(parse(argv))
    except InputError as error:
        print(f"train.train_seq_parallel: error: {' '.join(str(error).split())}", file=sys.stderr)
    except KeyboardInterrupt:
        print("train.train_seq_parallel: stopped before the first step", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"train.train_seq_parallel: error: {where}{error.strerror or error}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
