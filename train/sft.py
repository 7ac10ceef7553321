"""Supervised fine-tuning on feature folders, one process: `python -m train.sft`.

Text to image and question answering take turns by weight; each step is one compiled graph of
fixed shape. Stopping loses at most the steps since the last save; the same command goes on.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from tqdm import tqdm

from emu3 import runtime
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.prompts import PromptBuilder
from emu3.mllm.rotary import rope_table
from emu3.tokenizer import Emu3VisionVQModel
from train.cells import GROUNDS, kind_count
from train.features import Feature, list_files, read_feature
from train.muon import Muon
from train.optimizer import AdamW, cosine_schedule
from train.samples import Batch, collate, conversation_sample, t2i_sample
from train.state import load_state, save_state
from train.step import branch_bias

SPECIAL_IDS = ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")


class Loss(nn.Cell):
    """Mean cross-entropy over the labels; only their places reach the head.

    With `weight` above 1 and a range of ids (first, end), the loss of a label in the range is
    -log P(range) - weight * log P(label | range): still lowest at the true distribution, but what
    a shape looks like counts more than whether one stands here, which is mostly chance.
    """

    def __init__(
        self,
        model: Emu3ForCausalLM,
        length: int,
        ids: tuple[int, int] = (0, 1),
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.first, self.end = ids
        self.extra = weight - 1.0
        cos, sin = rope_table(model.config, length)
        self.cos, self.sin = Tensor(cos), Tensor(sin)
        order = np.arange(length)
        self.causal = Tensor(order[None, :] <= order[:, None])

    def construct(
        self, ids: Tensor, positions: Tensor, branches: Tensor, places: Tensor, labels: Tensor
    ) -> Tensor:
        """The arrays of `train.samples.Batch` -> scalar."""
        length = ids.shape[1]
        bias = branch_bias(branches, self.causal[:length, :length])
        embeds = self.model.model.embed_tokens(ids)
        cos, sin = ops.gather(self.cos, positions, 0), ops.gather(self.sin, positions, 0)
        hidden = self.model.model.hidden(embeds, cos, sin, bias)
        picked = ops.gather(hidden.reshape(-1, hidden.shape[-1]), places, 0)
        logits = self.model.lm_head(picked).astype(ms.float32)
        counted = (labels != IGNORED_LABEL).astype(ms.float32)
        logits = logits - ops.stop_gradient(logits.max(-1, keepdims=True))
        wanted = ops.gather_elements(logits, 1, ops.maximum(labels, 0).expand_dims(1))[:, 0]
        exponents = ops.exp(logits)
        losses = ops.log(exponents.sum(-1)) - wanted
        if self.extra:
            inside = ops.logical_and(labels >= self.first, labels < self.end)
            among = exponents[:, self.first : self.end].sum(-1)
            losses = losses + self.extra * inside * (ops.log(among + 1e-30) - wanted)
        return (losses * counted).sum() / ops.maximum(counted.sum(), 1.0)


class TrainStep(nn.Cell):
    """Forward, backward and update in one compiled graph per batch shape."""

    def __init__(self, loss: Loss, weight_decay: float, optimizer: str = "adamw") -> None:
        super().__init__()
        self.loss = loss
        self.parameters = ms.ParameterTuple(loss.trainable_params())
        trained = list(self.parameters)
        if optimizer == "muon":
            self.optimizer = Muon(trained, is_hidden_matrix, weight_decay=weight_decay)
        else:
            self.optimizer = AdamW(trained, weight_decay=weight_decay)
        self.gradient = ops.GradOperation(get_by_list=True)

    def construct(self, ids, positions, branches, places, labels, lr):
        """One step; returns loss and gradient norm."""
        inputs = (ids, positions, branches, places, labels)
        loss = self.loss(*inputs)
        grads = self.gradient(self.loss, self.parameters)(*inputs)
        return loss, self.optimizer(grads, lr)


def is_hidden_matrix(parameter: ms.Parameter) -> bool:
    """Whether it is a matrix of a decoder layer, which `train.muon` is for."""
    return ".layers." in parameter.name and parameter.ndim == 2


def tile_ids(builder: PromptBuilder) -> tuple[int, int]:
    """First id of the codes that show a piece of a shape, and the one behind the last."""
    start = builder.vocabulary.visual_start
    return start + len(GROUNDS), start + kind_count()


def codebook_of(folder: str) -> np.ndarray | None:
    """The codebook (codes, e) of a vision tokenizer's folder; None without a folder."""
    if not folder:
        return None
    return Emu3VisionVQModel.from_pretrained(folder).quantize.embedding.weight.asnumpy()


