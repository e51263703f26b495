"""Pairs of which one has an image that crashes its decoder, wherever that runs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.images import examine
from tests.support.command import Ended, digests, kept, rejected, run_args
from tests.support.crashing.sitecustomize import MARK
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.root import ROOT
from tests.support.small_web import SmallWeb

COUNT, CRASHES = 40, 7
FOLDER = str(ROOT / "tests/support/crashing")
NAMED = (
    "under way when the command ended early: the images are first decoded in a process of their own"
)


class Crashing(NamedTuple):
    """Such pairs.

    Fields:
      flags: of a run. url: of that image. expected: the dataset where it is dropped by its name.
    """

    flags: tuple[str, ...]
    url: str
    expected: Path

    def check(self, output: Path) -> None:
        """Fails where a dataset is not what is expected."""
        (dropped,) = rejected(output)
        assert dropped[0] == self.url
        assert dropped[2:] == ("undecodable", "crashed_decoder")
        assert len(kept(output)) == COUNT - 1
        assert digests(output) == digests(self.expected)


def run_crashing(*args: object) -> Ended:
    """The command as a user starts it, whose decoder crashes."""
    command = [sys.executable, "beam_runner.py", *map(str, args)]
    environment = os.environ | {"PYTHONPATH": FOLDER}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def crashing_pairs(web: SmallWeb, folder: Path) -> Crashing:
    """Serves their images, and makes the expected set by a decoder that only says that it would
    crash."""
    bodies = [encoded(photograph(n), "JPEG") for n in range(COUNT)]
    bodies[CRASHES] += MARK
    web.files |= {f"/crash/{n}": body for n, body in enumerate(bodies)}
    urls = [f"{web.url}/crash/{n}" for n in range(COUNT)]
    texts = [f"{TEXTS[n % len(TEXTS)]} {n}" for n in range(COUNT)]
    pq.write_table(pa.table({"url": urls, "caption": texts}), folder / "pairs.parquet")
    flags = (f"--input={folder}/pairs.parquet", *FLAGS, "--samples_per_shard=10")
    examined = examine.examined
    crashed = examine.Unusable("undecodable", "crashed_decoder")
    with pytest.MonkeyPatch.context() as patch:
        look = lambda file, *rest: crashed if MARK in file.body else examined(file, *rest)  # noqa: E731
        patch.setattr(examine, "examined", look)
        ended = run_args(*flags, f"--output={folder}/expected")
    assert ended.status == 0, ended.err
    return Crashing(flags, urls[CRASHES], folder / "expected")
