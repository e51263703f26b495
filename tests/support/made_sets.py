"""Datasets under way of any size, as the shards and the rules of texts leave them: sidecars and
dropped pairs of chance, and a few tars."""

import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.runs.documents import RunDescription
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.pipeline.settings import Settings, deciding_settings
from alignset.transforms.columns.records import REJECTED, key_column
from alignset.transforms.rules.catalogue import PRODUCT, limits
from alignset.transforms.rules.rule import Rows
from alignset.transforms.shards.shard_files import SHARD_SCHEMA
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import shard_stats
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.parquet_files import write_batches
from tests.support.hostile_tars import tar_of
from tests.support.picture_files import encoded, photograph
from tests.support.rules import run_rules

RULES = run_rules(min_evaluation_distance=1.0)
TEXT_REASONS = ("too_few_words", "wrong_language", "rare_token", "text_on_too_many_images")
_DETAILS = ("dns", "timeout", "http_404", "http_403", "tls")
_WORDS = [f"word{n}" for n in range(16)]
Columns = dict[str, Any]


def put_run(folder: Path, **parts: Any) -> None:
    """Writes what a run with the usual rules says of itself while it goes on.

    Args:
      parts: of its description that are others.
    """
    settings = Settings(input="in", output="out", **RULES.numbers)
    rules = deciding_settings(settings)["rules"]
    job = {"text_only": False, "holdout": 0.0}
    run = replace(RunDescription(job, rules, {}, {}, [], [], None), **parts)
    write_document(WorkFolder(f"{folder}/_temporary").description, run)


def put_made_set(
    folder: Path,
    shards: int,
    random: np.random.Generator,
    pairs: int = 10_000,
    *,
    texts: int = 3_000,
    tars: int = 3,
    compared: bool = False,
) -> None:
    """Writes a dataset that is under way.

    Args:
      pairs: of a shard. texts: that the rules of texts dropped.
      tars: shards that have one. compared: whether some images have an evaluation image near.
    """
    put_run(folder)
    for split, start in enumerate(range(0, texts, 1_000_000)):
        put_texts(folder, split, random, min(1_000_000, texts - start))
    picture = encoded(photograph(1, 96, 72), "JPEG")
    places = ShardPlaces(str(folder))
    for shard in range(shards):
        columns, reasons = _images(random, pairs, compared=compared)
        kept, dropped = reasons == "", np.flatnonzero(reasons != "")
        sidecar = {name: pc.filter(of, pa.array(kept)) for name, of in columns.items()}
        sidecar |= {f"original_{name}": sidecar[name] for name in ("width", "height")}
        put_rows(
            places.sidecar(shard), sidecar | {"status": ["success"] * int(kept.sum())}, SHARD_SCHEMA
        )
        details = np.where(reasons == "fetch_failed", random.choice(_DETAILS, pairs), None)
        thumbnails = np.full(pairs, None)
        thumbnails[dropped[:200]] = picture
        rejects = columns | {"reason": reasons, "detail": details, "thumbnail": thumbnails}
        rejects = {name: pa.array(of).take(pa.array(dropped)) for name, of in rejects.items()}
        put_rows(places.rejected(shard), rejects, REJECTED)
        stats = shard_stats(shard, [r or None for r in reasons], details, size=1000, sha256=None)
        Path(places.stats(shard)).write_bytes(stats.encode())
        if shard < tars:
            _put_tar(places.tar(shard), sidecar["key"].to_pylist(), shard)


def put_rows(path: str, columns: Columns, schema: pa.Schema) -> None:
    """Writes rows of some columns; the others are null."""
    rows = len(next(iter(columns.values())))
    arrays = [
        pa.array(columns[of.name], of.type, from_pandas=True)
        if of.name in columns
        else pa.nulls(rows, of.type)
        for of in schema
    ]
    write_batches(path, schema, [pa.record_batch(arrays, schema=schema)], None)


def _pairs(random: np.random.Generator, words: np.ndarray) -> Columns:
    keys = np.sort(random.integers(0, 1 << 64, len(words), np.uint64))
    number = pa.array(np.arange(len(words)) % 5003).cast(pa.string())
    starts = pa.array([" ".join(_WORDS[:n]) for n in range(len(_WORDS) + 1)])
    start = starts.take(pa.array(np.clip(words - 1, 0, len(_WORDS))))
    text = pc.utf8_trim_whitespace(pc.binary_join_element_wise(start, number, " "))
    hosts = pa.array(random.zipf(1.3, len(words)) % 100_000).cast(pa.string())
    key = key_column(keys)
    url = pc.binary_join_element_wise("https://host", hosts, ".example/pictures/", key, ".jpg", "")
    caption = pc.if_else(pa.array(words > 0), text, "")
    return {"key": key, "url": url, "caption": caption}


def put_texts(folder: Path, split: int, random: np.random.Generator, rows: int) -> None:
    """Writes pairs that the rules of texts dropped, some for further reasons too."""
    why = random.integers(0, len(TEXT_REASONS), rows)
    words = np.where(why == 0, random.integers(0, 3, rows), random.integers(3, 17, rows))
    scores = np.where(why == 1, np.round(random.random(rows) / 2, 3), np.nan)
    scores[random.random(rows) < 0.05] = np.nan
    also = np.where((why == 1) & (random.random(rows) < 0.3), "text_on_too_many_images", None)
    columns = _pairs(random, words) | {
        "reason": np.array(TEXT_REASONS)[why],
        "detail": np.where(why == 1, random.choice(["de", "fr"], rows), None),
        "also_reasons": also,
        "language_score": scores,
    }
    put_rows(f"{folder}/rejected/text-{split:05d}.parquet", columns, REJECTED)


def _images(
    random: np.random.Generator, pairs: int, *, compared: bool
) -> tuple[Columns, np.ndarray]:
    """Pairs as a shard has them, and the reason of each, or ""."""
    columns = _pairs(random, random.integers(3, 17, pairs))
    sides = random.lognormal(5.7, 0.7, (2, pairs)).astype(int) + 1
    unsafe, distance = random.beta(0.3, 4, pairs), np.full(pairs, np.nan)
    if compared:
        distance[::5] = 2 * random.random(len(distance[::5]))
    rows = Rows(shorter=sides.min(axis=0), longer=sides.max(axis=0))
    rows |= {"unsafe_score": unsafe, "evaluation_distance": distance}
    reasons = np.full(pairs, "", object)
    for limit in reversed(limits(PRODUCT.images)):
        reasons[limit.dropped(rows, RULES.numbers)] = limit.reason
    reasons[random.random(pairs) < 0.3] = "fetch_failed"
    unsafe[np.isin(reasons, ("too_small", "too_elongated", "fetch_failed"))] = np.nan
    distance[~np.isin(reasons, ("", "evaluation_overlap"))] = np.nan
    known = pa.array(reasons != "fetch_failed")
    width, height = (pc.if_else(known, pa.array(of, pa.int32()), None) for of in sides)
    columns |= {"width": width, "height": height, "phash": columns["key"]}
    columns |= {"unsafe_score": unsafe, "evaluation_distance": distance}
    columns["sha256"] = pc.binary_join_element_wise(*[columns["key"]] * 4, "")
    return {name: pa.array(of, from_pandas=True) for name, of in columns.items()}, reasons


def _put_tar(path: str, keys: list[str], shard: int) -> None:
    images = [encoded(photograph(1000 * shard + n, 40, 40), "JPEG") for n in range(50)]
    files = {f"{key}.jpg": images[n % 50] for n, key in enumerate(keys)}
    Path(path).write_bytes(tar_of(files, tarfile.USTAR_FORMAT))
