"""A run over a small web that can be stopped among its images, and what it must make."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.command import digests, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.machines import until
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import PATIENT, SmallWeb

COUNT = 60


class WebRun:
    """Pairs in twelve shards or more; all pairs are kept.

    Attributes:
      flags: of the run, all but its output.
    """

    def __init__(self, web: SmallWeb, folder: Path) -> None:
        for n in range(COUNT):
            web.files[f"/{n}"] = encoded(photograph(900 + n), "JPEG")
        columns = {
            "url": [f"{web.url}/{n}" for n in range(COUNT)],
            "caption": [f"{TEXTS[n % len(TEXTS)]} {n}" for n in range(COUNT)],
        }
        pq.write_table(pa.table(columns), folder / "pairs.parquet")
        flags = (*FLAGS, *PATIENT, "--samples_per_shard=5")
        succeed(folder / "pairs.parquet", folder / "expected", *flags)
        self.web, self._expected = web, digests(folder / "expected")
        self.flags = (f"--input={folder}/pairs.parquet", *flags)

    @contextlib.contextmanager
    def held(self, alive: Callable[[], bool], images: int = 8) -> Iterator[None]:
        """Waits until the run has asked for some images; no other comes while the block runs."""
        first = len(self.web.requests) + images
        with self.web.holding_after(images):
            until(lambda: len(self.web.requests) > first or not alive(), "images")
            assert alive(), "it ended among the images"
            yield

    def check(self, output: Path, said: str) -> None:
        """Fails unless a dataset has the bytes of a run in process."""
        different = {name for name, _ in digests(output).items() ^ self._expected.items()}
        assert not different, f"{different}\n{said}"
