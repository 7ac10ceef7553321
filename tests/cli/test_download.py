"""`emu3 download` against a double of both hubs on loopback."""

import json
import os

import pytest

from emu3.cli import download
from emu3.hubs import RemoteFile, fetch_resuming
from tests.hub_double import REPOSITORY, Hub, serving

CONFIG = json.dumps({"model_type": "Emu3VisionVQ", "ch": 32}).encode()
FILES = {
    "config.json": CONFIG,
    "model.safetensors": os.urandom(300_000),
    "preprocessor_config.json": b"{}",
    "README.md": b"not wanted",
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that commands ask instead of the real ones, with an empty cache."""
    made = Hub(dict(FILES))
    with serving(made) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", address)
        cache = str(tmp_path / "cache")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
        monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", cache)
        monkeypatch.chdir(tmp_path)
        yield made


def run(*arguments: str) -> int:
    return download.main([REPOSITORY, *arguments])


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_the_files_of_a_model_come_into_a_folder(hub, source, tmp_path, capsys):
    assert run("--source", source, "--output", "here") == 0
    assert {path.name for path in (tmp_path / "here").glob("[!.]*")} == set(FILES) - {"README.md"}
    assert (tmp_path / "here" / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    printed = capsys.readouterr().out.splitlines()
    assert "3 files, 300.04 kB, of which 300.00 kB are to be fetched into here" in printed[0]
    assert any("model.safetensors: 300.00 kB, size and sha256 as stated" in p for p in printed)
    assert printed[-1] == "use it as --model or --vq-model here"


def test_by_default_the_cache_is_filled_in_which_models_are_found_by_id(hub, capsys):
    from emu3.hub import checkpoint_folder

    assert run() == 0
    assert (
        capsys.readouterr().out.splitlines()[-1] == f"use it as --model or --vq-model {REPOSITORY}"
    )
    asked = list(hub.asked)
    folder = checkpoint_folder(REPOSITORY, ["config.json"], local_files_only=True)
    assert (folder / "config.json").read_bytes() == CONFIG
    assert run() == 0  # nothing a second time
    assert hub.asked == asked


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_transfer_that_was_cut_goes_on_where_it_was(hub, source, tmp_path, monkeypatch):
    # What comes is written in pieces of 10 MB; a cut loses one at most.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.cut["model.safetensors"] = 100_000
    assert run("--source", source, "--output", "here") == 0
    starts = [start for name, start in hub.asked if name == "model.safetensors"]
    assert len(starts) == 2 and starts[0] == 0 and 0 < starts[1] <= 100_000
    assert (tmp_path / "here" / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_what_a_killed_run_left_is_used(hub, tmp_path):
    path = tmp_path / "here" / "model.safetensors"
    path.parent.mkdir()
    (path.parent / ".model.safetensors.part").write_bytes(FILES["model.safetensors"][:200_000])
    assert run("--source", "modelscope", "--output", "here") == 0
    assert ("model.safetensors", 200_000) in hub.asked
    assert path.read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_file_with_another_digest_is_removed_and_said(hub, source, tmp_path, capsys):
    hub.wrong.add("model.safetensors")
    assert run("--source", source, "--output", "here") == 2
    message = capsys.readouterr().err
    assert "model.safetensors has another sha256" in message and "run the command again" in message
    assert not (tmp_path / "here" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b'{"model_type": "llama"}', "model_type 'llama'; allowed: Emu3, Emu3VisionVQ, emu3"),
        (b'{"model_type": "Emu3VisionVQ", "ch": 7}', "ch is 7"),
    ],
)
@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_another_kind_of_model_is_refused_before_anything_large(hub, source, config, said, capsys):
    hub.files["config.json"] = config
    assert run("--source", source, "--output", "here") == 2
    assert said in capsys.readouterr().err
    assert [name for name, _ in hub.asked] == ["config.json"]


def test_a_full_disk_is_foreseen(hub, capsys):
    hub.claimed["model.safetensors"] = 10**18
    assert run("--output", "here") == 2
    assert "1000000000.00 GB are to be fetched" in capsys.readouterr().err
    assert [name for name, _ in hub.asked] == ["config.json"]


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_machine_without_a_network_is_told_what_to_bring(monkeypatch, source, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    assert download.main(["BAAI/Emu3-Gen", "--source", source]) == 2
    message = capsys.readouterr().err
    for name in ("config.json", "*.safetensors", "emu3.tiktoken", "folder here", "--model"):
        assert name in message


@pytest.mark.parametrize("words", [["Emu3-Gen"], ["a/b/c"], [REPOSITORY, "--source", "x"]])
def test_what_is_no_repository_or_source_is_refused(words, capsys):
    assert download.main(words) == 2
    assert "allowed:" in capsys.readouterr().err


def test_a_transfer_without_progress_gives_up(tmp_path):
    hub = Hub({"x": b""})
    with serving(hub) as address, pytest.raises(OSError, match="ended early"):
        fetch_resuming(f"{address}/{REPOSITORY}/resolve/main/x", tmp_path / "x", 10)


def test_an_empty_file_is_a_file(tmp_path):
    hub, file = Hub({"x": b""}), RemoteFile("x", 0, None)
    with serving(hub) as address:
        fetch_resuming(f"{address}/{REPOSITORY}/resolve/main/x", tmp_path / "x", file.size)
    assert (tmp_path / "x").read_bytes() == b""
