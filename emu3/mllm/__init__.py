"""The language side of Emu3: one causal transformer over text ids and visual ids."""

from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.modeling_emu3 import Emu3ForCausalLM
from emu3.mllm.processing_emu3 import Emu3Processor
from emu3.mllm.tokenization_emu3 import Emu3Tokenizer

__all__ = ["Emu3Config", "Emu3ForCausalLM", "Emu3Processor", "Emu3Tokenizer"]
