"""The cells of a large index: made, kept while it changes, and given their settings."""

import dataclasses
import re
from pathlib import Path

import numpy as np

from alignset.train.model.embedder import Embedder
from alignset.train.search.index_files import FORMAT, IndexDocument, part_rows
from alignset.train.search.neighbours import (
    add_rows,
    choose_probes,
    read_neighbours,
    train_cells,
    write_neighbours,
)
from alignset.train.search.vectors import Vectors, open_vectors

_GROWTH = 1.5  # times the rows that its cells were made of, above which an index gets new cells
_SAMPLE = 200  # pictures, and as many captions, by which recall is measured


def with_neighbours(
    folder: Path,
    old: IndexDocument | None,
    document: IndexDocument,
    model: Embedder | None,
) -> IndexDocument:
    """The document with the cells that its rows are sorted into: those of the index that was there,
    where it has not grown too much, else new ones.

    Args:
      model: None where rows were taken out: then the settings stay too.
    """
    vectors = open_vectors(folder, document)
    has_cells = old is not None and old.neighbours != "" and old.format == FORMAT
    keep = has_cells and old is not None and document.total <= _GROWTH * old.trained_rows
    if keep:
        assert old
        index = read_neighbours(folder / old.neighbours, vectors, old.total)
        if document.parts[: len(old.parts)] != old.parts:
            index.reset()  # its rows have other numbers now; its cells stay
        trained = old.trained_rows
    else:
        index, trained = train_cells(vectors), document.total
    add_rows(index, vectors)
    if model is None and keep:
        assert old
        settings, recall = old.settings, old.recall
    else:
        probes, recall = choose_probes(vectors, index, _queries(folder, document, vectors, model))
        settings = {"probes": probes}
    before = int(re.sub(r"\D", "", old.neighbours) or 0) if old else 0
    name = f"neighbours-{before + 1}.faiss"
    write_neighbours(folder / name, index)
    return dataclasses.replace(
        document,
        kind="cells",
        neighbours=name,
        trained_rows=trained,
        settings=settings,
        recall=round(recall, 4),
    )


def _queries(
    folder: Path, document: IndexDocument, vectors: Vectors, model: Embedder | None
) -> np.ndarray:
    """float32[q, d]: pictures of the index, and captions of others of them as texts."""
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(len(vectors), min(_SAMPLE, len(vectors)), replace=False))
    pictures = vectors.take(rows)
    if model is None:
        return pictures
    part = int(random.choice(len(document.parts), p=np.array(document.rows) / document.total))
    captions = part_rows(folder, document.parts[part], ["caption"])["caption"].to_pylist()
    texts = [caption for caption in captions if caption.strip()][:_SAMPLE]
    return np.concatenate([pictures, model.embed_texts(texts)]) if texts else pictures
