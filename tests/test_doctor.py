"""The doctor: what it finds here, and that it finds what is wrong."""

import pytest
from packaging.specifiers import SpecifierSet

from emu3 import doctor
from emu3.cli import doctor as command
from emu3.nn.kernels import library
from emu3.requirements import needed, stated_version, within


def found(check) -> dict[str, tuple[str, str]]:
    return {finding.what: (finding.state, finding.seen) for finding in check}


def test_what_is_needed_is_what_setup_cfg_states():
    names = [name for name, _ in needed()]
    assert names[0] == "Python" and {"mindspore", "numpy", "transformers"} <= set(names)
    assert all(state == doctor.OK for state, _ in found(doctor.versions()).values())


@pytest.mark.parametrize(
    ("version", "allowed", "is_within"),
    [
        ("8.1.RC1", ">=8.1.RC1", True),
        ("8.0.0", ">=8.1.RC1", False),
        ("24.1.0", ">=24.1.RC3", True),
        ("2.10.0", ">=2.7,<2.11", True),  # as numbers, not as texts
        ("no version", ">=1", False),
    ],
)
def test_versions_are_compared_as_numbers(version, allowed, is_within):
    assert within(version, SpecifierSet(allowed)) == is_within


def test_another_version_and_an_absent_package_are_wrong(monkeypatch):
    stated = [("numpy", SpecifierSet(">=99")), ("no-such-package", SpecifierSet(">=1"))]
    monkeypatch.setattr(doctor, "needed", lambda: stated)
    seen = found(doctor.versions())
    assert seen["numpy"][0] == seen["no-such-package"][0] == doctor.WRONG
    assert "not installed" in seen["no-such-package"][1]


def test_a_card_with_an_old_driver_and_without_cann_is_wrong(tmp_path):
    driver, card = tmp_path / "version.info", tmp_path / "davinci_manager"
    driver.write_text("Version=23.0.rc1\nascendhal_version=7.35\n")
    card.touch()
    files = {"Ascend driver": (driver,), "CANN": (tmp_path / "version.cfg",)}
    seen = found(doctor.ascend(card, files))
    assert seen["Ascend driver"] == (doctor.WRONG, "23.0.rc1 (needed: >=24.1.RC3)")
    assert seen["CANN"][0] == doctor.WRONG
    assert found(doctor.ascend(tmp_path / "none"))["device"][0] == doctor.OK


def test_versions_of_ascend_are_read_from_its_files(tmp_path):
    path = tmp_path / "version.cfg"
    path.write_text("# version: 1.0\nrunning_version=[7.7]\nversion=[8.1.RC1]\n")
    assert stated_version(path) == "8.1.RC1"
    assert stated_version(tmp_path / "none") is None


def test_fewer_threads_than_cores_are_slow(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert found(doctor.threads())["threads"][0] == doctor.SLOW


def test_without_a_compiler_it_is_slow_not_wrong(monkeypatch):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    state, seen = found(doctor.compiler())["kernels"]
    assert state == doctor.SLOW and "/no/such/compiler" in seen


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(monkeypatch):
    def broken():
        raise ImportError("libascendcl.so: cannot open\nmore")
        yield

    for name in ("versions", "ascend", "memory", "caches", "computing", "compiler"):
        monkeypatch.setattr(doctor, name, broken)
    seen = list(doctor.findings())
    assert [f.state for f in seen].count(doctor.WRONG) == 6
    assert ("threads", doctor.OK) in [(f.what, f.state) for f in seen]
    assert seen[-1].seen == "ImportError: libascendcl.so: cannot open"
    line, code = doctor.verdict(seen)
    assert line.startswith("verdict: not ready") and code == 1


def test_the_command_ends_in_a_verdict(monkeypatch, capsys):
    monkeypatch.setattr(library, "built", lambda words: library.FOLDER / "kernels.so")
    code = command.main([])
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].startswith("verdict: ready") and code == 0, printed
    assert all(f"8B in {form}" in printed for form in ("float32", "bfloat16", "int8"))
    assert "GB/s" in printed and "multiplies on CPU" in printed
