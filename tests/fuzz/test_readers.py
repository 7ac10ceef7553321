"""Every reader answers a damaged file with what it holds or with an InputError, never otherwise.

`bash scripts/fuzz.sh` runs 20,000 inputs; here each target gets a few.
"""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emu3.cli.img_gen import read_prompts
from emu3.codesfile import Codes
from emu3.configfile import read_config, read_generation_config
from emu3.errors import InputError
from emu3.evaluation.answering import read_records
from emu3.evaluation.rebuilding import read_scores
from emu3.evaluation.suites import SUITES
from emu3.files import read_json
from emu3.images import FrameSource, open_image
from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
from emu3.mllm.defaults import CheckpointDefaults
from emu3.mllm.rank_files import BUILT_IN_SPECIALS, read_ranks, read_specials
from emu3.mllm.tokenizer_json import read_tokenizer_json
from emu3.tensorfile import read_entries
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQImageProcessor
from emu3.weights import INDEX, WEIGHTS, stored_tensors
from tests.fuzz.conftest import EXAMPLES
from tests.fuzz.damage import damaged_bytes, damaged_json
from tests.support import write_tiny_checkpoint
from tests.test_hflayout import write_tokenizer_json
from tests.train.data.test_torch_file import zipped
from train.data.features import Feature, list_files, read_feature, write_feature, write_list
from train.data.records import caption_record, conversation_record, read_items, text_record
from train.data.shards import members, shard_bytes
from train.tuning.log import COLUMNS, forget_from
from train.tuning.options import parse
from train.tuning.statefile import open_state, write_state

SCORES = b"picture,psnr,ssim\na.png,20.5,0.9\nb.png,30.5,0.95\n"


class Good:
    """Whole files of every kind, made once, and a folder to put damaged ones into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.language, self.vision = write_tiny_checkpoint(folder / "good")
        picture = Image.new("RGB", (24, 16), (200, 10, 60))
        self.images = {kind: _encoded(picture, kind) for kind in ("PNG", "JPEG", "GIF", "WEBP")}
        codes = io.BytesIO()
        settings = json.dumps({"prompt": "red", "frames": 4, "clip_frames": 4, "fps": 8.0})
        np.savez_compressed(codes, codes=np.zeros((2, 4, 6), np.int32), settings=settings)
        self.codes = codes.getvalue()
        features = folder / "features"
        turns = [("what", "a circle")]
        for feature in (
            Feature("a", np.zeros((3, 4), np.int32), "red", captions=["red", "rot"]),
            Feature("b", np.zeros((3, 4), np.int32), "what", turns=turns),
        ):
            write_feature(features, feature)
        self.list = write_list(features, "train", ["a", "b"])
        self.feature = (features / "feature" / "a.ckpt").read_bytes()
        self.shard = shard_bytes([("a.ckpt", self.feature), ("b.ckpt", self.feature)])
        sample = {"name": "7", "images": np.zeros((3, 4), np.int64), "texts": "red"}
        self.torch = zipped(pickle.dumps(sample, 2))

    def video(self, kind: str) -> bytes:
        """A video file of four frames."""
        av = pytest.importorskip("av")
        path = self.folder / f"good.{kind}"
        if not path.exists():
            with av.open(str(path), "w") as file:
                stream = file.add_stream("mpeg4", rate=8)
                stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
                for shade in range(4):
                    picture = Image.new("RGB", (32, 16), (60 * shade, 0, 0))
                    file.mux(stream.encode(av.VideoFrame.from_image(picture)))
                file.mux(stream.encode())
        return path.read_bytes()


def _encoded(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Good:
    return Good(tmp_path_factory.mktemp("fuzz"))


def answers(read: Callable[[], Any]) -> None:
    """Read; an InputError is an answer, too."""
    try:
        read()
    except InputError as error:
        assert len(str(error)) < 2000


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def in_copy(source: Path, target: Path, name: str, content: bytes) -> Path:
    """A checkpoint folder with one file replaced."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    put(target, name, content)
    return target


@given(data=st.data())
def test_json_objects(good, data):
    content = data.draw(damaged_bytes((good.language / "config.json").read_bytes()))
    answers(lambda: read_json(put(good.folder, "any.json", content)))


def damaged_config(data: st.DataObject, path: Path) -> bytes:
    whole = path.read_bytes()
    return data.draw(st.one_of(damaged_json(json.loads(whole)), damaged_bytes(whole)))


@given(data=st.data())
def test_the_language_configuration(good, data):
    content = damaged_config(data, good.language / "config.json")
    folder = in_copy(good.language, good.folder / "copy", "config.json", content)
    answers(lambda: read_config(Emu3Config, folder, {}))
    answers(lambda: CheckpointDefaults.from_pretrained(folder))


@given(data=st.data())
def test_the_vision_configuration(good, data):
    content = damaged_config(data, good.vision / "config.json")
    folder = in_copy(good.vision, good.folder / "copy", "config.json", content)
    answers(lambda: read_config(Emu3VisionVQConfig, folder, {}, "--vq-model"))


