"""Shards: many features in one file, written, gone on with, damaged, and taken apart again."""

import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from emu3.errors import InputError
from tests.train.data.prepared import features as prepared
from tests.train.data.prepared import prepare, write
from train import check_data, prepare_text_data
from train.data import pack as pack_data
from train.data import writing
from train.data.features import Feature, list_files, read_feature, write_feature, write_list
from train.data.shards import members, shard_bytes
from train.data.writing import FeatureWriter

ROOT = Path(__file__).resolve().parents[3]
CODES = np.arange(12, dtype=np.int32).reshape(3, 4)


def some(count: int) -> list[Feature]:
    return [Feature(f"s{i}", CODES + i, f"picture {i}", captions=["画"]) for i in range(count)]


def pack(folder: Path, found: list[Feature], size: int, split: str = "train") -> list[Path]:
    with FeatureWriter.open(folder, size) as features:
        for feature in found:
            features.write(feature)
    return list_files(features.write_list(split, [f.name for f in found]), "--data")


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "feature").iterdir())


def texts(folder: Path, *more: str) -> int:
    """Prepare the records of `data.jsonl`."""
    data = ["--data-path", str(folder / "data.jsonl"), "--output-path", str(folder / "out")]
    return prepare_text_data.main([*data, *more])


def records(names: str, answer: str = "a") -> list[dict]:
    return [{"id": name, "texts": "q", "response": answer} for name in names]


def test_features_of_a_shard_are_read_as_those_of_files(tmp_path):
    wanted = some(5)
    files = pack(tmp_path, wanted, 2)
    assert shards(tmp_path) == [f"shard-0000{i}.zip" for i in range(3)]
    for file, feature in zip(files, wanted, strict=True):
        found = read_feature(file)
        np.testing.assert_array_equal(found.codes, feature.codes)
        assert (found.name, found.texts, found.captions) == (feature.name, feature.texts, ["画"])


def test_a_shard_holds_what_its_features_files_would_hold(tmp_path):
    pack(tmp_path / "shards", some(2), 2)
    pack(tmp_path / "files", some(2), 0)
    with zipfile.ZipFile(tmp_path / "shards/feature/shard-00000.zip") as shard:
        shard.extractall(tmp_path / "unzipped")
    for path in (tmp_path / "unzipped").iterdir():
        assert path.read_bytes() == (tmp_path / "files/feature" / path.name).read_bytes()
        assert ms.load_checkpoint(str(path))["images"].asnumpy().shape == CODES.shape


def test_the_same_features_make_the_same_bytes(tmp_path):
    for name in "ab":
        pack(tmp_path / name, some(3), 3)
    a, b = ((tmp_path / name / "feature/shard-00000.zip").read_bytes() for name in "ab")
    assert a == b


def test_prepared_shards_hold_the_features_of_prepared_files(data, vision):
    assert prepare(data, vision) == 0
    ones = prepared(data)
    assert prepare(data, vision, "--shard-size", "3") == 0
    assert shards(data / "out") == ["shard-00000.zip", "shard-00001.zip"]
    for one, packed in zip(ones, prepared(data), strict=True):
        np.testing.assert_array_equal(one.codes, packed.codes)
        assert (one.name, one.texts, one.inputs) == (packed.name, packed.texts, packed.inputs)


def test_the_same_command_keeps_shards_and_makes_again_what_changed(tmp_path):
    write(tmp_path, records("abc"))
    assert texts(tmp_path, "--shard-size", "2") == 0
    before = [path.stat().st_mtime_ns for path in (tmp_path / "out/feature").iterdir()]
    assert texts(tmp_path, "--shard-size", "2") == 0
    assert before == [path.stat().st_mtime_ns for path in (tmp_path / "out/feature").iterdir()]
    write(tmp_path, [*records("ab"), *records("c", "another")])
    assert texts(tmp_path, "--shard-size", "2") == 0
    assert [feature.response for feature in prepared(tmp_path)] == ["a", "a", "another"]
    # The one that held the old c alone is gone.
    assert shards(tmp_path / "out") == ["shard-00000.zip", "shard-00002.zip"]


