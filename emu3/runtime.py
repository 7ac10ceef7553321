"""Device, mode, threads and dtype: the only module that touches the MindSpore context.

| device | language model | vision tokenizer | attention         | why                             |
|--------|----------------|------------------|-------------------|---------------------------------|
| CPU    | float32        | float32          | eager             | no bfloat16 kernels on CPU      |
| Ascend | bfloat16       | bfloat16         | flash_attention_2 | native; norms, softmax in fp32  |
"""

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import mindspore as ms
from mindspore.common import api

from emu3 import names
from emu3.errors import InputError
from emu3.names import check_name


@dataclass(frozen=True)
class DeviceDefaults:
    """What a device computes in, and how it trains, when nobody says otherwise."""

    dtype: str
    attention: str
    training: str


DEFAULTS = {
    "CPU": DeviceDefaults("float32", "eager", "graph"),
    # The original port measured 34 s a training step in graph mode against 1.8 s there.
    "Ascend": DeviceDefaults("bfloat16", "flash_attention_2", "pynative"),
}
DTYPES = {word: getattr(ms, name) for word, name in names.DTYPES.items()}
_told: set[str] = set()
_asked: set[str] = set()


class Turns:
    """A lock that a thread may take again; one that waits comes before one that comes back.

    With a plain lock, a thread that gives it back and takes it again at once, as one that draws row
    by row does, keeps another one out for many rows.
    """

    def __init__(self) -> None:
        self._inside, self._next = threading.RLock(), threading.Lock()
        self._mine = threading.local()

    def __enter__(self) -> None:
        depth = getattr(self._mine, "depth", 0)
        self._mine.depth = depth + 1
        try:
            if depth:
                self._inside.acquire()
                return
            with self._next:  # held by the one who waits
                self._inside.acquire()
        except BaseException:
            self._mine.depth = depth
            raise

    def __exit__(self, *_: object) -> None:
        self._mine.depth -= 1
        self._inside.release()


# MindSpore runs one network of a process at a time: two threads in it end the process.
ONE_AT_A_TIME = Turns()


def notice(text: str) -> None:
    """Print one line to stderr, once a process."""
    if text not in _told:
        _told.add(text)
        print(f"emu3: {text}", file=sys.stderr)


def setup(
    device: str = "auto",
    device_id: int | None = None,
    mode: str = "pynative",
    threads: int | None = None,
    seed: int | None = None,
) -> str:
    """Choose device, mode, thread count and seed for this process; returns the device in force.

    `device` is "auto", "CPU" or "Ascend"; `device_id` falls back to DEVICE_ID and is an index
    among ASCEND_RT_VISIBLE_DEVICES; `threads` defaults to all cores.

    Raises:
        InputError: a value is not one of those allowed.
    """
    check_name("mode", mode, names.MODES, "--mode")
    device = chosen_device(device)
    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    try:
        ms.set_device(device, _device_id(device_id) if device == "Ascend" else 0)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"device {device} is not usable: {reason}; change --device") from None
    _set_up_device(device, threads)
    if seed is not None:
        ms.set_seed(seed)
    return device


def chosen_device(device: str) -> str:
    """ "CPU" or "Ascend" for what people write; "auto" is Ascend where its driver is.

    Raises:
        InputError: another word.
    """
    device = names.DEVICES[check_name("device", device.lower(), names.DEVICES, "--device")]
    if device == "auto":
        return "Ascend" if os.path.exists("/dev/davinci_manager") else "CPU"
    return device


def _set_up_device(device: str, threads: int | None) -> None:
    """What each device wants set; the Ascend arm has not been run on a card."""
    if device == "Ascend":
        # By default float32 convolutions would round their inputs to HF32.
        ms.device_context.ascend.op_precision.conv_allow_hf32(False)
        if threads is not None:
            # One thread would also switch off the asynchronous launch of compiled graphs.
            notice("--threads is for CPU: ignored on Ascend")
        return
    # The asynchronous pipeline stalls in 4 ms quanta on few cores: 10x on small operators.
    ms.set_context(pynative_synchronize=True)
    if threads is not None:
        ms.runtime.set_cpu_affinity(False)
        ms.set_context(runtime_num_threads=threads)


def _device_id(device_id: int | None) -> int:
    text = os.environ.get("DEVICE_ID", "0") if device_id is None else str(device_id)
    if not text.isdigit():
        raise InputError(f"device id {text!r} is not a whole number >= 0; change --device-id")
    return int(text)


def device_target() -> str:
    """ "CPU" or "Ascend": where operators run now."""
    return ms.get_context("device_target")


def on_ascend() -> bool:
    """Whether cells take their Ascend arm: asked when they are made."""
    return device_target() == "Ascend"


def graph_mode() -> bool:
    """Whether every network is compiled, not only what asks for it."""
    return ms.get_context("mode") == ms.GRAPH_MODE


def keep_first_graph() -> None:
    """Have the first graph that this process compiles on CPU kept for the next process."""
    if device_target() == "CPU":
        _asked.add("graph")


def keeps_graph() -> bool:
    """Whether the graph that is compiled now is to be kept: true at most once.

    MindSpore stays with the first folder that it is told, so the others are compiled as ever.
    """
    asked = "graph" in _asked
    _asked.discard("graph")
    return asked


