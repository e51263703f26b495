"""What child processes cost that decode WebP and AVIF, and what hostile images cost a run.

  python benchmarks/mixed_web.py [--images=1000] [--turns=3] [--hostile] [--checkout=FOLDER]
                                 [FLAGS of curate ...]

Images of 640x480 come from nginx on loopback: 76% JPEG, 10% PNG, 8% WebP, 4% GIF and 2% AVIF.
--checkout alternates with the sources of another commit. --hostile alternates with the same images
and one of each file of tests/support/hostile_pictures.py. Prints the medians of the turns.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from photo_server import make_photos, serve, write_list
from PIL import Image
from timeline import FLAGS, ROOT, Watched, watch

sys.path.insert(0, str(ROOT))
from tests.support.hostile_pictures import hostile_pictures

FOLDER = Path(tempfile.gettempdir()) / "alignset-benchmarks" / "mixed"
OF_FIFTY = ["png"] * 5 + ["webp"] * 4 + ["gif"] * 2 + ["avif"] + ["jpg"] * 38


def make_images(count: int) -> list[str]:
    """Writes the images, where the folder lacks them; their names."""
    make_photos(FOLDER, count)
    names = [f"{n}.{OF_FIFTY[n % len(OF_FIFTY)]}" for n in range(count)]
    for name in names:
        path = FOLDER / name
        if not path.exists():
            Image.open(path.with_suffix(".jpg")).save(path, quality=80)
    return names


def make_hostile() -> list[str]:
    """Writes one of each hostile file; their names."""
    bodies = hostile_pictures().values()
    names = [f"hostile-{number}" for number in range(len(bodies))]
    for name, body in zip(names, bodies, strict=True):
        (FOLDER / name).write_bytes(body)
    return names


def run(checkout: Path, server: str, names: list[str], flags: list[str]) -> tuple[Watched, int]:
    """One run; what it took, and how many pairs it kept."""
    with tempfile.TemporaryDirectory() as place:
        write_list(Path(place, "list.parquet"), server, names, len(names))
        paths = [f"--input={place}/list.parquet", f"--output={place}/out"]
        command = [sys.executable, str(checkout / "beam_runner.py"), *paths, *FLAGS, *flags]
        watched = watch(command, 0.1, Path(place, "log"))
        funnel = json.loads(Path(place, "out/funnel.json").read_text())
        return watched, funnel["steps"][-1]["kept"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--checkout", type=Path)
    options, flags = parser.parse_known_args()
    names = make_images(options.images)
    sides = {"these sources": (ROOT, names)}
    if options.checkout:
        sides["the other sources"] = (options.checkout.resolve(), names)
    if options.hostile:
        sides["with hostile images"] = (ROOT, names + make_hostile())
    with tempfile.TemporaryDirectory() as place, serve(FOLDER, Path(place)) as server:
        runs = {side: [] for side in sides}
        for _ in range(options.turns):
            for side, (checkout, files) in sides.items():
                runs[side].append(run(checkout, server, files, flags))
    for side, results in runs.items():
        wall_s, cpu_s = (
            statistics.median(getattr(watched, field) for watched, _ in results)
            for field in ("wall_s", "cpu_s")
        )
        peak = max(watched.peak for watched, _ in results) >> 20
        kept = {count for _, count in results}
        print(f"{side}: {wall_s:.2f} s, {cpu_s:.1f} CPU-s, peak {peak} MiB, kept {kept}")


if __name__ == "__main__":
    main()
