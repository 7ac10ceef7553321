"""The Emu3 language model (Wang et al. 2024): a Llama-like decoder over text and visual ids.

Shapes: B batch, T new tokens, S tokens in all (cached and new), C hidden width, H query heads,
G key/value heads, D head width, V vocabulary.

`Emu3ForCausalLM` prepares masks and positions on the host; `Emu3Model` is the network proper,
which runs operator by operator, under ms.jit, and in graph mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from transformers.generation.configuration_utils import GenerationConfig

from emu3 import runtime
from emu3.arrays import as_numpy
from emu3.configfile import read_generation_config
from emu3.errors import InputError
from emu3.hub import GENERATION_CONFIG
from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.generation.generate import GenerationMixin
from emu3.mllm.generation.settings import check_stated
from emu3.mllm.rotary import causal_bias, positions_from_mask, rope_table
from emu3.mllm.tokenization_emu3 import TOKENIZER_FILES
from emu3.names import WEIGHTS
from emu3.nn import ascend
from emu3.nn.attention import Attend, Heads, Rotary
from emu3.nn.dropout import Dropout
from emu3.nn.forms import pays
from emu3.nn.linear import Embedding, Linear
from emu3.nn.log_sum_exp import shifted_exp
from emu3.nn.rmsnorm import RMSNorm
from emu3.nn.swiglu import SwiGLU, gated_kernel
from emu3.pretrained import PretrainedModel

IGNORED_LABEL = -100
KeyValues = tuple[tuple[Tensor, Tensor], ...]


@dataclass(eq=False)
class CausalLMOutput(dict):
    """What a forward pass returns; also reads as a dict or, by index, as a tuple of what is set."""

    loss: Tensor | None = None  # () float32
    logits: Tensor | None = None  # (B, T, V) float32
    past_key_values: KeyValues | None = None  # per layer: key, value (B, G, S, D)
    hidden_states: tuple[Tensor, ...] | None = None  # each layer's input, then the normed output

    def __post_init__(self) -> None:
        self.update({name: value for name, value in vars(self).items() if value is not None})

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple:
        """The fields that are set, in their order."""
        return tuple(self.values())


def ends(x: Tensor, last: int | None) -> Tensor:
    """The last tokens of x (B, T, ...), or all of them for None."""
    return x if last is None else x[:, -last:]


class Attention(nn.Cell):
    """Self-attention with rotary positions; keys are cached after rotation."""

    def __init__(self, config: Emu3Config) -> None:
        super().__init__()
        width, sigma = config.hidden_size, config.initializer_range
        self.head_dim = config.head_dim
        self.exchange = None  # set by emu3.parallel.sequence.share_sequence
        self.attention = runtime.resolve_attention(config._attn_implementation)
        self.rotary, self.heads = Rotary(), Heads()
        self.attend = Attend(self.attention, config.attention_dropout)
        groups = config.num_key_value_heads * config.head_dim
        self.q_proj = Linear(width, width, sigma=sigma)
        self.k_proj = Linear(width, groups, sigma=sigma)
        self.v_proj = Linear(width, groups, sigma=sigma)
        self.o_proj = Linear(width, width, sigma=sigma)

    def construct(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        bias: Tensor,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        last: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, C) -> (B, T, C), and all keys and values so far (B, G, S, D).

        With `last` only so many last tokens of T look back.
        """
        query = self.rotary(self.q_proj(ends(x, last)), ends(cos, last), ends(sin, last))
        if last is not None:
            bias = bias[:, :, -last:]
        key = self.rotary(self.k_proj(x), cos, sin)
        value = self.heads(self.v_proj(x), cos)
        if past_key is not None:
            key = ops.cat((past_key, key), 2)
            value = ops.cat((past_value, value), 2)
        if self.exchange is not None:
            query, key, value = self.exchange.to_heads(query, key, value)
        out = self.attend(query, key, value, bias)
        if self.exchange is not None:
            out = self.exchange.to_sequence(out)
        return self.o_proj(out), key, value


