"""The kept pairs that are on blocklists, and the listed images that they show."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from alignset.pipeline.datasets.sample import Pair
from alignset.pipeline.datasets.set_files import SetFiles
from alignset.pipeline.datasets.stored_images import stored_in
from alignset.pipeline.inputs.find_blocklists import find_blocklists
from alignset.pipeline.look.shown_pairs import find_pairs
from alignset.pipeline.rules import Rules
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.decontamination.evaluation_files import set_folders
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.shards.listed_pairs import listed_in_shard, listed_texts
from alignset.transforms.storage.parquet_files import batches_of


def find_listed(
    files: SetFiles, blocklist: str, distances: dict[str, int], count: int
) -> tuple[list[Pair], str, list[EvaluationFile]]:
    """Pairs on the lists, as copies of the listed images that they show; a sentence on them; and
    the files of all listed images."""
    replace(Rules(), **distances)  # checks them
    lists = find_blocklists(blocklist, *distances.values())
    images = [EvaluationFile(of.name, path) for of in lists.lists for path in of.files]
    folders = set_folders([(of.name, of.path) for of in images])

    def find_keys(path: str) -> pa.Array:
        if files.is_of_shards:
            parts = [listed_in_shard(path.removesuffix(".parquet"), lists, original=True)]
        else:
            tables = (pa.Table.from_batches([batch]) for batch in batches_of(path))
            parts = [listed_texts(table, lists) for table in tables]
        return pa.concat_arrays([key_column(rows["key"].to_numpy()) for rows in parts])

    pairs, note = find_pairs(files, "", count, find_keys=find_keys)
    for at, pair in enumerate(pairs):
        body = stored_in(files, pair.file, pair.key) or b""
        if copy := lists.listed_copy(body) if body else None:
            pairs[at] = replace(
                pair,
                thumbnail=body,
                evaluation_set=copy.name,
                evaluation_image=copy.path.removeprefix(folders[copy.name]),
                evaluation_distance=str(copy.distance),
            )
    return pairs, note, images
