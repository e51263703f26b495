"""The command, run within the test's process or as one of its own, and its output read back."""

import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from alignset import beam_runner
from tests.support.forks import start
from tests.support.golden import Fate
from tests.support.root import ROOT


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str


def run(source: object, output: object, *flags: str) -> Ended:
    """The command within this process, which saves the 4 s that its imports take."""
    return run_args(f"--input={source}", f"--output={output}", *flags)


def run_args(*args: str) -> Ended:
    return _ended(lambda: beam_runner.main(args))


def _ended(command: Callable[[], int]) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = command()
        except SystemExit as error:  # --help
            status = int(error.code or 0)
    return Ended(status, out.getvalue(), err.getvalue())


def run_fork(*args: str) -> Ended:
    """The command in a process of its own, which has imported all before."""
    forked = start("alignset.beam_runner:main", *args)
    out, err = forked.communicate()
    return Ended(forked.wait(), out, err)


def stop(args: tuple[str, ...], folder: Path, when: Callable[[], bool], signum: int) -> int:
    """Starts the command, and signals it once `when` is true; returns its exit status."""
    with (folder / "said").open("w") as said:
        child = start("alignset.beam_runner:main", *args, stderr=said.fileno())
    while child.poll() is None and not when():
        time.sleep(0.005)
    assert child.poll() is None, "it ended before it could be stopped"
    child.send_signal(signum)
    return child.wait()


def run_process(*args: str) -> Ended:
    """The command as a user starts it."""
    command = [sys.executable, "beam_runner.py", *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def succeed(source: object, output: object, *flags: str) -> Ended:
    ended = run(source, output, *flags)
    assert ended.status == 0, ended.err
    return ended


def grow(out: object, new: object, *flags: str) -> Ended:
    """`alignset grow` within this process."""
    args = (str(out), f"--output={new}", *flags)
    return _ended(lambda: beam_runner.grow(args))


def keep_too_little(source: object, output: object, *flags: str) -> str:
    """A run that ends, of whose pairs nothing or almost nothing is kept; returns its last line."""
    ended = run(source, output, *flags)
    assert ended.status == 1, ended.err
    last = ended.err.splitlines()[-1]
    assert f"{output}: " in last
    assert " pairs were kept: " in last
    return last


def rejected(output: Path) -> list[Fate]:
    files = sorted(output.glob("rejected/*.parquet"))
    rows = pa.concat_tables(pq.read_table(file) for file in files).to_pylist() if files else []
    return [Fate(row["url"], row["caption"], row["reason"], row["detail"]) for row in rows]


def kept(output: Path) -> list[Fate]:
    """The kept pairs, from the sidecars or from `pairs/`."""
    files = sorted([*output.glob("shards/*.parquet"), *output.glob("pairs/*.parquet")])
    rows = [row for f in files for row in pq.read_table(f, columns=["url", "caption"]).to_pylist()]
    return [Fate(row["url"], row["caption"]) for row in rows]


def fates(output: Path) -> Counter[Fate]:
    """What became of every pair."""
    return Counter(kept(output) + rejected(output))


def funnel(output: Path) -> dict[str, Any]:
    return json.loads((output / "funnel.json").read_text())


def manifest(output: Path) -> dict[str, Any]:
    return json.loads((output / "manifest.json").read_text())


def samples(output: Path) -> dict[str, dict[str, bytes]]:
    """What the tars hold: key to extension to bytes."""
    files: dict[str, dict[str, bytes]] = {}
    for path in sorted(output.glob("shards/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                body = tar.extractfile(member)
                assert body is not None
                files.setdefault(key, {})[extension] = body.read()
    return files


# What a finished run leaves beside its folders.
DOCUMENTS = frozenset(
    {
        *("README.md", "croissant.json", "funnel.json", "funnel.svg"),
        *("manifest.json", "report.html", "vocabulary.u64"),
        *(f"_generated/{name}" for name in ("README.md", "croissant.json")),
    }
)
# The days of a fetch, which these name and nothing else does.
_FETCHED = re.compile(rb"(?m)^.*The images were fetched .*$")
_DAYS = re.compile(rb'(?m)^.*("\d{4}-\d\d-\d\d"|The images were fetched ).*$')
FETCH_DAYS = {
    "README.md": _FETCHED,
    "croissant.json": _DAYS,
    "manifest.json": re.compile(rb'(?s)"fetched": {.*?}'),
}


def _without_days(path: Path) -> bytes:
    body = path.read_bytes()
    return FETCH_DAYS[path.name].sub(b"", body) if path.name in FETCH_DAYS else body


def digests(output: Path, but: Iterable[str] = ()) -> dict[str, str]:
    """SHA-256 of every file under a folder, hidden ones too; without the days of a fetch, or what
    is compared at midnight would differ, and without ledgers and evidence, with the time of each
    answer."""
    files = [path for path in sorted(output.rglob("*")) if path.is_file()]
    files = [path for path in files if path.parent.name not in ("images", "evidence")]
    named = {str(path.relative_to(output)): path for path in files}
    return {
        name: hashlib.sha256(_without_days(path)).hexdigest()
        for name, path in named.items()
        if name not in but
    }
