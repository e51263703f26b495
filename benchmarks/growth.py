"""How the text rules grow with the corpus: time a pair and peak memory, from 0.5 to 12.4 million.

  python benchmarks/growth.py [--pairs=500000,…] [--duckdb_pairs=all] [--repeats=1] [--check]

Runs what text_plane.py runs at each size, prints a table and a line of JSON, and draws --plot.
The time a pair is that of the whole process, from the start of the interpreter to its end, over the
number of pairs. Growth is linear where no size from 1 million pairs on costs more than 1.15 times
as much a pair as any smaller one of these: what starting costs makes small corpora dearer, so the
figure may fall but not rise. Beside it stand the CPU time a pair, what each further pair costs
between one size and the next, and the time a pair less that of a run over 1000 pairs, all start.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from results import print_results
from text_plane import ROOT, add_flags, measure_pairs

SIZES = "500000,1000000,2000000,4000000,8000000,12400000"
START_PAIRS = 1000
LINEAR_FROM, MAX_GROWTH = 1_000_000, 1.15
MAX_PEAK_MIB = 2048
COLOURS = {"ours": "#0b6e4f", "duckdb": "#c8553d"}

Run = dict[str, Any]


def add_times(runs: Sequence[Run], start: Run) -> None:
    """Adds to each run, in order of size, its times a pair in us, of each side that it has.

    `us` is the whole process, `cpu_us` the CPU time of all its processes and threads, `marginal_us`
    each pair more than the size before, and `net_us` the whole process less that of `start`.
    """
    for side in COLOURS:
        wall = f"{side}_wall_s"
        before = start
        for run in (run for run in runs if wall in run):
            more = run["pairs"] - before["pairs"]
            run[f"{side}_us"] = 1e6 * run[wall] / run["pairs"]
            run[f"{side}_cpu_us"] = 1e6 * run[f"{side}_cpu_s"] / run["pairs"]
            run[f"{side}_marginal_us"] = 1e6 * (run[wall] - before[wall]) / more
            run[f"{side}_net_us"] = 1e6 * (run[wall] - start[wall]) / run["pairs"]
            before = run


def growth(runs: Sequence[Run], name: str = "ours_us") -> float:
    """The most that a size from LINEAR_FROM on costs a pair, over the least at a smaller one.

    Never below 1, which means that no size is dearer than a smaller one.
    """
    most, least = 1.0, float("inf")
    for run in runs:
        if run["pairs"] >= LINEAR_FROM:
            most = max(most, run[name] / least)
            least = min(least, run[name])
    return most


def verdict(runs: Sequence[Run]) -> dict[str, Any]:
    """Whether time is linear and memory bounded, with the figures that say so."""
    peak = max(run["ours_peak_mib"] for run in runs)
    return {
        "growth": growth(runs),
        "cpu_growth": growth(runs, "ours_cpu_us"),
        "net_growth": growth(runs, "ours_net_us"),
        "linear": growth(runs) <= MAX_GROWTH,
        "peak_mib": peak,
        "within_memory": peak < MAX_PEAK_MIB,
    }


def table_row(run: Run, side: str) -> dict[str, Any]:
    return {
        "side": f"{side}, {run['pairs']:,} pairs",
        "wall s": run[f"{side}_wall_s"],
        "CPU s": run[f"{side}_cpu_s"],
        "peak MiB": run[f"{side}_peak_mib"],
        "us a pair": run[f"{side}_us"],
        "CPU us": run[f"{side}_cpu_us"],
        "marginal us": run[f"{side}_marginal_us"],
        "net us": run[f"{side}_net_us"],
        "kept": run["kept"],
        "wall / DuckDB's": run["ratio"] if side == "ours" and "ratio" in run else "",
    }


def draw_plot(runs: Sequence[Run], path: Path) -> None:
    """Time a pair and peak memory over the number of pairs, of both sides; the same bytes for
    the same numbers."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    style = {"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(style):
        figure, (times, peaks) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
        for side, colour in COLOURS.items():
            have = [run for run in runs if f"{side}_us" in run]
            pairs = [run["pairs"] / 1e6 for run in have]
            look = {"color": colour, "marker": "o", "markersize": 4}
            label = "alignset" if side == "ours" else "DuckDB"
            times.plot(pairs, [run[f"{side}_us"] for run in have], label=label, **look)
            peaks.plot(pairs, [run[f"{side}_peak_mib"] / 1024 for run in have], **look)
        peaks.axhline(MAX_PEAK_MIB / 1024, color="#777777", linestyle=":", linewidth=1)
        for axes, title in ((times, "time a pair, us"), (peaks, "peak of a process, GiB")):
            axes.set(title=title, xlabel="million pairs", ylim=(0, None), xlim=(0, None))
            axes.spines[["top", "right"]].set_visible(False)
        times.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def measure_all(flags: argparse.Namespace) -> tuple[Run, list[Run]]:
    """A run that is all start, and those of each size, smallest first."""
    sizes = sorted(int(size) for size in flags.pairs.split(","))
    if sizes[0] <= START_PAIRS:
        raise SystemExit(f"--pairs must be above {START_PAIRS}, which is the start; got {sizes[0]}")
    compared = sizes
    if flags.duckdb_pairs != "all":
        compared = [int(size) for size in flags.duckdb_pairs.split(",") if size]
    measure_pairs(START_PAIRS, flags)  # compiles the kernels, so that no run waits for it
    start = measure_pairs(START_PAIRS, flags)
    return start, [measure_pairs(size, flags, duckdb=size in compared) for size in sizes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default=SIZES, help="the sizes, with commas between")
    parser.add_argument("--duckdb_pairs", default="all", help="the sizes that DuckDB runs too")
    add_flags(parser, repeats=1)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/growth.svg")
    parser.add_argument("--check", action="store_true", help="fail where it grows too fast")
    flags = parser.parse_args()
    start, runs = measure_all(flags)
    add_times(runs, start)
    sides = [(run, side) for run in runs for side in COLOURS if f"{side}_us" in run]
    judged = verdict(runs)
    figures = {"benchmark": "growth", "repeats": flags.repeats, "start": start, "runs": runs}
    packages = ("duckdb", "apache-beam", "numpy", "numba", "pyarrow")
    print_results([table_row(*of_side) for of_side in sides], figures | judged, packages)
    draw_plot(runs, flags.plot)
    linear = "linear" if judged["linear"] else "NOT linear"
    memory = "within" if judged["within_memory"] else "NOT within"
    print(
        f"{linear}: from {LINEAR_FROM:,} pairs on, time a pair grew {judged['growth']:.2f} times"
        f" (allowed {MAX_GROWTH}; CPU time {judged['cpu_growth']:.2f},"
        f" time less the start {judged['net_growth']:.2f});"
        f" peak {judged['peak_mib']:,.0f} MiB, {memory} {MAX_PEAK_MIB:,}; plot: {flags.plot}"
    )
    return int(flags.check and not (judged["linear"] and judged["within_memory"]))


if __name__ == "__main__":
    sys.exit(main())
