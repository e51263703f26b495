"""The image plane: one shard is one element; a worker fetches, measures, judges and writes it."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from transforms.columns import reasons as r
from transforms.columns.pair_columns import PAGE_URL
from transforms.columns.rejects import REJECTED, key_column, rejected_rows
from transforms.decontamination.evaluation_images import Hashed
from transforms.fetching.fetch import Fetched, FetchSettings, fetch_all
from transforms.images.examine import Image, turn_of
from transforms.images.resize import Encoder, EncodingError, ResizeSettings
from transforms.shards.measure_images import (
    ImageRules,
    Judged,
    Measured,
    judge_images,
    measure_images,
    stored_bodies,
)
from transforms.shards.plan_shards import plan_path
from transforms.shards.shard_files import SHARD_SCHEMA, Spool, TarWriter
from transforms.storage.files import exists, is_local, open_to_read, write_atomically
from transforms.storage.parquet_files import parquet_file
from transforms.workers.claims import Claim, ClaimLostError, Mark, claimed
from transforms.workers.fencing import Fence
from transforms.workers.take_over import take_over
from transforms.workers.threads import in_threads
from transforms.workers.unexpected import tell_once

Stats = dict[str, Any]
LOG = logging.getLogger("alignset")


def _bodies(pairs: pa.Table, settings: FetchSettings) -> Iterator[Fetched]:
    """What is stored in shards already, then what is fetched."""
    if "source_path" not in pairs.column_names:
        yield from fetch_all(pairs["url"].to_pylist(), settings)
        return
    stored = pairs["source_path"].is_valid().to_numpy()
    for rows in filter(len, (np.flatnonzero(stored), np.flatnonzero(~stored))):
        some = pairs.take(pa.array(rows))
        if stored[rows[0]]:
            bodies = stored_bodies(some, settings.max_image_bytes)
        else:
            bodies = fetch_all(some["url"].to_pylist(), settings)
        for one in bodies:
            yield dataclasses.replace(one, index=int(rows[one.index]))


class _WriteShard(beam.DoFn):
    def __init__(
        self,
        plan: str,
        out: str,
        rules: ImageRules,
        fetch: FetchSettings,
        resize: ResizeSettings,
        fence: Fence,
    ) -> None:
        self.plan, self.out, self.fence = plan, out, fence
        self.rules, self.fetch, self.resize = rules, fetch, resize

    def setup(self) -> None:
        self.encoder = Encoder(self.resize)
        self.slowest_s = 0.0

    def start_bundle(self) -> None:
        self.elsewhere: list[int] = []
        self.all: Sequence[int] = ()

    def process(
        self, shard: int, evaluation: list[Hashed], given_out: Sequence[int] = ()
    ) -> Iterator[Stats]:
        hashes = np.array([h for file in evaluation for h in file.phashes], np.uint64)
        self.evaluation, self.all = np.unique(hashes), given_out
        if self.all and not self.finished(shard) and self.begun(shard):
            self.elsewhere.append(shard)
            return
        try:
            yield self._written(shard) if self.finished(shard) else self._attempt(shard)
        except ClaimLostError:
            if not self.all:
                raise
            self.elsewhere.append(shard)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self.all:
            take_over(self._left(), self)
        for shard in self.elsewhere:
            yield GlobalWindows.windowed_value(self._written(shard))

    def _left(self) -> set[int]:
        """What is given to any worker and not written."""
        (listed,) = FileSystems.match([f"{self.out}/shards/*_stats.json"])
        names = [file.path.rpartition("/")[2] for file in listed.metadata_list]
        return set(self.all) - {int(name.partition("_")[0]) for name in names}

    def finished(self, shard: int) -> bool:
        return exists(self._stats_path(shard))  # written last: where it is, the shard is whole

    def check(self) -> None:
        self.fence.check()

    def begun(self, shard: int) -> Mark | None:
        return claimed(f"{plan_path(self.plan, shard)}.claim", self.fence.token)

    def attempt(self, shard: int) -> None:
        LOG.info("shard %05d: taken over", shard)
        with suppress(ClaimLostError):
            self._attempt(shard)

    def _attempt(self, shard: int) -> Stats:
        self.check()
        begun, plan = time.monotonic(), plan_path(self.plan, shard)
        claim = Claim(f"{plan}.claim", self.fence.token)
        try:
            return self._claimed(shard, plan, claim)
        finally:  # in vain, too
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)

    def _claimed(self, shard: int, plan: str, claim: Claim) -> Stats:
        with open_to_read(plan) as source:
            pairs = pq.read_table(source)
        scratch = str(Path(self.plan).parent) if is_local(self.plan) else None
        with tempfile.TemporaryDirectory(prefix="shard-", dir=scratch) as folder:
            stats = self._write(shard, pairs, self.evaluation, Path(folder))
            # Another attempt may have been as far; the web may have given it other images, so the
            # files of two must not be mixed.
            with self.fence.publishing(plan):
                done = self.finished(shard)
                return self._written(shard) if done else self._publish(shard, stats, folder, claim)

    def _written(self, shard: int) -> Stats:
        with open_to_read(self._stats_path(shard)) as source:
            return json.load(source)

    def _stats_path(self, shard: int) -> str:
        return f"{self.out}/shards/{shard:05d}_stats.json"

    def _publish(self, shard: int, stats: Stats, folder: str, claim: Claim) -> Stats:
        for name, path in (
            ("rejected.parquet", f"rejected/images-{shard:05d}.parquet"),
            ("shard.parquet", f"shards/{shard:05d}.parquet"),
            ("shard.tar", f"shards/{shard:05d}.tar"),
        ):
            claim.publish(Path(folder) / name, f"{self.out}/{path}")
        text = json.dumps(stats, indent=2, sort_keys=True).encode()
        if not is_local(self.out):
            claim.check()
        write_atomically(self._stats_path(shard), lambda sink: sink.write(text))
        LOG.info("shard %05d: kept %d of %d", shard, stats["successes"], stats["count"])
        return stats

    def _write(self, shard: int, pairs: pa.Table, evaluation: np.ndarray, folder: Path) -> Stats:
        """Writes the files of a shard, but its stats, to a folder of this attempt."""
        spool = Spool(folder / "spool")
        measured = measure_images(_bodies(pairs, self.fetch), len(pairs), spool)
        columns = measured.columns
        judged = judge_images(measured, self.rules, evaluation, spool)
        shown = pairs.set_column(0, "key", key_column(pairs["key"].to_numpy()))
        kept = np.flatnonzero(judged.reasons.is_null().to_numpy(zero_copy_only=False))
        with (folder / "shard.tar").open("wb") as sink:
            writer = TarWriter(sink)
            rows, failed = self._add_samples(writer, shown, kept, measured, judged, spool)
            tar_sha256 = writer.finish()
        spool.close()
        reasons, details = judged.reasons.to_pylist(), columns["detail"]
        for row in failed:
            reasons[row], details[row] = r.UNDECODABLE, "unwritable"
        (whole,) = pairs.combine_chunks().to_batches()
        why, detail = pa.array(reasons, pa.string()), pa.array(details, pa.string())
        with parquet_file(str(folder / "rejected.parquet"), REJECTED, str(folder)) as rejected:
            rejected.write(rejected_rows(whole, why, detail))
        table = pa.Table.from_pylist(rows, SHARD_SCHEMA)
        pq.write_table(table, folder / "shard.parquet", compression="zstd")
        return _stats(shard, reasons, details, measured.bytes_fetched, tar_sha256)

    def _add_samples(
        self,
        writer: TarWriter,
        pairs: pa.Table,
        kept: np.ndarray,
        measured: Measured,
        judged: Judged,
        spool: Spool,
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """Writes the kept images in the order of their keys; those that cannot be encoded are
        returned as row numbers."""
        columns = measured.columns
        rows, failed = [], []
        names = [name for name in ("key", "url", "caption", PAGE_URL) if name in pairs.column_names]
        texts = pairs.select(names).take(pa.array(kept)).to_pylist()
        distances = judged.distances.to_pylist()
        images = ((columns["image"][row], spool.get(measured.places[row])) for row in kept)
        # Bytes that stay as they are need no second core.
        encode = map if self.resize.resize_mode == "original" else in_threads
        for row, text, encoded in zip(kept, texts, encode(self._encode, images), strict=True):
            if encoded is None:
                failed.append(int(row))
                continue
            body, extension, width, height = encoded
            sample = (
                {PAGE_URL: None}
                | text
                | {
                    "status": "success",
                    "error_message": None,
                    "width": width,
                    "height": height,
                    "original_width": columns["width"][row],
                    "original_height": columns["height"][row],
                    "sha256": columns["sha256"][row],
                    "phash": format(columns["phash"][row], "016x"),
                    "unsafe_score": None,
                    "evaluation_distance": distances[row],
                }
            )
            writer.add_sample(sample, body, extension)
            rows.append(sample)
        return rows, failed

    def _encode(self, item: tuple[Image, bytes]) -> tuple[bytes, str, int, int] | None:
        image, body = item
        try:
            with turn_of(image.width * image.height):
                return self.encoder(body, image)
        except EncodingError:
            return None
        except Exception as error:
            tell_once("encoding an image", error)
            return None


def _stats(
    shard: int, reasons: list[str | None], details: list[str | None], size: int, sha256: str
) -> Stats:
    """img2dataset's stats without its clock, so that a shard's files are always the same, and
    the counts of the funnel."""
    counts = Counter(reason or "success" for reason in reasons)
    status = Counter(
        "success" if reason is None else f"{reason}: {detail}" if detail else reason
        for reason, detail in zip(reasons, details, strict=True)
    )
    return {
        "shard": shard,
        "count": len(reasons),
        "successes": counts["success"],
        "failed_to_download": counts[r.FETCH_FAILED],
        "failed_to_resize": counts[r.NOT_AN_IMAGE] + counts[r.UNDECODABLE],
        "bytes_downloaded": size,
        "status_dict": dict(sorted(status.items())),
        "reasons": {reason: n for reason, n in sorted(counts.items()) if reason != "success"},
        "sha256": sha256,
    }


@dataclass(eq=False)
class WriteShards(beam.PTransform):
    """Numbers of shards to their files, and to their stats. A finished shard is not done again.

    Args:
      plan: the folder in which `PlanShards` listed their pairs.
      out: the output folder.
      evaluation: a PCollection of `Hashed`.
      fence: of this start of the command.
      given_out: all the shards, where the engine gives them out at the start: a worker that has
        written its own then takes over others'.
      min_ram: what to ask of a worker, "4GB", where the engine hears it; elsewhere such a hint
        only makes workers of a kind of their own.
    """

    plan: str
    out: str
    rules: ImageRules
    fetch: FetchSettings
    resize: ResizeSettings
    evaluation: beam.PCollection
    fence: Fence
    given_out: beam.PCollection | None = None
    min_ram: str = ""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        write = _WriteShard(self.plan, self.out, self.rules, self.fetch, self.resize, self.fence)
        views = [beam.pvalue.AsList(one) for one in (self.evaluation, self.given_out) if one]
        written = beam.ParDo(write, *views)
        if self.min_ram:
            written = written.with_resource_hints(min_ram=self.min_ram)
        return shards | written
