"""The course of training by reward: candidates are made and judged, then learnt from."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3.cli.options import Device
from emu3.mllm import Emu3Tokenizer
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.pipeline import DrawSettings
from emu3.runtime import compiled
from train.data.samples import Sample, collate, parts_sample
from train.mini.evaluate.models import Models
from train.mini.lm.rows import Rows, together
from train.mini.lm.seen import seen_pictures
from train.mini.lm.tasks import Drawing
from train.mini.reward.options import MADE, RewardOptions
from train.mini.reward.step import WeighedLoss
from train.mini.reward.trials import TRIALS, Trial, candidates, is_right, said
from train.mini.runs import Run
from train.mini.step import TrainStep
from train.mini.world.compose import RATIO_SHARES
from train.tuning.log import forget_from
from train.tuning.schedule import cosine_schedule

LARGER = 4  # times as many tokens a clip has
MOST_STEPS = 1000  # of a round


@dataclass(frozen=True)
class Judged:
    """A candidate as a sample, and how much better it is than the others of its prompt."""

    sample: Sample
    better: float


class Rounds:
    """What a round learns from."""

    def __init__(self, options: RewardOptions, models: Models, rows: Rows) -> None:
        self.options, self.models, self.rows = options, models, rows
        self.shares = np.array(options.asked) / sum(options.asked)

    def judged(self, number: int) -> tuple[str, float, list[Judged]]:
        """The task of a round, the share of candidates that are right, and those that teach."""
        options, rng = self.options, np.random.default_rng((self.options.run.seed, 7, number))
        drawing = Drawing(rng, self.models.prompts, seen=self.rows.seen)
        task = str(rng.choice(MADE, p=self.shares))
        ratio = str(rng.choice(list(RATIO_SHARES), p=list(RATIO_SHARES.values())))
        count = options.prompts // (LARGER if task in ("clip", "extension") else 1)
        trials = [TRIALS[task](drawing, ratio) for _ in range(max(1, count))]
        asked = [trial for trial in trials for _ in range(options.candidates)]
        seeds = rng.integers(2**31, size=len(asked)).tolist()
        made = candidates(self.models, task, asked, seeds)
        right = np.array([is_right(*pair) for pair in zip(asked, made)], np.float32)
        better = right.reshape(-1, options.candidates)
        better = (better - better.mean(1, keepdims=True)).reshape(-1)
        judged = [
            Judged(self._sample(task, trial, codes), float(gain))
            for trial, codes, gain in zip(asked, made, better)
            if gain
        ]
        return task, float(right.mean()), judged

    def batches(self, number: int, judged: Sequence[Judged]) -> Iterator[tuple[np.ndarray, ...]]:
        """Arrays of the steps of a round: candidates side by side, and rows of every task."""
        options, length = self.options, self.options.rows.length
        packed = list(_packed(judged, length))
        steps = -(-len(packed) // options.learnt)
        pad = self.models.prompts.vocabulary.pad
        for step in range(steps):
            some = packed[step::steps]
            known = self.rows.samples(1 + number * MOST_STEPS + step)
            samples = [together([one.sample for one in row]) for row in some]
            empty = options.learnt - len(some)
            labels = int((options.learnt + options.rows.rows) * length * options.rows.labels)
            batch = collate([*samples, *known, *known[:1] * empty], length, labels, pad)
            shares = np.zeros(labels, np.float32)
            gains = [np.full(_labels(one.sample), one.better) for row in some for one in row]
            gains = np.concatenate(gains) / sum(map(len, gains))
            taught = sum(map(_labels, known))
            shares[: len(gains)] = gains * options.strength
            shares[len(gains) : len(gains) + taught] = 1 / taught
            yield (*astuple(batch), shares)

    def _sample(self, task: str, trial: Trial, codes: np.ndarray) -> Sample:
        return parts_sample(self.models.prompts, said(task, trial, codes))


def _labels(sample: Sample) -> int:
    return int((sample.labels != IGNORED_LABEL).sum())


def _packed(judged: Sequence[Judged], length: int) -> Iterator[list[Judged]]:
    """Candidates in lists that fit a row of so many tokens."""
    row, used = [], 0
    for one in judged:
        if used + len(one.sample.ids) > length:
            yield row
            row, used = [], 0
        row.append(one)
        used += len(one.sample.ids)
    if row:
        yield row


def train(options: RewardOptions) -> None:
    """Run or resume until the last round or minute; saves state and the model folder."""
    settings = DrawSettings(guidance=1.0, temperature=options.temperature, best_of=1)
    device = Device(device="CPU", threads=options.threads)
    models = Models(options.model, options.vq_model, settings, device, "float32")
    seed = options.run.seed
    seen = seen_pictures(options.vq_model, options.seen, seed) if options.seen else []
    rows = Rows(replace(options.rows, small=0.0), 1, seed, models.prompts, seen)
    rounds = Rounds(options, models, rows)
    model = models.language
    cell = TrainStep(WeighedLoss(model, options.rows.length), 0.0)
    cell.set_train()
    step_once = compiled(cell.construct, True)
    run = Run(options.run, options.rounds, cell)
    rate = cosine_schedule(options.lr, options.lr * options.floor, options.warmup, options.rounds)
    log = Path(options.run.output) / "log.csv"
    log.parent.mkdir(parents=True, exist_ok=True)
    forget_from(log, run.done)
    with log.open("a", newline="", buffering=1) as file:
        writer = csv.writer(file)
        for number in run.steps():
            task, right, judged = rounds.judged(number)
            lr = Tensor(rate(number), ms.float32)
            losses = [
                float(step_once(lr, *map(Tensor, arrays))[0])
                for arrays in rounds.batches(number, judged)
            ]
            run.bar.set_postfix_str(f"{task} {right:.3f} steps {len(losses)}")
            writer.writerow([number, task, f"{right:.4f}", len(judged), len(losses)])
    model.save_pretrained(options.run.output, dtype=options.run.save_dtype)
    Emu3Tokenizer.from_pretrained(options.model).save_pretrained(options.run.output)
    run.finish()
