"""Text to image: what is written, what each option does, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emu3.cli import decode, img_gen, studio
from emu3.cli.outputs import Codes
from emu3.mllm import Emu3ForCausalLM


def generate(tiny, output, *extra: str) -> int:
    return img_gen.main(
        ["--model", tiny[0], "--vq-model", tiny[1], "--output", str(output), *extra]
    )


def codes(output: Path, number: int = 0) -> np.ndarray:
    return Codes.load(output / f"image_{number:04d}.npz").codes


@pytest.fixture(scope="session")
def plain(tiny, tmp_path_factory) -> Path:
    """What the command writes when nothing but the models is given."""
    output = tmp_path_factory.mktemp("plain")
    assert generate(tiny, output) == 0
    return output


def test_the_default_run_writes_codes_and_a_picture_with_its_settings(plain):
    assert {p.name for p in plain.iterdir()} == {"image_0000.npz", "image_0000.png"}
    assert codes(plain).shape == (4, 4)
    with Image.open(plain / "image_0000.png") as image:
        assert image.size == (16, 16)
        assert image.text["prompt"] == "a red circle"
        settings = {name: image.text[name] for name in ("seed", "suffix", "guidance", "top_k")}
    assert settings == {"seed": "0", "suffix": " nice.", "guidance": "2.0", "top_k": "16"}


def test_a_second_run_is_numbered_and_equal(tiny, plain, tmp_path):
    for _ in range(2):
        assert generate(tiny, tmp_path) == 0
    assert len(list(tmp_path.glob("*.png"))) == 2
    assert np.array_equal(codes(tmp_path, 0), codes(plain))
    assert np.array_equal(codes(tmp_path, 1), codes(plain))


@pytest.mark.parametrize("mode", ["pynative", "graph"])
def test_every_mode_gives_the_same_picture(tiny, plain, tmp_path, mode):
    assert generate(tiny, tmp_path, "--mode", mode) == 0
    assert np.array_equal(codes(tmp_path), codes(plain))


@pytest.mark.parametrize(
    "option",
    [
        ("--prompt", "blue"),
        ("--suffix", ""),
        ("--negative-prompt", "other"),
        ("--guidance", "7"),
        ("--temperature", "3"),
        ("--temperature", "0"),
        ("--top-k", "2"),
        ("--top-p", "0.3"),
        ("--seed", "1"),
        ("--decoding", "jacobi"),
        ("--decoding", "zipar", "--zipar-window", "1"),
    ],
)
def test_every_sampling_option_changes_the_picture(tiny, plain, tmp_path, option):
    assert generate(tiny, tmp_path, *option) == 0
    assert not np.array_equal(codes(tmp_path), codes(plain))


def test_jacobi_with_plain_noise_makes_the_plain_picture_in_fewer_runs(
    tiny, plain, tmp_path, capsys
):
    extra = ("--decoding", "jacobi", "--coupling", "fixed", "--window", "6")
    assert generate(tiny, tmp_path, *extra) == 0
    assert np.array_equal(codes(tmp_path), codes(plain))
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("decoding")]
    assert line.startswith("decoding jacobi, window 6, coupling fixed: ")
    assert float(line.split(": ")[1].split()[0]) < 20


def test_zipar_is_called_lossy_in_the_notice_the_summary_and_the_picture(tiny, tmp_path, capsys):
    assert generate(tiny, tmp_path, "--decoding", "zipar", "--zipar-window", "2") == 0
    written = capsys.readouterr()
    assert "zipar, window 2 (lossy)" in written.err
    assert "decoding zipar, window 2 (lossy): 9.0 runs" in written.out
    with Image.open(tmp_path / "image_0000.png") as image:
        assert image.text["decoding"] == "zipar, window 2 (lossy)"


@pytest.fixture
def jacobi(tiny, tmp_path) -> tuple[str, str]:
    """The tiny checkpoint, whose generation_config.json says jacobi with plain's noise."""
    folder = copied(tiny, tmp_path)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"decoding": "jacobi", "coupling": "fixed", "window": 6}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return str(folder), tiny[1]


