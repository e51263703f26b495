"""A part of an index while it is made, and what a command that was stopped has left of one."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from alignset.train.search.index_files import (
    ROWS,
    PartDocument,
    part_rows,
    part_thumbnails,
    part_vectors,
    read_part,
    write_part,
)


@dataclass
class GrowingPart:
    """What is there of a part.

    Attributes:
      source: as in PartDocument; so are `samples`, `last` and `left_out`.
      rows: in the schema ROWS. thumbnails: theirs. vectors: float16[n, d], together of all rows.
    """

    source: str
    samples: int
    left_out: dict[str, int]
    last: bool = False
    rows: list[dict[str, object]] = field(default_factory=list)
    thumbnails: list[bytes] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    def write(self, folder: Path, name: str) -> PartDocument:
        """Writes it under a name, as a part."""
        table = pa.Table.from_pylist(self.rows, schema=ROWS)
        vectors = np.concatenate(self.vectors) if self.vectors else np.empty((0, 0), np.float16)
        document = PartDocument(
            self.source, self.samples, len(self.rows), self.last, dict(self.left_out)
        )
        write_part(folder, name, document, (table, self.thumbnails, vectors))
        return document


def begun_name(name: str) -> str:
    """Under which a part is kept while it is made."""
    return f"{name}.begun"


def begun_part(folder: Path, name: str) -> GrowingPart | None:
    """What a command that was stopped has left of a part, or None.

    Raises:
      TrainingError: it cannot be read.
    """
    begun = begun_name(name)
    document = read_part(folder, begun)
    if document is None:
        return None
    return GrowingPart(
        document.source,
        document.samples,
        document.left_out,
        rows=part_rows(folder, begun).to_pylist(),
        thumbnails=part_thumbnails(folder, begun).read()["thumbnail"].to_pylist(),
        vectors=[np.array(part_vectors(folder, begun))] if document.rows else [],
    )
