"""generate() and stream(): what Emu3ForCausalLM inherits to decode.

Shapes: B prompts, N = B x pictures sequences, T columns of input_ids, n new tokens.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor
from transformers.generation.configuration_utils import GenerationConfig

from emu3.arrays import as_numpy
from emu3.mllm.generation.decoder import Decoder, StepStore
from emu3.mllm.generation.events import Done, Event, PrefillDone
from emu3.mllm.generation.processors import FORBIDDEN, apply_foreign
from emu3.mllm.generation.progress import Pictures, Texts
from emu3.mllm.generation.request import Request, make_request
from emu3.mllm.generation.window_decoder import JacobiDecoder, ZipDecoder
from emu3.mllm.vocabulary import FREE


class GenerationMixin:
    """Decoding for a model with `.model`, `.lm_head`, `.config` and `.generation_config`."""

    def generate(
        self,
        input_ids,
        generation_config: GenerationConfig | None = None,
        logits_processor: Iterable | None = None,
        attention_mask=None,
        streamer=None,
        seed: int | Sequence[int] | None = None,
        jit: bool | None = None,
        **overrides,
    ) -> Tensor:
        """Continue the prompts; int32 (N, T + n), prompts included, finished rows padded.

        Args:
            input_ids: (B, T), padded on either side where `attention_mask` (B, T) is 0.
            generation_config: replaces the checkpoint's as a whole.
            logits_processor: guidance and grid constraints join the fast path; any other one is
                called at every step with ids so far and scores, which is slower.
            streamer: gets the prompt, then each column of new ids by put(), then end().
            seed: a whole number, or one per sequence; None draws one.
            jit: False runs the step operator by operator: the same tokens, slower.
            overrides: any field of GenerationConfig; `negative_prompt_ids` (1 or B, T') and
                `negative_prompt_attention_mask` for guidance_scale; `image_size` (1 or B, 2)
                latent rows and columns, which makes each prompt go on with a picture's grid;
                `decoding` "plain", "jacobi" (with `window`, `coupling`) or the lossy "zipar"
                (with `zipar_window`), see docs/decoding.md.

        Raises:
            InputError: an argument that is impossible or not supported.
        """
        request = make_request(
            self, input_ids, generation_config, logits_processor, attention_mask, seed, overrides
        )
        if streamer is not None:
            streamer.put(as_numpy(input_ids))
        for event in self._events(request, jit, streamer):
            done = event
        return Tensor(done.sequences, ms.int32)

    def stream(
        self,
        input_ids,
        generation_config: GenerationConfig | None = None,
        logits_processor: Iterable | None = None,
        attention_mask=None,
        seed: int | Sequence[int] | None = None,
        jit: bool | None = None,
        **overrides,
    ) -> Iterator[Event]:
        """`generate` as a sequence of events, of which `Done` is the last.

        Arguments are checked at once. Whoever stops early keeps what the events so far held.
        """
        request = make_request(
            self, input_ids, generation_config, logits_processor, attention_mask, seed, overrides
        )
        return self._events(request, jit)

    def _events(self, request: Request, jit: bool | None, streamer=None) -> Iterator[Event]:
        training = self.training
        self.set_train(False)
        try:
            yield from _run(self, request, jit is not False, streamer)
        finally:
            self.set_train(training)

    def _step_store(self) -> StepStore:
        """Compiled steps, kept for the next generation; not part of the network."""
        if "_steps" not in self.__dict__:
            self.__dict__["_steps"] = StepStore(self)
        return self.__dict__["_steps"]


def _run(model, request: Request, jit: bool, streamer) -> Iterator[Event]:
    began = time.perf_counter()
    decoder = _decoder(model, request, jit)
    progress = Texts(request) if request.grid is None else Pictures(request)
    try:
        logits = decoder.start()
        prompts = sum(len(prompt) for prompt in request.rows.prompts)
        yield PrefillDone(prompts, time.perf_counter() - began)
        _choose(decoder, request, logits)
        shown = _show(streamer, progress.output(decoder, whole=False), 0)
        yield from progress.events(decoder)
        while not progress.finished(decoder):
            if request.needs_host:
                _choose(decoder, request, decoder.next_logits())
            else:
                decoder.advance(progress.block)
            shown = _show(streamer, progress.output(decoder, whole=False), shown)
            yield from progress.events(decoder)
    finally:
        decoder.close()
    new = progress.output(decoder, whole=True)
    _show(streamer, new, shown)
    if streamer is not None:
        streamer.end()
    yield Done(
        sequences=np.concatenate([request.ids, new], 1),
        tokens=progress.count(new),
        seconds=time.perf_counter() - began,
        compile_seconds=decoder.compile_seconds,
        seeds=request.seeds,
        forwards=tuple(decoder.forwards.tolist()),
    )


def _decoder(model, request: Request, jit: bool) -> Decoder:
    """The decoder of the request's scheme."""
    settings = request.settings
    arguments = (
        model._step_store(),
        request.rows,
        request.step_kind(model.config.vocab_size),
        request.tables,
        (settings.guidance_scale, settings.temperature, settings.top_p),
        jit,
    )
    if settings.decoding.scheme == "jacobi":
        return JacobiDecoder(*arguments)
    if settings.decoding.scheme == "zipar":
        return ZipDecoder(*arguments, request.schedule)
    return Decoder(*arguments, known_length=request.grid is not None)


def _show(streamer, output: np.ndarray, shown: int) -> int:
    """Hand the columns of output (N, n) from `shown` on to a streamer; returns n."""
    for column in output[:, shown:].T if streamer is not None else ():
        streamer.put(column)
    return output.shape[1]


def _choose(decoder: Decoder, request: Request, logits: Tensor) -> None:
    """One token from logits, by way of the host when processors want to see them."""
    if request.needs_host:
        ids = np.concatenate([request.ids, decoder.tokens], 1)
        scores = logits.asnumpy()
        if request.grid is not None:
            vocabulary = request.grid.vocabulary
            visual = np.full_like(scores, FORBIDDEN)
            span = slice(vocabulary.visual_start, vocabulary.visual_end)
            visual[:, span] = scores[:, span]
            free = request.tables.forced[:, decoder.tokens.shape[1], None] == FREE
            scores = np.where(free, visual, scores)
        for processor in request.own:
            scores = processor(ids, scores)
        for processor in request.foreign:
            scores = apply_foreign(processor, ids, scores)
        logits = Tensor(scores)
    decoder.choose(logits)