@pytest.mark.parametrize(
    ("extra", "label"),
    [
        ((), "jacobi, window 6, coupling fixed"),
        (("--window", "4"), "jacobi, window 4, coupling fixed"),
        (("--decoding", "plain"), "plain"),
    ],
)
def test_a_checkpoints_own_way_of_decoding_is_the_default(
    jacobi, plain, tmp_path, capsys, extra, label
):
    output = tmp_path / "out"
    assert generate(jacobi, output, *extra) == 0
    assert f"decoding {label}: " in capsys.readouterr().out
    assert Codes.load(output / "image_0000.npz").settings["decoding"] == label
    assert np.array_equal(codes(output), codes(plain))


def test_each_picture_has_a_seed_that_makes_it_again_alone(tiny, tmp_path):
    many, alone = tmp_path / "many", tmp_path / "alone"
    extra = ("--images-per-prompt", "3", "--batch-size", "2", "--seed", "5")
    assert generate(tiny, many, *extra) == 0
    pictures = [codes(many, i) for i in range(3)]
    assert not np.array_equal(pictures[0], pictures[1])
    for seed in (5, 6, 7):
        assert generate(tiny, alone, "--seed", str(seed)) == 0
    assert all(np.array_equal(codes(alone, i), pictures[i]) for i in range(3))


def test_prompts_come_from_options_and_from_a_file(tiny, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("two\n\n三个\n", encoding="utf-8")
    extra = ("--prompt", "one", "--prompt-file", str(tmp_path / "prompts.txt"))
    assert generate(tiny, tmp_path / "out", *extra) == 0
    found = [Codes.load(p).settings["prompt"] for p in sorted((tmp_path / "out").glob("*.npz"))]
    assert found == ["one", "two", "三个"]
    assert "3 picture(s) in" in capsys.readouterr().out


def test_ratios_and_area_give_the_size_each_prompt_its_own(tiny, tmp_path):
    ratios = ("--ratio", "4:1", "--ratio", "1:4", "--image-area", "1024")
    assert generate(tiny, tmp_path, "--prompt", "a", "--prompt", "b", *ratios) == 0
    assert (codes(tmp_path, 0).shape, codes(tmp_path, 1).shape) == ((4, 16), (16, 4))


def test_height_and_width_are_snapped_and_said(tiny, tmp_path, capsys):
    assert generate(tiny, tmp_path, "--height", "9", "--width", "22") == 0
    assert codes(tmp_path).shape == (2, 6)
    assert "height 9, width 22 become 8, 24" in capsys.readouterr().err


def test_the_preview_is_shown_every_few_rows_and_taken_away(tiny, tmp_path, monkeypatch):
    names = []
    save = studio.save_picture

    def recorded(image, settings, path) -> None:
        names.append(path.name)
        save(image, settings, path)

    monkeypatch.setattr(studio, "save_picture", recorded)
    assert generate(tiny, tmp_path, "--preview", "2") == 0
    assert names == ["image_0000_preview.png", "image_0000.png"]
    assert len(list(tmp_path.iterdir())) == 2


def interrupt_after(rows: int, monkeypatch) -> None:
    """Press Ctrl-C once that many rows are done."""
    stream = Emu3ForCausalLM.stream

    def interrupted(self, *args, **kwargs):
        done = 0
        for event in stream(self, *args, **kwargs):
            yield event
            done += type(event).__name__ == "RowDone"
            if done == rows:
                raise KeyboardInterrupt

    monkeypatch.setattr(Emu3ForCausalLM, "stream", interrupted)


def test_ctrl_c_keeps_the_rows_made_and_says_how_to_decode_them(
    tiny, plain, tmp_path, monkeypatch, capsys
):
    interrupt_after(2, monkeypatch)
    assert generate(tiny, tmp_path) == 130
    assert [p.name for p in tmp_path.iterdir()] == ["image_0000.npz"]
    assert np.array_equal(codes(tmp_path)[:2], codes(plain)[:2])
    assert (codes(tmp_path)[2:] == -1).all()
    words = capsys.readouterr().err.strip().splitlines()[-1].split("python -m emu3.cli.decode ")[1]
    assert decode.main(words.split()) == 0
    assert (tmp_path / "image_0000_decoded_0000.png").exists()


TWO_BATCHES = ("--images-per-prompt", "2", "--batch-size", "1")


def test_ctrl_c_in_a_later_batch_lists_the_finished_pictures(tiny, tmp_path, monkeypatch, capsys):
    stream, calls = Emu3ForCausalLM.stream, []

    def interrupted(self, *args, **kwargs):
        def events():
            calls.append(True)
            if len(calls) > 1:
                raise KeyboardInterrupt
            yield from stream(self, *args, **kwargs)

        return events()

    monkeypatch.setattr(Emu3ForCausalLM, "stream", interrupted)
    assert generate(tiny, tmp_path, *TWO_BATCHES) == 130
    assert {p.name for p in tmp_path.iterdir()} == {"image_0000.npz", "image_0000.png"}
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.endswith(f"interrupted; finished: {tmp_path}/image_0000.png")


def test_ctrl_c_between_codes_and_pixels_says_which_codes_to_decode(
    tiny, tmp_path, monkeypatch, capsys
):
    save = studio.save_picture

    def interrupted(image, settings, path) -> None:
        if path.name == "image_0001.png":
            raise KeyboardInterrupt
        save(image, settings, path)

    monkeypatch.setattr(studio, "save_picture", interrupted)
    extra = ("--images-per-prompt", "3", "--preview", "1")
    assert generate(tiny, tmp_path, *extra) == 130
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"image_0000.npz", "image_0000.png", "image_0001.npz", "image_0002.npz"}
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"finished: {tmp_path}/image_0000.png; " in message
    words = message.split("python -m emu3.cli.decode ")[1].split()
    assert words[:2] == [f"{tmp_path}/image_000{i}.npz" for i in (1, 2)]


