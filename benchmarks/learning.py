"""Learning curves: R@1 on unseen scenes against pairs and steps, and what curation buys.

  python benchmarks/learning.py [--cache=DIR] [--pairs=500,1000,2000] [--steps=75,150,600]
    [--seeds=2]

Builds the demo's web, curates it twice (with the demo's flags, and with every filter off that a
flag turns off) and trains the `tiny` preset at 40 px with batches of 64 anew for each point: on so
many curated pairs, for so many steps, and on both datasets for equal steps. Each model ranks 200
scenes whose combinations of words no pair has; R@1 is the mean of both directions, chance is 0.5 %.
Prints a table and a line of JSON, and draws --plot. Started again it keeps what is trained.

Both sets keep out the evaluation's near copies: the web has some with their own texts, and a model
that has seen those is not tested by them. The unfiltered pairs also leave out what can't be trained
on: pairs without a URL or a text, second copies, images that do not arrive or decode.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from results import print_results

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from alignset.demo.__main__ import curate_command, free_port  # noqa: E402
from alignset.demo.serve import serving  # noqa: E402
from alignset.demo.web import build  # noqa: E402

NO_FILTERS = {
    "language": "",
    "min_words": 1,
    "max_words": 10_000,
    "max_images_per_text": 1_000_000,
    "max_texts_per_image": 1_000_000,
    "vocabulary_size": 100_000_000,
    "min_image_side": 0,
    "max_image_aspect": 10_000,
}
FULL_STEPS = 300  # of each point but those of --steps
SMALLER = ("--preset=tiny", "--crop_px=40", "--resize_px=45", "--batch_size=64", "--trackers=")
COLOURS = {"curated": "#0b6e4f", "unfiltered": "#c8553d"}

Point = dict[str, Any]


def make_sets(cache: Path) -> dict[str, Path]:
    """The curated and the unfiltered shards of the demo's web, and `eval`."""
    web, folders = cache / "web", {name: cache / name for name in COLOURS}
    if not all((folder / "manifest.json").exists() for folder in folders.values()):
        port = free_port(0)
        flags = build(web, port=port)
        with serving(web, port):
            for name, folder in folders.items():
                rules = flags if name == "curated" else flags | NO_FILTERS
                run(curate_command(web, folder, rules), cache / f"{name}.log")
    return {name: folder / "shards" for name, folder in folders.items()} | {"eval": web / "eval"}


def run(command: list[str], log: Path) -> str:
    """The command's output; raises RuntimeError with the end of what it said."""
    with open(log, "w") as sink:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=sink, text=True)
    if done.returncode:
        said = "\n".join(log.read_text().splitlines()[-10:])
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    return done.stdout


def take_pairs(shards: Path, count: int | None, folder: Path) -> int:
    """Writes one shard with the first pairs by key, all if None; gives how many.

    A key is a hash of the pair, so that they are a fair draw, and fewer are part of more.
    """
    files: dict[str, list[tuple[str, bytes]]] = {}
    for tar in sorted(shards.glob("*.tar")):
        with tarfile.open(tar) as source:
            for member in source:
                key, _, ending = member.name.partition(".")
                if ending != "json":
                    body = source.extractfile(member)
                    files.setdefault(key, []).append((member.name, body.read()))
    keys = sorted(files)[:count]
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "00000.tar", "w", format=tarfile.USTAR_FORMAT) as sink:
        for name, data in (file for key in keys for file in files[key]):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            sink.addfile(entry, io.BytesIO(data))
    return len(keys)


def measure(sets: dict[str, Path], cache: Path, point: Point) -> Point:
    """Trains one model and evaluates it; `point` says on which set, pairs, steps and seed."""
    name = "-".join(str(point[part]) for part in ("set", "pairs", "steps", "seed"))
    result = cache / "points" / f"{name}.json"
    if result.exists():
        return json.loads(result.read_text())
    pairs = take_pairs(sets[point["set"]], point["pairs"], cache / "shards" / name)
    model, log = cache / "runs" / name, cache / f"{name}.log"
    steps = point["steps"]
    shape = (f"--steps={steps}", f"--warmup_steps={steps // 10}", f"--checkpoint_every={steps}")
    start = time.perf_counter()
    train = (
        "alignset.train",
        f"--shards={cache / 'shards' / name}",
        f"--run={model}",
        *SMALLER,
        *shape,
    )
    run([sys.executable, "-m", *train, f"--seed={point['seed']}"], log)
    wall_s = time.perf_counter() - start
    evaluate = ("alignset.train.evaluate", "retrieval", f"--model={model / 'model'}")
    said = run([sys.executable, "-m", *evaluate, f"--data={sets['eval']}"], log)
    scores = json.loads(said.splitlines()[-1])
    recalls = {
        **point,
        "pairs": pairs,
        "all": point["pairs"] is None,
        "image_to_text": scores["image_to_text"]["R@1"],
        "text_to_image": scores["text_to_image"]["R@1"],
        "chance": scores["chance"]["image_to_text"]["R@1"],
        "wall_s": round(wall_s, 1),
    }
    recalls["R@1"] = (recalls["image_to_text"] + recalls["text_to_image"]) / 2
    result.parent.mkdir(exist_ok=True)
    result.write_text(json.dumps(recalls))
    print(f"{name}: R@1 {recalls['R@1']:.1f} %, {wall_s:.0f} s", file=sys.stderr, flush=True)
    return recalls


