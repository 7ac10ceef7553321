"""The versions that the package asks for, and those that are here; reads metadata, imports nothing.

A checkout has them in setup.cfg, an installed package in its metadata.
"""

import configparser
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

NAME = "emu3-mindspore"
SETUP = Path(__file__).resolve().parent.parent / "setup.cfg"
PYTHON = "Python"
# Of the machine, by the original port; 8.1.RC1 is a version as packaging reads them.
ASCEND = {"Ascend driver": SpecifierSet(">=24.1.RC3"), "CANN": SpecifierSet(">=8.1.RC1")}


def needed() -> Iterator[tuple[str, SpecifierSet]]:
    """Names and ranges of Python and of every package that inference needs."""
    if SETUP.is_file():
        options = configparser.ConfigParser()
        options.read(SETUP, encoding="utf-8")
        python, lines = (options["options"][k] for k in ("python_requires", "install_requires"))
        stated = [line for line in lines.split("\n") if line]
    else:
        about = metadata.metadata(NAME)
        python, stated = about["Requires-Python"], metadata.requires(NAME) or []
    yield PYTHON, SpecifierSet(python)
    for line in stated:
        requirement = Requirement(line)
        if requirement.marker is None:  # an extra's have one
            yield requirement.name, requirement.specifier


def within(version: str, allowed: SpecifierSet) -> bool:
    """Whether a version is one of those allowed; what is no version is not."""
    try:
        return allowed.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def stated_version(path: Path) -> str | None:
    """What a file of Ascend's says after `Version=`; None where there is no such file."""
    try:
        found = re.search(r"(?im)^\s*version\s*=\s*\[?([\w.]+)", path.read_text(errors="replace"))
    except OSError:
        return None
    return found[1] if found else None