class MLP(nn.Cell):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: Emu3Config) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = Linear(width, inner, sigma=config.initializer_range)
        self.up_proj = Linear(width, inner, sigma=config.initializer_range)
        self.down_proj = Linear(inner, width, sigma=config.initializer_range)
        self.swiglu, self.gated = SwiGLU(), gated_kernel()

    def construct(self, x: Tensor) -> Tensor:
        if self._is_one_kernels(x):
            rows = x.reshape((-1, x.shape[-1]))
            inner = self.gated(rows, self.gate_proj.weight, self.up_proj.weight)
            return self.down_proj(inner.reshape((*x.shape[:-1], -1)))
        return self.down_proj(self.swiglu(self.gate_proj(x), self.up_proj(x)))

    def _is_one_kernels(self, x: Tensor) -> bool:
        """Whether one kernel makes gate, up and their product: in plain float32, of many rows."""
        plain = self.gate_proj.is_plain() and self.up_proj.is_plain()
        return plain and pays(self.gated, x, self.training)


class DecoderLayer(nn.Cell):
    """Attention and MLP, each after a norm and inside a residual connection.

    `generation.step.StepLayer` is the same layer on a cache of fixed shape, for decoding; a test
    holds the two against each other.
    """

    def __init__(self, config: Emu3Config) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = Dropout(config.attention_dropout)

    def construct(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        bias: Tensor,
        past_key: Tensor | None = None,
        past_value: Tensor | None = None,
        last: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Attention.construct`."""
        out, key, value = self.self_attn(
            self.input_layernorm(x), cos, sin, bias, past_key, past_value, last
        )
        x = ends(x, last) + self.dropout(out)
        x = x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return x, key, value


class Emu3Model(nn.Cell):
    """Embedding, decoder layers and final norm; everything between ids and the head."""

    def __init__(self, config: Emu3Config) -> None:
        super().__init__()
        self.embed_tokens = Embedding(
            config.vocab_size,
            config.hidden_size,
            sigma=config.initializer_range,
            pad=config.pad_token_id,
        )
        self.layers = nn.CellList([DecoderLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = Dropout(config.attention_dropout)

    def construct(
        self, embeds: Tensor, cos: Tensor, sin: Tensor, bias: Tensor, *past: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The whole network.

        Args:
            embeds: (B, T, C).
            cos, sin: rotary table rows of the new tokens, (B or 1, T, D).
            bias: (B or 1, 1, T, S) float32, as `causal_bias` gives it.
            past: cached key and value of each layer in turn, each (B, G, S - T, D); or nothing.

        Returns:
            Normed output (B, T, C), each layer's input, and key and value of each layer in turn.
        """
        x = self.dropout(embeds)
        cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
        states, cache = (), ()
        for i, layer in enumerate(self.layers):
            states += (x,)
            past_key = past[2 * i] if past else None
            past_value = past[2 * i + 1] if past else None
            x, key, value = layer(x, cos, sin, bias, past_key, past_value)
            cache += (key, value)
        return self.norm(x), states, cache

    def hidden(self, embeds: Tensor, cos: Tensor, sin: Tensor, bias: Tensor) -> Tensor:
        """`construct` without a cache: (B, T, C) -> normed (B, T, C)."""
        x, _, _ = self.construct(embeds, cos, sin, bias)
        return x


class Emu3ForCausalLM(GenerationMixin, PretrainedModel):
    """The network with its untied head: ids in, logits and loss out; `generate` to decode."""

    config_class = Emu3Config
    side_files = TOKENIZER_FILES
    forms = WEIGHTS
    main_input_name = "input_ids"

    def __init__(self, config: Emu3Config) -> None:
        super().__init__(config)
        self.model = Emu3Model(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, sigma=config.initializer_range)
        self.lm_head.by_lines = True  # a step takes those that can be sampled
        self.generation_config = GenerationConfig.from_model_config(config)

    def has_fused_step(self, dtype: ms.Type) -> bool:
        """Whether decoding in `dtype` runs Ascend's fused operators here."""
        config, attention = self.config, self.model.layers[0].self_attn.attention
        heads = (config.num_attention_heads, config.num_key_value_heads, config.head_dim)
        return ascend.fits(dtype, attention, *heads)

    @classmethod
    def _read_generation(
        cls, folder: Path, config: Emu3Config
    ) -> tuple[GenerationConfig, tuple[str, ...]] | None:
        path = folder / GENERATION_CONFIG
        if not path.exists():
            return None
        stated, names = read_generation_config(path)
        try:
            check_stated(stated, config)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return stated, names

    def __call__(self, *args, **kwargs) -> CausalLMOutput | tuple:
        """`forward`. In graph mode it runs in Python, since a graph returns no dataclass."""
        if runtime.graph_mode():
            return self.forward(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def construct(self, *args, **kwargs) -> CausalLMOutput | tuple:
        # One line that any graph can parse, so that a training cell may hold this model.
        return self.forward(*args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KeyValues | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool = True,
    ) -> CausalLMOutput | tuple:
        """One forward pass.

        Args:
            input_ids: int (B, T); or give `inputs_embeds` (B, T, C).
            attention_mask: (B, S), 1 = keep, covering cached and new tokens; all ones when None.
            position_ids: (B or 1, T); counted from the mask when None, padding on either side.
            past_key_values: what an earlier pass returned. With dynamic RoPE, keys cached before
                the base changed keep theirs (see `rope_table`).
            labels: int (B, T), -100 = ignored; shifted here.
            use_cache: return keys and values; config.use_cache outside training when None.
            output_hidden_states: return each layer's input and the normed output.
            return_dict: False returns the fields that are set, as a tuple.

        Raises:
            InputError: not exactly one of ids and embeddings, an id outside the vocabulary, or a
                shape that does not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.model.embed_tokens(self._checked(input_ids))
        past = [tensor for pair in past_key_values or () for tensor in pair]
        cos, sin, bias = self.geometry(inputs_embeds.shape, attention_mask, position_ids, past)
        hidden, states, cache = self.model(inputs_embeds, cos, sin, bias, *past)
        logits = self.lm_head(hidden).astype(ms.float32)
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        output = CausalLMOutput(
            loss=None if labels is None else causal_loss(logits, labels),
            logits=logits,
            past_key_values=tuple(zip(cache[::2], cache[1::2])) if use_cache else None,
            hidden_states=(*states, hidden) if output_hidden_states else None,
        )
        return output if return_dict else output.to_tuple()

    def _checked(self, input_ids: Tensor) -> Tensor:
        ids = as_numpy(input_ids)
        if ids.ndim != 2 or ids.size == 0:
            raise InputError(f"input_ids have shape {ids.shape}; allowed: (B, T), both at least 1")
        if ids.min() < 0 or ids.max() >= self.config.vocab_size:
            raise InputError(
                f"input_ids span {ids.min()}..{ids.max()}; allowed: 0..{self.config.vocab_size - 1}"
            )
        return Tensor(ids, ms.int32)

    def geometry(
        self,
        shape: tuple[int, ...],
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """cos and sin (B or 1, T, D) and bias (B or 1, 1, T, S) of a pass of so many new tokens
        (B, T) behind keys and values in `past`, from the host.

        Raises:
            InputError: a mask or positions of another shape.
        """
        batch, new = shape[:2]
        total = new + (past[0].shape[2] if past else 0)
        mask = as_numpy(np.ones((1, total)) if attention_mask is None else attention_mask)
        if attention_mask is not None and mask.shape != (batch, total):
            raise InputError(
                f"attention_mask has shape {mask.shape}; allowed: {(batch, total)}, one column for "
                "each cached and each new token"
            )
        if position_ids is None:
            positions = positions_from_mask(mask)[:, -new:]
        else:
            positions = as_numpy(position_ids)
            if positions.shape not in ((1, new), (batch, new)) or positions.min() < 0:
                raise InputError(
                    f"position_ids have shape {positions.shape} and start at {positions.min()}; "
                    f"allowed: {(1, new)} or {(batch, new)}, none below 0"
                )
        table = rope_table(self.config, max(total, int(positions.max()) + 1))
        cos, sin = (Tensor(part[positions]) for part in table)
        return cos, sin, Tensor(causal_bias(mask, new))


def causal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each label given what stands before it; 0 when none counts.

    logits (B, T, V) float32, labels (B, T), -100 = ignored -> () float32.
    """
    vocabulary = logits.shape[-1]
    scores = logits[:, :-1].reshape((-1, vocabulary))
    targets = Tensor(as_numpy(labels)[:, 1:].reshape(-1), ms.int32)
    counted = (targets != IGNORED_LABEL).astype(ms.float32)
    scores, _, sums = shifted_exp(scores)
    chosen = ops.gather_elements(scores, 1, ops.maximum(targets, 0).expand_dims(1))[:, 0]
    losses = ops.log(sums) - chosen
    return (losses * counted).sum() / ops.maximum(counted.sum(), 1.0)
