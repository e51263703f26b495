"""The packages that hold public test suites, or parsers to compare with: one version of each,
with its SHA-256. The registries' own clients download them; they are unpacked below out/suites."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.root import ROOT

FOLDER = ROOT / "out" / "suites"


class Package(NamedTuple):
    """A package of a registry: "pip" (its source distribution), "npm", "cargo" or "apt"."""

    client: str
    name: str
    version: str
    sha256: str


_LINES = Path(__file__).with_suffix(".txt").read_text().splitlines()
_PACKAGES = {package.name: package for package in (Package(*line.split()) for line in _LINES)}


def unpacked(name: str) -> Path:
    """Returns the folder of a package's files, which is downloaded the first time.

    Raises:
      RuntimeError: the client is missing or fails, or the file is not the one that is known.
    """
    package = _PACKAGES[name]
    within = "node_modules" if package.client == "npm" else "."  # where Node looks for it
    folder = FOLDER / package.client / within / package.name
    stamp = FOLDER / f"{package.client}-{package.name.replace('/', '-')}-{package.version}"
    if stamp.exists():
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        archive = _downloaded(package, Path(scratch))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != package.sha256:
            raise RuntimeError(f"{archive.name} has the SHA-256 {found}, not {package.sha256}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if package.client == "apt":
            run(["dpkg-deb", "-x", str(archive), str(folder)])
        else:
            _unpack(archive, folder)
    stamp.touch()
    return folder


def _downloaded(package: Package, scratch: Path) -> Path:
    """The package's archive, in an empty folder."""
    _CLIENTS[package.client](package, scratch)
    kinds = (".tar.gz", ".tgz", ".crate", ".deb")
    found = [file for file in scratch.rglob("*") if file.name.endswith(kinds)]
    if len(found) != 1:
        raise RuntimeError(f"{package.client} brought {len(found)} archives of {package.name}")
    return found[0]


def _by_pip(package: Package, scratch: Path) -> None:
    # pip checks the hash before it runs what builds the metadata.
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    old = scratch / "old.txt"  # html5lib's setup.py imports what newer ones lack
    old.write_text("setuptools<81\n")
    pip = ["env", f"PIP_CONSTRAINT={old}", sys.executable, "-m", "pip", "download", "--no-deps"]
    pip += ["--require-hashes", "--no-binary", package.name, "-d", str(scratch), "-r", str(wanted)]
    run(pip)


def _by_npm(package: Package, scratch: Path) -> None:
    run(["npm", "pack", "--silent", f"{package.name}@{package.version}"], scratch)


def _by_cargo(package: Package, scratch: Path) -> None:
    named = f"{package.name}@{package.version}"
    cargo = ["env", f"CARGO_HOME={scratch}", "cargo", "info", named]
    run(cargo, scratch)  # the command that downloads a crate alone


def _by_apt(package: Package, scratch: Path) -> None:
    run(["apt-get", "download", "--quiet", f"{package.name}={package.version}"], scratch)


_CLIENTS: dict[str, Callable[[Package, Path], None]] = {
    "pip": _by_pip,
    "npm": _by_npm,
    "cargo": _by_cargo,
    "apt": _by_apt,
}


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar without the folder that all its members are in."""
    with tarfile.open(archive) as source:
        for member in source:
            member.name = member.name.partition("/")[2]
            if member.isfile() and member.name:
                source.extract(member, folder, filter="data")


def run(
    command: list[str], folder: Path | None = None, asked: str = "", codes: tuple[int, ...] = (0,)
) -> str:
    """Returns what a command prints.

    Raises:
      RuntimeError: it is missing, or ends with another exit status than these.
    """
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is needed, and is not on the PATH")
    done = subprocess.run(
        command, cwd=folder, input=asked, capture_output=True, text=True, check=False
    )
    if done.returncode not in codes:
        raise RuntimeError(f"{' '.join(command[:3])}: {done.stderr.strip()[-400:]}")
    return done.stdout


def imported(name: str, *below: str) -> None:
    """Puts a Python package's folder on the path."""
    sys.path.append(str(unpacked(name).joinpath(*below)))


def by_node(script: str, packages: tuple[str, ...], cases: list[str]) -> list[Any]:
    """Returns what a module of Node, which may import the packages, answers to each case.

    Args:
      script: its last line is an expression, a function from a string to what JSON can hold.
    """
    folders = [unpacked(name) for name in packages]
    head, _, function = script.strip().rpartition("\n")
    text = f"""
import {{ readFileSync }} from "node:fs"
{head}
const answer = {function}
console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(answer)))
"""
    module = FOLDER / "npm" / f"{folders[0].name}.mjs"
    module.write_text(text)
    return json.loads(run(["node", str(module)], asked=json.dumps(cases)))
