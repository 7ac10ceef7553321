"""A fine-tuning run from its options: model, data and processes, then a plan or the trainer."""

import math
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from mindspore.nn.utils import no_init_parameters

from emu3 import runtime
from emu3.cli.shell import INTERRUPTED
from emu3.configfile import read_config
from emu3.errors import InputError
from emu3.estimate import WIDTHS
from emu3.hub import CONFIG, checkpoint_folder
from emu3.locks import locked_folder
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.defaults import CheckpointDefaults
from emu3.mllm.prompts import PromptBuilder
from emu3.parallel.mesh import Mesh, make_mesh
from emu3.parallel.sequence import share_sequence
from train.data.batches import Data, DataSettings, Source
from train.data.folders import check_one_encoding
from train.tuning.fitting import check_memory, look
from train.tuning.job import check_job
from train.tuning.lora import adapt, is_adapter
from train.tuning.options import ModelOptions, Options
from train.tuning.plan import describe_plan
from train.tuning.ranges import LARGEST_COUNT
from train.tuning.reports import require_reports
from train.tuning.states import checksum
from train.tuning.trainer import Trainer
from train.tuning.yamlfile import write_options_file
from train.tuning.zero import share_weights

SETTINGS = "settings.yaml"
LOOKED_AT = 256  # samples of a source, before a run begins


def plan_or_train(options: Options) -> int:
    """Plan or train; returns the exit code."""
    require_reports(options.output.report_to)
    options = with_mode(options)
    path, parallel, seed = options.model.model_name_or_path, options.parallel, options.schedule.seed
    config = _start_config(path)
    tokenizer = Emu3Tokenizer.from_pretrained(path)
    device = runtime.setup(parallel.device, mode=parallel.mode, threads=parallel.threads, seed=seed)
    check_job(device)
    mesh = make_mesh(parallel.sequence_parallel_shards)
    free = runtime.available_memory_bytes()
    data, eval_data, steps = make_data(options, config, tokenizer, mesh)
    if options.output.dry_run:
        print(describe_plan(options, planned_model(options, config), data, steps, mesh))
        return 0
    if free is not None:
        # Processes that train.launch started share this machine's memory.
        local = device == "CPU" and os.environ.get("MS_SCHED_HOST") == "127.0.0.1"
        width = WIDTHS[str(runtime.resolve_dtype(options.model.dtype)).lower()]
        check_memory(config, options, data, width, mesh.world.size if local else 1, free)
    leads = mesh.world.index == 0
    for sources in filter(None, (data, eval_data)):
        for number in range(len(sources.sources)):
            remark = str(look(sources, number, LOOKED_AT))
            if leads and remark:
                print(f"samples: {remark}", flush=True)
    output = Path(options.output.output_dir)
    with locked_folder(output, "--output_dir") if leads else nullcontext():
        return train(options, tokenizer, data, eval_data, steps)


def with_mode(options: Options) -> Options:
    """The options with the mode that the device trains in by default, where none was asked for."""
    default = runtime.DEFAULTS[runtime.chosen_device(options.parallel.device)].training
    mode = options.parallel.mode or default
    return replace(options, parallel=replace(options.parallel, mode=mode))


def train(
    options: Options, tokenizer: Emu3Tokenizer, data: Data, eval_data: Data | None, steps: int
) -> int:
    """Train in a folder that is ours; returns the exit code."""
    parallel, mesh = options.parallel, data.mesh
    model = load_model(options)
    start = start_checksum(model)
    model.config.caption_words = None  # what is trained on now may hold others
    shapes = {name: tuple(p.shape) for name, p in model.parameters_and_names()}
    share_sequence(model, mesh.sequence)
    if parallel.ms_zero_stage == 3:
        share_weights(model, mesh.world)
    if parallel.gradient_checkpointing:  # last: it notes the parameters that are there
        for layer in model.model.layers:
            layer.recompute()
    trainer = Trainer(options, model, tokenizer, shapes, start, data, eval_data, steps, mesh)
    if trainer.leads:
        settings = options.settings()
        remark = (
            f"All options of this run, which --config starts again; from {settings.pop('config')}"
        )
        write_options_file(Path(options.output.output_dir) / SETTINGS, remark, settings)
    trainer.run()
    return INTERRUPTED if trainer.stopping else 0