@given(data=st.data())
def test_the_generation_configuration(good, data):
    content = damaged_config(data, good.language / "generation_config.json")
    answers(lambda: read_generation_config(put(good.folder, "generation.json", content)))


@given(data=st.data())
def test_the_image_processor(good, data):
    content = damaged_config(data, good.vision / "preprocessor_config.json")
    folder = in_copy(good.vision, good.folder / "copy", "preprocessor_config.json", content)

    def read() -> None:
        processor = Emu3VisionVQImageProcessor.from_pretrained(folder)
        processor(Image.new("RGB", (24, 16)), return_tensors="np")

    answers(read)


@given(data=st.data())
def test_the_tokenizer_configuration(good, data):
    content = damaged_config(data, good.language / "tokenizer_config.json")
    folder = in_copy(good.language, good.folder / "copy", "tokenizer_config.json", content)

    def read() -> None:
        tokenizer = Emu3Tokenizer.from_pretrained(folder)
        padding = {} if tokenizer.pad_token is None else {"padding": "longest"}
        ids = tokenizer(["red", "a red star"], **padding)["input_ids"]
        assert len(tokenizer.batch_decode(ids, skip_special_tokens=True)) == 2

    answers(read)


@given(data=st.data())
def test_the_tokenizer_of_transformers_layout(good, data):
    folder = good.folder / "layout"
    folder.mkdir(exist_ok=True)
    write_tokenizer_json(folder / "tokenizer.json", [*BUILT_IN_SPECIALS, "<|image token|>"])
    whole = (folder / "tokenizer.json").read_bytes()
    changed = st.one_of(damaged_json(json.loads(whole)), damaged_bytes(whole))
    path = put(folder, "tokenizer.json", data.draw(changed))
    answers(lambda: read_tokenizer_json(path))


@given(data=st.data())
def test_the_configuration_of_transformers_layout(good, data):
    language, vision = (
        json.loads((folder / "config.json").read_bytes()) for folder in (good.language, good.vision)
    )
    both = {"model_type": "emu3", "text_config": language, "vq_config": vision}
    words = {"vocabulary_map": {"<|image token|>": 3, "<|extra_200|>": 6}}
    folder = in_copy(good.language, good.folder / "copy", "config.json", b"")
    put(folder, "config.json", data.draw(damaged_json(both | words)))
    answers(lambda: read_config(Emu3Config, folder, {}))
    answers(lambda: read_config(Emu3VisionVQConfig, folder, {}, "--vq-model"))


@given(data=st.data())
def test_rank_files_and_special_tokens(good, data):
    ranks = data.draw(damaged_bytes((good.language / "emu3.tiktoken").read_bytes()))
    answers(lambda: read_ranks(put(good.folder, "ranks", ranks)))
    tokens = data.draw(damaged_bytes((good.language / "emu3_vision_tokens.txt").read_bytes()))
    answers(lambda: read_specials(put(good.folder, "tokens", tokens)))


@given(data=st.data())
def test_weights(good, data):
    whole = (good.language / "model.safetensors").read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:length])
    text = data.draw(damaged_json(header)) + b" " * data.draw(st.integers(0, 8))
    changed = st.just(len(text).to_bytes(8, "little") + text + whole[length:])
    content = data.draw(st.one_of(changed, damaged_bytes(whole)))
    answers(lambda: read_entries(put(good.folder, "weights.safetensors", content)))
    folder = in_copy(good.language, good.folder / "copy", "model.safetensors", content)
    answers(lambda: Emu3ForCausalLM.from_pretrained(folder))


@given(data=st.data())
def test_tables_of_weights(good, data):
    table = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys("abc", "x.safetensors")}
    changed = st.one_of(damaged_json(table), damaged_bytes(json.dumps(table).encode()))
    folder = in_copy(good.language, good.folder / "copy", INDEX, data.draw(changed))
    (folder / WEIGHTS).rename(folder / "x.safetensors")
    answers(lambda: stored_tensors(folder))


@given(data=st.data())
def test_codes(good, data):
    settings = data.draw(damaged_json({"frames": 4, "clip_frames": 4, "fps": 8.0, "prompt": "a"}))
    file = io.BytesIO()
    np.savez(file, codes=np.zeros((2, 4, 6), np.int32), settings=settings.decode())
    content = data.draw(st.one_of(damaged_bytes(good.codes), st.just(file.getvalue())))
    answers(lambda: Codes.load(put(good.folder, "codes.npz", content)))


@given(data=st.data())
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_pictures(good, data, kind):
    path = put(good.folder, "picture.png", data.draw(damaged_bytes(good.images[kind])))
    answers(lambda: open_image(path))
    answers(lambda: list(FrameSource(path).frames()) if FrameSource.is_clip(path) else None)


