"""Counts of reasons, added up, and small results written as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from transforms.storage.files import write_atomically


def add_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Adds up dicts of counts, key by key."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


@dataclass(eq=False)
class WriteJson(beam.PTransform):
    """What several collections hold, by name, to one JSON file.

    Args:
      values: singletons.
      counts: of dicts of counts, which are added up here: one stage for what `CombineGlobally`
        needs five for. These are elements, not metrics: a bundle that is tried twice counts once.
    """

    path: str
    values: Mapping[str, beam.PCollection]
    counts: Mapping[str, beam.PCollection] = field(default_factory=dict)

    def expand(self, begin: Any) -> beam.PCollection:
        path, added = self.path, tuple(self.counts)

        def write(_: None, **values: Any) -> None:
            values |= {name: add_counts(values[name]) for name in added}
            text = json.dumps(values, indent=2, sort_keys=True).encode()
            write_atomically(path, lambda sink: sink.write(text))

        sides = {name: beam.pvalue.AsSingleton(value) for name, value in self.values.items()}
        sides |= {name: beam.pvalue.AsIter(counts) for name, counts in self.counts.items()}
        return begin.pipeline | beam.Create([None]) | beam.Map(write, **sides)
