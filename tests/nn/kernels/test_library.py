"""The compiled kernels: found again, built anew when something changes, refused when not ours."""

import os
import stat
from pathlib import Path

import pytest

from emu3.errors import InputError
from emu3.nn.kernels import library, operators


@pytest.fixture
def fake_compiler(tmp_path, monkeypatch) -> Path:
    """A compiler that writes down its runs and makes an empty library, and a cache of its own."""
    path = tmp_path / "compiler"
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/runs\nfor last; do :; done\n: > "$last"\n')
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return path


def runs(compiler: Path) -> int:
    """How often the compiler made a library."""
    log = compiler.parent / "runs"
    return log.read_text().count("-shared") if log.exists() else 0


def test_a_library_is_compiled_once(fake_compiler):
    first = library.built(library.compiler())
    assert library.built(library.compiler()) == first and first.exists()
    assert runs(fake_compiler) == 1
    assert not first.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def test_another_compiler_or_flag_makes_another_library(fake_compiler, monkeypatch):
    first = library.built(library.compiler())
    monkeypatch.setenv("CXX", f"{fake_compiler} -g")
    second = library.built(library.compiler())
    os.utime(fake_compiler, (1, 1))
    assert len({first, second, library.built(library.compiler())}) == 3


def test_a_compiler_older_than_the_processor_gets_flags_it_knows(fake_compiler, monkeypatch):
    monkeypatch.setattr(library, "processor_flags", lambda: [("-mnew",), ("-mold",), ()])
    old = fake_compiler.read_text().replace(
        "for last", 'case "$*" in *-mnew*) exit 1;; esac\nfor last'
    )
    fake_compiler.write_text(old)
    assert library.built(library.compiler()).exists() and runs(fake_compiler) == 1
    assert "-mold" in (fake_compiler.parent / "runs").read_text().splitlines()[-1]


def test_a_library_that_others_may_write_is_not_used(fake_compiler):
    path = library.built(library.compiler())
    path.chmod(0o777)
    library.built(library.compiler())
    assert runs(fake_compiler) == 2 and library.ours(path)
    path.parent.chmod(0o777)
    with pytest.raises(InputError, match="can be written by others"):
        library.built(library.compiler())


def test_a_failing_compiler_is_told_of_in_one_line_once(fake_compiler, monkeypatch, capsys):
    fake_compiler.write_text(
        f"#!/bin/sh\necho $@ >> {fake_compiler.parent}/runs\necho no room >&2\n"
    )
    with open(fake_compiler, "a") as file:
        file.write("echo more >&2\nexit 1\n")
    operators.library.cache_clear()
    try:
        assert operators.library() is None and operators.library() is None
    finally:
        operators.library.cache_clear()
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "no room; computing with slower operators" in line]) == 1
    assert set(said) - {f"emu3: {operators.COMPILING}"} == {said[-1]}
    assert runs(fake_compiler) == 1
    assert not list((fake_compiler.parent / "cache" / "emu3-mindspore").iterdir())


def test_compiling_is_told_of_once_and_finding_again_not_at_all(fake_compiler, monkeypatch, capsys):
    monkeypatch.setattr(operators.runtime, "_told", set())
    operators.library.cache_clear()
    try:
        operators.library()
        assert capsys.readouterr().err == f"emu3: {operators.COMPILING}\n"
        monkeypatch.setattr(operators.runtime, "_told", set())
        operators.library.cache_clear()
        assert operators.library().exists()
    finally:
        operators.library.cache_clear()
    assert capsys.readouterr().err == "" and runs(fake_compiler) == 1


def test_a_compiler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"no-such-compiler.*set CXX"):
        library.compiler()
