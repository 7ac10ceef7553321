"""Train emu3-mini's language model on scenes drawn as it goes: `python -m train.mini`.

No feature folders: emu3-mini's codes name what a cell shows, one by one (`train.cells`), so a
scene is its own picture. Text to image learns from the teacher's pictures and targets, questions
from scenes and answers.
Stopping loses at most the steps since the last save; the same command goes on.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor
from tqdm import tqdm

from emu3 import runtime
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.prompts import PromptBuilder
from emu3.tokenizer import Emu3VisionVQModel
from train.cells import cell_kinds
from train.deeper import deeper
from train.language import LANGUAGES, caption, questions
from train.mini_step import Loss, TrainStep, certain
from train.optimizer import cosine_schedule
from train.samples import Batch, Sample, collate, conversation_sample, t2i_sample
from train.scenes import SMALL, Scene, held_out, random_scene
from train.state import load_state, save_state
from train.teacher import CANDIDATES, redrawn, targets

SPECIAL_IDS = ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")
# How soon a question of a kind is taken into a row; what is learnt early comes seldom.
KIND_WEIGHTS = {
    "relation": 5,
    "position": 4,
    "colour": 1.5,
    "yes/no": 1.2,
    "describe": 1,
    "size": 0.7,
    "shape": 0.7,
}
OTHER_KINDS = 0.2
ROUNDS = 4
# Share of captioned pictures that the teacher draws; the others put their shapes anywhere, so that
# the targets are also learnt where the teacher itself would seldom get.
REDRAWN = 0.5


class Batches:
    """The batch of every step, a function of the step alone: pictures and questions in turn."""

    def __init__(self, args: argparse.Namespace, builder: PromptBuilder) -> None:
        self.args, self.builder = args, builder

    def at(self, step: int) -> tuple[str, Batch, np.ndarray, np.ndarray]:
        """Name and batch of a step, then the `labels` and `weights` of `Loss`."""
        rng = np.random.default_rng((self.args.seed, step))
        if step % self.args.cycle < self.args.cycle - self.args.vqa_share:
            return "t2i", *self._pictures(rng)
        batch = self._questions(rng)
        return "vqa", batch, *certain(batch.labels)

    def _scene(self, rng: np.random.Generator, small: float = 0.0) -> Scene:
        ratio = str(rng.choice(list(SMALL))) if rng.random() < small else None
        count = int(rng.choice([1, 2, 3], p=np.array(self.args.counts) / sum(self.args.counts)))
        return random_scene(rng, "train", ratio, count)

    def _pictures(self, rng: np.random.Generator) -> tuple[Batch, np.ndarray, np.ndarray]:
        args, start = self.args, self.builder.vocabulary.visual_start
        rows = [self._picture(rng) for _ in range(args.t2i_batch)]
        samples = [sample for sample, _, _ in rows]
        total = args.t2i_batch * args.t2i_labels
        batch = collate(samples, args.t2i_length, total, self.builder.vocabulary.pad)
        labels = np.full((total, CANDIDATES), IGNORED_LABEL, np.int32)
        weights = np.zeros((total, CANDIDATES), np.float32)
        used = sum(len(ids) for _, ids, _ in rows)
        labels[:used] = np.concatenate([ids for _, ids, _ in rows]) + start
        weights[:used] = np.concatenate([shares for _, _, shares in rows])
        return batch, labels, weights

    def _picture(self, rng: np.random.Generator) -> tuple[Sample, np.ndarray, np.ndarray]:
        """A T2I sample that fits, and the teacher's targets of its cells."""
        while True:
            scene = self._scene(rng)
            text, facts = caption(scene, rng, str(rng.choice(list(LANGUAGES))))
            dropped = rng.random() < self.args.null_prompt_prob
            if dropped or rng.random() < REDRAWN:
                scene = redrawn(scene, facts, rng)
            if held_out(scene):
                continue
            codes = cell_kinds(scene)
            sample = t2i_sample(self.builder, "" if dropped else text, codes)
            if len(sample.ids) <= self.args.t2i_length and codes.size <= self.args.t2i_labels:
                return sample, *(shown(codes) if dropped else targets(scene, facts))

    def _questions(self, rng: np.random.Generator) -> Batch:
        args = self.args
        samples = [self._conversation(rng) for _ in range(args.vqa_batch)]
        total = args.vqa_batch * args.vqa_labels
        return collate(samples, args.vqa_length, total, self.builder.vocabulary.pad)

    def _conversation(self, rng: np.random.Generator) -> Sample:
        scene, language = self._scene(rng, self.args.small), str(rng.choice(list(LANGUAGES)))
        asked = {
            q: (a, kind) for _ in range(ROUNDS) for q, a, kind in questions(scene, rng, language)
        }
        weights = np.array([KIND_WEIGHTS.get(kind, OTHER_KINDS) for _, kind in asked.values()])
        order = np.argsort(rng.exponential(size=len(weights)) / weights)
        turns = [(q, a) for q, (a, _) in asked.items()]
        turns = [turns[i] for i in order]
        return filled(
            self.builder, cell_kinds(scene), turns, self.args.vqa_length, self.args.vqa_labels
        )


