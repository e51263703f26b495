"""The text rules over a synthetic corpus: ours, as a whole process, against DuckDB's.

  python benchmarks/text_stage.py [--pairs=2000000] [--repeats=3]
  python benchmarks/text_stage.py --language=en
  python benchmarks/text_stage.py --pairs=500000,1000000,2000000,4000000,8000000,12400000 \
    --duckdb_pairs=2000000,12400000 --repeats=1 --plot=docs/growth.svg

Both read the same Parquet file, keep the same pairs (checked each time) and write them to Parquet;
ours also writes every dropped pair with its reason. DuckDB runs on 2 threads. The vocabulary's size
is chosen next to --vocabulary_share of the pairs so that no tie is cut, since ties go by our hash.
The time a pair is for the whole process, start included, over the number of pairs.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb
import duckdb_rules
import matplotlib
from measured import Usage, run_measured
from results import print_results
from text_corpus import write_corpus

from alignset.demo.text_rules import Numbers, judge, pair_identity

ROOT = Path(__file__).resolve().parent.parent
SIDES = {"duckdb": ("DuckDB", "#c8553d"), "ours": ("alignset", "#0b6e4f")}
MAX_PEAK_GIB = 2
MOST_CHECKED = 10_000  # kept pairs, by the rules in plain Python
Run = dict[str, Any]


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


def our_command(corpus: Path, out: Path, size: int, language: str) -> list[str]:
    flags = ["--text_only", f"--language={language}", f"--vocabulary_size={size}"]
    runner = str(ROOT / "beam_runner.py")
    return [sys.executable, runner, f"--input={corpus}", f"--output={out}", *flags]


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


def check_by_rules(corpus: Path, size: int, ours: Path) -> None:
    """Compares what we kept with the rules written out in plain Python; of few pairs.

    Raises:
      RuntimeError: they differ.
    """
    rows = duckdb.sql(f"SELECT url, caption FROM '{corpus}'").fetchall()
    outcomes = judge(rows, Numbers(vocabulary_size=size))
    wanted = {pair for pair, reasons in outcomes.items() if None in reasons}
    kept = duckdb.sql(f"SELECT url, caption FROM '{ours / 'pairs/*.parquet'}'").fetchall()
    if wanted != {pair_identity(row) for row in kept}:
        raise RuntimeError(f"the rules keep {len(wanted)} pairs of {corpus}, and we {len(kept)}")


def measure(
    corpus: Path, size: int, repeats: int, *, language: str = "", against_duckdb: bool = True
) -> dict[str, float]:
    """Runs both sides by turns over a corpus: the medians of what each cost, and the kept pairs.

    Args:
      size: the vocabulary's.
      repeats: how often each side runs.
      language: the one that is wanted of ours; "" of DuckDB, whose rules know none.
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
                arguments = [str(corpus), str(duckdb_out), str(size)]
                command = [sys.executable, duckdb_rules.__file__, *arguments]
                theirs.append(run_measured(command, folder / "duckdb.log"))
                line += f" DuckDB {theirs[-1].wall_s:.2f} s,"
            ours.append(run_measured(our_command(corpus, out, size, language), folder / "ours.log"))
            print(f"{line} ours {ours[-1].wall_s:.2f} s", file=sys.stderr)
            kept = count_kept(out, duckdb_out) if against_duckdb else count_ours(out)
            if kept <= MOST_CHECKED and not language:
                check_by_rules(corpus, size, out)
            shutil.rmtree(out)
    figures: dict[str, float] = {"kept": kept, "vocabulary_size": size, **_medians("ours", ours)}
    if against_duckdb:
        ratios = [u.wall_s / v.wall_s for u, v in zip(ours, theirs, strict=True)]
        figures |= {"ratio": median(ratios), **_medians("duckdb", theirs)}
    return figures


def _medians(side: str, usages: list[Usage]) -> dict[str, float]:
    fields = ("wall_s", "cpu_s", "peak_mib")
    return {f"{side}_{name}": median(getattr(u, name) for u in usages) for name in fields}


def measure_pairs(pairs: int, flags: argparse.Namespace, *, against_duckdb: bool) -> Run:
    """`measure` over the corpus of this size, and the us a pair of each side."""
    corpus = corpus_of(flags.cache, pairs)
    size = int(flags.vocabulary_share * pairs)
    if against_duckdb:  # only then must no tie be cut
        size = vocabulary_size(corpus, flags.vocabulary_share, pairs)
    language = "" if against_duckdb else flags.language
    run: Run = measure(
        corpus, size, flags.repeats, language=language, against_duckdb=against_duckdb
    )
    for side in SIDES:
        if f"{side}_wall_s" in run:
            run[f"{side}_us"] = 1e6 * run[f"{side}_wall_s"] / pairs
    return {"pairs": pairs, **run}


def table_row(run: Run, side: str) -> Run:
    return {
        "side": f"{side}, {run['pairs']:,} pairs",
        "wall s": run[f"{side}_wall_s"],
        "CPU s": run[f"{side}_cpu_s"],
        "peak MiB": run[f"{side}_peak_mib"],
        "us a pair": run[f"{side}_us"],
        "kept": run["kept"],
        "wall / DuckDB's": run["ratio"] if side == "ours" and "ratio" in run else "",
    }


def draw_plot(runs: Sequence[Run], path: Path) -> None:
    """Time a pair and peak memory over the number of pairs; the same bytes for the same numbers."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    style = {"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(style):
        figure, (times, peaks) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
        for side, (label, colour) in SIDES.items():
            have = [run for run in runs if f"{side}_us" in run]
            pairs = [run["pairs"] / 1e6 for run in have]
            look = {"color": colour, "marker": "o", "markersize": 4}
            times.plot(pairs, [run[f"{side}_us"] for run in have], label=label, **look)
            peaks.plot(pairs, [run[f"{side}_peak_mib"] / 1024 for run in have], **look)
        peaks.axhline(MAX_PEAK_GIB, color="#777777", linestyle=":", linewidth=1)
        for axes, title in ((times, "time a pair, us"), (peaks, "peak of a process, GiB")):
            axes.set(title=title, xlabel="million pairs", ylim=(0, None), xlim=(0, None))
            axes.spines[["top", "right"]].set_visible(False)
        times.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default="2000000", help="how many; several with commas between")
    parser.add_argument("--duckdb_pairs", help="the sizes that DuckDB runs too; all by default")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--language", default="", help="the one that is wanted; ours runs alone")
    parser.add_argument("--vocabulary_share", type=float, default=0.5, help="n-grams kept per pair")
    parser.add_argument("--plot", type=Path, help="an SVG file of time a pair and peak memory")
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the corpora")
    flags = parser.parse_args()
    sizes = [int(size) for size in flags.pairs.split(",")]
    compared = sizes
    if flags.duckdb_pairs is not None:
        compared = [int(size) for size in flags.duckdb_pairs.split(",") if size]
    if flags.language:
        compared = []
    # Few enough to be checked by the rules in plain Python; compiles the kernels, too.
    measure_pairs(1000, flags, against_duckdb=True)
    runs = [measure_pairs(size, flags, against_duckdb=size in compared) for size in sizes]
    rows = [table_row(run, side) for run in runs for side in SIDES if f"{side}_us" in run]
    figures = {"benchmark": "text_stage", "repeats": flags.repeats, "runs": runs}
    print_results(rows, figures, ("duckdb", "apache-beam", "numpy", "numba", "pyarrow"))
    if flags.plot:
        draw_plot(runs, flags.plot)


if __name__ == "__main__":
    main()
