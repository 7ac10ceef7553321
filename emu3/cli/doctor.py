"""Say whether this machine is ready: `python -m emu3.cli.doctor`. Paste its output into reports.

Exit code 1 when something is wrong, 0 else.
"""

from dataclasses import dataclass

from emu3.cli import shell


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def run(options: Options) -> int:
    """Print a line a finding as they come, then the verdict."""
    from emu3 import __version__
    from emu3.doctor import findings, verdict

    print(f"emu3 {__version__}")
    found = []
    for finding in findings():
        found.append(finding)
        print(f"{finding.state:<6} {finding.what:<18} {finding.seen}", flush=True)
    line, code = verdict(found)
    print(line)
    return code


build_parser, main = shell.command(
    "emu3.cli.doctor", "Say whether this machine is ready.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