def test_without_shards_they_become_files_again_and_other_lists_stay_whole(tmp_path):
    write(tmp_path, records("ab"))
    assert texts(tmp_path, "--shard-size", "9") == 0
    write(tmp_path, records("cd"))
    assert texts(tmp_path, "--shard-size", "9", "--split", "test") == 0
    write(tmp_path, records("ab"))
    assert texts(tmp_path) == 0
    assert shards(tmp_path / "out") == ["a.ckpt", "b.ckpt", "shard-00001.zip"]
    assert [f.name for split in ("train", "test") for f in prepared(tmp_path, split)] == [*"abcd"]


def test_what_was_written_before_a_failure_is_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt), FeatureWriter.open(tmp_path, 100) as features:
        features.write(some(1)[0])
        raise KeyboardInterrupt
    assert FeatureWriter(tmp_path, 100).find("s0") is not None


def test_features_wait_for_their_shard_so_long_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SECONDS", 0.0)
    features = FeatureWriter(tmp_path, 100)
    features.write(some(1)[0])
    assert shards(tmp_path) == ["shard-00000.zip"]


KILLED = """
import os, signal, sys
from pathlib import Path
from train.data import features
from train.data.writing import FeatureWriter
replace = os.replace
def killed(old, new):
    if str(new).endswith("shard-00001.zip"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(old, new)
os.replace = killed
with FeatureWriter.open(Path(sys.argv[1]), 2) as writer:
    for name in "abcd":
        writer.write(features.Feature(name, None, "q", "a"))
"""


def test_a_kill_while_a_shard_is_written_costs_that_shard_alone(tmp_path):
    (tmp_path / "out").mkdir()
    job = [sys.executable, "-c", KILLED, str(tmp_path / "out")]
    done = subprocess.run(job, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120)
    assert done.returncode == -signal.SIGKILL
    left = [path for path in (tmp_path / "out/feature").iterdir() if path.name.startswith(".")]
    assert left and (tmp_path / "out/feature/shard-00000.zip").exists()
    write(tmp_path, records("abcd"))
    assert texts(tmp_path, "--shard-size", "2") == 0
    # What was half-written is gone too.
    assert shards(tmp_path / "out") == ["shard-00000.zip", "shard-00001.zip"]
    assert [feature.name for feature in prepared(tmp_path)] == [*"abcd"]


