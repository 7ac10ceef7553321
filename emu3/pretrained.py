"""from_pretrained and save_pretrained for both models: config, safetensors, shards, dtype.

Tensors go under their published names from file to parameter one at a time, straight into the
dtype the device computes in; parameters are not filled beforehand.
"""

import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn
from mindspore.nn.utils import no_init_parameters
from transformers.configuration_utils import PretrainedConfig
from transformers.generation.configuration_utils import GenerationConfig

from emu3.arrays import as_numpy
from emu3.configfile import config_fields, read_config
from emu3.errors import InputError
from emu3.files import atomic_path, read_json, writable_folder, write_json
from emu3.hflayout import published_entries
from emu3.hub import CONFIG, GENERATION_CONFIG, checkpoint_folder, take_hub_options
from emu3.nn.forms import encoded
from emu3.nn.linear import Weighted
from emu3.runtime import DTYPES, check_ascend_dtype, notice, on_ascend, resolve_dtype
from emu3.tensorfile import CODES, STORED, write_tensors
from emu3.weights import INDEX, WEIGHTS, choose_form, load_weights, stored_tensors

TOKENIZER_CONFIG = "tokenizer_config.json"
CODE = "*.py"  # what auto_map names: carried along for others, never run here
Model = TypeVar("Model", bound="PretrainedModel")  # typing.Self needs Python 3.11
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class PretrainedModel(nn.Cell):
    """A network with a configuration that loads and saves folders of published files."""

    config_class: ClassVar[type[PretrainedConfig]]
    path_flag: ClassVar[str] = "--model"  # the option that errors about a folder name
    forms: ClassVar[tuple[str, ...]] = ("float32",)  # that its matrices may be stored in on CPU
    side_files: ClassVar[tuple[str, ...]] = ()  # patterns of what else a usable folder holds
    # What it computes in on Ascend, and what has to be said of it there.
    ascend_dtypes: ClassVar[Mapping[ms.Type, str]] = dict.fromkeys(DTYPES.values(), "")

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.stated_settings: tuple[str, ...] = ()  # of the generation_config.json it came with
        self.source: Path | None = None  # the folder it came from

    @property
    def dtype(self) -> ms.Type:
        """What the network computes in: the dtype of the first parameter that is not stored in
        another form."""
        held = {id(part) for cell in self._held() for part in cell.parts()}
        parameters = list(self.get_parameters())
        return next((p for p in parameters if id(p) not in held), parameters[0]).dtype

    @property
    def weights(self) -> str:
        """The form of emu3.nn.forms that matrices have; "float32" where they have `dtype`."""
        return next((cell.form for cell in self._held()), "float32")

    def hold(self, form: str) -> None:
        """Make room for matrices in a form of emu3.nn.forms, to be filled by loading."""
        for _, cell in self.cells_and_names():
            if isinstance(cell, Weighted) and cell.takes(form):
                cell.hold(form)

    def convert(self, form: str) -> None:
        """Bring the float32 matrices into a form of emu3.nn.forms, rounding their values."""
        for _, cell in self.cells_and_names():
            if isinstance(cell, Weighted) and cell.takes(form):
                array, dtype = cell.weight.asnumpy(), cell.weight.dtype
                parts = encoded(array.astype(np.float32, copy=False), form)
                cell.hold(form)
                cell.fill(*parts, dtype=dtype)

    def _held(self) -> list[Weighted]:
        cells = (cell for _, cell in self.cells_and_names())
        return [c for c in cells if isinstance(c, Weighted) and c.form != "float32"]

    @classmethod
    def from_pretrained(
        cls: type[Model],
        path_or_hub_id: str | Path,
        mindspore_dtype: ms.Type | str | None = None,
        use_safetensors: bool = True,
        attn_implementation: str | None = None,
        weights: str | None = None,
        **config_overrides: Any,
    ) -> Model:
        """The model of a folder or hub id, in evaluation mode.

        Args:
            path_or_hub_id: folder, or "owner/name", with config.json and safetensors files.
            mindspore_dtype: dtype to compute in; None is the device's default.
            use_safetensors: must stay True: pickled weights can run code and are refused.
            attn_implementation: "eager", "flash_attention_2" or "sdpa"; None is the device's best.
            weights: "float32", "bfloat16" or "int8" (approximate): what the language model's
                matrices are stored as on CPU, while it computes in float32; None is the first of
                these that fits into memory. On Ascend None, for `mindspore_dtype`, or "int8" for
                the layers' matrices.
            config_overrides: replace fields of config.json. `revision`, `cache_dir`,
                `local_files_only`, `force_download` and `token` go to the hub; `subfolder` is
                where the files lie below the folder or id.

        Raises:
            InputError: a file is missing, truncated or malformed, a tensor missing or mis-shaped,
                or an option unknown; weights that memory cannot hold.
        """
        if not use_safetensors:
            raise InputError("use_safetensors = False is refused: pickled weights can run code")
        dtype = resolve_dtype(mindspore_dtype)
        check_ascend_dtype(dtype, cls.ascend_dtypes)
        if attn_implementation == "flash_attention_2" and dtype == ms.float32 and on_ascend():
            notice("flash_attention_2 takes 16 bits: float32 attends eagerly")
        where = take_hub_options(config_overrides)
        folder = checkpoint_folder(path_or_hub_id, [CONFIG], cls.path_flag, **where)
        if attn_implementation is not None:
            config_overrides["attn_implementation"] = attn_implementation
        config = read_config(cls.config_class, folder, config_overrides, cls.path_flag)
        patterns = [CONFIG, GENERATION_CONFIG, "*.safetensors", INDEX, *cls.side_files, CODE]
        folder = checkpoint_folder(path_or_hub_id, patterns, cls.path_flag, **where)
        entries = published_entries(stored_tensors(folder), cls.config_class.model_type)
        # A few missing are named one by one below; numbers beyond all sense build nothing.
        if config.least_tensors > 2 * len(entries) + 100:
            raise InputError(
                f"{folder / CONFIG} describes at least {config.least_tensors} tensors, the "
                f"weights hold {len(entries)}; allowed: files of one checkpoint; change "
                f"{cls.path_flag}"
            )
        stated = cls._read_generation(folder, config)
        with no_init_parameters():
            model = cls(config)
        model.hold(choose_form(model, weights, dtype))
        load_weights(model, folder, dtype, entries)
        if stated is not None:
            model.generation_config, model.stated_settings = stated
        model.source = folder
        return model.set_train(False)

    @classmethod
    def _read_generation(
        cls, folder: Path, config: PretrainedConfig
    ) -> tuple[GenerationConfig, tuple[str, ...]] | None:
        """What `read_generation_config` gives for a model that generates, if the folder has it."""
        return None

    def save_pretrained(
        self,
        folder: str | Path,
        dtype: str | None = None,
        max_shard_size: int | str = "5GB",
        weights: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write config.json, weights and, where there is one, generation_config.json.

        Tokenizer or preprocessor files of the folder the model came from are copied beside them
        where the new folder has none.

        Args:
            folder: created if needed; other weights of an earlier save there are removed.
            dtype: "float32", "float16" or "bfloat16" for floating-point tensors; None keeps the
                parameters' own.
            max_shard_size: bytes, or a number with KB, MB or GB; more than that is split.
            weights: all tensors by published name, of a model whose own parameters are shares
                of them or have adapters beside them; None writes the parameters.

        Raises:
            InputError: an unknown dtype or size, or a folder that cannot be written.
        """
        if self.weights == "int8":
            raise InputError("int8 weights are not saved from a model: `emu3 quantize` writes them")
        folder = writable_folder(folder)
        name = _dtype_name(self.dtype if dtype is None else dtype)
        tensors = dict(self.parameters_and_names() if weights is None else weights)
        _save_weights(tensors, folder, name, _byte_count(max_shard_size))
        if self.source is not None:
            _copy_missing(
                self.source, folder, (CODE, *self.side_files)
            )  # code first: it is looked for
        config = config_fields(self.config, type(self).__name__, name)
        write_json(folder / CONFIG, _with_code(config, folder))
        if getattr(self, "generation_config", None) is not None:
            settings = self.generation_config.to_dict()
            stated = {name: settings[name] for name in self.stated_settings if name in settings}
            write_json(folder / GENERATION_CONFIG, stated | self.generation_config.to_diff_dict())


def _copy_missing(source: Path, folder: Path, patterns: tuple[str, ...]) -> None:
    for path in (path for pattern in patterns for path in source.glob(pattern)):
        target = folder / path.name
        if path.is_file() and not target.exists():
            with atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)
            if path.name == TOKENIZER_CONFIG:
                write_json(target, _with_code(read_json(target), folder))


def _with_code(fields: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The fields without what `auto_map` says of files that `folder` does not have."""
    stated = fields.get("auto_map")
    if not isinstance(stated, dict):
        return {name: value for name, value in fields.items() if name != "auto_map"}
    kept = {}
    for name, value in stated.items():
        classes = [c for c in (value if isinstance(value, list) else [value]) if c is not None]
        if all((folder / f"{str(c).split('.')[0]}.py").is_file() for c in classes):
            kept[name] = value
    rest = {name: value for name, value in fields.items() if name != "auto_map"}
    return rest | ({"auto_map": kept} if kept else {})


def _save_weights(
    tensors: dict[str, Parameter | np.ndarray], folder: Path, dtype: str, limit: int
) -> None:
    shards = _shards(tensors, dtype, limit)
    names = [WEIGHTS]
    if len(shards) > 1:
        names = [
            f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)
        ]
    for name, shard in zip(names, shards):
        write_tensors(folder / name, shard, lambda key: as_numpy(tensors[key]))
    if len(shards) > 1:
        total = sum(_size(*tensor) for shard in shards for tensor in shard.values())
        table = {key: name for name, shard in zip(names, shards) for key in shard}
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": table})
        names.append(INDEX)
    for path in folder.iterdir():
        ours = re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?", path.name)
        if ours and path.name not in names:
            path.unlink()


