"""Contents of a finished dataset, for its card: sizes and examples, from a list of its files and
from a few of them, however many there are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.pipeline.datasets.funnel import most_first
from alignset.pipeline.runs.documents import Manifest
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, OF_PAGES
from alignset.transforms.rules.personal_data import KINDS, LONGEST, personal_data
from alignset.transforms.storage.files import match, open_to_read
from alignset.transforms.storage.parquet_files import batches_of, read_columns, schema_of

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_SHARDS, _EXAMPLES = 16, 5
_MOST_TEXTS = 8192  # that are looked through for personal data
_CAPTIONS = pa.schema([("caption", pa.string())])
_LONGEST_TEXT, _LONGEST_URL = 300, 200  # characters that are shown
# Columns of ours that state a licence or terms, and the names of an input's that may.
LICENCES = {
    "page_license": "The licence that the image's page states with rel=license.",
    "page_rsl": "The RSL licence files that the page names, with blanks between them.",
    "web_statement": "The rights statement that the image's XMP names, often a URL.",
    "usage_terms": "The usage terms in the image's XMP.",
}
is_licence = re.compile("licen[cs]e|rights|terms", re.IGNORECASE).search
_MOST_LICENCES, _LONGEST_LICENCE = 10, 100
_COLUMNS = ("key", "caption", "width", "height", "url")
# Characters that JSON within HTML escapes; the last begins and ends code in Markdown.
_NEVER_BARE = "<>&`"


@dataclass(frozen=True)
class Contents:
    """Facts about the pairs for the card.

    Attributes:
      shards, pairs: how many were looked into.
      quantiles: by name, at QUANTILES. examples: a line of JSON each.
      tar_bytes: of all tars. languages: of the pairs that were looked into, the most first.
      licensed: how many of these pairs state a licence or terms in any column.
      licences: how many of them have which value, by column, the most first; "" stands for rarer
        values.
      personal_texts: how many alt-texts were looked through for personal data, by "", and how many
        have each of KINDS.
      of_pages: the columns of what pages say, in `pairs/`; an earlier version wrote none.
    """

    shards: int = 0
    pairs: int = 0
    quantiles: dict[str, list[int]] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    tar_bytes: int = 0
    languages: dict[str, int] = field(default_factory=dict)
    licensed: int = 0
    licences: dict[str, dict[str, int]] = field(default_factory=dict)
    personal_texts: dict[str, int] = field(default_factory=dict)
    of_pages: list[str] = field(default_factory=list)


def look_into(out: str, manifest: Manifest) -> Contents:
    """Facts about a dataset's pairs for the card.

    Keys are hashes, so that a few shards, evenly spread, are a random sample of the pairs.
    """
    from alignset.transforms.pairs.texts import measure_texts  # kernels, for this alone

    text_only = bool(manifest.job["text_only"])
    if text_only:
        paths = [path for path, _ in match(f"{out}/pairs")][:_MOST_SHARDS]
    else:
        numbers = [number for number, shard in sorted(manifest.shards.items()) if shard.pairs]
        sample = {at * len(numbers) // _MOST_SHARDS for at in range(_MOST_SHARDS if numbers else 0)}
        paths = [f"{out}/shards/{numbers[at]}.parquet" for at in sorted(sample)]
    own = [name for name in manifest.columns or {} if is_licence(name)]
    licences = [*dict.fromkeys((*LICENCES, *own))]
    counts = {name: Counter[Any]() for name in (LANGUAGE_COLUMNS[0], *licences)}
    sizes: dict[str, list[Any]] = {"width, px": [], "height, px": [], "alt-text, words": []}
    pairs, licensed, schema = 0, 0, pa.schema([])
    for path in paths:
        schema = schema_of(path)
        named = [n for n in counts if n in schema.names and schema.field(n).type == pa.string()]
        measured = [] if text_only else ["width", "height", "caption"]
        with open_to_read(path) as source:
            pairs += pq.read_metadata(source).num_rows
        for rows in batches_of(path, [*named, *measured]) if named or measured else ():
            states = np.zeros(len(rows), np.bool_)
            for name in named:
                tally = rows[name].value_counts().to_pylist()
                counts[name].update({of["values"]: of["counts"] for of in tally})
                if name in licences:
                    states |= np.asarray(pc.fill_null(pc.not_equal(rows[name], ""), False))
            licensed += int(states.sum())
            if measured:
                texts = measure_texts(rows["caption"], np.ones(len(rows), np.bool_))
                values = rows["width"], rows["height"], texts.word_count
                for of, column in zip(sizes.values(), values, strict=True):
                    of.append(np.asarray(column))
    return Contents(
        len(paths) * (not text_only),
        pairs,
        {
            name: [int(q) for q in np.quantile(np.concatenate(of), QUANTILES, method="lower")]
            for name, of in sizes.items()
            if of
        },
        _examples(paths),
        sum(size for path, size in match(f"{out}/shards") if path.endswith(".tar")),
        most_first(counts[LANGUAGE_COLUMNS[0]]),
        licensed,
        {name: shown for name in licences if (shown := _shown_licences(counts[name]))},
        _personal_texts(paths),
        [name for name in OF_PAGES if name in schema.names],
    )


def _personal_texts(paths: Sequence[str]) -> dict[str, int]:
    """How many of the first alt-texts of some files have which personal data: to look through
    100 million takes hours."""
    found = Counter({"": 0} | dict.fromkeys(KINDS, 0))
    for path in paths:
        for batch in islice(read_columns(path, _CAPTIONS, LONGEST), 1):
            captions = batch["caption"].slice(0, _MOST_TEXTS // len(paths))
            has_some = (personal_data(captions) > 0).sum(axis=0).tolist()
            found.update({"": len(captions)} | dict(zip(KINDS, has_some, strict=True)))
    return dict(found)


def _shown_licences(counts: Mapping[str | None, int]) -> dict[str, int]:
    """The most frequent values of a column that states a licence; "" stands for the others."""
    values = {_shorten(of, _LONGEST_LICENCE): n for of, n in most_first(counts).items() if of}
    most = dict([*values.items()][:_MOST_LICENCES])
    rest = sum(values.values()) - sum(most.values())
    return most | ({"": rest} if rest else {})


def _examples(paths: Iterable[str]) -> list[str]:
    """The first rows of some files."""
    examples = list[str]()
    for path in paths:
        with open_to_read(path) as source:
            batches = pq.ParquetFile(source).iter_batches(_EXAMPLES, columns=list(_COLUMNS))
            for batch in islice(batches, 1):
                examples += map(format_example, batch.to_pylist())
        if len(examples) >= _EXAMPLES:
            break
    return examples[:_EXAMPLES]


def format_example(row: dict[str, Any]) -> str:
    """A row as a line of JSON that is safe within Markdown and HTML, whatever its texts are."""
    fields = {name: row[name] for name in _COLUMNS if name in row}
    fields["caption"] = _shorten(fields["caption"], _LONGEST_TEXT)
    fields["url"] = _shorten(fields["url"], _LONGEST_URL)
    return "".join(
        f"\\u{ord(c):04x}" if c in _NEVER_BARE else c if c.isprintable() else json.dumps(c)[1:-1]
        for c in json.dumps(fields, ensure_ascii=False)
    )


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"
