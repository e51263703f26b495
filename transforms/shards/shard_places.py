"""Where the files of a shard are in an output."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShardPlaces:
    """The paths of shards' files.

    Attributes:
      out: the output folder.
    """

    out: str

    def tar(self, shard: int) -> str:
        """Its samples. A shard in which nothing is kept has none."""
        return f"{self.out}/shards/{shard:05d}.tar"

    def sidecar(self, shard: int) -> str:
        """Its samples as columns. A shard in which nothing is kept has none."""
        return f"{self.out}/shards/{shard:05d}.parquet"

    def stats(self, shard: int) -> str:
        """Its counts. They are written last, so a shard with them is whole."""
        return f"{self.out}/shards/{shard:05d}_stats.json"

    def rejected(self, shard: int) -> str:
        """Its pairs that were dropped."""
        return f"{self.out}/rejected/images-{shard:05d}.parquet"
