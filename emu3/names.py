"""The words people may use for devices, modes, dtypes, stored weights and attention."""

from collections.abc import Iterable

from emu3.errors import InputError, shown

DEVICES = {"auto": "auto", "cpu": "CPU", "ascend": "Ascend"}
MODES = ("pynative", "graph")
DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "float16": "float16",
    "fp16": "float16",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
}
WEIGHTS = ("float32", "bfloat16", "int8")  # what matrices may be stored as on CPU
USE_TORCH = "USE_TORCH"  # a variable of transformers': whether it is to import PyTorch
ATTENTION = ("eager", "sdpa", "flash_attention_2")


def check_name(what: str, value: str, allowed: Iterable[str], flag: str) -> str:
    """`value`, when it is one of `allowed`.

    Raises:
        InputError: it is not; names all that are, and `flag`.
    """
    if value not in allowed:
        names = ", ".join(allowed)
        raise InputError(f"{what} {shown(value)} is unknown; allowed: {names}; change {flag}")
    return value


PRODUCTS = ("float32", "bfloat16")  # what factors of products may be rounded to in training
