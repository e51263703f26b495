"""The numbers of shards, and where their files are in an output."""

from __future__ import annotations

from dataclasses import dataclass

# Shards of pairs that are held out of training are numbered from here on, and their files in a
# folder of their own from 0.
HOLDOUT = 1 << 31


def shard_name(shard: int) -> str:
    """The number of a shard as its files have it: of at least five digits."""
    return f"{shard % HOLDOUT:05d}"


def moved_of(stem: str) -> str:
    """The `moved` file of the shard whose files have this path without their endings."""
    return _beside("moved", stem)


def _beside(name: str, stem: str) -> str:
    out, folder, number = stem.rsplit("/", 2)
    return f"{out}/{name}/{'holdout-' if folder == 'holdout' else ''}{number}_{name}.parquet"


@dataclass(frozen=True)
class ShardPlaces:
    """The paths of shards' files.

    Attributes:
      out: the output folder.
    """

    out: str

    @property
    def folders(self) -> tuple[str, str]:
        """Those of the shards to train on, and of those that are held out."""
        return f"{self.out}/shards", f"{self.out}/holdout"

    def tar(self, shard: int) -> str:
        """Its samples. A shard in which nothing is kept has none."""
        return f"{self._stem(shard)}.tar"

    def sidecar(self, shard: int) -> str:
        """Its samples as columns. A shard in which nothing is kept has none."""
        return f"{self._stem(shard)}.parquet"

    def stats(self, shard: int) -> str:
        """Its counts. They are written last, so a shard with them is whole."""
        return f"{self._stem(shard)}_stats.json"

    def rejected(self, shard: int) -> str:
        """Its pairs that were dropped."""
        kind = "holdout" if shard >= HOLDOUT else "images"
        return f"{self.out}/rejected/{kind}-{shard_name(shard)}.parquet"

    def responses(self, shard: int) -> str:
        """The responses from which its images came, in a folder of its own, since readers of
        sidecars read all of `shards/*.parquet`. A shard without a fetched image has none."""
        return _beside("responses", self._stem(shard))

    def moved(self, shard: int) -> str:
        """The first URLs of the pairs that got the URL of an image with the same bytes, by which a
        takedown finds them. A shard without such a pair has none."""
        return moved_of(self._stem(shard))

    def _stem(self, shard: int) -> str:
        return f"{self.folders[shard >= HOLDOUT]}/{shard_name(shard)}"
