"""Sets that have only what a report reads, stats, records and thumbnails, of any size."""

import io
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from PIL import Image as PillowImage

from alignset.pipeline.rules import Rules
from alignset.pipeline.runs.documents import RunDescription
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.columns.record_files import encode_record
from alignset.transforms.columns.records import (
    KEPT,
    MOST_SAMPLED,
    Example,
    Record,
    RowSample,
    top_of,
)
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.corpus.text_record import JudgedTexts, TextRecorder
from alignset.transforms.rules.catalogue import PRODUCT, limits
from alignset.transforms.rules.rule import Rows
from alignset.transforms.rules.trials import JudgedRows, trials_of
from alignset.transforms.rules.verdicts import axes_of, known_of
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_record import histogram, nested_counts
from alignset.transforms.shards.shard_stats import shard_stats
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import write_atomically
from tests.support.rules import run_rules

RULES = run_rules(min_evaluation_distance=1.0)
_DETAILS = ("dns", "timeout", "http_404", "http_403", "tls")
TEXT_REASONS = (
    None,
    "too_few_words",
    "wrong_language",
    "rare_token",
    "text_on_too_many_images",
)


def made_judged(size: int, seed: int = 0) -> JudgedTexts:
    """A batch of texts, judged for any of TEXT_REASONS."""
    random = np.random.default_rng(seed)
    keys = random.integers(0, 1 << 64, size, np.uint64)
    why = random.integers(0, len(TEXT_REASONS), size)
    words = np.where(why == 1, random.integers(0, 3, size), random.integers(3, 21, size))
    captions = [f"text {n}" for n in random.zipf(2, size) % 50]
    scores = np.where(why == 2, np.round(random.random(size), 3), np.nan)
    scores[random.random(size) < 0.05] = np.nan
    shown = {"key": keys, "url": [f"http://h/{key}" for key in keys], "caption": captions}
    return JudgedTexts(
        pa.record_batch(shown),
        pa.array([TEXT_REASONS[n] for n in why], pa.string()),
        pa.array(
            [("de", "fr")[key % 2] if n == 2 else None for n, key in zip(why, keys, strict=True)]
        ),
        np.ones(size, np.bool_),
        np.zeros(size, np.bool_),
        Rows(
            word_count=words.astype(np.int32),
            foreign=why == 2,
            language_score=scores,
            own_language_score=0.5,
            **{
                limit.measure.column: np.full(size, float(limit.default))
                for limit in limits(PRODUCT.texts)
                if limit.measure.compute
            },
        ),
        {entry.reason: np.array(TEXT_REASONS)[why] == entry.reason for entry in PRODUCT.texts},
    )


def made_record(
    random: np.random.Generator, pairs: int, thumbnail: int, *, compared: bool = False
) -> Record:
    """A record as of a shard of so many pairs, whose examples have thumbnails of so many bytes,
    behind one another.

    Args:
      compared: whether some have an evaluation image near.
    """
    sides = random.lognormal(5.7, 0.7, (2, pairs)).astype(int) + 1
    shorter, longer = (side.astype(float) for side in (sides.min(axis=0), sides.max(axis=0)))
    unsafe = random.beta(0.3, 4, pairs)
    failed = random.random(pairs) < 0.3
    reasons = np.full(pairs, KEPT, object)
    distance = np.full(pairs, np.nan)
    if compared:
        distance[::5] = 2 * random.random(len(distance[::5]))
    rows = Rows(shorter=shorter, longer=longer, unsafe_score=unsafe, evaluation_distance=distance)
    for limit in limits(PRODUCT.images):
        if limit.measure.compute:
            rows[limit.measure.column] = random.uniform(
                limit.measure.edges[0], limit.measure.edges[-1], pairs
            )
    for limit in reversed(limits(PRODUCT.images)):
        reasons[limit.dropped(rows, RULES.numbers)] = limit.reason
    reasons[failed] = "fetch_failed"
    unsafe[np.isin(reasons, ("too_small", "too_elongated"))] = np.nan
    distance[~np.isin(reasons, (KEPT, "evaluation_overlap"))] = np.nan
    axes = axes_of(PRODUCT.images, RULES.numbers)
    outcomes = reasons.tolist()
    names, codes = np.unique(outcomes, return_inverse=True)
    own = limits(PRODUCT.images)
    judged = JudgedRows(
        names.tolist(),
        codes,
        random.integers(0, 1 << 64, pairs, np.uint64),
        rows,
        {limit.name: limit.dropped(rows, RULES.numbers) for limit in own},
        np.zeros(pairs, np.bool_),
    )
    measured = trials_of(own, axes, judged, ~failed)
    details = [str(random.choice(_DETAILS)) if failed[row] else "" for row in range(pairs)]
    hosts = [f"host{int(n)}.example" for n in random.zipf(1.3, pairs) % 100_000]
    ends = [f"{o}: {d}" if d else o for o, d in zip(outcomes, details, strict=True)]
    words = random.integers(3, 21, pairs)
    return Record(
        pairs,
        nested_counts(zip(outcomes, details, strict=True)),
        {
            **measured.histograms,
            "words": histogram(outcomes, words, np.arange(pairs)),
            "bytes": histogram(outcomes, random.integers(10, 22, pairs), np.flatnonzero(~failed)),
            "formats": nested_counts((outcome, "jpeg") for outcome in outcomes),
        },
        {"hosts": top_of(nested_counts(zip(hosts, ends, strict=True)), 64)},
        _examples(random, outcomes, (sides, unsafe), thumbnail),
        axes=axes,
        alone=measured.alone,
        sample=measured.sample,
    )


