"""What clip-retrieval would search the same vectors with: an index that autofaiss chooses, for
`benchmarks/search.py`."""

import importlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from alignset.train.search.vectors import Vectors

MEMORY = "4G"  # clip-retrieval's default for an index


def autofaiss() -> Any:
    """The package. Raises SystemExit with one line where it is not installed."""
    try:
        return importlib.import_module("autofaiss")
    except ImportError as error:
        raise SystemExit(
            "--peer needs the package autofaiss, which is not installed: pip install autofaiss in "
            "an environment for it, since it asks for faiss-cpu of its own"
        ) from error


def autofaiss_choice(
    vectors: Vectors, asked: Mapping[str, tuple[np.ndarray, np.ndarray]], cores: int
) -> dict[str, object]:
    """The index that it chooses and tunes by itself, its recall@10 and the CPU time of a query.

    Args:
      asked: by kind float32[q, d] and the exact int64[q, 10].
    """
    start, cpu = time.perf_counter(), time.process_time()
    whole = np.concatenate([block for _, block in vectors.blocks()])
    index, chosen = autofaiss().build_index(
        embeddings=whole,
        save_on_disk=False,
        metric_type="ip",
        max_index_memory_usage=MEMORY,
        nb_cores=cores,
    )
    told: dict[str, object] = {
        "index": str(chosen.get("index_key", type(index).__name__)),
        "parameters": str(chosen.get("index_param", "")),
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
    }
    for kind, (rows, right) in asked.items():
        walls, hits = [], 0
        for query, exact in zip(rows, right, strict=True):
            begun = time.perf_counter()
            near = index.search(query[None], 10)[1][0]
            walls.append(1e3 * (time.perf_counter() - begun))
            hits += len(np.intersect1d(near, exact))
        told[kind] = {
            "recall@10": hits / right.size,
            "wall_ms_p50": float(np.percentile(walls, 50)),
            "wall_ms_p99": float(np.percentile(walls, 99)),
        }
    return told
