"""Counts of reasons, added up, and small results written as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from transforms.files import write_atomically


def add_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Adds up dicts of counts, key by key."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


@dataclass(eq=False)
class CombineCounts(beam.PTransform):
    """Dicts of counts to their sum. These are elements, not metrics: a bundle that is tried
    twice counts once."""

    def expand(self, counts: beam.PCollection) -> beam.PCollection:
        return counts | beam.CombineGlobally(add_counts)


@dataclass(eq=False)
class WriteJson(beam.PTransform):
    """Singletons, by name, to one JSON file."""

    path: str
    values: Mapping[str, beam.PCollection]

    def expand(self, begin: Any) -> beam.PCollection:
        path = self.path

        def write(_: None, **values: Any) -> None:
            text = json.dumps(values, indent=2, sort_keys=True).encode()
            write_atomically(path, lambda sink: sink.write(text))

        sides = {name: beam.pvalue.AsSingleton(value) for name, value in self.values.items()}
        return begin.pipeline | beam.Create([None]) | beam.Map(write, **sides)
