"""The language side of Emu3: one causal transformer over text ids and visual ids."""

from typing import TYPE_CHECKING

from emu3.lazy import lazy_names

if TYPE_CHECKING:
    from emu3.mllm.configuration_emu3 import Emu3Config
    from emu3.mllm.modeling_emu3 import Emu3ForCausalLM
    from emu3.mllm.processing_emu3 import Emu3Processor
    from emu3.mllm.tokenization_emu3 import Emu3Tokenizer

__all__ = ["Emu3Config", "Emu3ForCausalLM", "Emu3Processor", "Emu3Tokenizer"]

__getattr__ = lazy_names(
    __name__,
    {
        "Emu3Config": ".configuration_emu3",
        "Emu3ForCausalLM": ".modeling_emu3",
        "Emu3Processor": ".processing_emu3",
        "Emu3Tokenizer": ".tokenization_emu3",
    },
)
