"""The steps of the recipe for pipelines of others: each takes and gives a PCollection."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import shutil
import uuid
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path as LocalPath

import apache_beam as beam
import pyarrow as pa

from alignset.curation import Path, Value, command_words
from alignset.pipeline.curate import Places, judge_texts, plan_shards
from alignset.pipeline.curate_images import evaluation_index, write_shards
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_vocabulary
from alignset.pipeline.inputs.find_lists import find_blocklists, find_evaluation
from alignset.pipeline.inputs.whole_input import find_unsafe_model
from alignset.pipeline.options import make_settings, read_flags
from alignset.pipeline.runs.engine import everywhere
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.pipeline.settings import DECLARED, Settings
from alignset.transforms.decontamination.index_evaluation_images import CompareImages
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.storage.blocks import BUCKET, BatchCoder, Blocks, unpack
from alignset.transforms.storage.documents import Counts
from alignset.transforms.storage.files import is_local, match
from alignset.transforms.storage.stores import remove_remote


class FilterTexts(beam.PTransform):
    """Judges pairs by their texts and by counts over the whole collection; drops what the rules
    drop, and writes it down with its reason to OUTPUT/rejected/text-*.parquet.

    Input: batches with `url` and `caption`, of a size that a worker holds; and where it is known
    `malformed` (why a pair cannot be used), `page_url`, `source_license`, `source_rsl`,
    `source_opted_out`.
    Outputs: `kept`, batches with `key` (uint64), `url`, `caption` and these; `counts`, a `Counts`
    of each batch. Equal batches in any order give the same files.

    Args:
      output: a folder, of a store where workers share no disk; its `rejected/` must be empty.
      buckets: a power of two; one for every 2 million pairs.
      flags: flags of `alignset curate` that concern texts.

    Raises:
      UsageError: a flag is wrong, or the folder is not empty.
    """

    def __init__(self, output: Path, *, buckets: int = 64, **flags: Value) -> None:
        super().__init__()
        self._settings = _settings_of("FilterTexts", _taking(TEXTS), flags, output, text_only=True)
        self._buckets = buckets
        self._vocabulary = find_vocabulary(self._settings.vocabulary, self._settings.language)
        self._places = _places(self._settings, "rejected")

    def expand(self, pairs: beam.PCollection) -> dict[str, beam.PCollection]:
        settings = dataclasses.replace(self._settings, text_only=False)
        places = _begin(self._places)
        batches = _number_batches(pairs | "Checked" >> beam.Map(_checked_pairs))
        spread_batches = batches | "SpreadBatches" >> beam.Reshuffle()
        outputs, _, _ = judge_texts(
            batches, spread_batches, _pass_on, settings, places, self._buckets, self._vocabulary
        )
        outputs["counts"] | "Ended" >> _RemoveWork(places.work.path)
        unpack_each = beam.MapTuple(lambda _, block: unpack(block)).with_output_types(
            pa.RecordBatch
        )
        return {"kept": outputs["kept"] | "Unpack" >> unpack_each, "counts": outputs["counts"]}


class FetchImages(beam.PTransform):
    """Fetches images, judges them, and writes shards to OUTPUT/shards, as `alignset curate` does;
    what is dropped goes to OUTPUT/rejected.

    Input: batches as `FilterTexts` gives them.
    Output: the `ShardStats` of each shard.

    Args:
      output: a folder, of a store where workers share no disk; its `shards/` must be empty.
      flags: flags of `alignset curate` that concern images.

    Raises:
      UsageError: a flag is wrong, or the folder is not empty.
    """

    def __init__(self, output: Path, **flags: Value) -> None:
        super().__init__()
        self._settings = _settings_of("FetchImages", _taking(IMAGES), flags, output)
        self._evaluation = find_evaluation(self._settings.eval_images, self._settings.eval_index)
        self._unsafe_model = find_unsafe_model(self._settings)
        self._places = _places(self._settings, "shards")

    def expand(self, pairs: beam.PCollection) -> beam.PCollection:
        pipeline = pairs.pipeline
        settings, places = self._settings, _begin(self._places)
        batches = pairs | "Checked" >> beam.FlatMap(_bucket).with_output_types(BUCKET)
        counts = batches | "Count" >> beam.MapTuple(lambda _, rows: Counts(kept=len(rows)))
        outputs = {"kept": batches, "counts": counts}
        shards, _ = plan_shards(pipeline, outputs, settings, places)
        numbers = shards | "Numbers" >> beam.FlatMap(sorted)
        evaluation = self._evaluation.resolve_paths(everywhere)
        stats, _ = write_shards(numbers, evaluation, settings, places, self._unsafe_model)
        stats | "Ended" >> _RemoveWork(places.work.path)
        return stats


class FindCopies(beam.PTransform):
    """Finds the evaluation image that each image is nearest to, and whether it is a copy of it.

    Input: (key, bytes of an image file). Output: (key, `NearestImage`).

    Args:
      eval_images: {NAME: PATH}, folders, shards or Parquet files. eval_index: a folder in which
        the index of these images is kept for later pipelines.
      flags: `min_evaluation_distance`.

    Raises:
      UsageError: a flag is wrong, or there are no such images.
    """

    def __init__(self, eval_images: Mapping[str, Path], eval_index: Path, **flags: Value) -> None:
        super().__init__()
        eval_flags = {"eval_images": eval_images, "eval_index": eval_index}
        self._settings = _settings_of(
            "FindCopies",
            _taking(IMAGES, "eval_images") - {*eval_flags},
            flags,
            eval_index,
            **eval_flags,
        )
        self._evaluation = find_evaluation(self._settings.eval_images, self._settings.eval_index)

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        places = _begin(_places(self._settings))
        evaluation = self._evaluation.resolve_paths(everywhere)
        index = evaluation_index(images.pipeline, evaluation, self._settings, places)
        index["sets"] | "Ended" >> _RemoveWork(places.work.path)
        return images | CompareImages(index["place"], self._settings.min_evaluation_distance)


def _taking(step: str, need: str = "") -> set[str]:
    """The settings of a step; only those that have a need, where one is given."""
    taken = {name: of.metadata for name, of in DECLARED.items() if step in of.metadata["step"]}
    return {name for name, of in taken.items() if not need or need in of["needs"]}


def _settings_of(
    step: str,
    names: Collection[str],
    flags: Mapping[str, Value],
    output: Path,
    **fixed_flags: Value,
) -> Settings:
    """The settings of a step, checked."""
    for name in flags.keys() - names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(names))}"
        raise UsageError(f"{step} takes no {name!r}; {hint}")
    words = command_words({"input": "a PCollection", "output": output, **fixed_flags, **flags})
    return make_settings(read_flags(words, step))


def _places(settings: Settings, folder: str = "") -> Places:
    out = everywhere(settings.output.rstrip("/"))
    if folder and match(f"{out}/{folder}"):
        raise UsageError(f"{out}/{folder} is not empty; pass another output")
    work = WorkFolder(f"{out}/_temporary/{uuid.uuid4().hex[:12]}")
    blocklists = find_blocklists(
        settings.blocklist,
        settings.min_blocked_phash_distance,
        settings.min_blocked_pdq_distance,
    )
    return Places(out, work, Blocks(), blocklists)


def _begin(places: Places) -> Places:
    """Makes the work folder, and lets workers write there."""
    if is_local(places.work.path):
        LocalPath(places.work.path).mkdir(parents=True, exist_ok=True)
    blocklists = places.blocklists.moved(places.work.blocklists)
    return dataclasses.replace(places, blocklists=blocklists)


def _checked_pairs(batch: object) -> pa.RecordBatch:
    """A batch that has a URL and an alt-text in each row.

    Raises:
      UsageError: it is none; says how one is made.
    """
    if not isinstance(batch, pa.RecordBatch):
        raise UsageError(
            f"FilterTexts takes batches of pairs, each a pyarrow.RecordBatch; got {batch!r:.80}: "
            "make one of some thousand dicts by pa.RecordBatch.from_pylist(rows)"
        )
    names = batch.schema.names
    for name in ("url", "caption"):
        if names.count(name) != 1:
            raise UsageError(
                f"FilterTexts takes batches with one column {name}; got {', '.join(names):.200}: "
                'rename them by batch.rename_columns({"URL": "url", "TEXT": "caption"})'
            )
    return batch


def _number_batches(batches: beam.PCollection) -> beam.PCollection:
    """(number, batch), by the order of the digests of their contents, and so the same for the same
    batches in any order."""
    by_digest = batches | "Digest" >> beam.Map(_digest).with_output_types(
        beam.typehints.Tuple[str, pa.RecordBatch]
    )
    by_name = by_digest | "Equal" >> beam.GroupByKey() | "Name" >> beam.FlatMapTuple(_name)
    by_name.element_type = beam.typehints.Tuple[str, pa.RecordBatch]
    names = by_name | "Names" >> beam.Keys() | "AllNames" >> beam.combiners.ToList()
    order = beam.pvalue.AsSingleton(names | "Order" >> beam.Map(sorted))
    return by_name | "Number" >> beam.Map(_number, order).with_output_types(BUCKET)


def _digest(batch: pa.RecordBatch) -> tuple[str, pa.RecordBatch]:
    return hashlib.sha256(BatchCoder().encode(batch)).hexdigest(), batch


def _name(digest: str, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    for place, batch in enumerate(batches):
        yield f"{digest}-{place:09d}", batch


def _number(item: tuple[str, pa.RecordBatch], order: list[str]) -> tuple[int, pa.RecordBatch]:
    return bisect_left(order, item[0]), item[1]


def _pass_on(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    yield batch


def _bucket(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    for name in ("key", "url", "caption"):
        if name not in batch.schema.names:
            raise ValueError(f"FetchImages takes batches of FilterTexts; one has no column {name}")
    if len(batch):
        yield 0, batch


class _RemoveWork(beam.PTransform):
    """Takes a work folder away once all of a collection is there."""

    def __init__(self, work: str) -> None:
        super().__init__()
        self._work = work

    def expand(self, last: beam.PCollection) -> beam.PCollection:
        work = self._work
        return (
            last | beam.combiners.Count.Globally() | "Remove" >> beam.Map(lambda _: _remove(work))
        )


def _remove(work: str) -> None:
    if not is_local(work):
        remove_remote([path for path, _ in match(f"{work}/")])
        return
    shutil.rmtree(work, ignore_errors=True)
    with suppress(OSError):  # another step's is there
        LocalPath(work).parent.rmdir()
