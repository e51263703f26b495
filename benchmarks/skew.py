"""The text rules over corpora with one thing in excess: does any skew cost memory or time?

  python benchmarks/skew.py [--pairs=2000000] [--cases=one_text,…] [--check]

Each case of skew_corpora.py runs as text_plane.py runs its corpus: ours, as a whole process, and
DuckDB's, the kept pairs compared one by one. Another run of ours, through shuffle_sizes.py and not
timed, tells the largest element and the largest group of any shuffle, blocks inline as on Flink.
`plain` is the corpus without skew, to compare with.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from measured import run_measured
from results import print_results
from skew_corpora import CASES, write_skewed
from text_plane import add_flags, corpus_of, measure, measure_pairs, our_command, vocabulary_size

SHUFFLE_SIZES = Path(__file__).with_name("shuffle_sizes.py")
PLAIN = "plain"
MAX_PEAK_MIB = 2048
MAX_ELEMENT_MB = 64


def skewed_corpus(folder: Path, case: str, pairs: int) -> Path:
    """The corpus of a case, generated where it is not in the folder yet."""
    if case == PLAIN:
        return corpus_of(folder, pairs)
    path = folder / f"skew-{case}-{pairs}.parquet"
    if not path.exists():
        print(f"generating {case}, {pairs:,} pairs", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        write_skewed(path, case, pairs)
    return path


def shuffled(corpus: Path, size: int) -> list[dict[str, Any]]:
    """What shuffle_sizes.py reports of our command over a corpus."""
    with tempfile.TemporaryDirectory(prefix="alignset-bench-") as name:
        report = Path(name) / "report.json"
        python, _, *flags = our_command(corpus, Path(name) / "out", size)
        command = [python, str(SHUFFLE_SIZES), str(report), *flags]
        run_measured(command, Path(name) / "log")
        return json.loads(report.read_text())


def largest(exchanges: list[dict[str, Any]], what: str) -> tuple[float, str]:
    """The most megabytes that any exchange has of `what`, and its name."""
    most = max(exchanges, key=lambda exchange: exchange[what])
    return most[what] / 1e6, most["name"]


def measure_case(case: str, flags: argparse.Namespace) -> dict[str, Any]:
    corpus = skewed_corpus(flags.cache, case, flags.pairs)
    size = int(flags.vocabulary_share * flags.pairs)
    if not flags.ours_only:  # only then must no tie be cut
        size = vocabulary_size(corpus, flags.vocabulary_share, flags.pairs)
    costs = measure(corpus, size, flags.repeats, against_duckdb=not flags.ours_only)
    run: dict[str, Any] = {"case": case, **costs}
    exchanges = shuffled(corpus, size)
    for what in ("largest_element", "largest_group"):
        run[f"{what}_mb"], run[f"{what}_in"] = largest(exchanges, what)
    return run | {
        "exchanges": [exchange for exchange in exchanges if exchange["bytes"] >= 1_000_000]
    }


def table_row(run: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": run["case"],
        "wall s": run["ours_wall_s"],
        "DuckDB's": run.get("duckdb_wall_s", ""),
        "CPU s": run["ours_cpu_s"],
        "peak MiB": run["ours_peak_mib"],
        "DuckDB's ": run.get("duckdb_peak_mib", ""),
        "kept": run["kept"],
        "element MB": run["largest_element_mb"],
        "of": run["largest_element_in"],
        "group MB": run["largest_group_mb"],
        "of ": run["largest_group_in"],
    }


def within(run: dict[str, Any]) -> bool:
    """Whether a case stays within the bounds on memory and on what is shuffled."""
    small = run["largest_element_mb"] <= MAX_ELEMENT_MB
    return small and run["ours_peak_mib"] < MAX_PEAK_MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [PLAIN, *CASES]
    parser.add_argument("--pairs", type=int, default=2_000_000, help="of each case")
    parser.add_argument("--cases", default=",".join(names), help=f"of {', '.join(names)}")
    add_flags(parser, repeats=1)
    parser.add_argument("--ours_only", action="store_true", help="do not run DuckDB")
    parser.add_argument("--check", action="store_true", help="fail where a bound is passed")
    flags = parser.parse_args()
    cases = flags.cases.split(",")
    if unknown := set(cases) - set(names):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    measure_pairs(1000, flags)  # compiles the kernels, so that no run waits for it
    runs = [measure_case(case, flags) for case in cases]
    figures = {"benchmark": "skew", "pairs": flags.pairs, "repeats": flags.repeats, "runs": runs}
    packages = ("duckdb", "apache-beam", "numpy", "numba", "pyarrow")
    print_results([table_row(run) for run in runs], figures, packages)
    over = [run["case"] for run in runs if not within(run)]
    bounds = f"within {MAX_PEAK_MIB:,} MiB a process and {MAX_ELEMENT_MB} MB an element"
    print(f"NOT {bounds}: {', '.join(over)}" if over else f"{bounds}: all cases")
    return int(flags.check and bool(over))


if __name__ == "__main__":
    sys.exit(main())
