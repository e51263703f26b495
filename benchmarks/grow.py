"""Photographs that a finished dataset knows: what they cost a run beside one that fetches them.

  python benchmarks/grow.py [--images=20000] [--repeats=3] [--scored]

Both sides read the same list and make the same tars, whose bytes are compared. The cost of an image
is the user + system time of all processes of a command, less the time of its text stage alone.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from measured import check_descendants_count, run_measured
from photo_server import find_nginx, make_photos, serve, write_list
from results import print_results

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scored", action="store_true", help="with NSFW scores, as by default")
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the photographs")
    flags = parser.parse_args()
    find_nginx()
    check_descendants_count()
    make_photos(flags.cache / "photos", PHOTOS)
    with tempfile.TemporaryDirectory(prefix="alignset-bench-") as name:
        folder = Path(name)
        (folder / "nginx").mkdir()
        with serve(flags.cache / "photos", folder / "nginx") as server:
            photos = [f"{number}.jpg" for number in range(PHOTOS)]
            write_list(folder / "list.parquet", server, photos, flags.images)
            rows = compare(flags, folder)
    figures = {"benchmark": "grow", "images": flags.images, "repeats": flags.repeats, "rows": rows}
    print_results(rows, figures, ("apache-beam", "pyarrow", "pycurl"))


def compare(flags: argparse.Namespace, folder: Path) -> list[dict[str, float | str]]:
    """Runs the sides by turns; the rows of the table.

    Raises:
      RuntimeError: the tars of two sides differ.
    """
    fetched = ["--allow_private_addresses", "--samples_per_shard=1000"]
    fetched += [] if flags.scored else ["--max_unsafe_score=1"]
    known = [*fetched, f"--images_from={folder / 'out'}"]
    sides = {"texts alone": ["--text_only"], "fetched": fetched, "known": known}
    costs: dict[str, list[tuple[float, float, float]]] = {side: [] for side in sides}
    tars: dict[str, str] = {}
    for repeat in range(flags.repeats + 1):  # the first makes the dataset, and compiles
        for side, more in sides.items():
            out = folder / ("out" if (repeat, side) == (0, "fetched") else "new")
            words = [f"--input={folder / 'list.parquet'}", f"--output={out}", "--language="]
            command = [sys.executable, str(ROOT / "beam_runner.py"), *words, *more]
            usage = run_measured(command, folder / "log.txt")
            found = {path.name: _digest(path) for path in sorted(out.glob("shards/*.tar"))}
            if found and found != (tars := tars or found):
                raise RuntimeError(f"{side}: its tars differ from the first run")
            if repeat:
                costs[side].append((usage.cpu_s, usage.wall_s, usage.peak_mib))
            print(f"{side}: {usage.cpu_s:.1f} CPU-s, {usage.wall_s:.1f} s", file=sys.stderr)
            if out.name == "new":
                shutil.rmtree(out)
    texts_s = median(cpu_s for cpu_s, *_ in costs["texts alone"])
    rows: list[dict[str, float | str]] = []
    for side, runs in costs.items():
        cpu_s, wall_s, peak_mib = (median(values) for values in zip(*runs, strict=True))
        an_image = 1000 * (cpu_s - texts_s) / flags.images
        rows.append({"side": side, "CPU s": cpu_s, "wall s": wall_s, "peak MiB": peak_mib})
        rows[-1]["CPU ms an image"] = an_image
    return rows


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
