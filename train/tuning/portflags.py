"""The original port's flags in our words: what its command lines say means the same here, and what
has no meaning here is refused by name, with ours beside it.

    --bf16 True, --fp16 True             --dtype bfloat16, float16
    --mode 0, 1                          --mode graph, pynative
    --gradient_checkpointing True        --gradient_checkpointing
    --is_distribute True                 nothing, in a job of several processes
"""

import sys
from collections.abc import Sequence

from emu3.errors import InputError, shown
from emu3.names import DTYPES
from emu3.parallel import started_by_launcher
from train.tuning.ranges import FLAGS

FEATURES = "the features say what is learned; leave it out (--supervise_structure adds to it)"
MODES = {"0": "graph", "1": "pynative"}
REFUSED = {
    "model_name": "--model_name_or_path is the folder or hub id to start from",
    "data_path": "--train_data_path is a folder of features",
    "dataloader_num_workers": "features are read in the process that trains; leave it out",
    "apply_loss_on_only_vision": FEATURES,
    "apply_loss_on_only_text": FEATURES,
    "lr_scheduler_type": "it is a cosine down to --min_learning_rate after --warmup_steps",
    "save_strategy": "--save_steps says how often",
    "evaluation_strategy": "--eval_steps says how often, of --eval_data_path",
    "clip_grad": "--max_grad_norm is where gradients are clipped",
    "enable_flash_attention": "--attn_implementation says which attention",
    "attn_type": "--attn_implementation says which attention",
    "device_target": "--device says where",
    "deepspeed": "--ms_zero_stage says what processes share",
    "jit_level": "--mode says whether the step is compiled; leave it out",
    "max_device_memory": "--dry_run says what a run needs; leave it out",
}


def in_our_words(arguments: Sequence[str] | None) -> list[str]:
    """A command line (None: this process's own) without flags of the original port.

    Raises:
        InputError: flags that have no meaning here, all of them named, or an impossible value.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _refuse({word.partition("=")[0].removeprefix("--") for word in words if word[:2] == "--"})
    ours = []
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if flag not in TRANSLATED:
            ours.append(f"{flag}{equals}{value}")
            continue
        if not equals and words and not words[0].startswith("--"):
            value = words.pop(0)
        ours += TRANSLATED[flag](flag, value)
    return ours


def _refuse(names: set[str]) -> None:
    foreign = [
        f"--{name} is the original port's: {ours}"
        for name, ours in REFUSED.items()
        if name in names
    ]
    if foreign:
        raise InputError("; ".join(foreign))


def _truth(flag: str, value: str) -> bool:
    if value.lower() not in ("", *FLAGS):
        raise InputError(f"{flag} {shown(value)}; allowed: True, False")
    return FLAGS.get(value.lower(), True)


def _dtype(flag: str, value: str) -> list[str]:
    return ["--dtype", DTYPES[flag[2:]]] if _truth(flag, value) else []


def _mode(flag: str, value: str) -> list[str]:
    return [flag, MODES.get(value, value)] if value else [flag]


def _checkpointing(flag: str, value: str) -> list[str]:
    return [flag if _truth(flag, value) else f"--no-{flag[2:]}"]


def _distributed(flag: str, value: str) -> list[str]:
    if _truth(flag, value) and not started_by_launcher():
        raise InputError(
            f"{flag} in one process alone; start several: python -m train.launch -n N "
            "train.train_seq_parallel ..., or msrun"
        )
    return []


TRANSLATED = {
    "--bf16": _dtype,
    "--fp16": _dtype,
    "--mode": _mode,
    "--gradient_checkpointing": _checkpointing,
    "--is_distribute": _distributed,
}