@settings(max_examples=max(3, EXAMPLES // 20))  # each starts a process
@given(data=st.data())
@pytest.mark.parametrize("kind", ["mp4", "mov"])
def test_videos(good, data, kind):
    path = put(good.folder, f"video.{kind}", data.draw(damaged_bytes(good.video(kind))))
    answers(lambda: list(FrameSource(path).frames()) if FrameSource.is_clip(path) else None)
    answers(lambda: FrameSource(path).fps())


@given(data=st.data())
def test_prompt_files(good, data):
    content = data.draw(damaged_bytes("a red star\n一个红色的圆\n\nblue\n".encode()))
    answers(lambda: read_prompts(str(put(good.folder, "prompts.txt", content))))


@given(data=st.data())
@pytest.mark.parametrize("parse_record", [caption_record, conversation_record, text_record])
def test_records(good, data, parse_record):
    turns = [{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "a circle"}]
    records = [
        {"name": "a", "text": "red", "image": "a.png"},
        {"id": "b", "image": "a.png", "conversations": turns},
        {"id": "c", "texts": "what", "response": "a circle"},
    ]
    lines = b"\n".join(json.dumps(record).encode() for record in records)
    changed = st.one_of(damaged_json(records), damaged_bytes(lines))
    path = put(good.folder, "records.jsonl", data.draw(changed))
    answers(lambda: read_items(path, parse_record))


@given(data=st.data())
def test_features(good, data):
    content = data.draw(damaged_bytes(good.feature))
    answers(lambda: read_feature(put(good.folder, "feature.ckpt", content)))


@given(data=st.data())
def test_features_of_torch(good, data):
    content = data.draw(damaged_bytes(good.torch))
    answers(lambda: read_feature(put(good.folder, "feature.pth", content)))


@given(data=st.data())
def test_shards_of_features(good, data):
    path = put(good.folder, "damaged.zip", data.draw(damaged_bytes(good.shard)))
    answers(lambda: members(path))
    answers(lambda: read_feature(path / "a.ckpt"))


@given(data=st.data())
def test_lists_of_prompts(good, data):
    record = {"prompt": "a red star", "tag": "colors", "include": [{"class": "star"}]}
    lines = json.dumps(record).encode() + b"\n"
    path = put(
        good.folder, "prompts", data.draw(st.one_of(damaged_json(record), damaged_bytes(lines)))
    )
    answers(lambda: SUITES["geneval"].read(path))
    listed = {"a1": {"category": "people", "prompt": "a red star"}}
    changed = st.one_of(damaged_json(listed), damaged_bytes(json.dumps(listed).encode()))
    answers(lambda: SUITES["mjhq"].read(put(good.folder, "prompts", data.draw(changed))))


@given(data=st.data())
def test_questions_with_answers(good, data):
    record = {"image": "a.png", "question": "Which colour?", "answers": ["red", "blue"]}
    put(good.folder, "a.png", good.images["PNG"])
    content = st.one_of(damaged_json(record), damaged_bytes(json.dumps(record).encode()))
    path = put(good.folder, "questions", data.draw(content))
    answers(lambda: read_records(path, good.folder))
    answers(lambda: read_scores(put(good.folder, "scores.csv", data.draw(damaged_bytes(SCORES)))))


@given(data=st.data())
def test_resume_files(good, data):
    shapes = {"a": (3,), "b": (2, 2)}
    path = good.folder / "state.safetensors"
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_state(path, arrays, {"step": 3, "loss": 0.5})
    put(good.folder, "state.safetensors", data.draw(damaged_bytes(path.read_bytes())))

    def read() -> None:
        with open_state(path, shapes, "--resume") as state:
            assert [state.tensor(name).shape for name in shapes] == [(3,), (2, 2)]
            assert state.values["step"] >= 0

    answers(read)


@given(data=st.data())
def test_logs(good, data):
    rows = (",".join(COLUMNS) + "\n1,0.5,1,1,1,1\n2,0.4,1,1,1,1\n").encode()
    forget_from(put(good.folder, "log.csv", data.draw(damaged_bytes(rows))), 2, COLUMNS)


@given(data=st.data())
def test_feature_lists(good, data):
    whole = good.list.read_bytes()
    content = data.draw(st.one_of(damaged_json(json.loads(whole)), damaged_bytes(whole)))
    path = put(good.list.parent, "damaged.json", content)
    answers(lambda: list_files(path, "--train_data_path"))


@given(data=st.data())
def test_settings_of_a_training(good, data):
    content = data.draw(damaged_bytes(b"max_steps: 3\nlearning_rate: 1e-3\ndry_run: true\n"))
    path = put(good.folder, "settings.yaml", content)
    answers(lambda: parse(["--config", str(path), "--train_data_path", "x"]))


def test_the_list_of_targets_names_zip_bombs_too(good):
    """A small file that expands without end is refused before it is expanded."""
    path = good.folder / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros((1, 1), np.int32))
        header = buffer.getvalue()[:-4].replace(b"(1, 1)", b"(65536, 65536)")
        archive.writestr("codes.npy", header[:8] + (len(header) - 10).to_bytes(2, "little"))
    answers(lambda: Codes.load(path))