def filled(
    builder: PromptBuilder,
    codes: np.ndarray,
    turns: list[tuple[str, str]],
    length: int,
    labels: int,
) -> Sample:
    """An image and, one branch each, as many of the turns as fit so many tokens and labels."""
    prompt = builder.understanding("", codes)
    tokens = prompt.index(builder.vocabulary.eoi) + 1
    around, used, kept = len(prompt) - tokens + 1, 0, []  # 1: texts may join less well
    for question, answer in turns:
        encode = builder.tokenizer.encode_ordinary
        answer_length = len(encode(answer)) + 1
        needed = len(encode(question)) + around + answer_length
        if tokens + needed <= length and used + answer_length <= labels:
            kept.append((question, answer))
            tokens, used = tokens + needed, used + answer_length
    return conversation_sample(builder, codes, kept)


def shown(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets as `train.teacher.targets` gives them, which are the codes themselves."""
    shares = np.zeros((codes.size, CANDIDATES), np.float32)
    shares[:, 0] = 1
    return np.repeat(codes.reshape(-1, 1), CANDIDATES, 1), shares


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


def codebook_of(folder: str) -> np.ndarray | None:
    """The codebook (codes, e) of a vision tokenizer's folder; None without a folder."""
    if not folder:
        return None
    return Emu3VisionVQModel.from_pretrained(folder).quantize.embedding.weight.asnumpy()


def train(args: argparse.Namespace) -> None:
    """Run or resume until `args.steps` or `args.minutes`; saves state and the model folder."""
    tokenizer = Emu3Tokenizer.from_pretrained(args.tokenizer or args.model)
    if args.model:
        model = deeper(Emu3ForCausalLM.from_pretrained(args.model), args.add_layers)
    else:
        model = new_model(args.config, tokenizer, args.seed, codebook_of(args.vq_model))
    batches = Batches(args, PromptBuilder(tokenizer))
    loss = Loss(model, max(args.t2i_length, args.vqa_length))
    step_cell = TrainStep(loss, args.weight_decay).set_train(True)
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
            name, batch, *wanted = batches.at(step)
            arrays = (batch.ids, batch.positions, batch.branches, batch.places, *wanted)
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
    add("--model", default="", help="folder to start from; empty = from scratch with --config")
    add("--add-layers", type=int, default=0, help="new layers between those of --model")
    add("--config", default="configs/emu3_mini.json", help="sizes of a model from scratch")
    add("--vq-model", default="", help="folder whose codebook a model from scratch starts from")
    add("--tokenizer", default="", help="tokenizer folder; empty = the one of --model")
    add("--output", default="outputs/language", help="folder of the trained model and its log")
    add("--state", default="outputs/language_state.safetensors", help="resume file")
    add("--steps", type=int, default=9000, help="optimizer steps in all")
    add("--minutes", type=float, default=1e9, help="stop (and save) after so many minutes")
    add(
        "--small",
        type=float,
        default=0.0,
        help="share of 4 x 4 to 5 x 4 cells among questions' scenes",
    )
    add("--counts", type=float, nargs=3, default=[0.2, 0.4, 0.4], help="shares of 1, 2, 3 shapes")
    add("--lr", type=float, default=1.5e-3, help="peak learning rate")
    add("--floor", type=float, default=0.02, help="last learning rate as a share of the peak")
    add("--warmup", type=int, default=100, help="steps of linear warm-up")
    add("--weight-decay", type=float, default=0.05, help="decoupled weight decay of matrices")
    add("--null-prompt-prob", type=float, default=0.1, help="chance to drop a caption")
    add("--cycle", type=int, default=2, help="steps of a cycle over the tasks")
    add("--vqa-share", type=int, default=1, help="steps of each cycle that train on questions")
    add("--t2i-batch", type=int, default=32, help="pictures a step")
    add("--t2i-length", type=int, default=96, help="tokens of a T2I row")
    add("--t2i-labels", type=int, default=49, help="labels a T2I row may hold")
    add("--vqa-batch", type=int, default=8, help="conversations a step")
    add("--vqa-length", type=int, default=320, help="tokens of a conversation row")
    add("--vqa-labels", type=int, default=96, help="labels a conversation row may hold")
    add("--save-every", type=float, default=90, help="seconds between saves of the resume file")
    add("--save-dtype", default="float16", help="dtype of the saved weights")
    add("--seed", type=int, default=0, help="seed of weights, scenes and caption drops")
    args = parser.parse_args(argv)
    runtime.setup(device="CPU", mode="graph", seed=args.seed)
    train(args)


if __name__ == "__main__":
    main()
