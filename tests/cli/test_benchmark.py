"""The benchmark command on tiny models: every subject prints its table."""

import shlex
from importlib import import_module
from pathlib import Path

import pytest

from emu3.benchmarks import serving
from emu3.cli import benchmark
from emu3.cli.shell import read_options

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "hidden": 32,
    "layers": 1,
    "heads": 4,
    "kv-heads": 2,
    "inner": 48,
    "vocabulary": 200,
    "visual": 150,
}
NET = ["--device=CPU", *(f"--{name}={value}" for name, value in SIZES.items()), "--repeats=2"]


def printed(capsys, *arguments: str) -> str:
    assert benchmark.main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("mode", ["auto", "pynative"])
def test_decode_prints_rates_bytes_and_their_share(mode, capsys):
    out = printed(capsys, "decode", *NET, "--prefix=8", "--row=3", f"--mode={mode}")
    for what in ("mindspore 2", "cores", "s/step", "spread", "tokens/s", "GB/s", "of read bandw"):
        assert what in out
    assert ("pynative" if mode == "pynative" else "graph step") in out


def test_two_prefixes_are_compared_by_time_and_bytes(capsys):
    out = printed(capsys, "decode", *NET, "--prefix=8", "--prefix=40", "--row=3", "--guidance=1")
    assert "40 against 8 filled slots" in out
    assert "times the bytes" in out


def test_windows_stand_beside_one_place(capsys):
    windows = ["--window=2", "--window=5", "--weights=float32", "--weights=int8"]
    out = printed(capsys, "decode", *NET, "--prefix=8", "--row=3", *windows)
    for form in ("float32", "int8"):
        lines = [line for line in out.splitlines() if f"| {form} |" in line]
        assert [line.split(",")[2].split()[0] for line in lines] == ["1", "2", "5"]
        assert lines[0].endswith("| 1.00 |")


def test_a_run_of_several_places_begins_where_the_last_began():
    from emu3.benchmarks import nets
    from emu3.benchmarks.passes import Passes

    parsed = benchmark.build_parser().parse_args(["decode", *NET, "--row=3", "--window=4"])
    options = read_options(parsed.subject.kind, parsed)
    run = Passes(nets.random_model(options.net.sizes, 200, options.device), options, 8, 4)
    slot, before = run.decoder.slot.copy(), run.decoder.forwards.max()
    assert run.block() > 0 and run.block() > 0
    assert (run.decoder.slot == slot).all() and run.decoder.forwards.max() > before + 1


