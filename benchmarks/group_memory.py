"""What a larger group costs in memory: the text plane with fewer buckets than it would take.

  python benchmarks/group_memory.py [--pairs=8000000] [--buckets=1,2,4,8,64,256] [--plan]

With b buckets the largest group, that of the pairs by key, has about 33 / b bytes a pair of the
corpus; a process works on as many as it has threads. So this tells how large a group may be where
a process has 2 GiB, and by its CPU time what an element costs. Ours alone, whole process, once
each; the output is the same. --plan also plans the shards, and stops before images are fetched.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from measured import run_measured
from results import print_results
from text_plane import ROOT, add_flags, corpus_of, our_command

PAIR_BYTES = 33  # of a row by key; see shuffle_sizes.py
RUN = """
import sys
sys.path.insert(0, {root!r})
from alignset import beam_runner
import alignset.pipeline.run
alignset.pipeline.run.bucket_count = lambda _: {buckets}
alignset.pipeline.run.curate_images = lambda *_: sys.exit()
sys.exit(beam_runner.main(sys.argv[1:]))
"""


def measure_buckets(corpus: Path, pairs: int, buckets: int, flags: Any) -> dict[str, Any]:
    """The costs of one run with this many buckets."""
    script = RUN.format(root=str(ROOT), buckets=buckets)
    with tempfile.TemporaryDirectory(prefix="alignset-bench-") as name:
        size = int(flags.vocabulary_share * pairs)
        python, _, *others = our_command(corpus, Path(name) / "out", size)
        left_out = ["--text_only"] if flags.plan else []
        command = [python, "-c", script, *(flag for flag in others if flag not in left_out)]
        usage = run_measured(command, Path(name) / "log")
    return {
        "buckets": buckets,
        "group MB": PAIR_BYTES * pairs / buckets / 1e6,
        "wall s": usage.wall_s,
        "CPU s": usage.cpu_s,
        "peak MiB": usage.peak_mib,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=8_000_000)
    parser.add_argument("--buckets", default="1,2,4,8,64,256", help="each a power of two")
    parser.add_argument("--plan", action="store_true", help="plan the shards too")
    add_flags(parser, repeats=1)
    flags = parser.parse_args()
    corpus = corpus_of(flags.cache, flags.pairs)
    counts = [int(buckets) for buckets in flags.buckets.split(",")]
    rows = [measure_buckets(corpus, flags.pairs, buckets, flags) for buckets in counts]
    figures = {"benchmark": "group_memory", "pairs": flags.pairs, "plan": flags.plan}
    print_results(rows, figures | {"runs": rows}, ("apache-beam", "numpy", "numba", "pyarrow"))


if __name__ == "__main__":
    sys.exit(main())