def test_a_damaged_shard_is_named_once_by_the_checker_and_by_training(tmp_path, capsys):
    files = pack(tmp_path, some(4), 2)
    shard = files[0].parent
    shard.write_bytes(shard.read_bytes()[:-30])
    with pytest.raises(InputError, match=f"cannot read shard {shard}"):
        list_files(tmp_path / "list/train.json", "--data")
    assert check_data.main([str(tmp_path)]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem")]
    assert len(said) == 1 and str(shard) in said[0] and "2 features" in said[0]


def test_a_damaged_member_is_named_and_leaves_the_others_alone(tmp_path):
    first, second = pack(tmp_path, some(2), 2)
    data = bytearray(first.parent.read_bytes())
    data[data.index(CODES.tobytes())] ^= 1
    first.parent.write_bytes(data)
    with pytest.raises(InputError, match=f"cannot read feature {first}.*CRC"):
        read_feature(first)
    assert read_feature(second).texts == "picture 1"


def test_a_damaged_shard_is_made_again_and_not_written_over(tmp_path):
    write(tmp_path, records("ab"))
    assert texts(tmp_path, "--shard-size", "2") == 0
    shard = tmp_path / "out/feature/shard-00000.zip"
    shard.write_bytes(b"PK")
    assert texts(tmp_path, "--shard-size", "2") == 0
    assert [feature.name for feature in prepared(tmp_path)] == ["a", "b"]
    assert shard.read_bytes() == b"PK"


def test_a_member_that_is_listed_and_not_there_is_named(tmp_path):
    pack(tmp_path, some(1), 2)
    write_list(tmp_path, "train", ["shard-00000.zip/s0.ckpt", "shard-00000.zip/gone.ckpt"])
    with pytest.raises(InputError, match=r"gone\.ckpt, which does not exist"):
        list_files(tmp_path / "list/train.json", "--data")


@pytest.mark.parametrize("kind", ["twice", "huge", "bzip2", "pipe"])
def test_strange_shards_are_refused(kind, tmp_path, monkeypatch):
    (path,) = pack(tmp_path, some(1), 2)
    shard, content = path.parent, zipfile.ZipFile(path.parent).read(path.name)
    if kind == "twice":
        with pytest.warns(UserWarning):
            shard.write_bytes(shard_bytes([(path.name, content)] * 2))
    elif kind == "huge":
        monkeypatch.setattr("train.data.features.MOST_BYTES", 10)
    elif kind == "bzip2":
        with zipfile.ZipFile(shard, "w", zipfile.ZIP_BZIP2) as file:
            file.writestr(path.name, content)
    else:
        shard.unlink()
        os.mkfifo(shard)
    with pytest.raises(InputError, match=f"cannot read feature {path}"):
        read_feature(path)


def test_shards_that_other_tools_compressed_are_read(tmp_path):
    (path,) = pack(tmp_path, some(1), 2)
    content = zipfile.ZipFile(path.parent).read(path.name)
    with zipfile.ZipFile(path.parent, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(path.name, content)
    assert read_feature(path).texts == "picture 0"


def test_a_shard_that_is_replaced_is_read_anew(tmp_path):
    (path,) = pack(tmp_path, some(1), 2)
    assert read_feature(path).texts == "picture 0"
    other = write_feature(tmp_path, Feature("s0", CODES, "another"))
    path.parent.write_bytes(shard_bytes([(other, (tmp_path / "feature" / other).read_bytes())]))
    assert read_feature(path).texts == "another" and list(members(path.parent)) == ["s0.ckpt"]


def test_a_folder_is_packed_and_unpacked_again(tmp_path, capsys):
    pack(tmp_path / "files", some(5), 0)
    pack(tmp_path / "files", [Feature("held", CODES, "back")], 0, "test")
    (tmp_path / "files/encoding.json").write_text('{"codebook_size": 9}')
    for source, target, size in (("files", "packed", "2"), ("packed", "again", "0")):
        job = [str(tmp_path / source), "--output-path", str(tmp_path / target)]
        assert pack_data.main([*job, "--shard-size", size]) == 0
        assert pack_data.main([*job, "--shard-size", size]) == 0  # goes on, with nothing to do
    assert len(shards(tmp_path / "packed")) == 4
    assert shards(tmp_path / "again") == shards(tmp_path / "files")
    for path in (tmp_path / "files/feature").iterdir():
        assert path.read_bytes() == (tmp_path / "again/feature" / path.name).read_bytes()
    for folder in ("packed", "again"):
        assert json.loads((tmp_path / folder / "encoding.json").read_text())["codebook_size"] == 9
    assert "train.json: 5 samples" in capsys.readouterr().out


def test_packing_refuses_two_features_of_one_name_and_its_own_folder(tmp_path, capsys):
    for folder in ("x", "y"):
        pack(tmp_path / "feature" / folder, some(1), 0)
    write_list(tmp_path, "train", [f"{folder}/feature/s0.ckpt" for folder in "xy"])
    assert pack_data.main([str(tmp_path), "--output-path", str(tmp_path / "out")]) == 2
    assert "2 features are called s0" in capsys.readouterr().err
    assert pack_data.main([str(tmp_path), "--output-path", str(tmp_path)]) == 2
    assert "also to be written" in capsys.readouterr().err
