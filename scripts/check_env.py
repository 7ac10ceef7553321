"""Say which requirements of setup.cfg this Python lacks; exit code 0 when it lacks none.

Usage: python scripts/check_env.py [--emu3] [EXTRA ...]. With --emu3 this checkout must be installed
too (`pip install -e .`). Reads package metadata only, imports nothing heavy.
"""

import configparser
import json
import sys
from importlib import metadata
from pathlib import Path
from urllib.request import url2pathname

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
except ImportError:  # a bare Python: pip carries its own copy
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent


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


def checkout_lacking(name: str) -> str | None:
    """What is wrong with the installed package `name`, which should be this checkout, or None."""
    for distribution in metadata.distributions(name=name):
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        # A checkout that was moved leaves the old folder here.
        if Path(url2pathname(origin.get("url", "").removeprefix("file://"))) == ROOT:
            return None
    return f"{ROOT} is not installed"


def main(arguments: list[str]) -> int:
    """Print what is lacking, one line each."""
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    python = ".".join(map(str, sys.version_info[:3]))
    allowed = options["options"]["python_requires"]
    extras = [argument for argument in arguments if argument != "--emu3"]
    problems = [lacking(requirement) for requirement in requirements(options, extras)]
    if "--emu3" in arguments:
        problems.append(checkout_lacking(options["metadata"]["name"]))
    if not SpecifierSet(allowed).contains(python):
        problems.append(f"Python {allowed} is needed, this is {python}")
    problems = [problem for problem in problems if problem]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
