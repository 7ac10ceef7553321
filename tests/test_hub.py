"""Where a checkpoint lies: folders as they are, hub ids through the hub's own client."""

import pytest

from emu3.errors import InputError
from emu3.hub import checkpoint_folder


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert checkpoint_folder(tmp_path, ["config.json"]) == tmp_path


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c"])
def test_a_path_without_a_folder_is_named(source):
    with pytest.raises(InputError, match=f"{source}.*--vq-model"):
        checkpoint_folder(source, [], "--vq-model")


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("")
    with pytest.raises(InputError, match="is no folder"):
        checkpoint_folder(path, [])


def test_of_a_hub_id_only_the_named_files_are_fetched(monkeypatch, tmp_path):
    calls = []

    def fetch(name, allow_patterns):
        calls.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert checkpoint_folder("BAAI/Emu3-Gen", ["config.json"]) == tmp_path
    assert calls == [("BAAI/Emu3-Gen", ["config.json"])]


def test_a_hub_id_out_of_reach_is_named(monkeypatch):
    def fetch(name, allow_patterns):
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(InputError, match=r"BAAI/Emu3-Gen.*no network.*HF_ENDPOINT"):
        checkpoint_folder("BAAI/Emu3-Gen", [])