class Task:
    """Batches of one task, a function of the step alone, so that a resumed run sees the same."""

    def __init__(self, name: str, args: argparse.Namespace, builder: PromptBuilder) -> None:
        self.name, self.seed, self.builder = name, args.seed, builder
        self.null_prompt_prob = args.null_prompt_prob
        self.rows = args.t2i_batch if name == "t2i" else args.vqa_batch
        self.length = args.t2i_length if name == "t2i" else args.vqa_length
        self.labels = args.t2i_labels if name == "t2i" else args.vqa_labels
        lists = [Path(folder) / name / "list" / "train.json" for folder in args.data]
        files = [file for path in lists for file in list_files(path)]
        self.features = [read_feature(f) for f in tqdm(files, desc=f"reading {name}")]

    def batch(self, step: int) -> Batch:
        """The batch of optimizer step `step`."""
        rng = np.random.default_rng((self.seed, step))
        chosen = rng.integers(0, len(self.features), self.rows)
        samples = [self._sample(self.features[i], rng) for i in chosen]
        pad = self.builder.vocabulary.pad
        return collate(samples, self.length, self.rows * self.labels, pad)

    def _sample(self, feature: Feature, rng: np.random.Generator):
        if self.name == "t2i":
            text = str(rng.choice(feature.captions or [feature.texts]))
            text = "" if rng.random() < self.null_prompt_prob else text
            return t2i_sample(self.builder, text, feature.codes)
        turns = feature.turns or [(feature.texts, feature.response)]
        return self._filled(feature, [turns[i] for i in rng.permutation(len(turns))])

    def _filled(self, feature: Feature, turns: list[tuple[str, str]]):
        """As many of the turns as fit the length and label budget of a row."""
        prompt = self.builder.understanding("", feature.codes)
        tokens = prompt.index(self.builder.vocabulary.eoi) + 1
        around, labels, kept = len(prompt) - tokens + 1, 0, []  # 1: texts may join less well
        for question, answer in turns:
            encode = self.builder.tokenizer.encode_ordinary
            answer_length = len(encode(answer)) + 1
            needed = len(encode(question)) + around + answer_length
            if tokens + needed <= self.length and labels + answer_length <= self.labels:
                kept.append((question, answer))
                tokens, labels = tokens + needed, labels + answer_length
        return conversation_sample(self.builder, feature.codes, kept)


def new_model(
    config_path: str, tokenizer: Emu3Tokenizer, seed: int, codebook: np.ndarray | None = None
) -> Emu3ForCausalLM:
    """A model from scratch: the sizes of a JSON file, the ids of the tokenizer.

    With a codebook (codes, e), visual embeddings and head rows start as random projections of it,
    so that codes which look alike begin alike.
    """
    vocabulary = PromptBuilder(tokenizer).vocabulary
    sizes = json.loads(Path(config_path).read_text(encoding="utf-8"))
    ids = {f"{name}_token_id": getattr(vocabulary, name) for name in SPECIAL_IDS}
    config = Emu3Config(**sizes, **ids, vocab_size=tokenizer.vocab_size)
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