def _shards(
    tensors: dict[str, Parameter | np.ndarray], dtype: str, limit: int
) -> list[dict[str, tuple[str, tuple[int, ...]]]]:
    shards, used = [{}], 0
    for name, tensor in tensors.items():
        kind = str(tensor.dtype).lower()
        code = CODES[dtype if "float" in kind else kind]
        size = _size(code, tuple(tensor.shape))
        if shards[-1] and used + size > limit:
            shards.append({})
            used = 0
        shards[-1][name] = (code, tuple(tensor.shape))
        used += size
    return shards


def _size(code: str, shape: tuple[int, ...]) -> int:
    return STORED[code].itemsize * math.prod(shape)


def _dtype_name(dtype: ms.Type | str) -> str:
    if isinstance(dtype, str):
        dtype = DTYPES.get(dtype, dtype)
    if dtype not in DTYPES.values():
        raise InputError(f"cannot save as {dtype!r}; allowed: {', '.join(DTYPES)}; change dtype")
    return str(dtype).lower()


def _byte_count(size: int | str) -> int:
    match = re.fullmatch(r"(\d+)\s*([KMG]B)?", str(size).upper())
    if not match or int(match[1]) == 0:
        raise InputError(
            f"max_shard_size {size!r} is no size; allowed: a number of bytes > 0, or such as 5GB"
        )
    return int(match[1]) * UNITS[match[2] or ""]
