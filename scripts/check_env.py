"""Say which requirements of setup.cfg this Python lacks; exit code 0 when it lacks none.

Usage: python scripts/check_env.py [EXTRA ...]. Reads package metadata only, imports nothing heavy.
"""

import configparser
import sys
from importlib import metadata
from pathlib import Path

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
except ImportError:  # a bare Python: pip carries its own copy
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.specifiers import SpecifierSet


def requirements(options: configparser.ConfigParser, extras: list[str]) -> list[Requirement]:
    """The requirements of the package and of the named extras."""
    blocks = [options["options"]["install_requires"]]
    blocks += [options["options.extras_require"][extra] for extra in extras]
    return [Requirement(line) for block in blocks for line in block.split("\n") if line]


def lacking(requirement: Requirement) -> str | None:
    """What is wrong with the installed version, or None."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement} is needed, {version} is installed"


def main() -> int:
    """Print what is lacking, one line each."""
    options = configparser.ConfigParser()
    options.read(Path(__file__).resolve().parent.parent / "setup.cfg")
    python = ".".join(map(str, sys.version_info[:3]))
    allowed = options["options"]["python_requires"]
    problems = [lacking(requirement) for requirement in requirements(options, sys.argv[1:])]
    if not SpecifierSet(allowed).contains(python):
        problems.append(f"Python {allowed} is needed, this is {python}")
    problems = [problem for problem in problems if problem]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
