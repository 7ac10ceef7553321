"""The loop of a fine-tuning run: steps, evaluation, log, checkpoints, signals."""

import signal
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
from emu3.parallel.mesh import Mesh
from train.data.batches import Data, padded_length
from train.tuning import checkpoints, states
from train.tuning.log import Figures, Log
from train.tuning.lora import is_adapter, merged
from train.tuning.options import Options
from train.tuning.scaling import LossScaler
from train.tuning.schedule import cosine_schedule
from train.tuning.step import Collect, Reduce, SummedLoss, Totals, Update
from train.tuning.zero import make_units


class Trainer:
    """One process of a run.

    Args:
        options: what the command was told.
        model: frozen, adapted and shared out as the options say.
        shapes: published shape of every parameter by name.
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
        train_data: Data,
        eval_data: Data | None,
        steps: int,
        mesh: Mesh,
    ) -> None:
        self.options, self.model, self.tokenizer, self.mesh = options, model, tokenizer, mesh
        self.train_data, self.eval_data, self.steps = train_data, eval_data, steps
        schedule, parallel = options.schedule, options.parallel
        parameters, units = make_units(
            model, mesh.world, parallel.ms_zero_stage, schedule.weight_decay
        )
        trained = {name: shapes[name] for unit in units for name in unit.names}
        self.states = states.States(units, trained, mesh)
        settings = train_data.settings
        self.loss = SummedLoss(model, padded_length(settings.max_length, settings, mesh))
        self.collect = Collect(self.loss, parameters, units, parallel.mode).set_train(True)
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

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.mesh.world.index == 0

    def run(self) -> int:
        """Train until the last step or a signal; returns the number of steps done in all."""
        before = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            step = self._resume()
            # Each process drops other activations, and a resumed run not the first ones again.
            ms.set_seed(
                self.options.schedule.seed + step * self.mesh.world.size + self.mesh.world.index
            )
            return self._run(step)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _run(self, step: int) -> int:
        log = Log(self.output, step, self.steps) if self.leads else None
        output = self.options.output
        while step < self.steps and not self.stopping:
            figures, self.stopping = self._step(step)
            step += 1
            if log:
                log.add(step, figures, self.rate(step - 1), step % output.logging_steps == 0)
            last = step == self.steps or self.stopping
            if self.eval_data and (step == self.steps or step % output.eval_steps == 0):
                loss = self._evaluate()
                if log:
                    log.add_evaluation(step, loss)
            if last or step % output.save_steps == 0:
                path = self._save(step)
                if log:
                    log.say(f"saved {path}")
        if log:
            log.close()
        return step

    def _step(self, step: int) -> tuple[Figures, bool]:
        """One optimizer step; what it gave, and whether a process was told to stop."""
        passes = self.options.schedule.gradient_accumulation_steps
        loss, labels, tokens = np.float32(0), 0, 0
        scale = Tensor(self.scaler.scale, ms.float32)
        for number in range(passes):
            batch = self.train_data.batch(step * passes + number)
            keep = Tensor(float(number > 0), ms.float32)
            loss += self.collect(*batch.tensors(), keep, scale).asnumpy()
            labels += batch.label_count
            tokens += batch.ids.size
        own = Totals(loss, labels, self.signalled)
        summed, norm = self.reduce(own.tensor(), scale)
        totals, length = Totals(*summed.asnumpy()), float(norm)
        if self.scaler.accepts(length):
            self.update(norm, Tensor(self.rate(step), ms.float32)).asnumpy()
        loss = float(totals.loss) / max(1.0, float(totals.labels))
        return Figures(loss, length, tokens * self.mesh.world.size), bool(totals.stop > 0)

    def _evaluate(self) -> float:
        """Mean loss of every held-back label; no caption is dropped."""
        # Without dropout both modes are one; changing it would compile the step anew.
        training = not self.model.config.attention_dropout
        self.loss.set_train(training)
        loss, labels = np.float32(0), 0
        for index in range(self.eval_data.passes):
            batch = self.eval_data.batch(index)
            loss += self.loss(*batch.tensors()).asnumpy()
            labels += batch.label_count
        self.loss.set_train(True)
        totals = Totals(*self.reduce.sum(Totals(loss, labels, 0).tensor()).asnumpy())
        return float(totals.loss / max(1.0, totals.labels))

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
        }

    def _check_same_run(self, path: Path, values: dict) -> None:
        """Refuse a checkpoint whose data order or frozen weights are not this run's.

        Raises:
            InputError: says which.
        """
        for name, ours in self._identity().items():
            if values["identity"][name] != ours:
                raise InputError(
                    f"{path} was trained with {values['identity'][name]} as {name}, this run has "
                    f"{ours}; allowed: the same; change --per_device_train_batch_size, "
                    "--gradient_accumulation_steps, --model_name_or_path or --resume"
                )

    def _save(self, step: int) -> Path:
        """Write the checkpoint of `step`: gathered by all, written by the first process."""
        whole = {kind: self.states.whole(kind, self.leads) for kind in states.KINDS}
        if not self.leads:
            return self.output / f"checkpoint-{step}"
        weights = dict(self.model.parameters_and_names()) | whole["master"] | merged(self.model)
        weights = {name: weights[name] for name in weights if not is_adapter(name)}
        values = {"step": step, "scaler": self.scaler.values(), "identity": self._identity()}
        output = self.options.output
        with checkpoints.new_checkpoint(self.output, step, output.save_total_limit) as folder:
            states.save(folder / checkpoints.STATE, whole, self.update, values)
            self.model.save_pretrained(folder, dtype=output.save_dtype, weights=weights)
            self.tokenizer.save_pretrained(folder)
        return self.output / f"checkpoint-{step}"

    def _stop(self, number: int, frame: object) -> None:
        self.signalled = True
