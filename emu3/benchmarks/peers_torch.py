"""PyTorch's side of the benchmarks: Llama of equal size from transformers' own parts.

Runs in a process of its own, asked through `emu3.benchmarks.peer`. Nothing else imports torch.
Shapes: R rows, T tokens, V candidates.
"""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig, LlamaConfig, LlamaForCausalLM, StaticCache
from transformers.generation.logits_process import (
    LogitsProcessorList,
    PrefixConstrainedLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)

from emu3.benchmarks.turns import Turn, turns


def serve(folder: str) -> None:
    """Run the way that the settings in `folder` name."""
    settings, turn = turns(Path(folder))
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    ways()[settings["way"]](settings, Path(folder), turn)


def ways() -> dict[str, Callable[[dict, Path, Turn], None]]:
    """Every way by name."""
    from emu3.benchmarks.peer_vision_torch import vision

    return {
        "decode_reference": decode_reference,
        "decode_batched": decode_batched,
        "decode_static": decode_static,
        "prefill": prefill,
        "sft": sft,
        "vision": vision,
    }


def llama(settings: dict, folder: Path) -> LlamaForCausalLM:
    """The net of the settings with our weights, whose names are the same, in their dtype."""
    config = LlamaConfig(
        vocab_size=settings["vocabulary"],
        hidden_size=settings["hidden"],
        intermediate_size=settings["inner"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        num_key_value_heads=settings["kv_heads"],
        max_position_embeddings=16384,
        rms_norm_eps=1e-5,
        rope_theta=1e6,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return model.to(getattr(torch, settings.get("dtype", "float32"))).eval()


class RowStreamer:
    """Takes turns after each row of tokens that transformers' generate() makes."""

    def __init__(self, row: int, turn: Turn) -> None:
        self.steps, self.turn, self.made = row + 1, turn, -1  # the prompt comes first

    def put(self, tokens: torch.Tensor) -> None:
        """Count a column of tokens."""
        self.made += 1
        if self.made and self.made % self.steps == 0:
            self.turn(seconds=time.perf_counter() - self.began)
        if self.made % self.steps == 0:
            self.began = time.perf_counter()

    def end(self) -> None:
        """Nothing is left to show."""


@torch.inference_mode()
def decode_reference(settings: dict, folder: Path, turn: Turn) -> None:
    """generate() with unbatched guidance, a growing cache, and a callback for allowed ids."""
    model = llama(settings, folder)
    prompts, negative = (torch.tensor(settings[name]) for name in ("prompts", "negative"))
    length, steps = prompts.shape[1], settings["row"] + 1
    visual = list(range(settings["vocabulary"] - settings["visual"], settings["vocabulary"]))

    def allowed(_: int, ids: torch.Tensor) -> list[int]:
        place = len(ids) - length
        return visual if place % steps < settings["row"] else [settings["eol"]]

    unwanted = negative.expand(len(prompts), -1)
    processors = LogitsProcessorList(
        [
            UnbatchedClassifierFreeGuidanceLogitsProcessor(
                settings["guidance"], model, unconditional_ids=unwanted
            ),
            PrefixConstrainedLogitsProcessor(allowed, num_beams=1),
        ]
    )
    generation = GenerationConfig(
        do_sample=True,
        top_k=settings["top_k"],
        use_cache=True,
        max_new_tokens=settings["rows"] * steps,
        pad_token_id=0,
    )
    turn(ready=True)
    model.generate(
        prompts,
        generation,
        attention_mask=torch.ones_like(prompts),
        logits_processor=processors,
        streamer=RowStreamer(settings["row"], turn),
    )
    turn(ended=True)


class BatchedRows:
    """All rows in one batch, only the head's visual rows, forced tokens never sampled."""

    def __init__(self, settings: dict, folder: Path, static: bool) -> None:
        model = llama(settings, folder)
        self.net, self.settings = model.model, settings
        self.first = settings["vocabulary"] - settings["visual"]
        self.head = model.lm_head.weight[self.first :]
        self.sequences = len(settings["prompts"])
        rows = settings["prompts"]
        if settings["guidance"] != 1:
            rows = rows + settings["negative"] * self.sequences
        self.ids = torch.tensor(rows)  # (R, T)
        self.place = self.ids.shape[1]
        self.cache = DynamicCache()
        if static:
            slots = self.place + settings["rows"] * (settings["row"] + 1)
            self.cache = StaticCache(config=model.config, max_cache_len=slots)
        self.token = self.sample(self.run(self.ids, torch.arange(self.place)))

    def run(self, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Last hidden state of each row (R, C) after ids (R, T) at `places` (T,)."""
        output = self.net(
            ids, past_key_values=self.cache, use_cache=True, cache_position=places
        ).last_hidden_state
        return output[:, -1]

    def sample(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden (R, C) -> tokens (N,)."""
        logits = functional.linear(hidden, self.head).float()
        if len(logits) > self.sequences:
            wanted, unwanted = logits.chunk(2)
            logits = unwanted + self.settings["guidance"] * (wanted - unwanted)
        best, ids = logits.topk(min(self.settings["top_k"], logits.shape[-1]))
        chosen = torch.multinomial(best.softmax(-1), 1)
        return ids.gather(1, chosen)[:, 0] + self.first

    def step(self, forced: int | None) -> None:
        """Run the last token; the next is `forced` or sampled."""
        ids = self.token.repeat(len(self.ids) // self.sequences)[:, None]
        hidden = self.run(ids, torch.tensor([self.place]))
        self.place += 1
        self.token = self.sample(hidden) if forced is None else torch.full_like(self.token, forced)

    def row(self) -> float:
        """Seconds of one row and its end."""
        began = time.perf_counter()
        for place in range(self.settings["row"] + 1):
            self.step(self.settings["eol"] if place + 1 == self.settings["row"] else None)
        return time.perf_counter() - began


def decode_batched(settings: dict, folder: Path, turn: Turn) -> None:
    """One batch, growing cache."""
    _rows(settings, folder, turn, static=False)


def decode_static(settings: dict, folder: Path, turn: Turn) -> None:
    """One batch, static cache."""
    _rows(settings, folder, turn, static=True)


@torch.inference_mode()
def _rows(settings: dict, folder: Path, turn: Turn, static: bool) -> None:
    rows = BatchedRows(settings, folder, static)
    turn(ready=True)
    while True:
        turn(seconds=rows.row())


@torch.inference_mode()
def prefill(settings: dict, folder: Path, turn: Turn) -> None:
    """Prompts into a growing cache, logits of the last token."""
    model, ids = llama(settings, folder), torch.tensor(settings["prompts"])
    turn(ready=True)
    while True:
        began = time.perf_counter()
        model(ids, use_cache=True, logits_to_keep=1)
        turn(seconds=time.perf_counter() - began)


def sft(settings: dict, folder: Path, turn: Turn) -> None:
    """Forward, backward, clipping by the global norm, AdamW; transformers' own loss."""
    model = llama(settings, folder).train()
    ids, labels = (torch.tensor(settings[name]) for name in ("ids", "labels"))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings["lr"], betas=(0.9, 0.95), weight_decay=settings["decay"]
    )
    turn(ready=True)
    loss = None
    while True:
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = model(ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        turn(seconds=time.perf_counter() - began, loss=float(loss.detach()))
