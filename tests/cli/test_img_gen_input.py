"""Text to image: bad options, broken folders and what does not fit are refused by name."""

import shutil
from pathlib import Path

import pytest

from emu3 import runtime
from emu3.cli import img_gen
from emu3.errors import InputError
from emu3.tokenizer import Emu3VisionVQModel
from tests.cli.pictures import copied, generate

BAD_OPTIONS = [
    (("--ratio", "wide"), "--ratio"),
    (("--ratio", "0:1"), "--ratio"),
    (("--ratio", "1000:1"), "--ratio"),
    (("--ratio", "1:1", "--ratio", "2:1"), "--ratio"),
    (("--image-area", "1"), "--image-area"),
    (("--image-area", "20000"), "--image-area"),
    (("--height", "64"), "--width"),
    (("--height", "64", "--width", "64", "--ratio", "1:1"), "--ratio"),
    (("--height", "9999999", "--width", "8"), "--height"),
    (("--ratio", "1" * 5000 + ":1"), "--ratio"),
    (("--prompt", "long " * 100), "--prompt"),
    (("--prompt-file", "nowhere.txt"), "nowhere.txt"),
    (("--device", "GPU"), "--device"),
    (("--dtype", "int4"), "--dtype"),
    (("--mode", "eager"), "--mode"),
    (("--attn-implementation", "paged"), "--attn-implementation"),
    (("--decoding", "fast"), "--decoding"),
    (("--window", "4"), "--window"),
    (("--decoding", "jacobi", "--window", "1"), "--window"),
    (("--decoding", "jacobi", "--window", "9999"), "--window"),
    (("--decoding", "jacobi", "--coupling", "tight"), "--coupling"),
    (("--decoding", "jacobi", "--zipar-window", "4"), "--zipar-window"),
    (("--model", "no/where/at/all"), "--model"),
    (("--vq-model", "nowhere"), "--vq-model"),
]


@pytest.mark.parametrize(("extra", "flag"), BAD_OPTIONS)
def test_bad_options_are_one_line_with_the_flag_and_leave_nothing(
    tiny, tmp_path, capsys, extra, flag
):
    assert generate(tiny, tmp_path, *extra) == 2
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert flag in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", "-1"),
        ("--top-p", "0"),
        ("--top-p", "1e-300"),
        ("--top-k", "0"),
        ("--temperature", "nan"),
        ("--temperature", "1e-38"),
        ("--images-per-prompt", "9223372036854775807"),
        ("--threads", "1" * 5000),
        ("--threads", "10000000000000000000"),
        ("--image-area", "1" * 400),
        ("--height", "1" * 400),
        ("--device-id", "-1"),
        ("--guidance", "1e300"),
        ("--model", "~nobody-of-this-name/x"),
        ("--prompt", ""),
        ("--prompt", "  "),
        ("--prompt", "caf\udce9"),
        ("--negative-prompt", "caf\udce9"),
        ("--prompt", " red" * 100_000),
        ("--prompt", "a" + "\u0301\u0323" * 60_000),
    ],
)
def test_values_out_of_range_end_with_code_2_and_a_short_line(
    tiny, tmp_path, capsys, option, value
):
    with pytest.raises(SystemExit) as stop:
        generate(tiny, tmp_path, option, value)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert (option in message and "is not" in message) or "allowed" in message or "names" in message
    assert len(message) < 500


def test_a_prompt_file_is_read_line_by_line_without_its_byte_order_mark(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("\ufeffa red\u2028star\r\n\na blue star\n", encoding="utf-8")
    assert img_gen.read_prompts(str(file)) == ["a red\u2028star", "a blue star"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\xff\xfea\0", "not UTF-8"), (b"\n \n", "holds no prompt"), (b"a" * 300_000, "too long")],
)
def test_a_prompt_file_that_cannot_be_read_is_named(content, reason, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"prompts\.txt.*{reason}.*--prompt-file"):
        img_gen.read_prompts(str(file))


def test_more_pictures_than_a_run_may_make_are_refused_at_once(tiny, tmp_path, capsys):
    words = ["--prompt", "a", "--prompt", "b", "--images-per-prompt", "60000"]
    assert generate(tiny, tmp_path, *words) == 2
    assert "120000 pictures; allowed: up to 100000 a run" in capsys.readouterr().err


def test_a_device_without_end_is_no_prompt_file():
    with pytest.raises(InputError, match=r"/dev/zero is no regular file.*--prompt-file"):
        img_gen.read_prompts("/dev/zero")


def test_settings_far_from_the_checkpoints_own_are_told(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime, "_told", set())
    assert generate(tiny, tmp_path, "--guidance", "30", "--temperature", "5") == 0
    said = capsys.readouterr().err
    assert "--guidance 30 is far from the checkpoint's own 2" in said
    assert "--temperature 5 is far from the checkpoint's own 1" in said


def test_settings_near_the_checkpoints_own_are_not_told(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runtime, "_told", set())
    assert generate(tiny, tmp_path, "--guidance", "1", "--temperature", "0.9") == 0
    assert "far from" not in capsys.readouterr().err


def test_a_prompt_too_long_in_a_late_batch_is_refused_before_the_first(tiny, tmp_path, capsys):
    prompts = ("--prompt", "short", "--prompt", "long " * 100, "--batch-size", "1")
    assert generate(tiny, tmp_path, *prompts) == 2
    assert "a prompt has 5" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAMAGE = {
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "truncated weights": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:-100]
    ),
    "impossible config": lambda folder: rewrite(
        folder / "config.json", '"num_attention_heads": 4', '"num_attention_heads": 5'
    ),
    "mis-shaped weights": lambda folder: rewrite(
        folder / "config.json", '"intermediate_size": 64', '"intermediate_size": 48'
    ),
    "config that is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "no rank file": lambda folder: (folder / "emu3.tiktoken").unlink(),
    "doubled rank": lambda folder: rewrite(folder / "emu3.tiktoken", " 7\n", " 8\n"),
    "missing rank": lambda folder: rewrite(folder / "emu3.tiktoken", "BQ== 5\n", ""),
    "rank file that is none": lambda folder: (folder / "emu3.tiktoken").write_text("no ranks"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_model_folder_is_one_line_naming_a_path(tiny, tmp_path, capsys, damage):
    folder = copied(tiny, tmp_path)
    DAMAGE[damage](folder)
    output = tmp_path / "out"
    assert generate((str(folder), tiny[1]), output) == 2
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert str(folder) in message
    assert not list(output.iterdir())


def test_models_that_do_not_belong_together_are_refused(tiny, tmp_path, capsys):
    other = tmp_path / "vision"
    shutil.copytree(tiny[1], other)
    config = Emu3VisionVQModel.from_pretrained(tiny[1]).config
    config.codebook_size = 16
    Emu3VisionVQModel(config).save_pretrained(other)
    assert generate((tiny[0], str(other)), tmp_path / "out") == 2
    assert "change --model or --vq-model" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_named_before_anything_is_made(
    tiny, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("")
    assert generate(tiny, tmp_path / "file" / "below") == 2
    assert "change --output" in capsys.readouterr().err


def test_a_batch_that_cannot_fit_is_refused_before_anything_is_loaded(
    tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(runtime, "available_memory_bytes", lambda: 1000)
    monkeypatch.setattr(img_gen, "load_models", lambda *_: pytest.fail("loaded"))
    arguments = ["--model", tiny[0], "--vq-model", tiny[1], "--output", str(tmp_path)]
    assert img_gen.main(arguments) == 2
    assert "need about" in capsys.readouterr().err