def _examples(
    random: np.random.Generator, outcomes: Sequence[str], measures: Any, thumbnail: int
) -> list[Example]:
    examples, near = [], ["near:min_image_side"]
    (width, height), unsafe = measures
    keys = key_column(random.integers(0, 1 << 64, len(outcomes), np.uint64)).to_pylist()
    rows_of: dict[str, list[int]] = {}
    for row, outcome in enumerate(outcomes):
        rows_of.setdefault(outcome, []).append(row)
    for outcome, rows in rows_of.items():
        for row in rows[: 32 if outcome == KEPT else 16]:
            place = (len(examples) * thumbnail, thumbnail) if outcome != "fetch_failed" else None
            examples.append(
                Example(
                    key=keys[row],
                    url=f"https://host{row}.example/pictures/{keys[row]}.jpg?size=large",
                    caption=f"a made alt-text of a picture that nobody took, number {row}",
                    lists=[outcome] + near * (outcome in (KEPT, "too_small")),
                    reason="" if outcome == KEPT else outcome,
                    width=int(width[row]),
                    height=int(height[row]),
                    values=known_of(
                        {
                            "side": np.minimum(width, height),
                            "aspect": np.maximum(width, height) / np.minimum(width, height),
                            "unsafe": np.round(unsafe, 4),
                        },
                        row,
                    )
                    | {"words": 9.0},
                    picture=place if thumbnail else None,
                )
            )
    return examples


def made_thumbnail(random: np.random.Generator, size: int) -> bytes:
    """A JPEG of noise, filled up to so many bytes."""
    file = io.BytesIO()
    pixels = random.integers(0, 255, (12, 12, 3), np.uint8)
    PillowImage.fromarray(pixels).resize((96, 72)).save(file, "JPEG", quality=60)
    return file.getvalue().ljust(size, b"\0")


def put_run(folder: Path, **parts: Any) -> None:
    """Writes what a run with the usual rules says of itself, and of its texts, while it goes on.

    Args:
      parts: of its description that are others.
    """
    rules = asdict(Rules(**RULES.numbers))
    job = {"text_only": False, "holdout": 0.0}
    run = replace(RunDescription(job, rules, {}, {}, [], [], None), **parts)
    write_document(WorkFolder(f"{folder}/_temporary").description, run)
    recorder = TextRecorder(RULES)
    recorder.add(recorder.measure(made_judged(3000)))
    encoded = encode_record(recorder.record())
    write_atomically(f"{folder}/report/text-00000.json", lambda sink: sink.write(encoded))


def put_made_set(
    folder: Path,
    shards: int,
    random: np.random.Generator,
    pairs: int = 10_000,
    *,
    compared: bool = False,
) -> None:
    """Writes what the shards of a dataset that is under way would have recorded."""
    places, thumbnail = ShardPlaces(str(folder)), 2_600
    for name in ("shards", "report"):
        (folder / name).mkdir(parents=True)
    different = 1 + shards // 50
    bodies = [made_thumbnail(random, thumbnail) for _ in range(50)]
    for shard in range(shards):
        if shard % different == 0:  # a few dozen differ; the others differ in their keys
            record = made_record(random, pairs, thumbnail, compared=compared)
        size = len(record.examples)
        keys = key_column(random.integers(0, 1 << 64, size, np.uint64)).to_pylist()
        examples = [
            msgspec.structs.replace(example, key=key)
            for example, key in zip(record.examples, keys, strict=True)
        ]
        Path(places.record(shard)).write_bytes(encode_record(replace(record, examples=examples)))
        pictures = Path(places.thumbnails(shard))
        if shard % different == 0:
            chosen = random.integers(0, len(bodies), len(keys))
            pictures.write_bytes(b"".join(bodies[n] for n in chosen))
        else:  # 10,000 of them would be 2 GB
            os.link(places.thumbnails(shard - shard % different), pictures)
        stats = shard_stats(shard, ["too_small"], [None], size=0, sha256=None)
        Path(places.stats(shard)).write_bytes(stats.encode())
    put_run(folder)


def put_largest_set(folder: Path, random: np.random.Generator) -> None:
    """Writes what makes the page as large as it can get: more kinds of examples than it has room
    for, long texts, images without end, and samples as large as they get.
    """
    put_made_set(folder, 2, random, pairs=2_000)
    body, thumbnail = made_thumbnail(random, 4_000), 4_000
    axes = axes_of(PRODUCT.images, RULES.numbers)
    bins = {axis.name: random.integers(0, axis.bins, MOST_SAMPLED, np.uint8) for axis in axes}
    hashes = np.sort(random.integers(0, 1 << 64, MOST_SAMPLED, np.uint64)).astype(">u8")
    rows = {name: of_axis.tobytes() for name, of_axis in bins.items()}
    sample = RowSample(1 << 50, hashes.tobytes(), rows)
    for shard in range(40):
        keys = key_column(random.integers(0, 1 << 64, 120, np.uint64)).to_pylist()
        examples = [
            Example(
                key=key,
                url=f"https://host{place}.example/{key}/" + "p" * 400,
                caption="alt & text " * 27,
                lists=[f"reason_{place}"],
                reason=f"reason_{place}",
                width=640,
                height=480,
                values={"words": 54.0},
                bytes=100_000,
                format="jpeg",
                picture=(place * thumbnail, thumbnail),
            )
            for place, key in enumerate(keys)
        ]
        record = Record(120, {"kept": {"": 120}}, examples=examples, axes=axes, sample=sample)
        stem = f"{folder}/report/images-{90000 + shard}"
        Path(f"{stem}.json").write_bytes(encode_record(record))
        Path(f"{stem}.thumbnails").write_bytes(body * len(keys))