def wanted_points(pairs: list[int], steps: list[int], seeds: int) -> list[Point]:
    """Both sets whole at all steps, fewer curated pairs at FULL_STEPS; the end of each first."""
    shapes = [(name, None, n) for n in (FULL_STEPS, *steps) for name in COLOURS]
    shapes += [("curated", n, FULL_STEPS) for n in pairs]
    return [
        {"set": name, "pairs": count, "steps": n, "seed": seed}
        for seed in range(seeds)
        for name, count, n in shapes
    ]


def averaged(points: list[Point]) -> list[Point]:
    """One row for each dataset, pairs and steps: the mean of its seeds, and all of them."""
    groups: dict[tuple, list[Point]] = {}
    for point in points:
        groups.setdefault((point["set"], point["pairs"], point["steps"]), []).append(point)
    return [
        {
            "set": same[0]["set"],
            "pairs": same[0]["pairs"],
            "steps": same[0]["steps"],
            "R@1 %": mean(p["R@1"] for p in same),
            "each seed": " ".join(f"{p['R@1']:.1f}" for p in same),
            "all": same[0]["all"],
        }
        for same in groups.values()
    ]


def draw_plot(rows: list[Point], path: Path) -> None:
    """R@1 over pairs and over steps; the same bytes for the same numbers."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    style = {"svg.hashsalt": "learning", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(style):
        figure, (by_pairs, by_steps) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
        for name, colour in COLOURS.items():
            mine = [row for row in rows if row["set"] == name]
            look = {"color": colour, "marker": "o", "markersize": 4, "label": name}
            for axes, x, shown in (
                (by_pairs, "pairs", [row for row in mine if row["steps"] == FULL_STEPS]),
                (by_steps, "steps", [row for row in mine if row["all"]]),
            ):
                shown = sorted(shown, key=lambda row, x=x: row[x])
                axes.plot([row[x] for row in shown], [row["R@1 %"] for row in shown], **look)
                for row in shown:
                    each = [float(value) for value in row["each seed"].split()]
                    axes.plot([row[x]] * len(each), each, ".", color=colour, markersize=3)
        by_pairs.set(title=f"R@1 after {FULL_STEPS} steps, %", xlabel="pairs")
        by_steps.set(title="R@1 on all pairs, %", xlabel="steps")
        for axes in (by_pairs, by_steps):
            axes.set(ylim=(0, 100), xlim=(0, None))
            axes.spines[["top", "right"]].set_visible(False)
        by_steps.legend(frameon=False, loc="lower right")
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks/learning"
    parser.add_argument("--cache", type=Path, default=default)
    parser.add_argument("--pairs", default="500,1000,2000", help="curated pairs, beside all")
    parser.add_argument("--steps", default="75,150,600", help=f"steps, beside {FULL_STEPS}")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/learning.svg")
    flags = parser.parse_args()
    flags.cache.mkdir(parents=True, exist_ok=True)
    sets = make_sets(flags.cache)
    pairs, steps = ([int(n) for n in text.split(",") if n] for text in (flags.pairs, flags.steps))
    wanted = wanted_points(pairs, steps, flags.seeds)
    points = [measure(sets, flags.cache, point) for point in wanted]
    rows = averaged(points)
    draw_plot(rows, flags.plot)
    shown = [{key: value for key, value in row.items() if key != "all"} for row in rows]
    packages = ("torch", "transformers", "tokenizers")
    print_results(shown, {"benchmark": "learning", "points": points}, packages)
    print(f"plot: {flags.plot}")


if __name__ == "__main__":
    main()
