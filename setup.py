"""Installs the top-level folders as parts of the package alignset; pyproject.toml has the rest."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = ("pipeline", "transforms", "train", "demo")


class BuildPackage(build_py):
    """Installs beam_runner.py, which stands at the top level, as alignset.beam_runner."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        modules = super().find_package_modules(package, package_dir)
        runner = [("alignset", "beam_runner", "beam_runner.py")]
        return modules + (runner if package == "alignset" else [])


setup(
    packages=["alignset", "alignset.ablate"]
    + [f"alignset.{name}" for name in find_packages() if name.split(".")[0] in FOLDERS],
    package_dir={f"alignset.{folder}": folder for folder in FOLDERS},
    cmdclass={"build_py": BuildPackage},
)