@contextmanager
def graphs_kept_in(folder: str) -> Iterator[None]:
    """Within it, what is compiled is first looked for in `folder`, and stored there."""
    ms.set_context(enable_compile_cache=True, compile_cache_path=folder)
    try:
        yield
    finally:
        ms.set_context(enable_compile_cache=False)


def compiled(method: Callable, jit: bool) -> Callable:
    """A cell's method as the device wants it compiled, or itself."""
    if not jit:
        return method
    return Compiled(method, {"jit_level": "O0", "infer_boost": "on"} if on_ascend() else {})


class Compiled:
    """A method compiled for each shape of its arguments, which may be forgotten again.

    MindSpore keeps what it compiled until the process ends, whoever is there to call it.
    """

    def __init__(self, method: Callable, settings: Mapping[str, str]) -> None:
        self._call = ms.jit(method, **settings)
        self._phases: set[str] = set()

    def __call__(self, *arguments: object) -> object:
        before = set(api.ms_compile_cache)
        try:
            return self._call(*arguments)
        finally:
            self._phases |= api.ms_compile_cache - before

    def forget(self) -> None:
        """Give back the memory of what it was compiled to; called again, it is compiled again."""
        if self._phases:
            for executor in (api._cell_graph_executor, api.JitExecutor_.get_instance()):
                executor.del_net_res(None, self._phases)
            api.ms_compile_cache.difference_update(self._phases)
            self._phases = set()


def forget(method: object) -> None:
    """Forget what a method was compiled to, if it is one that was."""
    if hasattr(method, "forget"):
        method.forget()


def forget_compiled() -> None:
    """Give back the memory of compiled functions; those called again are compiled again."""
    gc.collect()
    ms.ms_memory_recycle()


def resolve_dtype(requested: ms.Type | str | None) -> ms.Type:
    """The dtype to compute in here: `requested`, or the device's default.

    float16 and bfloat16 asked for on CPU become float32 with one notice.

    Raises:
        InputError: `requested` names no known dtype.
    """
    if requested is None:
        requested = DEFAULTS[device_target()].dtype
    if isinstance(requested, str):
        requested = DTYPES[check_name("dtype", requested, DTYPES, "--dtype")]
    if not computes(str(requested).lower()):
        notice(f"{str(requested).lower()} does not compute on CPU: using float32")
        return ms.float32
    return requested


def computes(dtype: str) -> bool:
    """Whether networks compute in a dtype here, without becoming another."""
    return device_target() != "CPU" or DTYPES[dtype] == ms.float32


def check_ascend_dtype(dtype: ms.Type, allowed: Mapping[ms.Type, str]) -> None:
    """Hold `dtype` against what a network computes in on Ascend; elsewhere all is allowed.

    `allowed` maps dtypes to what has to be said of them, if anything.

    Raises:
        InputError: a dtype that is not there.
    """
    if not on_ascend():
        return
    if dtype not in allowed:
        words = ", ".join(str(known).lower() for known in allowed)
        raise InputError(
            f"{str(dtype).lower()} does not compute on Ascend here; allowed: {words}; change "
            "--dtype"
        )
    if allowed[dtype]:
        notice(allowed[dtype])


def resolve_attention(requested: str | None) -> str:
    """The attention this device runs: "eager" or "flash_attention_2".

    "sdpa" is another word for the device's best. Flash attention asked for on CPU becomes eager
    with one notice. A network that computes in float32 attends eagerly whatever this says.

    Raises:
        InputError: `requested` names no known implementation.
    """
    best = DEFAULTS[device_target()].attention
    if requested in (None, "sdpa"):
        return best
    check_name("attention", requested, names.ATTENTION, "--attn-implementation")
    if requested == "flash_attention_2" and device_target() == "CPU":
        notice("flash_attention_2 needs an Ascend device: using eager attention")
        return "eager"
    return requested


def cpu_threads() -> int:
    """Threads that compute on CPU: what `setup` was told, at most the cores of this process."""
    return min(ms.get_context("runtime_num_threads"), len(os.sched_getaffinity(0)))


def peak_memory_bytes() -> int:
    """Peak memory of this process: device memory on Ascend, resident set on CPU."""
    if on_ascend():
        return int(ms.runtime.max_memory_allocated())
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available_memory_bytes() -> int | None:
    """Memory a new allocation may take: free device memory on Ascend, else what Linux calls
    available within the process group's limit; None where neither can be asked."""
    if on_ascend():
        # Not run on a card. Before its first operator a card says that it has no memory.
        ms.ops.zeros((1,), ms.float32).asnumpy()
        return int(ms.hal.get_device_properties(0).free_memory) or None
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit:
            allowed = int(limit.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as used:
            taken = int(used.read())
        with open("/sys/fs/cgroup/memory.stat", encoding="ascii") as file:
            parts = dict(line.split() for line in file)
        cached = int(parts["active_file"]) + int(parts["inactive_file"])  # given back when needed
        free = min(free, allowed - taken + cached)
    except (OSError, KeyError, ValueError):
        pass  # no limit on this process group
    return free