def test_a_prompt_too_long_in_a_late_batch_is_refused_before_the_first(tiny, tmp_path, capsys):
    prompts = ("--prompt", "short", "--prompt", "long " * 100, "--batch-size", "1")
    assert generate(tiny, tmp_path, *prompts) == 2
    assert "a prompt has 5" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_before_the_first_row_leaves_nothing(tiny, tmp_path, monkeypatch):
    def interrupted(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Emu3ForCausalLM, "stream", interrupted)
    assert generate(tiny, tmp_path) == 130
    assert not list(tmp_path.iterdir())


BAD_OPTIONS = [
    (("--ratio", "wide"), "--ratio"),
    (("--ratio", "0:1"), "--ratio"),
    (("--ratio", "1000:1"), "--ratio"),
    (("--ratio", "1:1", "--ratio", "2:1"), "--ratio"),
    (("--image-area", "1"), "--image-area"),
    (("--image-area", "9999999999"), "--image-area"),
    (("--image-area", "20000"), "--image-area"),
    (("--height", "64"), "--width"),
    (("--height", "64", "--width", "64", "--ratio", "1:1"), "--ratio"),
    (("--height", "99999999999", "--width", "8"), "--height"),
    (("--prompt", "long " * 100), "--prompt"),
    (("--prompt-file", "nowhere.txt"), "nowhere.txt"),
    (("--device", "GPU"), "--device"),
    (("--dtype", "int4"), "--dtype"),
    (("--mode", "eager"), "--mode"),
    (("--attn-implementation", "paged"), "--attn-implementation"),
    (("--decoding", "fast"), "--decoding"),
    (("--window", "4"), "--window"),
    (("--decoding", "jacobi", "--window", "1"), "--window"),
    (("--decoding", "jacobi", "--window", "99"), "--window"),
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
    [("--seed", "-1"), ("--top-p", "0"), ("--top-k", "0"), ("--temperature", "nan")],
)
def test_numbers_out_of_range_end_with_code_2(tiny, tmp_path, capsys, option, value):
    with pytest.raises(SystemExit) as stop:
        generate(tiny, tmp_path, option, value)
    assert stop.value.code == 2
    assert option in capsys.readouterr().err


def copied(tiny, tmp_path) -> Path:
    folder = tmp_path / "language"
    shutil.copytree(tiny[0], folder)
    return folder


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
    from emu3.tokenizer import Emu3VisionVQModel

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
    from emu3 import runtime

    monkeypatch.setattr(runtime, "available_memory_bytes", lambda: 1000)
    monkeypatch.setattr(img_gen.common, "load_language", lambda options: pytest.fail("loaded"))
    arguments = ["--model", tiny[0], "--vq-model", tiny[1], "--output", str(tmp_path)]
    assert img_gen.main(arguments) == 2
    assert "need about" in capsys.readouterr().err
