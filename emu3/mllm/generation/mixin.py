"""generate() and stream(): what Emu3ForCausalLM inherits to decode.

Shapes: B prompts, N = B x pictures sequences, T columns of input_ids, n new tokens.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor
from transformers.generation.configuration_utils import GenerationConfig

from emu3.mllm.generation.decoder import Decoder, StepStore
from emu3.mllm.generation.events import Done, Event, PrefillDone, RowDone, TextPiece
from emu3.mllm.generation.processors import FORBIDDEN, apply_foreign
from emu3.mllm.generation.request import Request, make_request
from emu3.mllm.vocabulary import FREE

TEXT_BLOCK = 8


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
            jit: compile the step; None decides by the device, and graph mode always compiles.
            overrides: any field of GenerationConfig; `negative_prompt_ids` (1 or B, T') and
                `negative_prompt_attention_mask` for guidance_scale; `image_size` (1 or B, 2)
                latent rows and columns, which makes each prompt go on with a picture's grid.

        Raises:
            InputError: an argument that is impossible or not supported.
        """
        events = self.stream(
            input_ids, generation_config, logits_processor, attention_mask, seed, jit, **overrides
        )
        if streamer is not None:
            streamer.put(np.asarray(input_ids))
        for event in events:
            if isinstance(event, Done):
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
        """`generate` as a sequence of events; arguments are checked when the first is asked for."""
        request = make_request(
            self, input_ids, generation_config, logits_processor, attention_mask, seed, overrides
        )
        training = self.training
        self.set_train(False)
        try:
            yield from _run(self, request, True if jit is None else jit)
        finally:
            self.set_train(training)

    def _step_store(self) -> StepStore:
        """Compiled steps, kept for the next generation; not part of the network."""
        if "_steps" not in self.__dict__:
            self.__dict__["_steps"] = StepStore(self)
        return self.__dict__["_steps"]


def _run(model, request: Request, jit: bool) -> Iterator[Event]:
    began = time.perf_counter()
    settings = request.settings
    decoder = Decoder(
        model._step_store(),
        request.rows,
        request.step_kind(model.config.vocab_size),
        request.tables,
        (settings.guidance_scale, settings.temperature, settings.top_p),
        jit,
        known_length=request.grid is not None,
    )
    logits = decoder.start()
    tokens = int(sum(len(prompt) for prompt in request.rows.prompts))
    yield PrefillDone(tokens, time.perf_counter() - began)
    _choose(decoder, request, logits)
    progress = _Pictures(request) if request.grid is not None else _Texts(request)
    yield from progress.events(decoder.tokens)
    while not progress.finished(decoder.tokens):
        if request.needs_host:
            _choose(decoder, request, decoder.next_logits())
        else:
            decoder.advance(progress.block)
        yield from progress.events(decoder.tokens)
    new = progress.closed(decoder.tokens)
    yield Done(
        sequences=np.concatenate([request.ids, new], 1),
        tokens=int(sum(progress.lengths(new))),
        seconds=time.perf_counter() - began,
        compile_seconds=decoder.compile_seconds,
        seeds=request.seeds,
    )


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


class _Pictures:
    """Progress of pictures: rows as they are finished; the rest of the grid is known."""

    def __init__(self, request: Request) -> None:
        self.grid = request.grid
        self.settings = request.settings
        self.block = self.grid.block
        count = len(request.ids)
        self.sent = [self.grid.rows_done(i, 0) for i in range(count)]

    def finished(self, tokens: np.ndarray) -> bool:
        return tokens.shape[1] >= self.grid.free_until

    def events(self, tokens: np.ndarray) -> Iterator[Event]:
        for sequence, sent in enumerate(self.sent):
            ready = self.grid.rows_done(sequence, tokens.shape[1])
            self.sent[sequence] = ready
            for row in range(sent, ready):
                ids = self.grid.row_ids(sequence, row, tokens[sequence])
                if ids is not None:
                    yield RowDone(sequence, row, self.grid.vocabulary.codes_of(ids))

    def closed(self, tokens: np.ndarray) -> np.ndarray:
        """All new ids (N, n): those made and those known."""
        made = tokens.shape[1]
        return np.concatenate([tokens, self.grid.forced[:, made:]], 1)[
            :, : self.grid.forced.shape[1]
        ]

    def lengths(self, new: np.ndarray) -> list[int]:
        h, w = self.grid.sizes.T
        return np.minimum(h * (w + 1) + 3 - self.grid.done, new.shape[1]).tolist()


class _Texts:
    """Progress of answers: ids as they come, each sequence up to its eos."""

    block = TEXT_BLOCK

    def __init__(self, request: Request) -> None:
        self.settings = request.settings
        self.count = request.tables.forced.shape[1]
        self.sent = [0] * len(request.ids)

    def lengths(self, tokens: np.ndarray) -> list[int]:
        """Ids of each sequence up to and with its eos."""
        ends = np.isin(tokens, self.settings.eos)
        return [int(e.argmax()) + 1 if e.any() else tokens.shape[1] for e in ends]

    def ended(self, tokens: np.ndarray) -> np.ndarray:
        return np.isin(tokens, self.settings.eos).any(1)

    def finished(self, tokens: np.ndarray) -> bool:
        return tokens.shape[1] >= self.count or bool(self.ended(tokens).all())

    def events(self, tokens: np.ndarray) -> Iterator[Event]:
        ended = self.ended(tokens)
        for sequence, length in enumerate(self.lengths(tokens)):
            length -= int(ended[sequence])
            piece = tokens[sequence, self.sent[sequence] : length]
            self.sent[sequence] = max(length, self.sent[sequence])
            if piece.size:
                yield TextPiece(sequence, piece)

    def closed(self, tokens: np.ndarray) -> np.ndarray:
        """New ids (N, n) cut after the longest answer, padded after each eos."""
        lengths = np.array(self.lengths(tokens))
        kept = tokens[:, : lengths.max()]
        return np.where(np.arange(kept.shape[1]) < lengths[:, None], kept, self.settings.pad)