def train(args: argparse.Namespace) -> None:
    """Run or resume until `args.steps` or `args.minutes`; saves state and the model folder."""
    tokenizer = Emu3Tokenizer.from_pretrained(args.tokenizer or args.model)
    builder = PromptBuilder(tokenizer)
    if args.model:
        model = Emu3ForCausalLM.from_pretrained(args.model)
    else:
        model = new_model(args.config, tokenizer, args.seed, codebook_of(args.vq_model))
    tasks = {name: Task(name, args, builder) for name in ("t2i", "vqa")}
    longest = max(task.length for task in tasks.values())
    loss = Loss(model, longest, tile_ids(builder), args.tile_weight)
    step_cell = TrainStep(loss, args.weight_decay, args.optimizer).set_train(True)
    state, first = Path(args.state), 0
    if state.exists():
        first = load_state(state, step_cell)["step"]
    rate = cosine_schedule(args.lr, args.lr * args.floor, args.warmup, args.steps)
    begun = saved = time.monotonic()
    log = Path(args.output) / "log.csv"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=args.steps, initial=first) as bar, log.open("a", newline="") as file:
        writer = csv.writer(file)
        for step in range(first, args.steps):
            name = "t2i" if step % args.cycle < args.cycle - args.vqa_share else "vqa"
            batch = tasks[name].batch(step)
            arrays = (batch.ids, batch.positions, batch.branches, batch.places, batch.labels)
            inputs = (*(Tensor(a) for a in arrays), Tensor(rate(step), ms.float32))
            loss, norm = (float(x) for x in step_cell(*inputs))
            bar.update()
            bar.set_postfix_str(f"{name} loss {loss:.3f} norm {norm:.2f}")
            writer.writerow([step, name, f"{loss:.5f}", f"{norm:.4f}", f"{rate(step):.3e}"])
            now = time.monotonic()
            last = step + 1 == args.steps or now - begun > args.minutes * 60
            if last or now - saved > args.save_every:
                file.flush()
                save_state(state, step_cell, {"step": step + 1})
                saved = time.monotonic()
            if last:
                break
    model.set_train(False).save_pretrained(args.output, dtype=args.save_dtype)
    tokenizer.save_pretrained(args.output)


def main(argv: list[str] | None = None) -> None:
    """Parse options and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", default=["outputs/scenes"], help="folders with t2i/ and vqa/ features")
    add("--model", default="", help="folder to start from; empty = from scratch with --config")
    add("--config", default="configs/emu3_mini.json", help="sizes of a model from scratch")
    add("--vq-model", default="", help="folder whose codebook a model from scratch starts from")
    add("--tokenizer", default="", help="tokenizer folder; empty = the one of --model")
    add("--output", default="outputs/language", help="folder of the trained model and its log")
    add("--state", default="outputs/language_state.safetensors", help="resume file")
    add("--steps", type=int, default=6000, help="optimizer steps in all")
    add("--minutes", type=float, default=1e9, help="stop (and save) after so many minutes")
    add("--optimizer", choices=("muon", "adamw"), default="muon", help="of the layers' matrices")
    add("--tile-weight", type=float, default=1.0, help="weight of which piece of a shape (Loss)")
    add("--lr", type=float, default=1.5e-3, help="peak learning rate")
    add("--floor", type=float, default=0.05, help="last learning rate as a share of the peak")
    add("--warmup", type=int, default=150, help="steps of linear warm-up")
    add("--weight-decay", type=float, default=0.05, help="decoupled weight decay of matrices")
    add("--null-prompt-prob", type=float, default=0.1, help="chance to drop a caption")
    add("--cycle", type=int, default=3, help="steps of a cycle over the tasks")
    add("--vqa-share", type=int, default=1, help="steps of each cycle that train on questions")
    add("--t2i-batch", type=int, default=16, help="pictures a step")
    add("--t2i-length", type=int, default=216, help="tokens of a T2I row")
    add("--t2i-labels", type=int, default=144, help="labels a T2I row may hold on average")
    add("--vqa-batch", type=int, default=8, help="conversations a step")
    add("--vqa-length", type=int, default=384, help="tokens of a conversation row")
    add("--vqa-labels", type=int, default=72, help="labels a conversation row may hold")
    add("--save-every", type=float, default=240, help="seconds between saves of the resume file")
    add("--save-dtype", default="float16", help="dtype of the saved weights")
    add("--seed", type=int, default=0, help="seed of weights, data order and caption drops")
    args = parser.parse_args(argv)
    runtime.setup(device="CPU", mode="graph", seed=args.seed)
    train(args)


if __name__ == "__main__":
    main()
