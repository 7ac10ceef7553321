"""transformers' own layout of Emu3 (repositories named -hf), read under the published names.

    config.json       text_config and vq_config hold both models' fields
    *.safetensors     text_model.* and vqmodel.*, the latter partly renamed; weights of the vision
                      tokenizer's attention have two axes instead of a 1x1 convolution's four
    tokenizer.json    ranks and special tokens: see emu3.mllm.rank_files

The MindSpore port's converted vision tokenizer (`bn2d.gamma`) is read here, too. Published names
stay as they are, so nobody needs to know which layout a folder has.
"""

import re
from dataclasses import replace
from typing import Any

from emu3.errors import InputError, shown
from emu3.tensorfile import Entry

LANGUAGE, VISION = "Emu3", "Emu3VisionVQ"  # published model types
BOTH = "emu3"  # model_type of a config.json for both
NESTED = {LANGUAGE: "text_config", VISION: "vq_config"}
KINDS = {LANGUAGE: "emu3_text_model", VISION: "emu3_vqgan"}  # of one alone
OWNERS = {"text_model": LANGUAGE, "vqmodel": VISION, "lm_head": LANGUAGE}
# Fields of the language model that transformers keeps as spellings in vocabulary_map.
IDS = {
    "img_token_id": "<|image token|>",
    "boi_token_id": "<|image start|>",
    "eoi_token_id": "<|image end|>",
    "eol_token_id": "<|extra_200|>",
    "eof_token_id": "<|extra_201|>",
}
FIELDS = {
    "base_channels": "ch",
    "channel_multiplier": "ch_mult",
    "latent_channels": "z_channels",
    "double_latent": "double_z",
}
NAMES = (
    (r"\bdown_block\.down\.", "down."),
    (r"\bup_block\.up\.", "up."),
    (r"\bmiddle_block\.attn_norm\.", "mid.attn_1.norm."),
    (r"\bmiddle_block\.", "mid."),
    (r"\battn_norms\.(\d+)\.", r"attn.\1.norm."),
    (r"\b([qkv])_proj\.", r"\1."),
    (r"\bout_proj\.", "proj_out."),
    # nn.BatchNorm3d of MindSpore keeps a 2-D one inside.
    (r"\bbn2d\.gamma$", "weight"),
    (r"\bbn2d\.beta$", "bias"),
    (r"\bbn2d\.moving_mean$", "running_mean"),
    (r"\bbn2d\.moving_variance$", "running_var"),
)
POINTWISE = re.compile(r"\.(q|k|v|proj_out)\.weight$")


def published_fields(fields: dict[str, Any], model_type: str) -> dict[str, Any]:
    """The fields of a config.json as a published model of `model_type` states them.

    Raises:
        InputError: transformers' layout without that model, or of a vision tokenizer whose
            attention is another than the published one's.
    """
    kind = fields.get("model_type", model_type)
    if kind == BOTH:
        part = fields.get(NESTED[model_type])
        if not isinstance(part, dict):
            raise InputError(f"{NESTED[model_type]} is {shown(part)}; allowed: an object of fields")
        words = fields.get("vocabulary_map")
    elif kind == KINDS[model_type]:
        part, words = fields, None
    else:
        return fields
    part = {name: value for name, value in part.items() if name != "model_type"}
    if model_type == VISION:
        return {"model_type": model_type, **_vision_fields(part)}
    words = words if isinstance(words, dict) else {}
    return {
        "model_type": model_type,
        **part,
        **{name: words[word] for name, word in IDS.items() if word in words},
    }


def _vision_fields(part: dict[str, Any]) -> dict[str, Any]:
    fields = {FIELDS.get(name, name): value for name, value in part.items()}
    heads, _ = fields.pop("num_attention_heads", 1), fields.pop("attention_dropout", 0)
    if heads != 1:
        raise InputError(f"num_attention_heads = {shown(heads)} of vq_config; allowed: 1")
    fields.pop("hidden_size", None)  # that attention's width, which its tensors' shapes tell
    return fields


def published_entries(entries: dict[str, Entry], model_type: str) -> dict[str, Entry]:
    """The tensors of a model of `model_type` among `entries`, under their published names.

    Raises:
        InputError: two tensors of one name.
    """
    found = {}
    for stated, entry in entries.items():
        name = published_name(stated, model_type)
        if name is None:
            continue
        if name in found:
            raise InputError(f"{entry.path} holds {stated}, which is {name} once more; replace it")
        if name != stated and len(entry.shape) == 2 and POINTWISE.search(name):
            entry = replace(entry, shape=(*entry.shape, 1, 1))
        found[name] = entry
    return found


def published_name(name: str, model_type: str) -> str | None:
    """What a tensor of a folder is called in the published files; None for the other model's."""
    part = re.match(r"(model\.)?(text_model|vqmodel|lm_head)\.", name)
    if part and OWNERS[part[2]] != model_type:
        return None
    if part and part[2] != "lm_head":
        outer = part[1] or "" if model_type == LANGUAGE else ""
        name = outer + name[part.end() :]
    if model_type == VISION:
        for theirs, ours in NAMES:
            name = re.sub(theirs, ours, name)
    return name
