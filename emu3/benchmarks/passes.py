"""What a run of the network costs that tries several places of each picture, as Jacobi does.

A block is as many runs as are read back at a time. Jacobi goes back to where it began after each:
what it accepts, which depends on the weights, then changes neither the bytes nor the cost of a run.
"""

from typing import TYPE_CHECKING

from emu3.benchmarks import measure, nets
from emu3.benchmarks.table import Row

if TYPE_CHECKING:
    from emu3.benchmarks.decode import DecodeOptions
    from emu3.mllm import Emu3ForCausalLM


class Passes:
    """A guided picture under way; `block` runs the network several times."""

    def __init__(
        self, model: "Emu3ForCausalLM", options: "DecodeOptions", prefix: int, window: int
    ) -> None:
        from emu3.mllm.generation.decoder import StepStore
        from emu3.mllm.generation.schemes import part
        from emu3.mllm.generation.window import RUNS

        prompts = nets.random_prompts(options.net.sizes, options.sequences, prefix)
        named = {} if options.guidance == 1 else {"negative_prompt_ids": prompts[:1]}
        if window > 1:
            named |= {"decoding": "jacobi", "window": window}
        request = model.request(
            prompts,
            image_size=grid(options),
            guidance_scale=options.guidance,
            do_sample=True,
            top_k=options.top_k,
            seed=0,
            jit=options.device.jit,
            **named,
        )
        self.runs, self.window = RUNS, window
        self.decoder = part(request.settings.scheme.decoder)(StepStore(model), request)
        self.decoder.choose(self.decoder.start())

    def block(self) -> float:
        """Seconds of a run."""
        before = self.decoder.forwards.max()
        if self.window > 1:
            slot = self.decoder.slot.copy()
        seconds = measure.timed(lambda: self.decoder.advance(self.runs))
        if self.window > 1:
            self.decoder.slot = slot
        return seconds / (self.decoder.forwards.max() - before)


def grid(options: "DecodeOptions") -> tuple[int, int]:
    """Rows and columns of a picture with a token for every plain run."""
    from emu3.mllm.generation.window import RUNS

    rows, columns = options.grid
    return max(rows, -(-(options.repeats + 2) * RUNS // (columns + 1))), columns


def measured(
    models: dict[str, "Emu3ForCausalLM"], options: "DecodeOptions", prefix: int
) -> list[Row]:
    """The table's lines: each stored form with one place, then with each window."""
    windows = (1, *options.window)
    runs = {
        (form, window): Passes(model, options, prefix, window)
        for form, model in models.items()
        for window in windows
    }
    timings = measure.take_turns({k: run.block for k, run in runs.items()}, options.repeats)
    return [
        Row(
            f"emu3, {options.net.net}, {window} place(s)",
            timing,
            mode="pynative" if options.device.mode == "pynative" else "graph step",
            precision=str(models[form].dtype).lower() if form == "float32" else form,
            batch=options.sequences,
            resolution=f"{prefix} tokens before",
            rate=options.sequences * window,
            unit="places/s",
            extra={"times one place": f"{timings[form, 1].ratio(timing):.2f}"},
        )
        for (form, window), timing in timings.items()
    ]
