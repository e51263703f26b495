"""The EU's public summary of training content: the fields of its template that a dataset knows.

Source: the template for Article 53(1)(d) of Regulation (EU) 2024/1689, which `eu_summary.j2` names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from math import ceil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.pipeline.datasets.funnel import most_first
from alignset.pipeline.documents import card
from alignset.pipeline.documents.hand_edits import write_page
from alignset.pipeline.runs.documents import Funnel, Manifest
from alignset.pipeline.settings import ABOUT
from alignset.settings import declared_fields
from alignset.transforms.blocklists.compiled_list import public_suffixes
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, LEDGERS
from alignset.transforms.columns.records import hosts_of
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.files import match, write_atomically
from alignset.transforms.storage.parquet_files import read_columns
from alignset.transforms.workers.threads import map_in_threads

EU_PAGE, EU_DOMAINS = "summary-eu.md", "summary-eu-domains.csv"
_OPT_OUTS = {of.name: of.metadata["help"] for of in declared_fields(OptOutSettings)}
_LONGEST = 1 << 13  # characters of a URL or a text
_PAIRS = pa.schema([(name, pa.string()) for name in ("url", "caption", LANGUAGE_COLUMNS[0])])
_SIZES = pa.schema([("image", pa.uint64()), ("bytes", pa.int64())])  # of a ledger
_NO_DOMAIN = re.compile(r"[\d.]*|\[.*").fullmatch  # but an address

# By what is counted and its name: "pairs", "text bytes" and "unknown" images (which no ledger has),
# without a name; "language"; by domain, "images", and the "bytes" of their files as fetched.
Counts = Counter[tuple[str, str]]


def write_eu_summary(
    out: str, manifest: Manifest, funnel: Funnel, earlier: Mapping[str, Manifest]
) -> None:
    """Writes the page, which keeps what a person has filled in, and the table of domains.

    Its memory grows with the number of distinct domains.

    Args:
      earlier: as of `statements`.
    """
    suffixes, places = _suffixes(), ShardPlaces(out)
    if manifest.job["text_only"]:
        files = [(path, "") for path, _ in match(f"{out}/pairs")]
    else:
        numbers = [number for number in manifest.holding if number < HOLDOUT]
        ledgers = {path for path, _ in match(f"{out}/{LEDGERS}")}
        both = ((places.sidecar(number), places.ledger(number)) for number in numbers)
        files = [(path, ledger * (ledger in ledgers)) for path, ledger in both]
    counts = Counts()
    for part in map_in_threads(partial(_measure, suffixes), files):
        counts.update(part)
    of = {
        kind: most_first({name: n for (what, name), n in counts.items() if what == kind})
        for kind in ("images", "bytes", "language")
    }
    has_bytes = not counts["unknown", ""]
    sizes = of["bytes" if has_bytes else "images"]
    top, total = [*sizes][: ceil(len(sizes) / 10)], max(1, sum(sizes.values()))
    rows = [
        (name, of["images"][name], of["bytes"][name] if has_bytes else "", sizes[name] / total)
        for name in top
    ]
    lines = [f"{name},{images},{size},{share:.6f}\n" for name, images, size, share in rows]
    table = "".join(["domain,images,bytes,share\n", *lines]).encode()
    write_atomically(f"{out}/{EU_DOMAINS}", lambda sink: sink.write(table))
    stages = {"": manifest, **earlier}
    page = card.template("eu_summary.j2").render(
        manifest=manifest,
        about=dict.fromkeys(ABOUT, "") | (manifest.about or {}),
        texts=card.statements(manifest, funnel, earlier),
        sources=[line for stage in stages.values() for line in card.source_lines(stage)],
        crawls={name: stage for name, stage in stages.items() if stage.fetched},
        opt_outs=card.opt_out_counts(manifest, funnel),
        settings=_OPT_OUTS,
        pairs=counts["pairs", ""],
        text_bytes=counts["text bytes", ""],
        images=sum(of["images"].values()),
        languages=[*of["language"].items()],
        domains=rows,
        domain_count=len(sizes),
        small_count=min(ceil(len(sizes) / 20), 1000),
        has_bytes=has_bytes,
        has_suffixes=suffixes is not None,
        file=EU_DOMAINS,
    )
    write_page(out, EU_PAGE, page.encode())


def _suffixes() -> Callable[[str], str | None] | None:
    """Returns a function from hosts to registrable domains; None where the extra is missing."""
    try:
        found: Callable[[str], str | None] = public_suffixes().privatesuffix
    except ModuleNotFoundError:
        return None
    return found


def _measure(suffixes: Callable[[str], str | None] | None, file: tuple[str, str]) -> Counts:
    """Measures a file of pairs.

    Args:
      file: a sidecar with its ledger, "" where there is none; or one of `pairs/`. An image is a
        URL, and counts once: all its pairs are in one file.
    """
    counts, hashes, hosts = Counts(), [np.zeros(0, np.uint64)], [pa.array([], pa.string())]
    for rows in read_columns(file[0], _PAIRS, _LONGEST):
        counts["pairs", ""] += len(rows)
        counts["text bytes", ""] += pc.sum(pc.binary_length(rows["caption"])).as_py() or 0
        for language in rows[LANGUAGE_COLUMNS[0]].drop_null().value_counts().to_pylist():
            counts["language", language["values"]] += language["counts"]
        urls = pc.fill_null(rows["url"], "")
        hashes.append(url_hashes(urls)[0])
        hosts.append(hosts_of(urls))
    known = pa.Table.from_batches(read_columns(file[1], _SIZES) if file[1] else (), _SIZES)
    images, first = np.unique(np.concatenate(hashes), return_index=True)
    sizes = known["bytes"].take(pc.index_in(pa.array(images), known["image"]))
    counts["unknown", ""] = sizes.null_count
    names = pa.concat_arrays(hosts).take(pa.array(first)).dictionary_encode()
    at, hosts_there = names.indices.to_numpy(), names.dictionary.to_pylist()
    bytes_there = np.bincount(at, pc.fill_null(sizes, 0).to_numpy(), len(hosts_there))
    images_there = np.bincount(at, minlength=len(hosts_there)).tolist()
    for host, count, size in zip(hosts_there, images_there, bytes_there.tolist(), strict=True):
        name = re.sub(r":\d*$|[^\w.:\[\]-]", "", host)  # which anybody may have written
        domain = name if suffixes is None or _NO_DOMAIN(name) else suffixes(name) or name
        counts["images", domain] += count
        counts["bytes", domain] += int(size)
    return counts
