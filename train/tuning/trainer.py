"""The loop of a fine-tuning run: steps, evaluation, log, checkpoints, signals.

A checkpoint is known to be good once a step went on from it: only then do older ones go. None is
written while gradients are not finite, and a run whose gradients stay so ends.
"""

import math
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
from emu3.nn.short_products import use_products
from emu3.parallel.mesh import Mesh
from train.data.batches import Data, LocalBatch, padded_length
from train.tuning import checkpoints, states
from train.tuning.log import Figures, Log
from train.tuning.lora import is_adapter, merged
from train.tuning.options import Options
from train.tuning.reports import open_reports
from train.tuning.scaling import LossScaler
from train.tuning.schedule import cosine_schedule
from train.tuning.step import Collect, Reduce, SummedLoss, SummedScores, Totals, Update
from train.tuning.zero import make_units

REFUSED_AT_MOST = 5  # steps in a row whose gradients are not finite
Read = TypeVar("Read")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Trainer:
    """One process of a run.

    Args:
        options: what the command was told.
        model: frozen, adapted and shared out as the options say.
        shapes: published shape of every parameter by name.
        start: checksums of the weights it began with, by what they are of.
        train_data, eval_data: batches; eval_data may be None.
        steps: optimizer steps in all.
        mesh: the processes.
    """

    def __init__(
        self,
        options: Options,
        model: Emu3ForCausalLM,
        tokenizer: Emu3Tokenizer,
        shapes: dict[str, tuple[int, ...]],
        start: dict[str, int],
        train_data: Data,
        eval_data: Data | None,
        steps: int,
        mesh: Mesh,
    ) -> None:
        self.options, self.model, self.tokenizer, self.mesh = options, model, tokenizer, mesh
        self.start = start
        self.train_data, self.eval_data, self.steps = train_data, eval_data, steps
        schedule, parallel = options.schedule, options.parallel
        parameters, units = make_units(
            model, mesh.world, parallel.ms_zero_stage, schedule.weight_decay
        )
        trained = {name: shapes[name] for unit in units for name in unit.names}
        self.states = states.States(units, trained, mesh)
        settings = train_data.settings
        length = padded_length(settings.max_length, settings, mesh)
        self.loss, self.scores = SummedLoss(model, length), SummedScores(model, length)
        self.collect = Collect(self.loss, parameters, units, parallel.mode).set_train(True)
        use_products(self.collect, options.model.products)
        self.reduce = Reduce(units, mesh)
        betas = (schedule.adam_beta1, schedule.adam_beta2)
        self.update = Update(units, betas, schedule.adam_epsilon, schedule.max_grad_norm)
        self.scaler = LossScaler(
            schedule.loss_scaler_type,
            schedule.init_loss_scale,
            schedule.loss_scale_factor,
            schedule.scale_window,
        )
        peak = schedule.learning_rate
        floor = min(schedule.min_learning_rate, peak)
        self.rate = cosine_schedule(peak, floor, schedule.warmup_steps, steps)
        self.output = Path(options.output.output_dir)
        self.signalled = False  # this process was told to stop
        self.stopping = False  # all processes agreed to
        self.unproven: int | None = None  # step of a checkpoint that no good step went on from
        self.unreadable: InputError | None = None  # what is wrong with this process's data

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.mesh.world.index == 0

    def run(self) -> int:
        """Train until the last step or a signal; returns the number of steps done in all."""
        # nohup has SIGHUP ignored, and so it stays.
        caught = [s for s in SIGNALS if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
        before = {s: signal.signal(s, self._stop) for s in caught}
        try:
            step = self._resume()
            # Each process drops other activations, and a resumed run not the first ones again.
            seed = self.options.schedule.seed + step * self.mesh.world.size + self.mesh.world.index
            ms.set_seed(seed % 2**32)
            return self._run(step)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self, step: int) -> int:
        saved = step
        options, output = self.options, self.options.output
        log = None
        if self.leads:
            reports = open_reports(output.report_to, self.output, step, options.settings())
            log = Log(self.output, step, self.steps, reports)
        while step < self.steps and not self.stopping:
            batches = self._agreed(partial(self._batches, step))
            if batches is None:
                self._end_unread(step, saved, self.train_data)
            figures, self.stopping = self._step(step, batches)
            step += 1
            if log:
                log.add(step, figures, self.rate(step - 1), step % output.logging_steps == 0)
            self._check_health(step, figures)
            good = not self.scaler.refused
            if good:
                self._forget_oldest()
            last = step == self.steps or self.stopping
            if last or (good and step % output.save_steps == 0):
                path = self._save(step)
                saved = step
                if log:
                    log.say(f"saved {path}")
            if self.eval_data and (step == self.steps or step % output.eval_steps == 0):
                scores = self._evaluate()
                if scores is None:
                    self._end_unread(step, saved, self.eval_data)
                if log:
                    log.add_evaluation(step, *scores)
            if log and saved == step:
                log.draw()
        if not self.scaler.refused:
            self._forget_oldest()
        if log:
            log.close()
        return step

    def _batches(self, step: int) -> list[LocalBatch]:
        """What this process computes in a step."""
        passes = self.options.schedule.gradient_accumulation_steps
        return [self.train_data.batch(step * passes + number) for number in range(passes)]

    def _agreed(self, read: Callable[[], Read]) -> Read | None:
        """What this process reads; None in all of them when one cannot read its own."""
        found = None
        try:
            found = read()
        except InputError as error:
            self.unreadable = error
        if self.mesh.world.size == 1:
            return found
        own = Totals(0, 0, self.unreadable is not None)
        failed = Totals(*self.reduce.sum(own.tensor()).asnumpy()).stop > 0
        return None if failed else found

    def _end_unread(self, step: int, saved: int, data: Data) -> NoReturn:
        """Save what was learnt before `data` that cannot be read, then end."""
        if step > saved and not self.scaler.refused:
            path = self._save(step)
            if self.leads:
                print(f"saved {path}", flush=True)
        raise self.unreadable or InputError(
            "the data of another process cannot be read; its own message says why; mend what "
            f"{data.sources[0].flag} names"
        )

    def _check_health(self, step: int, figures: Figures) -> None:
        """End a run whose gradients were not finite in several steps.

        The checkpoint that they came from is no longer one that a run goes on from.

        Raises:
            InputError: names the steps and the checkpoints from before them.
        """
        refused = self.scaler.refused
        if refused < REFUSED_AT_MOST:
            return
        if self.leads and self.unproven is not None:
            checkpoints.set_aside(self.output, self.unproven)
        names = [path.name for path in checkpoints.checkpoints(self.output)]
        kept = f"{', '.join(names) or 'no checkpoint'} in {self.output} from before them"
        schedule = self.options.schedule
        raise InputError(
            f"gradients were not finite in {refused} steps in a row, {step - refused + 1} to "
            f"{step} (norm {figures.grad_norm}): the run has diverged; kept: {kept}; allowed: "
            f"smaller steps; change --learning_rate {schedule.learning_rate:g}, --max_grad_norm "
            f"{schedule.max_grad_norm:g} or, in float16, --loss_scaler_type dynamic"
        )

    def _step(self, step: int, batches: list[LocalBatch]) -> tuple[Figures, bool]:
        """One optimizer step; what it gave, and whether a process was told to stop."""
        loss, labels, tokens = np.float32(0), 0, 0
        scale = Tensor(self.scaler.scale, ms.float32)
        for number, batch in enumerate(batches):
            keep = Tensor(float(number > 0), ms.float32)
            loss += self.collect(*batch.tensors(), keep, scale).asnumpy()
            labels += batch.label_count
            tokens += batch.ids.size
        own = Totals(loss, labels, self.signalled)
        summed, norm = self.reduce(own.tensor(), scale)
        totals, length = Totals(*summed.asnumpy()), float(norm)
        # A step without labels has nothing to teach; decay alone would wear the weights down.
        if totals.labels and self.scaler.accepts(length):
            self.update(norm, Tensor(self.rate(step), ms.float32)).asnumpy()
        loss = float(totals.loss) / float(totals.labels) if totals.labels else math.nan
        return Figures(loss, length, tokens * self.mesh.world.size), bool(totals.stop > 0)

    def _evaluate(self) -> tuple[float, float] | None:
        """Mean loss of every held-back label, and the share that was likeliest; no caption is
        dropped. None when one of the processes cannot read its own."""
        # Without dropout both modes are one; changing it would compile the step anew.
        self.scores.set_train(not self.model.config.attention_dropout)
        totals = np.zeros(3, np.float32)
        for index in range(self.eval_data.passes):
            batch = self._agreed(partial(self.eval_data.batch, index))
            if batch is None:
                return None
            totals[:2] += self.scores(*batch.tensors()).asnumpy()
            totals[2] += batch.label_count
        self.loss.set_train(True)
        loss, right, labels = self.reduce.sum(Tensor(totals)).asnumpy()
        return float(loss / max(1.0, labels)), float(right / max(1.0, labels))

    def _resume(self) -> int:
        """Restore the state to go on from; returns the steps done so far."""
        path = checkpoints.find_resume(self.output, self.options.output.resume)
        if path is None:
            checkpoints.refuse_later(self.output, 0)
            return 0
        values = states.restore(path / checkpoints.STATE, self.states, self.update)
        self._check_same_run(path, values)
        step = values["step"]
        checkpoints.refuse_later(self.output, step)
        self.scaler.restore(values["scaler"])
        if self.leads and step < self.steps:
            print(f"going on from {path}", flush=True)
        elif self.leads:
            print(
                f"{path} is already at step {step} of {self.steps}: nothing to do; raise "
                "--max_steps, or give another --output_dir",
                flush=True,
            )
        return step

    def _identity(self) -> dict[str, int]:
        """What must not change when a run goes on: place in the data, weights left alone."""
        schedule = self.options.schedule
        rows = schedule.per_device_train_batch_size * self.mesh.data_size
        return {
            "samples of a step": rows * schedule.gradient_accumulation_steps,
            "checksum of frozen weights": states.frozen_checksum(self.model),
            **self.start,
        }

    def _check_same_run(self, path: Path, values: dict) -> None:
        """Refuse a checkpoint whose data order or frozen weights are not this run's.

        Raises:
            InputError: says which.
        """
        for name, ours in self._identity().items():
            theirs = values["identity"].get(name, ours)  # older checkpoints state less
            if theirs != ours:
                raise InputError(
                    f"{path} was trained with {theirs} as {name}, this run has "
                    f"{ours}; allowed: the same; change --per_device_train_batch_size, "
                    "--gradient_accumulation_steps, --model_name_or_path or --resume"
                )

    def _save(self, step: int) -> Path:
        """Write the checkpoint of `step`: gathered by all, written by the first process."""
        whole = {kind: self.states.whole(kind, self.leads) for kind in states.KINDS}
        if not self.leads:
            return self.output / f"checkpoint-{step}"
        odd = next((n for n, v in whole["master"].items() if not np.isfinite(v).all()), None)
        if odd is not None:
            raise InputError(
                f"{odd} is not finite after step {step}, which is not saved; earlier checkpoints "
                "are whole; change --learning_rate or --weight_decay"
            )
        weights = dict(self.model.parameters_and_names()) | whole["master"] | merged(self.model)
        weights = {name: weights[name] for name in weights if not is_adapter(name)}
        values = {"step": step, "scaler": self.scaler.values(), "identity": self._identity()}
        output = self.options.output
        with checkpoints.new_checkpoint(self.output, step) as folder:
            states.save(folder / checkpoints.STATE, whole, self.update, values)
            self.model.save_pretrained(folder, dtype=output.save_dtype, weights=weights)
            self.tokenizer.save_pretrained(folder)
        self.unproven = step
        return self.output / f"checkpoint-{step}"

    def _forget_oldest(self) -> None:
        if self.leads and self.unproven is not None:
            checkpoints.forget_oldest(self.output, self.options.output.save_total_limit)
        self.unproven = None

    def _stop(self, number: int, frame: object) -> None:
        self.signalled = True
