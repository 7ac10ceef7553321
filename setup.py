"""What setup.cfg cannot say: the bundled files become part of the package, the peers do not."""

from fnmatch import fnmatch

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# Benchmarks run these in a process of their own, from a checkout, with a Python that has them.
PEERS = ("peer*_torch", "peer*_llama_cpp")


class BuildPy(build_py):
    """Leaves out the modules that need torch or llama.cpp."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """(package, module, file) of what goes into the wheel."""
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if not any(fnmatch(module[1], peer) for peer in PEERS)]


setup(
    packages=[*find_packages(include=["emu3", "emu3.*"]), "emu3.assets"],
    package_dir={"emu3.assets": "assets"},
    cmdclass={"build_py": BuildPy},
)
