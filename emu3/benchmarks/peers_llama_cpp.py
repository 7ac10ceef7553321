"""llama.cpp's side of the benchmarks: a GGUF file of equal sizes with our weights, two sequences.

Runs in a process of its own, asked through `emu3.benchmarks.peer`. Nothing else imports llama_cpp.
The cache of keys and values has its own default, float16. Shapes: R sequences, V ids.
"""

import time
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import load_file

from emu3.benchmarks.turns import Turn, turns

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ENDS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def serve(folder: str) -> None:
    """Run the way that the settings in `folder` name."""
    settings, turn = turns(Path(folder))
    {"decode_batched": decode, "prefill": prefill}[settings["way"]](settings, Path(folder), turn)


def published(name: str) -> str:
    """A tensor's name in a GGUF file."""
    if name in ENDS:
        return ENDS[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows (H * D, C) of heads whose halves turn together, as neighbours: llama's rotary order."""
    size, columns = weight.shape
    halves = weight.reshape(heads, 2, size // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(size, columns)


def write(settings: dict, folder: Path) -> Path:
    """The net of the settings with our weights, matrices in their dtype."""
    path = folder / "net.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    heads, groups = settings["heads"], settings["kv_heads"]
    writer.add_context_length(16384)
    writer.add_embedding_length(settings["hidden"])
    writer.add_block_count(settings["layers"])
    writer.add_feed_forward_length(settings["inner"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_dimension_count(settings["hidden"] // heads)
    writer.add_vocab_size(settings["vocabulary"])
    writer.add_tokenizer_model("no_vocab")
    narrow = settings.get("dtype") == "bfloat16"
    kind = gguf.GGMLQuantizationType.BF16 if narrow else gguf.GGMLQuantizationType.F32
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = paired(weight, heads if name.endswith("q_proj.weight") else groups)
        if weight.ndim == 2 and narrow:
            data = gguf.quants.quantize(weight, kind)
            writer.add_tensor(published(name), data, raw_dtype=kind)
        else:
            writer.add_tensor(published(name), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Net:
    """A loaded net and its cache for some sequences of up to `places` tokens each."""

    def __init__(self, settings: dict, folder: Path, sequences: int, places: int) -> None:
        llama_cpp.llama_backend_init()
        load = llama_cpp.llama_model_default_params()
        load.n_gpu_layers = 0
        path = write(settings, folder)
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), load)
        options = llama_cpp.llama_context_default_params()
        room = -(-places // 256) * 256
        options.n_ctx, options.n_seq_max = room * sequences, sequences
        options.n_batch = options.n_ubatch = max(512, sequences)
        if settings["threads"]:
            options.n_threads = options.n_threads_batch = settings["threads"]
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.model or not self.context:
            raise SystemExit("llama.cpp does not load the net")
        self.width, self.sequences = settings["vocabulary"], sequences
        self.batch = llama_cpp.llama_batch_init(options.n_batch, 0, 1)

    def run(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """Run tokens, each an id, its position, its sequence, and whether its logits are wanted."""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if llama_cpp.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp does not run the net")

    def prompt(self, ids: list[int], sequence: int) -> np.ndarray:
        """Enter a prompt into the cache -> the logits (V,) behind it."""
        for start in range(0, len(ids), 512):
            places = range(start, min(len(ids), start + 512))
            self.run([(ids[i], i, sequence, i + 1 == len(ids)) for i in places])
        return self.logits(-1)

    def logits(self, place: int) -> np.ndarray:
        """Those of a token of the last run (V,)."""
        found = llama_cpp.llama_get_logits_ith(self.context, place)
        return np.ctypeslib.as_array(found, (self.width,)).copy()

    def forget(self) -> None:
        """Empty the cache."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)


def sample(logits: np.ndarray, settings: dict, rng: np.random.Generator) -> np.ndarray:
    """logits (R, V) of wanted, then unwanted rows -> visual ids, one a picture."""
    first = settings["vocabulary"] - settings["visual"]
    logits = logits[:, first:]
    if settings["guidance"] != 1:
        wanted, unwanted = np.split(logits, 2)
        logits = unwanted + settings["guidance"] * (wanted - unwanted)
    count = min(settings["top_k"], logits.shape[1])
    best = np.argpartition(logits, -count, axis=1)[:, -count:]
    noise = rng.gumbel(size=best.shape)
    chosen = (np.take_along_axis(logits, best, 1) + noise).argmax(1)
    return best[np.arange(len(best)), chosen] + first


def decode(settings: dict, folder: Path, turn: Turn) -> None:
    """All rows in one batch; of forced tokens no logits are asked."""
    prompts, steps = settings["prompts"], settings["row"] + 1
    rows = prompts + (settings["negative"] * len(prompts) if settings["guidance"] != 1 else [])
    place = len(prompts[0])
    net = Net(settings, folder, len(rows), place + settings["rows"] * steps)
    rng = np.random.default_rng(0)
    logits = np.stack([net.prompt(ids, sequence) for sequence, ids in enumerate(rows)])
    ids = sample(logits, settings, rng)
    turn(ready=True)
    while True:
        began = time.perf_counter()
        for column in range(steps):
            forced = column + 1 == settings["row"]
            both = np.tile(ids, len(rows) // len(ids))
            net.run([(int(token), place, i, not forced) for i, token in enumerate(both)])
            place += 1
            if forced:
                ids = np.full_like(ids, settings["eol"])
            else:
                ids = sample(np.stack([net.logits(i) for i in range(len(rows))]), settings, rng)
        turn(seconds=time.perf_counter() - began)


def prefill(settings: dict, folder: Path, turn: Turn) -> None:
    """Prompts into the cache, logits of the last token."""
    prompts = settings["prompts"]
    net = Net(settings, folder, len(prompts), len(prompts[0]))
    turn(ready=True)
    while True:
        net.forget()
        began = time.perf_counter()
        for sequence, ids in enumerate(prompts):
            net.prompt(ids, sequence)
        turn(seconds=time.perf_counter() - began)