def test_a_block_is_a_row_of_every_sequence():
    from emu3.benchmarks import decode, nets
    from emu3.mllm.generation import RowDone

    parsed = benchmark.build_parser().parse_args(["decode", *NET, "--row=3", "--sequences=2"])
    options = read_options(parsed.subject.kind, parsed)
    model = nets.random_model(options.net.sizes, 64, options.device)
    rows = decode.OurRows(model, options, 8)
    rows.events = iter([RowDone(i % 2, i // 2, None) for i in range(8)])
    rows.block()
    assert next(rows.events) == RowDone(0, 1, None)


@pytest.fixture
def stands(monkeypatch) -> list[tuple[str, str]]:
    """Whose ways were started, of peers that answer at once."""
    from emu3.benchmarks import decode, prefill

    started = []

    class Stand:
        def __init__(self, python, way, settings, model, kind):
            started.append((kind, way))

        def seconds(self):
            return 1000.0

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    for module in (decode, prefill):
        monkeypatch.setattr(module, "Peer", Stand)
    return started


def test_peers_stand_in_the_table_with_their_ratio(capsys, stands):
    peer = ["--peer=torch", "--peer-ways=reference,static"]
    out = printed(capsys, "decode", *NET, "--prefix=8", "--row=3", *peer)
    assert "reference's way" in out
    assert "static cache" in out
    assert "times emu3" in out


def test_llama_cpp_is_a_peer_of_language_models(capsys, stands):
    net = [*NET, "--prefix=8", "--peer=llama-cpp"]
    out = printed(capsys, "decode", *net, "--row=3", "--peer-ways=batched,batched-bfloat16")
    assert out.count("llama.cpp, rows in one batch") == 2
    assert "llama-cpp prefill" in printed(capsys, "prefill", *net)
    assert stands == [("llama-cpp", way) for way in ("decode_batched", "decode_batched", "prefill")]


def test_llama_cpp_is_no_peer_of_the_vision_tokenizer(capsys):
    with pytest.raises(SystemExit) as end:
        benchmark.main(["vq-image", "--peer=llama-cpp"])
    assert end.value.code == 2 and "'torch'" in capsys.readouterr().err


def test_prefill_prints_tokens_per_second(capsys):
    assert "tokens/s" in printed(capsys, "prefill", *NET, "--prefix=8")


@pytest.mark.parametrize(("subject", "images"), [("vq-image", 1), ("vq-clip", 4)])
def test_the_vision_tokenizer_prints_both_ways_and_memory(tiny, subject, images, capsys):
    size = ["--height=16", "--width=24", "--repeats=1"]
    out = printed(capsys, subject, "--vq-model", tiny[1], *size)
    for what in ("encode", "decode", "encode + decode", "24x16", "img/s", "GiB", f"| {images} |"):
        assert what in out


def test_pictures_are_measured_by_batch_size(tiny, capsys):
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--repeats=1"]
    out = printed(capsys, "t2i", *models, "--batch-size=1", "--batch-size=3")
    assert "| 1 | 16x16 |" in out
    assert "| 3 | 16x16 |" in out
    assert "img/s" in out


def test_clips_are_measured(tiny, capsys):
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--repeats=1", "--frames=4"]
    out = printed(capsys, "t2v", *models)
    assert "frames/s" in out and "s/clip" in out


def test_answers_are_as_long_as_asked(tiny, image_file, capsys):
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--repeats=1", "--image", image_file]
    out = printed(capsys, "vqa", *models, "--batch-size=2", "--new-tokens=3")
    assert "prefill s" in out


def test_the_server_is_measured_with_many_clients_and_one(tiny, capsys):
    pytest.importorskip("fastapi")
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--repeats=1"]
    out = printed(capsys, "serve", *models, "--clients=3", "--batch-size=2")
    for what in (
        "one client",
        "3 clients at once, up to 2 together",
        "pictures/s",
        "times as many",
    ):
        assert what in out


def test_pictures_that_depend_on_who_else_asks_are_told(tiny, capsys, monkeypatch):
    pytest.importorskip("fastapi")
    pictures = iter("abcdefghijklmnopqrstuvwxyz")
    monkeypatch.setattr(serving, "picture", lambda address, prompt, seed: next(pictures))
    models = ["--model", tiny[0], "--vq-model", tiny[1], "--repeats=1", "--clients=2"]
    assert benchmark.main(["serve", *models]) == 2
    assert "several pictures" in capsys.readouterr().err


def test_startup_reaches_a_first_token_in_a_fresh_process(tiny, capsys, monkeypatch):
    from emu3.benchmarks import measure

    once = lambda runs, _: {name: measure.Timing([run()]) for name, run in runs.items()}  # noqa: E731
    monkeypatch.setattr(measure, "take_turns", once)
    out = printed(capsys, "startup", "--model", tiny[0], "--vq-model", tiny[1], "--repeats=1")
    assert "start-up to first token" in out


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["decode", "--peer-ways=fast"], "--peer-ways"),
        (["decode", *NET, "--visual=199"], "--visual"),
        (["t2i", "--ratio=16x9"], "--ratio"),
        (["vq-image", "--height=2"], "--height"),
        (["decode", *NET, "--prefix=8", "--peer=torch", "--peer-python=/no/python"], "--peer-py"),
        (["decode", "--peer=llama-cpp", "--peer-ways=static"], "--peer-ways"),
        (["decode", "--window=4", "--peer=torch"], "--window"),
    ],
)
def test_what_cannot_be_measured_is_named(arguments, flag, tiny, capsys):
    if arguments[0] == "vq-image":
        arguments = [*arguments, "--vq-model", tiny[1]]
    assert benchmark.main(arguments) == 2
    assert flag in capsys.readouterr().err


def listed() -> list[str]:
    """The commands that `scripts/benchmark.sh all` runs."""
    return (ROOT / "configs" / "benchmarks.txt").read_text().splitlines()


@pytest.mark.parametrize("line", listed())
def test_every_listed_benchmark_parses_and_stands_in_the_documentation(line):
    module, *arguments = shlex.split(line)
    import_module(module).build_parser().parse_args(arguments)
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"python -m {line}\n" in page
