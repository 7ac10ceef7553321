"""The first thing to run on an Ascend card: `bash scripts/ascend_check.sh`, a few minutes.

Each operator against float64 on the host, each task of emu3-mini against results of a CPU, then
speeds and memory. Exit code 1 when something failed or is wrong. Send back all that it prints.
`--write FILE` keeps the results of this device instead: `assets/ascend_check.json` is a CPU's.
"""

import platform
from dataclasses import dataclass
from importlib import metadata

from emu3.cli import shell
from emu3.errors import InputError
from emu3.names import DTYPES, check_name
from emu3.options import option

VERSIONS = ("mindspore", "numpy", "transformers")


@dataclass(frozen=True)
class Options:
    """What is checked, and where."""

    device: str = option("auto, CPU or Ascend", "auto")
    device_id: int | None = option("index of the card (default: $DEVICE_ID or 0)", None, int)
    dtype: str = option("of operators and tasks on a card", "bfloat16")
    write: str | None = option("keep this device's results in a file", metavar="FILE")

    def __post_init__(self) -> None:
        check_name("dtype", self.dtype, DTYPES, "--dtype")
        if DTYPES[self.dtype] == "float32":
            raise InputError(
                "dtype 'float32' is not what a card computes in; allowed: bfloat16, float16; "
                "change --dtype"
            )


def run(options: Options) -> int:
    """Print every finding as it comes; returns 1 when one is not fine."""
    from pathlib import Path

    from emu3 import __version__, runtime

    device = runtime.setup(options.device, options.device_id)
    from emu3.benchmarks import card_operators, card_tasks

    if options.write is not None:
        card_tasks.write(Path(options.write))
        return 0
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    print(f"emu3 {__version__}, {versions}, {device}, {platform.platform()}")
    dtype = runtime.DTYPES[options.dtype if device == "Ascend" else "float32"]
    print("| what | verdict | error | limit | seconds | note |")
    print("| --- | --- | --- | --- | --- | --- |")
    bad = [_shown(finding) for finding in card_operators.findings(dtype)]
    tasks = card_tasks.Tasks(str(dtype).lower())
    bad += [_shown(finding) for finding in card_tasks.findings(tasks)]
    print("\n| what | tokens/s | seconds of compiling |\n| --- | --- | --- |")
    for speed in card_tasks.speeds(tasks):
        print(f"| {speed.what} | {speed.rate:.1f} | {speed.compiling:.1f} |", flush=True)
    print(f"\npeak memory {card_tasks.peak()}; {sum(bad)} of {len(bad)} checks are not fine")
    return int(any(bad))


def _shown(finding) -> bool:
    """Print a finding as a line of the table; whether it is not fine."""
    error = "" if finding.error is None else f"{finding.error:.2e}"
    cells = (finding.what, finding.verdict, error, f"{finding.limit:g}", f"{finding.seconds:.2f}")
    print(f"| {' | '.join(cells)} | {finding.note[:200]} |", flush=True)
    return finding.verdict != "ok"


build_parser, main = shell.command(
    "emu3.cli.ascend_check", "Check operators and tasks on an Ascend card.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
