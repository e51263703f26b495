"""The small documents that jobs leave at their end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from alignset.transforms.storage.documents import write_document


@dataclass(eq=False)
class WriteSummary(beam.PTransform):
    """Writes several collections to one document.

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
