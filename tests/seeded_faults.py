"""Faults that are put into the product, one at a time: the tests must notice each of them.

    python -m tests.seeded_faults [NAME ...] [--jobs=2] [--all]

Each fault of `seeded_faults.toml` changes a copy of the sources, never the sources themselves. The
tests that it names run over the copy, first those of `make test`, then those of `make test-slow`;
where none fails, all tests of its folder run. A test file that fails without the fault too does not
count. Prints which test files notice the fault. Ends with 1 where no test notices a fault, or only
tests of `make test-slow` do, or where a test file fails without any fault.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.support.root import ROOT, tracked

FAULTS = ROOT / "tests" / "seeded_faults.toml"
# Imported once and then forked: 10 s of CPU for each run of pytest. None of ours, which change.
HEAVY = ("apache_beam", "hypothesis", "pandas", "pyarrow.parquet", "torch", "transformers")
KERNELS = ("@kernel", "njit", "@allocating_kernel")
LONG_S = 300  # a test that hangs has noticed the fault


@dataclass(frozen=True)
class Fault:
    """One change of one file.

    Attributes:
      meaning: what the product does then. tests: files below `tests/` that are tried first.
    """

    name: str
    meaning: str
    file: str
    old: str
    new: str
    tests: list[str]

    def changed(self) -> str:
        """The file's text with the fault. Raises ValueError where it does not fit."""
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: {self.file} has {self.old!r} {text.count(self.old)} times"
            )
        return text.replace(self.old, self.new)

    @property
    def folder(self) -> str:
        """The tests of the folder of the changed file."""
        return str(Path("tests", self.file).parent)


# The test files that fail with a fault, of `make test` and of `make test-slow`.
Noticed = dict[str, list[str]]


class _FirstOfEachFile:
    """A plugin of pytest: runs the tests of a file up to its first failure."""

    def __init__(self) -> None:
        self.failed: set[str] = set()

    def pytest_collectreport(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid.partition("::")[0])

    pytest_runtest_logreport = pytest_collectreport

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        return True if item.nodeid.partition("::")[0] in self.failed else None


def serve() -> None:
    """Runs pytest in a fork for each line of the input, a list of its arguments, and prints which
    files failed. The current folder is the copy."""
    for module in HEAVY:
        importlib.import_module(module)
    for line in sys.stdin:
        kernels, *arguments = json.loads(line)
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.environ["NUMBA_CACHE_DIR"] = kernels
            _run(arguments, writing)
        os.close(writing)
        with os.fdopen(reading) as told:
            failed = told.read()
        os.waitpid(child, 0)
        print(failed or '["it ended by itself"]', flush=True)


def _run(arguments: list[str], writing: int) -> None:
    log = os.open("seeded_faults.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    plugin = _FirstOfEachFile()
    try:
        status = pytest.main(arguments, plugins=[plugin])
        wrong = status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR)
        os.write(writing, json.dumps(None if wrong else sorted(plugin.failed)).encode())
    finally:
        os._exit(0)


