"""What workers counted, added up, and the small documents that jobs leave at their end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from transforms.storage.documents import write_document


@dataclass(frozen=True)
class Counts:
    """What became of some pairs.

    Attributes:
      seen, kept: how many there were, and are left.
      dropped: how many went for each reason.
    """

    seen: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


def add_by_name(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Adds up dicts of counts, key by key."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items()))


def add_counts(counts: Iterable[Counts]) -> Counts:
    """The sum of the counts of parts."""
    parts = list(counts)
    return Counts(
        seen=sum(part.seen for part in parts),
        kept=sum(part.kept for part in parts),
        dropped=add_by_name(part.dropped for part in parts),
    )


@dataclass(eq=False)
class WriteSummary(beam.PTransform):
    """What several collections hold to one document.

    Args:
      kind: the dataclass of the document.
      values: singletons, by the names of its fields.
      sums: collections with what adds up their elements: one stage for what `CombineGlobally` needs
        five for. These are elements, not metrics: a bundle that is tried twice counts once.
    """

    path: str
    kind: Callable[..., Any]
    values: Mapping[str, beam.PCollection] = field(default_factory=dict)
    sums: Mapping[str, tuple[beam.PCollection, Callable[[Iterable[Any]], Any]]] = field(
        default_factory=dict
    )

    def expand(self, begin: Any) -> beam.PCollection:
        path, kind = self.path, self.kind
        add = {name: function for name, (_, function) in self.sums.items()}

        def write(_: None, **fields: Any) -> None:
            fields |= {name: function(fields[name]) for name, function in add.items()}
            write_document(path, kind(**fields))

        sides = {name: beam.pvalue.AsSingleton(value) for name, value in self.values.items()}
        sides |= {name: beam.pvalue.AsIter(parts) for name, (parts, _) in self.sums.items()}
        return begin.pipeline | beam.Create([None]) | beam.Map(write, **sides)
