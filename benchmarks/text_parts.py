"""What each part of the text plane costs: CPU time of its threads, function by function.

  python benchmarks/text_parts.py [--pairs=4000000]

Runs the command in this process with a clock around the parts. A part holds those under it
(`measure` holds `measure_texts`), and a clock counts its own thread alone, so the parts do not add
up to the whole, which is printed last.
"""

import argparse
import functools
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # before Arrow, as beam_runner.py does
from results import print_results
from text_plane import ROOT, corpus_of, our_command, vocabulary_size

sys.path.insert(0, str(ROOT))
from alignset import beam_runner
from alignset.pipeline.inputs.find_inputs import find_files
from alignset.pipeline.inputs.find_splits import find_splits
from alignset.pipeline.inputs.readers import read_split
from alignset.pipeline.options import parse
from alignset.transforms.corpus import (
    count_pairs,
    judge_batch,
    judge_pairs,
    rare_tokens,
    vocabulary,
)
from alignset.transforms.pairs import measure_pairs as measure
from alignset.transforms.storage.blocks import Blocks

# Where each part is looked up when it is called, by stage.
PARTS = {
    "first reading, but for its blocks": [(count_pairs, "counted")],
    "first: measure": [(count_pairs, "measure")],
    "first: sort and count n-grams": [(count_pairs, "count_ngrams")],
    "first: distinct pairs, with the buckets'": [(count_pairs, "distinct_pairs")],
    "blocks to files": [(Blocks, "pack")],
    "sum n-grams": [(vocabulary, "sum_by_hash")],
    "add up images and texts": [(count_pairs, "sum_by_hash")],
    "second reading": [(judge_batch.JudgeBatch, "__call__")],
    "second: look n-grams up": [(judge_batch, "has_rare_token")],
    "second: dropped rows": [(judge_batch, "rejected_rows")],
    "write Parquet": [(judge_pairs.RowWriter, "finish")],
    "first: texts": [(measure, "measure_texts")],
    "first: URLs": [(measure, "url_hashes")],
    "second: n-grams of texts": [(rare_tokens, "measure_texts")],
}


class Clocks:
    """CPU seconds by part, of all threads."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, part: str, start: float) -> None:
        with self._lock:
            self.seconds[part] += time.thread_time() - start

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **flags: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **flags)
            finally:
                self.add(part, start)

        return timed


def decode_s(command: list[str]) -> float:
    """CPU seconds of reading the input once, of all threads: Arrow decodes on its own."""
    job = parse(command).job
    start = time.process_time()
    for split in find_splits(job, find_files(job)):
        for _ in read_split(split, job.batch_rows):
            pass
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=4_000_000)
    parser.add_argument("--vocabulary_share", type=float, default=0.5, help="n-grams kept per pair")
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the corpora")
    flags = parser.parse_args()
    corpus = corpus_of(flags.cache, flags.pairs)
    size = vocabulary_size(corpus, flags.vocabulary_share, flags.pairs)
    clocks = Clocks()
    for part, places in PARTS.items():
        for owner, name in places:
            setattr(owner, name, clocks.around(part, getattr(owner, name)))
    with tempfile.TemporaryDirectory(prefix="alignset-bench-") as folder:
        command = our_command(corpus, Path(folder) / "out", size)[2:]
        start = time.process_time()
        if beam_runner.main(command):
            raise RuntimeError("the command failed; see above")
        clocks.seconds["the whole, without imports"] = time.process_time() - start
        clocks.seconds["decode Parquet, once"] = decode_s(command)
    order = [*PARTS, "decode Parquet, once", "the whole, without imports"]
    per_pair = {part: clocks.seconds[part] * 1e6 / flags.pairs for part in order}
    rows = [{"part": p, "CPU s": clocks.seconds[p], "us a pair": per_pair[p]} for p in order]
    figures = {"benchmark": "text_parts", "pairs": flags.pairs, "us_a_pair": per_pair}
    print_results(rows, figures, ("apache-beam", "numpy", "numba", "pyarrow"))


if __name__ == "__main__":
    main()
