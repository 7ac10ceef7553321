"""generate(), stream(), request() and run(): what Emu3ForCausalLM inherits to decode.

    request   arguments are checked, once                       -> Request
    run       prompts into the cache, then blocks of steps      -> events, the last one Done

Shapes: B prompts, N = B x copies sequences, T columns of input_ids, n new tokens.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation.choosing import chosen
from emu3.mllm.generation.decoder import Decoder, StepStore
from emu3.mllm.generation.events import (
    Done,
    Event,
    PrefillDone,
    PrefillPart,
    TextPiece,
    finished,
)
from emu3.mllm.generation.logits_processors import FORBIDDEN, apply_foreign
from emu3.mllm.generation.prefill import QUIET_SECONDS
from emu3.mllm.generation.request import Request, make_request, refuse_streamer
from emu3.mllm.generation.schemes import part
from emu3.mllm.vocabulary import FREE
from emu3.runtime import ONE_AT_A_TIME

if TYPE_CHECKING:
    from transformers.generation.configuration_utils import GenerationConfig

TEXT_BLOCK = 8


class GenerationMixin:
    """Decoding for a model with `.model`, `.lm_head`, `.config` and `.generation_config`."""

    request = make_request  # the arguments of `generate` checked, for `run`, once or often

    def generate(
        self,
        input_ids,
        generation_config: "GenerationConfig | None" = None,
        logits_processor: Iterable | None = None,
        attention_mask=None,
        streamer=None,
        seed: int | Sequence[int] | None = None,
        jit: bool | None = None,
        **overrides,
    ) -> Tensor:
        """Continue the prompts; int32 (N, T + n), prompts included, finished rows padded.

        Args:
            input_ids: (B, T), padded on either side where `attention_mask` (B, T) is 0; or rows
                of ids of any length. Without a mask pad ids are padding, unless pad is an eos.
            generation_config: replaces the checkpoint's as a whole.
            logits_processor: guidance and grid constraints join the fast path; any other one is
                called at every step with ids so far and scores, which is slower.
            streamer: gets the prompt, then each column of new ids by put(), then end().
            seed: a whole number, or one per sequence; None draws one.
            jit: False runs the step operator by operator: the same tokens, slower.
            overrides: any field of GenerationConfig; `negative_prompt_ids` (1 or B, T') and
                `negative_prompt_attention_mask` for guidance_scale, by default a picture's empty
                prompt; `image_size` (1 or B, 2) latent rows and columns, which makes each prompt
                go on with a picture's grid, unless it holds its picture whole; `video_size`
                (1 or B, 3) latent frames, rows and columns, the same for clips; `eos_token_id`
                None for answers that do not end; `best_of` candidates of each picture, of which
                the one that fits its prompt best is returned (see `choosing`);
                `decoding` "plain", "jacobi" (with `window`, `coupling`) or the lossy "zipar"
                (with `zipar_window`), see docs/decoding.md.

        A thread that generates waits for another one's to end.

        Raises:
            InputError: an argument that is impossible or not supported.
        """
        with ONE_AT_A_TIME:
            request = self.request(
                input_ids,
                generation_config,
                logits_processor,
                attention_mask,
                seed,
                jit,
                **overrides,
            )
            if streamer is not None:
                refuse_streamer(request)
                streamer.put(as_numpy(input_ids))
            for event in self.run(request, streamer):
                done = event
            return Tensor(done.sequences, ms.int32)

    def stream(self, *arguments, **named) -> Iterator[Event]:
        """`generate` without streamer as a sequence of events, of which `Done` is the last.

        Arguments are checked at once. Whoever stops early keeps what the events so far held.
        """
        return self.run(self.request(*arguments, **named))

    def run(self, request: Request, streamer=None) -> Iterator[Event]:
        """The events of a request, of which `Done` is the last.

        Several may be under way at a time, in one thread or more: each waits for the others' event.
        """
        events = _run(self, request, streamer)
        if request.settings.best_of > 1:
            events = chosen(self, request, events)
        try:
            while True:
                with ONE_AT_A_TIME:
                    event = self._next_event(events)
                if event is None:
                    return
                yield event
        finally:
            with ONE_AT_A_TIME:
                events.close()

    def _next_event(self, events: Iterator[Event]) -> Event | None:
        if not self.training:
            return next(events, None)
        self.set_train(False)
        try:
            return next(events, None)
        finally:
            self.set_train(True)

    def _step_store(self) -> StepStore:
        """Compiled steps, kept for the next generation; not part of the network."""
        if "_steps" not in self.__dict__:
            self.__dict__["_steps"] = StepStore(self)
        return self.__dict__["_steps"]


def _run(model: GenerationMixin, request: Request, streamer) -> Iterator[Event]:
    began = time.perf_counter()
    store = model._step_store()
    decoder = part(request.settings.scheme.decoder)(store, request)
    progress = Texts(request) if request.grid is None else Pictures(request)
    try:
        for parts in decoder.prefill():
            if time.perf_counter() - began > QUIET_SECONDS:
                yield PrefillPart(*parts)
        logits = _checked(decoder.start())
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
        _check_cache(decoder)
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
        seeds=request.seeds,
        forwards=tuple(decoder.forwards.tolist()),
    )


def _checked(logits: Tensor) -> Tensor:
    """Logits (N, V) of the first token, when they are numbers."""
    _check_numbers(logits.asnumpy())
    return logits


def _check_cache(decoder: Decoder) -> None:
    """See that no token made NaN: what one layer makes of it stays in the caches after it.

    Once a generation, since the step itself would be slower for it.
    """
    for kept in decoder.current.step.layers[-1].saved():
        _check_numbers(as_numpy(kept))


def _check_numbers(values: np.ndarray) -> None:
    """Look at values for NaN and infinity: a damaged weight, or numbers beyond the dtype.

    Raises:
        InputError: there are some.
    """
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise InputError(
            "the model's scores are NaN or infinite; allowed: numbers; fetch its weights again, "
            "or compute in float32 or bfloat16 (--dtype)"
        )


def _choose(decoder: Decoder, request: Request, logits: Tensor) -> None:
    """One token from logits (N, V), by way of the host when processors want to see them."""
    if request.needs_host:
        logits = _processed(request, decoder.tokens, logits)
    decoder.choose(logits)


def _processed(request: Request, tokens: np.ndarray, logits: Tensor) -> Tensor:
    """Logits (N, V) after the processors of a request, by way of the host.

    tokens (N, n) are those made so far. In a picture's grid only visual ids are possible.
    """
    ids = np.concatenate([request.ids, tokens], 1)
    scores = logits.asnumpy()
    if request.grid is not None:
        visual = np.full_like(scores, FORBIDDEN)
        vocabulary = request.grid.vocabulary
        span = slice(vocabulary.visual_start, vocabulary.visual_end)
        visual[:, span] = scores[:, span]
        free = request.forced[:, tokens.shape[1], None] == FREE
        scores = np.where(free, visual, scores)
    for processor in request.own:
        scores = processor(ids, scores)
    for processor in request.foreign:
        scores = apply_foreign(processor, ids, scores)
    return Tensor(scores)


def _show(streamer, output: np.ndarray, shown: int) -> int:
    """Hand the columns of output (N, n) from `shown` on to a streamer; returns n."""
    for column in output[:, shown:].T if streamer is not None else ():
        streamer.put(column)
    return output.shape[1]


class Pictures:
    """Pictures and clips: rows and frames as they are finished.

    What is forced after the last free place is known.
    """

    def __init__(self, request: Request) -> None:
        self.grid = request.grid
        self.sent = [self.grid.rows_done(i, 0) for i in range(len(request.ids))]

    @property
    def block(self) -> int:
        """Steps between two readings."""
        return self.grid.block

    def finished(self, made: Decoder) -> bool:
        """Whether nothing is left to sample."""
        return bool((made.counts >= self.grid.free_until).all())

    def events(self, made: Decoder) -> Iterator[Event]:
        """Rows and frames that are complete and were not before."""
        for sequence, sent in enumerate(self.sent):
            self.sent[sequence] = self.grid.rows_done(sequence, int(made.counts[sequence]))
            rows = range(sent, self.sent[sequence])
            yield from finished(self.grid, sequence, made.tokens[sequence], rows)

    def output(self, made: Decoder, whole: bool) -> np.ndarray:
        """New ids (N, n) to show so far; with `whole`, the known ones at the end too."""
        forced = self.grid.forced
        tokens = made.tokens[:, : min(made.counts.min(), forced.shape[1])]
        return np.concatenate([tokens, forced[:, tokens.shape[1] :]], 1) if whole else tokens

    def count(self, output: np.ndarray) -> int:
        """New tokens of all sequences, padding not counted."""
        return int(np.minimum(self.grid.lengths, output.shape[1]).sum())


class Texts:
    """Answers: ids as they come, each sequence up to its eos."""

    block = TEXT_BLOCK

    def __init__(self, request: Request) -> None:
        self.eos, self.pad = request.settings.eos, request.settings.pad
        self.limit = request.forced.shape[1]
        self.sent = [0] * len(request.ids)

    def finished(self, made: Decoder) -> bool:
        """Whether every sequence has ended or there is room for no more."""
        tokens = made.tokens
        return tokens.shape[1] >= self.limit or bool(np.isin(tokens, self.eos).any(1).all())

    def events(self, made: Decoder) -> Iterator[Event]:
        """Ids that were not there before, eos and what follows it left out."""
        tokens = made.tokens
        ended = np.isin(tokens, self.eos).any(1)
        for sequence, length in enumerate(self._lengths(tokens) - ended):
            piece = tokens[sequence, self.sent[sequence] : length]
            self.sent[sequence] = max(self.sent[sequence], int(length))
            if piece.size:
                yield TextPiece(sequence, piece)

    def output(self, made: Decoder, whole: bool) -> np.ndarray:
        """New ids (N, n), cut after the longest answer, padded after each eos."""
        lengths = self._lengths(made.tokens)
        kept = made.tokens[:, : lengths.max()]
        return np.where(np.arange(kept.shape[1]) < lengths[:, None], kept, self.pad)

    def count(self, output: np.ndarray) -> int:
        """New tokens of all sequences up to and with eos."""
        return int(self._lengths(output).sum())

    def _lengths(self, tokens: np.ndarray) -> np.ndarray:
        """(N,): ids of each row up to and with its first eos."""
        ends = np.isin(tokens, self.eos)
        return np.where(ends.any(1), ends.argmax(1) + 1, tokens.shape[1])