class Copy:
    """A copy of the sources, with the process that runs its tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in tracked():
            (folder / path.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path)
        for link in filter(Path.is_symlink, (ROOT / "alignset").iterdir()):
            (folder / "alignset" / link.name).symlink_to(link.readlink())
        (folder / ".venv").symlink_to(Path(sys.prefix))
        code = "from tests.seeded_faults import serve; serve()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def failing(self, files: Iterable[str], marker: str, kernels: str = "kernels") -> list[str]:
        """Which of some test files, or folders of them, fail."""
        there = [file for file in files if (self.folder / file).exists()]
        if not there:
            return []
        arguments = ["-n0", "-q", "-m", marker, "-p", "no:cacheprovider", f"--timeout={LONG_S}"]
        assert self.process.stdin
        assert self.process.stdout
        line = json.dumps([str(self.folder / kernels), *arguments, *there])
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        failed = json.loads(self.process.stdout.readline())
        if failed is None:
            log = (self.folder / "seeded_faults.log").read_text()
            raise RuntimeError(f"pytest has not run {' '.join(there)}:\n{log[-2000:]}")
        return failed

    @contextlib.contextmanager
    def changed(self, fault: Fault) -> Iterator[str]:
        """Within, the copy has the fault; gives the folder of its kernels, of which those of a
        changed file are compiled anew."""
        path, kernels = self.folder / fault.file, "kernels"
        before = path.stat()
        text = path.read_text()
        path.write_text(fault.changed())
        if any(word in text for word in KERNELS):
            kernels = "changed-kernels"
            if (self.folder / "kernels").exists():
                shutil.copytree(self.folder / "kernels", self.folder / kernels)
        try:
            yield kernels
        finally:
            path.write_text(text)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            shutil.rmtree(self.folder / "changed-kernels", ignore_errors=True)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class Control:
    """Remembers which test files fail without a fault: their failures say nothing about one."""

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], bool] = {}

    def without_failing(self, copy: Copy, files: list[str], marker: str) -> list[str]:
        """Gives the files that pass on the unchanged copy; each of them runs there once."""
        for file in files:
            if (file, marker) not in self.results:
                self.results[file, marker] = bool(copy.failing([file], marker))
        return [file for file in files if not self.results[file, marker]]

    @property
    def failing(self) -> list[str]:
        return sorted({file for (file, _), fails in self.results.items() if fails})


def notice(copy: Copy, fault: Fault, control: Control, *, all_tests: bool) -> Noticed:
    """Which tests notice a fault; with `all_tests` the slow ones too where others do."""
    noticed: Noticed = {"test": [], "test-slow": []}
    for files in ([f"tests/{name}" for name in fault.tests], [fault.folder]):
        for target, marker in (("test", "not slow"), ("test-slow", "slow")):
            if all_tests or not any(noticed.values()):
                with copy.changed(fault) as kernels:
                    failing = copy.failing(files, marker, kernels)
                noticed[target] = control.without_failing(copy, failing, marker)
        if any(noticed.values()):
            break
    return noticed


def read_faults(names: Iterable[str] = ()) -> list[Fault]:
    """The faults, or those of some names. Raises ValueError where one does not fit the sources."""
    rows = tomllib.loads(FAULTS.read_text())
    faults = [Fault(name, **row) for name, row in rows.items()]
    if unknown := set(names) - {fault.name for fault in faults}:
        raise ValueError(f"no such faults: {', '.join(sorted(unknown))}")
    chosen = [fault for fault in faults if not names or fault.name in names]
    for fault in chosen:
        fault.changed()
    return chosen


def run_faults(
    faults: list[Fault], control: Control, jobs: int, *, all_tests: bool
) -> list[Noticed]:
    """Applies each fault to a copy; prints a row for each as it is known."""
    copies: SimpleQueue[Copy] = SimpleQueue()

    def one(fault: Fault) -> Noticed:
        copy = copies.get()
        try:
            noticed = notice(copy, fault, control, all_tests=all_tests)
        finally:
            copies.put(copy)
        shown = "; ".join(f"{name}: {' '.join(f) or '-'}" for name, f in noticed.items())
        print(f"{fault.name} ({fault.meaning}): {shown}", flush=True)
        return noticed

    with tempfile.TemporaryDirectory(prefix="seeded-faults-") as name:
        made = [Copy(Path(name, str(number))) for number in range(jobs)]
        for copy in made:
            copies.put(copy)
        try:
            with ThreadPoolExecutor(jobs) as pool:
                return list(pool.map(one, faults))
        finally:
            for copy in made:
                copy.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of faults; none: all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="run the slow tests of each fault too")
    flags = parser.parse_args()
    control, faults = Control(), read_faults(flags.names)
    found = run_faults(faults, control, flags.jobs, all_tests=flags.all)
    by_name = dict(zip((fault.name for fault in faults), found, strict=True))
    unnoticed = [name for name, noticed in by_name.items() if not any(noticed.values())]
    slow = [name for name, files in by_name.items() if files["test-slow"] and not files["test"]]
    seen = len(found) - len(unnoticed)
    print(f"{len(found)} faults, {seen} noticed, {len(slow)} by slow tests alone")
    for name in unnoticed:
        print(f"nothing notices: {name}")
    for name in slow:
        print(f"make test does not notice: {name}")
    for file in control.failing:
        print(f"fails without a fault: {file}")
    return 1 if unnoticed or slow or control.failing else 0


if __name__ == "__main__":
    sys.exit(main())
