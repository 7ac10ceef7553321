"""Emu3Config: the published fields of config.json with the released defaults."""

import inspect
from typing import Any

from transformers.configuration_utils import PretrainedConfig

from emu3.configfields import extra_fields
from emu3.errors import InputError, shown
from emu3.mllm.vocabulary import MARKERS

POSITIVE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "image_area",
    "pretraining_tp",
)
TOKEN_IDS = tuple(f"{name}_token_id" for name in MARKERS)
ROPE_SCALING = "None or {'type': 'linear' or 'dynamic', 'factor': a float > 1}"
SCALED_POSITIONS = 2**20
IMAGE_AREA = 720 * 720  # pixels of a picture, of the released models


class Emu3Config(PretrainedConfig):
    """Sizes, ids and rotary settings of an Emu3 language model; unknown keys are kept.

    `attention_dropout` also drives embedding and residual dropout, in training only.
    `pretraining_tp` is kept for round trips and has no effect. Ids left as released may exceed a
    smaller vocabulary, which then holds no pictures. Of several eos ids the first ends a picture.

    Raises:
        InputError: a value no model can have.
    """

    model_type = "Emu3"
    keys_to_ignore_at_inference = ("past_key_values",)
    rope_scaling = None  # a plain attribute here; in transformers 5 another name of rope_parameters

    def __init__(
        self,
        vocab_size: int = 184622,
        hidden_size: int = 4096,
        intermediate_size: int = 14336,
        num_hidden_layers: int = 32,
        num_attention_heads: int = 32,
        num_key_value_heads: int | None = 8,
        hidden_act: str = "silu",
        max_position_embeddings: int = 9216,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-5,
        use_cache: bool = True,
        pad_token_id: int | None = 151643,
        bos_token_id: int = 151849,
        eos_token_id: int | list[int] = 151850,
        img_token_id: int = 151851,
        boi_token_id: int = 151852,
        eoi_token_id: int = 151853,
        eol_token_id: int = 151846,
        eof_token_id: int = 151847,
        image_area: int = IMAGE_AREA,
        pretraining_tp: int = 1,
        tie_word_embeddings: bool = False,
        rope_theta: float = 1000000.0,
        rope_scaling: dict[str, Any] | None = None,
        attention_dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        self.use_cache = use_cache
        self.img_token_id = img_token_id
        self.boi_token_id = boi_token_id
        self.eoi_token_id = eoi_token_id
        self.eol_token_id = eol_token_id
        self.eof_token_id = eof_token_id
        self.image_area = image_area
        self.pretraining_tp = pretraining_tp
        rope = kwargs.pop("rope_parameters", None)
        self.rope_theta, self.rope_scaling = read_rope(rope_theta, rope_scaling, rope)
        width = kwargs.pop("head_dim", None)
        self.attention_dropout = attention_dropout
        self._check_sizes()  # which transformers reckons with
        super().__init__(
            pad_token_id=pad_token_id,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            tie_word_embeddings=tie_word_embeddings,
            **extra_fields(type(self), kwargs),
        )
        if width not in (None, self.head_dim):
            _refuse("head_dim", width, f"{self.head_dim}, hidden_size / num_attention_heads")
        self._check_ids()
        self._check_numbers()
        self._check_rope_scaling()

    @property
    def quantised(self) -> bool:
        """Whether its checkpoint holds matrices in int8, as `emu3 quantize` writes them."""
        return getattr(self, "quantization_config", None) is not None

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def least_tensors(self) -> int:
        """A lower bound of the tensors of a model: nine a layer, embedding, norm and head."""
        return 9 * self.num_hidden_layers + 3

    @property
    def most_positions(self) -> int:
        """Tokens a sequence may have: scaled rotary positions go on past the trained ones."""
        trained = self.max_position_embeddings
        return trained if self.rope_scaling is None else max(SCALED_POSITIONS, trained)

    @property
    def usual_positions(self) -> int:
        """Tokens a sequence has at most where nobody asks for more."""
        factor = 1 if self.rope_scaling is None else self.rope_scaling["factor"]
        return min(int(self.max_position_embeddings * factor), self.most_positions)

    def _check_sizes(self) -> None:
        for name in POSITIVE:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                _refuse(name, value, "a whole number >= 1")
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if self.hidden_size % (2 * heads):
            _refuse("hidden_size", self.hidden_size, f"a multiple of 2 x {heads} attention heads")
        if heads % groups:
            _refuse("num_key_value_heads", groups, f"a divisor of num_attention_heads = {heads}")

    def _check_ids(self) -> None:
        released = inspect.signature(Emu3Config.__init__).parameters
        for name in TOKEN_IDS:
            value = getattr(self, name)
            if value == released[name].default or (name == "pad_token_id" and value is None):
                continue
            ids = value if name == "eos_token_id" and isinstance(value, list | tuple) else [value]
            if not ids or not all(type(i) is int and 0 <= i < self.vocab_size for i in ids):
                _refuse(name, value, f"whole numbers in 0..{self.vocab_size - 1}, the vocabulary")

    def _check_numbers(self) -> None:
        rules = (
            ("rms_norm_eps", lambda x: x > 0, "a number > 0"),
            ("rope_theta", lambda x: 0 < x < 1e30, "a number > 0"),
            ("initializer_range", lambda x: x >= 0, "a number >= 0"),
            ("attention_dropout", lambda x: 0 <= x < 1, "a number in [0, 1)"),
        )
        for name, fits, allowed in rules:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not fits(value):
                _refuse(name, value, allowed)
        if self.hidden_act != "silu":
            _refuse("hidden_act", self.hidden_act, "'silu'")
        if self.tie_word_embeddings:
            _refuse("tie_word_embeddings", True, "False: the head has its own weight")

    def _check_rope_scaling(self) -> None:
        scaling = self.rope_scaling
        if scaling is None:
            return
        known = isinstance(scaling, dict) and set(scaling) == {"type", "factor"}
        if not known or scaling["type"] not in ("linear", "dynamic"):
            _refuse("rope_scaling", scaling, ROPE_SCALING)
        factor = scaling["factor"]
        if not isinstance(factor, float) or not 1 < factor < float("inf"):
            _refuse("rope_scaling", scaling, ROPE_SCALING)


def read_rope(theta: Any, scaling: Any, parameters: Any) -> tuple[Any, Any]:
    """Base and scaling of rotary positions, as any version of transformers states them.

    `scaling` may say "rope_type" for "type"; `parameters` are version 5's, which hold both.

    Raises:
        InputError: parameters of another kind.
    """
    if isinstance(scaling, dict) and "type" not in scaling and "rope_type" in scaling:
        scaling = {"type": scaling["rope_type"]} | {
            name: value for name, value in scaling.items() if name != "rope_type"
        }
        scaling = None if scaling == {"type": "default"} else scaling
    if parameters is None:
        return theta, scaling
    known = {"rope_type", "type", "rope_theta", "factor"}
    if not isinstance(parameters, dict) or not set(parameters) <= known:
        _refuse("rope_parameters", parameters, "an object of rope_type, rope_theta and factor")
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    theta = parameters.get("rope_theta", theta)
    if kind == "default" and "factor" not in parameters:
        return theta, None
    factor = parameters.get("factor")
    return theta, {"type": kind, "factor": float(factor) if type(factor) is int else factor}


def _refuse(name: str, value: Any, allowed: str) -> None:
    raise InputError(f"{name} = {shown(value)} is impossible; allowed: {allowed}")
