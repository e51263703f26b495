"""The kept pairs that are on blocklists, and the listed images that they show."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from alignset.pipeline.datasets.sample import Pair
from alignset.pipeline.datasets.set_files import SetFiles
from alignset.pipeline.datasets.stored_images import stored_in
from alignset.pipeline.inputs.find_blocklists import find_blocklists
from alignset.pipeline.rules import Rules
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.decontamination.evaluation_index import set_folders
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.shards.listed_pairs import listed_in_shard, listed_texts
from alignset.transforms.storage.parquet_files import batches_of


class ListedPairs:
    """The pairs of a dataset that are on blocklists.

    Attributes:
      images: the files of listed images.

    Raises:
      UsageError: a list is not one.
    """

    def __init__(self, files: SetFiles, blocklist: str, distances: dict[str, int]) -> None:
        replace(Rules(), **distances)  # checks them
        self._files, self._lists = files, find_blocklists(blocklist, *distances.values())
        self.images = [
            EvaluationFile(of.name, path) for of in self._lists.lists for path in of.files
        ]

    def find_keys(self, path: str) -> pa.Array:
        """The keys of listed pairs in a file of kept ones."""
        if self._files.is_of_shards:
            stem = path.removesuffix(".parquet")
            parts = [listed_in_shard(stem, self._lists, original=True)]
        else:
            tables = (pa.Table.from_batches([batch]) for batch in batches_of(path))
            parts = [listed_texts(table, self._lists) for table in tables]
        return pa.concat_arrays([key_column(rows["key"].to_numpy()) for rows in parts])

    def with_copies(self, pair: Pair) -> Pair:
        """The pair, with the listed image that its image is a copy of."""
        body = stored_in(self._files, pair.file, pair.key)
        copy = self._lists.listed_copy(body) if body else None
        if not body or not copy:
            return pair
        folder = set_folders([(of.name, of.path) for of in self.images])[copy.name]
        of_copy = {"evaluation_set": copy.name, "evaluation_distance": str(copy.distance)}
        name = copy.path.removeprefix(folder)
        return replace(pair, thumbnail=body, evaluation_image=name, **of_copy)
