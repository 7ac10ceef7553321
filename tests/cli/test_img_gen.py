"""Text to image: what is written, and what each option does."""

import json

import numpy as np
import pytest
from PIL import Image

from emu3 import bundled
from emu3.cli import img_gen
from emu3.cli.options import public_name
from emu3.codesfile import Codes
from tests.cli.pictures import codes, copied, generate


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


def test_the_best_of_several_says_so_and_is_as_good_as_a_seed(tiny, tmp_path, capsys):
    assert generate(tiny, tmp_path, "--best-of", "3", "--images-per-prompt", "2") == 0
    with Image.open(tmp_path / "image_0001.png") as image:
        assert image.text["decoding"] == "plain, best of 3"
    assert "2 picture(s)" in capsys.readouterr().out
    assert generate(tiny, tmp_path, "--best-of", "3", "--seed", "1") == 0
    assert np.array_equal(codes(tmp_path, 2), codes(tmp_path, 1))


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
    assert 1.2 < float(line.split(": ")[1].split()[0]) <= 6  # tokens at once


def test_zipar_is_called_lossy_in_the_notice_the_summary_and_the_picture(tiny, tmp_path, capsys):
    assert generate(tiny, tmp_path, "--decoding", "zipar", "--zipar-window", "2") == 0
    written = capsys.readouterr()
    assert "zipar, window 2 (lossy)" in written.err
    assert "decoding zipar, window 2 (lossy): 2.22 tokens at once" in written.out
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
    assert (f"decoding {label}: " in capsys.readouterr().out) == (label != "plain")
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
    printed = capsys.readouterr().out.splitlines()
    assert printed[2] == f"{tmp_path / 'out' / 'image_0002.png'}: 三个"
    assert printed[3].startswith("3 picture(s) in")


def test_a_run_that_was_cut_is_resumed_with_what_is_missing(tiny, tmp_path, capsys):
    extra = ("--prompt", "one", "--prompt", "two", "--prompt", "three", "--resume")
    assert generate(tiny, tmp_path, *extra) == 0
    before = codes(tmp_path, 1)
    (tmp_path / "image_0001.png").unlink()
    assert generate(tiny, tmp_path, *extra) == 0
    assert np.array_equal(codes(tmp_path, 3), before)
    assert len(list(tmp_path.glob("*.png"))) == 3
    capsys.readouterr()
    assert generate(tiny, tmp_path, *extra) == 0
    assert capsys.readouterr().out == f"{tmp_path} holds every picture\n"
    assert generate(tiny, tmp_path, *extra, "--top-k", "3", "--image-area", "64") == 0
    assert len(list(tmp_path.glob("*.png"))) == 6


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
    save = img_gen.save_picture

    def recorded(image, settings, path) -> None:
        names.append(path.name)
        save(image, settings, path)

    monkeypatch.setattr(img_gen, "save_picture", recorded)
    assert generate(tiny, tmp_path, "--preview", "2") == 0
    assert names == ["image_0000_preview.png", "image_0000.png"]
    assert len(list(tmp_path.iterdir())) == 2


def test_no_file_tells_the_folder_a_model_lies_in(tiny, plain):
    with Image.open(plain / "image_0000.png") as image:
        assert (image.text["model"], image.text["vq_model"]) == ("language", "vision")
    assert tiny[0].removesuffix("/language") not in str(
        Codes.load(plain / "image_0000.npz").settings
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("BAAI/Emu3-Gen", "BAAI/Emu3-Gen"),
        ("runs/mine", "runs/mine"),
        ("/home/ann/mine", "mine"),
        ("models/../../home/ann/mine", "mine"),
        ("../ann/mine/", "mine"),
        ("./mine..old", "./mine..old"),
        (str(bundled.MINI_LANGUAGE), "emu3-mini/language"),
    ],
)
def test_models_are_named_as_they_were_asked_for(asked, told):
    assert public_name(asked) == told