def _start_config(path: str) -> Emu3Config:
    folder = checkpoint_folder(path, [CONFIG], "--model_name_or_path")
    return read_config(Emu3Config, folder, {}, "--model_name_or_path")


def make_data(
    options: Options, config: Emu3Config, tokenizer: Emu3Tokenizer, mesh: Mesh
) -> tuple[Data, Data | None, int]:
    """Batches to train on, batches held back (or None), and the number of optimizer steps."""
    schedule, what = options.schedule, options.data
    stated = CheckpointDefaults.from_pretrained(options.model.model_name_or_path)
    builder = PromptBuilder.stated(tokenizer, stated)
    settings = DataSettings(
        rows=schedule.per_device_train_batch_size,
        max_length=what.max_position_embeddings or config.max_position_embeddings,
        null_prompt_prob=what.null_prompt_prob,
        supervise_structure=what.supervise_structure,
        pad_to_multiple=what.pad_to_multiple,
        seed=schedule.seed,
    )
    sources = [Source(text, "train", "--train_data_path") for text in what.train_data_path]
    rows, passes = settings.rows * mesh.data_size, schedule.gradient_accumulation_steps
    steps = schedule.max_steps
    if steps < 0:
        samples = sum(len(source.files) for source in sources)
        steps = math.ceil(schedule.num_train_epochs * samples / (rows * passes))
    if not 1 <= steps <= LARGEST_COUNT:
        raise InputError(
            f"{float(steps):.15g} steps; allowed: 1 to {LARGEST_COUNT}; change --max_steps or "
            "--num_train_epochs"
        )
    data = Data(sources, builder, settings, steps * passes, mesh)
    if not what.eval_data_path:
        return data, None, steps
    held_back = [Source(what.eval_data_path, "test", "--eval_data_path")]
    check_one_encoding([source.list for source in (*sources, *held_back)], "--eval_data_path")
    passes = math.ceil(len(held_back[0].files) / rows)
    settings = replace(settings, null_prompt_prob=0.0)
    return data, Data(held_back, builder, settings, passes, mesh, once=True), steps


def planned_model(options: Options, config: Emu3Config) -> Emu3ForCausalLM:
    """A model to count parameters of, without weights where the options do not depend on them."""
    if options.model.lora_new_rows:
        return load_model(options)
    with no_init_parameters():
        model = Emu3ForCausalLM(config)
    mark_trained(model, options.model, options.schedule.seed)
    return model


def load_model(options: Options) -> Emu3ForCausalLM:
    """The start model, with what is trained marked as such."""
    chosen, dropout = options.model, options.schedule.attention_dropout
    model = Emu3ForCausalLM.from_pretrained(
        chosen.model_name_or_path,
        mindspore_dtype=chosen.dtype,
        attn_implementation=chosen.attn_implementation,
        weights="float32",
        **({} if dropout is None else {"attention_dropout": dropout}),
    )
    attention = model.model.layers[0].self_attn.attention
    if model.config.attention_dropout and attention == "flash_attention_2":
        runtime.notice(
            "flash_attention_2 drops no attention weights, only activations; "
            "--attn_implementation eager drops both"
        )
    mark_trained(model, chosen, options.schedule.seed)
    if options.data.image_area:
        model.config.image_area = options.data.image_area
    if options.data.max_position_embeddings:
        model.config.max_position_embeddings = options.data.max_position_embeddings
    return model


def start_checksum(model: Emu3ForCausalLM) -> dict[str, int]:
    """What a checkpoint remembers of the weights it began with, before they are shared out."""
    published = [p for name, p in model.parameters_and_names() if not is_adapter(name)]
    # Other dtypes round to other values: only equal ones are compared.
    return {f"checksum of {published[0].dtype} start weights": checksum(published)}


def mark_trained(model: Emu3ForCausalLM, options: ModelOptions, seed: int) -> None:
    """Freeze what the options leave alone; give the model adapters where they ask for them."""
    _freeze(model, options.trainable_hidden_layers)
    if options.lora_rank:
        adapt(model, options.lora_rank, options.lora_alpha, seed, options.lora_new_rows)


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
