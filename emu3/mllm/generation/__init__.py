"""Decoding."""


class GenerationMixin:
    """What `Emu3ForCausalLM` inherits to decode."""
