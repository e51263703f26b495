"""The paper's way: how many copies embeddings find, and what its buckets leave out.

  python -m benchmarks.overlap.embeddings --packages=FOLDER [--cache=FOLDER] [--write]

Embeds held-out pictures, altered copies of some of them, and different ones, by the model of
`--overlap_measure=embedding`. Prints the recall by change at a cosine above 0.975, how many of the
pairs of the exact search the buckets find, and the cost of each with as many evaluation images as
--indexed says: what is missing is made of the embeddings that are there, moved a little. --write
puts the tables into docs/overlap.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from alignset.transforms.decontamination.embedding_model import Embeddings, describe_embedding_model
from alignset.transforms.decontamination.embedding_overlap import EmbeddingMeasure
from alignset.transforms.decontamination.overlap_measure import Look, Nearest
from alignset.transforms.decontamination.overlap_settings import PACKAGED
from alignset.transforms.images.examine import Image, examine
from benchmarks.overlap import measured_pictures as measured
from benchmarks.overlap.__main__ import PAGE
from benchmarks.overlap.alterations import ALTERATIONS
from benchmarks.overlap.pictures import held_out_pictures
from benchmarks.overlap.tables import is_ordinary, table, write_blocks

QUERIES_TIMED = 256
MOVED = 0.6  # length of the noise that makes an embedding another image's: cosines of about 0.85


def main() -> None:
    flags = read_flags()
    measure = EmbeddingMeasure(describe_embedding_model(PACKAGED))
    kept = flags.cache / f"embeddings_{flags.pictures}_{flags.altered}.npz"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **embedded(flags, measure))
    with np.load(kept) as made:
        evaluation, copies = made["evaluation"], made["copies"]
        different, embed_ms = made["different"], float(made["embed_ms"])
    exact, buckets = (
        nearest(replace(measure, search=search), evaluation, np.concatenate([copies, different]))
        for search in ("exact", "buckets")
    )
    blocks = {
        "embeddings": recall_table(exact[: len(copies)], len(ALTERATIONS))
        + "\n\n"
        + found_by_buckets(exact, buckets, len(copies), measure.min_distance),
        "embedding cost": cost_table(measure, evaluation, flags.indexed, embed_ms),
    }
    for name, block in blocks.items():
        print(f"\n{name}\n{block}")
    if flags.write:
        write_blocks(PAGE, blocks)


def read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="where packages are kept")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/alignset-overlap"))
    parser.add_argument("--pictures", type=int, default=4000, help="held-out pictures to embed")
    parser.add_argument("--altered", type=int, default=60, help="pictures that are altered")
    parser.add_argument("--indexed", type=int, default=100_000, help="images, for the cost")
    parser.add_argument("--write", action="store_true", help="write docs/overlap.md")
    return parser.parse_args()


def embedded(flags: argparse.Namespace, measure: EmbeddingMeasure) -> dict[str, object]:
    """Embeddings of evaluation images, the altered ones first, of their copies, and of others."""
    held_out = measured.held_out(flags.packages, flags.cache)
    altered = set(measured.to_alter(held_out, flags.altered).names.tolist())
    is_indexed = dict(
        zip(held_out.names.tolist(), measured.is_evaluation(held_out).tolist(), strict=True)
    )
    parts: dict[str, list[Embeddings]] = defaultdict(list)
    begun, count = time.process_time(), 0
    for name, body in held_out_pictures(flags.packages):
        if name not in is_indexed or (count > flags.pictures and name not in altered):
            continue
        whole = embedding(measure, body)
        if whole is None:
            continue
        count += 1
        if name in altered:
            picture = measured.opened(body)
            copies = [embedding(measure, change.file_of(picture, name)) for change in ALTERATIONS]
            parts["copies"].append(np.concatenate([copy for copy in copies if copy is not None]))
            parts["altered"].append(whole)
            count += len(copies)
        else:
            parts["indexed" if is_indexed[name] else "different"].append(whole)
    embed_ms = 1e3 * (time.process_time() - begun) / count
    return {
        "evaluation": np.concatenate(parts["altered"] + parts["indexed"]),
        "copies": np.concatenate(parts["copies"]),
        "different": np.concatenate(parts["different"]),
        "embed_ms": embed_ms,
    }


def embedding(measure: EmbeddingMeasure, body: bytes) -> Embeddings | None:
    image = examine(body)
    return measure.features([Look(body, image)]) if isinstance(image, Image) else None


def nearest(
    measure: EmbeddingMeasure, evaluation: Embeddings, queries: Embeddings
) -> list[Nearest | None]:
    with tempfile.TemporaryDirectory() as folder:
        measure.build([evaluation], len(evaluation), Path(folder))
        return list(measure.open(Path(folder)).nearest(queries))


def recall_table(found: list[Nearest | None], changes: int) -> str:
    """Recall by change, at the paper's cosine: copies stand picture by picture."""
    is_found = np.array(
        [
            near is not None and near.row == at // changes and near.distance < 0.025
            for at, near in enumerate(found)
        ]
    ).reshape(-1, changes)
    by_change: dict[str, list[float]] = defaultdict(list)
    for number, (alteration, counts) in enumerate(zip(ALTERATIONS, is_ordinary(), strict=True)):
        if counts:
            by_change[alteration.change].append(float(is_found[:, number].mean()))
    rows = [[change, f"{np.mean(shares):.2f}"] for change, shares in by_change.items()]
    mean = np.mean([share for shares in by_change.values() for share in shares])
    return table(
        ["single change, ordinary strengths", "recall"], [*rows, ["**mean**", f"**{mean:.3f}**"]]
    )


def found_by_buckets(
    exact: list[Nearest | None], buckets: list[Nearest | None], copies: int, limit: float
) -> str:
    rows = []
    for name, part in (("altered copies", slice(copies)), ("different", slice(copies, None))):
        near = [
            (one, other)
            for one, other in zip(exact[part], buckets[part], strict=True)
            if one is not None and one.distance < limit
        ]
        shared = sum(other is not None and other.row == one.row for one, other in near)
        count = f"{len(exact[part]):,}"
        rows.append([name, count, f"{len(near):,}", f"{shared:,}"])
    heads = ["pictures", "n", "near by exact search", "of these found by buckets"]
    return table(heads, rows)


def cost_table(
    measure: EmbeddingMeasure, evaluation: Embeddings, indexed: int, embed_ms: float
) -> str:
    print("seed 0")
    random = np.random.default_rng(0)
    made = evaluation[random.integers(0, len(evaluation), indexed)]
    noise = random.standard_normal(made.shape, np.float32)
    made = made + MOVED * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    rows = [["embedding, decoding and altering", f"{embed_ms:.1f}", "–", "–"]]
    for search in ("exact", "buckets"):
        of_search = replace(measure, search=search)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.process_time()
            of_search.build([made], indexed, Path(folder))
            built_s = time.process_time() - begun
            index = of_search.open(Path(folder))
            begun = time.process_time()
            index.nearest(evaluation[:QUERIES_TIMED])
            queried = min(QUERIES_TIMED, len(evaluation))
            query_ms = 1e3 * (time.process_time() - begun) / queried
            size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        rows.append([f"{search} search", f"{query_ms:.1f}", f"{built_s:.0f}", f"{size:,.0f}"])
    return table(["", "CPU-ms an image", "built, CPU-s", "MB"], rows)


if __name__ == "__main__":
    main()
