"""The type of the finished runs that many tests look at; conftest.py makes them."""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow.parquet as pq


class Golden(NamedTuple):
    """The golden set, and the run of the command over it."""

    pairs: Path
    flags: tuple[str, ...]
    fates: list  # of golden.Fate
    output: Path
    said: str  # on stderr, and printed

    def arguments(self) -> dict[str, Any]:
        """The flags of the run, as arguments of `alignset.curate`."""
        flags = dict(word.removeprefix("--").partition("=")[::2] for word in self.flags)
        return {name: value or True for name, value in flags.items()}

    def paths_of_shard(self, number: int) -> set[str]:
        """The paths of the images that a shard was given, as they are asked for."""
        name = f"{number:05d}"
        files = (f"shards/{name}.parquet", f"rejected/images-{name}.parquet")
        tables = [pq.read_table(self.output / f) for f in files if (self.output / f).exists()]
        urls = [urlsplit(url) for table in tables for url in table["url"].to_pylist()]
        return {url._replace(scheme="", netloc="").geturl() for url in urls}
