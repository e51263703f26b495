"""The text rules over a synthetic corpus: ours, as a whole process, against DuckDB's.

  python benchmarks/text_plane.py [--pairs=2000000] [--repeats=3]

Both read the same Parquet file, keep the same pairs (checked each time) and write them to Parquet;
ours also writes every dropped pair with its reason. DuckDB runs on 2 threads. The vocabulary's size
is chosen next to --vocabulary_share of the pairs so that no tie is cut, since ties go by our hash.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import duckdb
import duckdb_rules
from measured import Usage, run_measured
from results import print_results
from text_corpus import write_corpus

ROOT = Path(__file__).resolve().parent.parent


def corpus_of(folder: Path, pairs: int) -> Path:
    """The corpus of this size, generated where it is not in the folder yet."""
    path = folder / f"corpus-{pairs}.parquet"
    if not path.exists():
        print(f"generating {pairs:,} pairs", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        write_corpus(path, pairs)
    return path


def vocabulary_size(corpus: Path, share: float, pairs: int) -> int:
    """The size next to `share` of the pairs at which no two n-grams of one count are parted."""
    sizes = corpus.with_suffix(".sizes.json")
    if not sizes.exists():
        sizes.write_text(json.dumps(duckdb_rules.vocabulary_sizes(str(corpus))))
    return min(json.loads(sizes.read_text()), key=lambda size: abs(size - share * pairs))


def our_command(corpus: Path, out: Path, size: int) -> list[str]:
    flags = ["--text_only", "--language=", f"--vocabulary_size={size}"]
    runner = str(ROOT / "beam_runner.py")
    return [sys.executable, runner, f"--input={corpus}", f"--output={out}", *flags]


def duckdb_command(corpus: Path, out: Path, size: int) -> list[str]:
    return [sys.executable, duckdb_rules.__file__, str(corpus), str(out), str(size)]


def count_kept(ours: Path, theirs: Path) -> int:
    """How many pairs both kept.

    Raises:
      RuntimeError: one kept a pair that the other did not, or not as often.
    """
    tables = [f"(SELECT url, caption FROM '{path}')" for path in (ours / "pairs/*.parquet", theirs)]
    for name, this, theirs in (("we", *tables), ("DuckDB", *tables[::-1])):
        surplus = duckdb.sql(f"FROM {this} EXCEPT ALL FROM {theirs}").fetchall()
        if surplus:
            raise RuntimeError(f"only {name} kept {len(surplus)} pairs, such as {surplus[:3]}")
    return duckdb.sql(f"SELECT count(*) FROM {tables[0]}").fetchall()[0][0]


def count_ours(ours: Path) -> int:
    """How many pairs we kept, where nothing is there to compare them with."""
    return duckdb.sql(f"SELECT count(*) FROM '{ours / 'pairs/*.parquet'}'").fetchall()[0][0]


def measure(
    corpus: Path, size: int, repeats: int, *, against_duckdb: bool = True
) -> dict[str, float]:
    """Runs both sides by turns over a corpus: the medians of what each cost, and the kept pairs.

    Args:
      size: the vocabulary's.
      repeats: how often each side runs.
      against_duckdb: else ours alone.

    Raises:
      RuntimeError: a side failed, or one kept a pair that the other did not.
    """
    ours: list[Usage] = []
    theirs: list[Usage] = []
    kept = 0
    with tempfile.TemporaryDirectory(prefix="alignset-bench-") as name:
        folder = Path(name)
        out, duckdb_out = folder / "out", folder / "kept.parquet"
        for repeat in range(repeats):
            line = f"run {repeat + 1} of {corpus.stem}:"
            if against_duckdb:
                command = duckdb_command(corpus, duckdb_out, size)
                theirs.append(run_measured(command, folder / "duckdb.log"))
                line += f" DuckDB {theirs[-1].wall_s:.2f} s,"
            ours.append(run_measured(our_command(corpus, out, size), folder / "ours.log"))
            print(f"{line} ours {ours[-1].wall_s:.2f} s", file=sys.stderr)
            kept = count_kept(out, duckdb_out) if against_duckdb else count_ours(out)
            shutil.rmtree(out)
    figures: dict[str, float] = {"kept": kept, "vocabulary_size": size, **_medians("ours", ours)}
    if against_duckdb:
        ratios = [u.wall_s / v.wall_s for u, v in zip(ours, theirs, strict=True)]
        figures |= {"ratio": median(ratios), **_medians("duckdb", theirs)}
    return figures


def _medians(side: str, usages: list[Usage]) -> dict[str, float]:
    fields = ("wall_s", "cpu_s", "peak_mib")
    return {f"{side}_{name}": median(getattr(u, name) for u in usages) for name in fields}


def measure_pairs(
    pairs: int, flags: argparse.Namespace, *, duckdb: bool = True
) -> dict[str, float]:
    """`measure` over the corpus of this size."""
    corpus = corpus_of(flags.cache, pairs)
    size = int(flags.vocabulary_share * pairs)
    if duckdb:  # only then must no tie be cut
        size = vocabulary_size(corpus, flags.vocabulary_share, pairs)
    return {"pairs": pairs, **measure(corpus, size, flags.repeats, against_duckdb=duckdb)}


def add_flags(parser: argparse.ArgumentParser, repeats: int) -> None:
    """The flags that the benchmarks of the text plane share."""
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--vocabulary_share", type=float, default=0.5, help="n-grams kept per pair")
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the corpora")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default="2000000", help="how many; several with commas between")
    add_flags(parser, repeats=3)
    flags = parser.parse_args()
    # Compiles the kernels where that has not been done, so that no run waits for it.
    measure_pairs(1000, flags)
    runs = [measure_pairs(int(size), flags) for size in flags.pairs.split(",")]
    rows = [
        {
            "side": f"{side}, {run['pairs']:,} pairs",
            "wall s": run[f"{side}_wall_s"],
            "CPU s": run[f"{side}_cpu_s"],
            "peak MiB": run[f"{side}_peak_mib"],
            "kept": run["kept"],
            "wall / DuckDB's": run["ratio"] if side == "ours" else 1.0,
        }
        for run in runs
        for side in ("duckdb", "ours")
    ]
    figures = {"benchmark": "text_plane", "repeats": flags.repeats, "runs": runs}
    print_results(rows, figures, ("duckdb", "apache-beam", "numpy", "numba", "pyarrow"))


if __name__ == "__main__":
    main()
