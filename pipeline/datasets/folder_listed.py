"""Samples and rows of a folder of another tool that are on a blocklist, whichever of a shard's
files says so: the image, KEY.json, KEY.txt, or the row of the sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.datasets.find_listed import find_in_shards
from alignset.pipeline.datasets.folder_samples import FolderShard, is_text, stated_pairs
from alignset.pipeline.datasets.folders import Folder
from alignset.pipeline.errors import UsageError
from alignset.pipeline.shown_texts import printable
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.shards.image_places import read_places
from alignset.transforms.shards.listed_pairs import Removal, keys_of
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.broken_files import broken_file
from alignset.transforms.storage.files import exists, open_to_read
from alignset.transforms.storage.parquet_files import batches_of, read_rows

ROWS_AT_ONCE = 1000
_BYTES_AT_ONCE = 1 << 25
SampleId = tuple[int, str]  # which of the tars behind each other, and the name


@dataclass
class ListedInShard:
    """Contents of a shard on a list.

    Attributes:
      samples: the samples and the names of rows, each with its list and kind of entry.
      names: of all samples.
      rows: the places of rows of the sidecar that are on a list themselves.
      kept: the lists of the samples whose image can be read.
    """

    samples: dict[SampleId, str] = field(default_factory=dict)
    names: set[SampleId] = field(default_factory=set)
    rows: set[int] = field(default_factory=set)
    kept: list[str] = field(default_factory=list)


def find_in_folder(
    folder: Folder, lists: Blocklists
) -> Iterator[tuple[FolderShard, ListedInShard]]:
    """Looks through a folder's shards; gives those that have something on a list.

    Raises:
      UsageError: a file cannot be read, so that nobody knows what is in it.
    """
    places = ShardPlaces(folder.place)
    holding = [n for n in range(len(folder.shards)) if exists(places.sidecar(n))]
    removal = Removal(find_in_shards(folder.place, holding, lists, original=True).rows, lists)
    for number, shard in enumerate(folder.shards):
        listed = _of_shard(folder, number, lists, removal)
        if listed.samples or listed.rows:
            yield shard, listed


def _of_shard(folder: Folder, number: int, lists: Blocklists, removal: Removal) -> ListedInShard:
    shard, places = folder.shards[number], ShardPlaces(folder.place)
    listed = ListedInShard()
    rows = read_places(places.tar(number))
    path = shard.path
    try:
        for samples, details in _stated(shard, lists):
            listed.names |= {*samples}
            listed.samples |= {s: why for s, why in zip(samples, details, strict=True) if why}
        path = shard.sidecar
        row_names = dict(_listed_rows(path, lists, listed.rows)) if path else {}
    except Exception as error:
        fault = broken_file(path, error)
        if fault is None:
            raise
        raise unreadable(path, fault.fault) from error
    for sample in listed.names:
        if why := row_names.get(sample[1]) or row_names.get(base_name(sample[1])):
            listed.samples.setdefault(sample, why)
    if rows is not None:
        _add_images(listed, rows, places, number, removal)
    return listed


def _stated(
    shard: FolderShard, lists: Blocklists
) -> Iterator[tuple[list[SampleId], list[str | None]]]:
    """The samples of a shard, one for each of its texts, and which list each is on."""
    samples: list[SampleId] = []
    urls: list[bytes] = []
    texts: list[bytes] = []
    size = 0
    for sample, url, text in stated_pairs(shard):
        samples.append(sample)
        urls.append(url)
        texts.append(text)
        size += len(url) + len(text)
        if len(samples) == ROWS_AT_ONCE or size > _BYTES_AT_ONCE:
            yield samples, _details(urls, texts, lists)
            samples, urls, texts, size = [], [], [], 0
    if samples:
        yield samples, _details(urls, texts, lists)


def _details(urls: list[bytes], texts: list[bytes], lists: Blocklists) -> list[str | None]:
    columns = [pa.array(urls, pa.binary()), pa.array(texts, pa.binary())]
    pairs = measure(pa.record_batch(columns, ["url", "caption"]))
    kept = zip(pairs.text.to_pylist(), texts, strict=True)
    captions = [text or said.decode("utf-8", "replace") for text, said in kept]
    url = pc.fill_null(pairs.url, "")
    return lists.of_pairs(url, pa.array(captions, pa.string()), pairs.key).to_pylist()


def _listed_rows(path: str, lists: Blocklists, places: set[int]) -> Iterator[tuple[str, str]]:
    """The keys of rows of a sidecar that are on a list themselves; their places go to `places`.
    Each text is looked at as often as it is stored: a file of 50 KB may repeat one of 1 MB.

    Raises:
      FileFault: the file is none.
    """
    with open_to_read(path) as source:
        schema = pq.read_schema(source)
        names = [name for name in ("url", "caption", "key") if name in schema.names]
        for name in names:
            kind = schema.field(name).type if schema.names.count(name) == 1 else None
            is_known = kind and (is_text(kind) or pa.types.is_null(kind))
            if not is_known and not (name == "key" and kind):
                raise unreadable(path, f"its column {name} is {kind or 'there twice'}, no text")
        texts = [n for n in names if is_text(schema.field(n).type)]
        source.seek(0)
        start = 0
        for batch in pq.ParquetFile(source, read_dictionary=texts).iter_batches(
            ROWS_AT_ONCE, columns=texts
        ):
            details = [_of_values(batch[n], n, lists) for n in texts if n != "key"]
            for row, of_row in enumerate(zip(*details, strict=True)):
                if why := next(filter(None, of_row), None):
                    places.add(start + row)
                    key = batch["key"][row].as_py() if "key" in texts else None
                    if key is not None:
                        yield key, why
            start += len(batch)


def _of_values(column: pa.DictionaryArray, name: str, lists: Blocklists) -> list[str | None]:
    """Which list each value of a column of URLs or of texts is on."""
    used = pc.unique(column.indices.drop_null())
    values = column.dictionary.take(used).cast(pa.binary()).to_pylist()
    empty = [b""] * len(values)
    urls, texts = (values, empty) if name == "url" else (empty, values)
    details = pa.array(_details(urls, texts, lists), pa.string())
    return details.take(pc.index_in(column.indices, used)).to_pylist()


def _add_images(
    listed: ListedInShard, rows: pa.Table, places: ShardPlaces, number: int, removal: Removal
) -> None:
    """Adds the samples and rows whose image is on a list, or has the URL of a listed image."""
    details = dict(
        zip(removal.rows["key"].to_pylist(), removal.rows["detail"].to_pylist(), strict=True)
    )
    for batch in batches_of(places.rejected(number)):
        of_batch = removal.details_of_dropped(batch)
        on_list = zip(keys_of(batch["key"]).tolist(), of_batch.to_pylist(), strict=True)
        details |= {key: why for key, why in on_list if why}
    kept = set[int]()
    if exists(places.sidecar(number)):
        kept = set(keys_of(read_rows(places.sidecar(number), ["key"])["key"]).tolist())
    columns = keys_of(rows["key"]).tolist(), rows["tar"].to_pylist(), rows["name"].to_pylist()
    for key, tar, name in zip(*columns, strict=True):
        sample = tar, name.decode("utf-8", "surrogateescape")
        if why := details.get(key):
            listed.samples.setdefault(sample, why)
        if key in kept and sample in listed.samples:
            listed.kept.append(listed.samples[sample])


def base_name(name: str) -> str:
    """The name of a sample without its folder, as sidecars have it."""
    return name.rpartition("/")[2]


def unreadable(path: str, fault: str) -> UsageError:
    """The error of a file that may hold something that is listed."""
    return UsageError(
        f"{printable(path)}: {fault}. Replace it, or take it away: it may hold anything; nothing "
        "was changed"
    )
