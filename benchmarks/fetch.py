"""Pictures from nginx on loopback: our whole command against img2dataset, and against Daft.

  python benchmarks/fetch.py [--few=4000] [--many=20000] [--repeats=3] [--cheapest] [--resized]
                            [--daft] [--pictures=photographs|mixed|FOLDER]
                            [--eval_images=PATH]
  python benchmarks/fetch.py --mode=small [--few=400] [--repeats=3] [--scored --photos=400]

Ours keeps the originals and does all its checks: cut file, size, aspect, perceptual hash, sha256.
With --scored also with unsafe scores, as by default: each different photograph is scored once.
With --eval_images also with a search for copies of the images there, whose index is made once.
img2dataset runs in its default mode (border, 256 px, webdataset); with --cheapest also in the one
that decodes nothing, and with --resized ours in img2dataset's default mode. With --daft also Daft,
which downloads, decodes, filters by size, and writes Parquet (benchmarks/daft_fetch.py). Same list
and 64 connections for all: img2dataset's are 64 threads in one process.

The images are photographs of 57 KB, or a mix of JPEG, WebP, PNG, GIF and AVIF of many sizes, or
the image files of a folder, of which some may be no good: how many each side kept is told.

The marginal cost is the user + system time of all processes of a command for --many photographs
less the time for --few, so that start-up is not counted. nginx is not a child of a command, so its
time isn't either. The small mode is the wall time of whole commands.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from measured import Usage, check_descendants_count, run_measured
from photo_server import find_nginx, make_photos, serve, write_list
from results import print_results
from web_pictures import make_pictures

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = 64
ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "avif", "bmp")
PACKAGES = ("apache-beam", "pycurl", "pillow", "img2dataset", "opencv-python-headless")
# What each side is told beside the list, and the flag that asks for it.
SIDES = {
    "ours": ([], ""),
    "ours, scored": ([], "scored"),
    "ours, decontaminated": ([], "eval_images"),
    "ours, resized": (["--resize_mode=border", "--image_size=256"], "resized"),
    "img2dataset": ([], ""),
    "Daft": ([], "daft"),
    "img2dataset, cheapest": (
        ["--resize_mode=no", "--disable_all_reencoding=True"],
        "cheapest",
    ),
}


class Pictures(NamedTuple):
    """Image files that are served.

    Attributes:
      whole: whether each side must keep every one of them.
    """

    folder: Path
    names: list[str]
    whole: bool


def command_of(side: str, listed: Path, out: Path) -> list[str]:
    """The command that fetches all of a list into a folder."""
    if side.startswith("ours"):
        keep_all = ["--language=", "--min_words=1", "--allow_private_addresses"]
        if side != "ours, scored":
            keep_all.append("--max_unsafe_score=1")  # the other side scores none
        paths = [f"--input={listed}", f"--output={out}", f"--connections={CONNECTIONS}"]
        paths.append(f"--connections_per_host={CONNECTIONS}")
        run = [sys.executable, str(ROOT / "beam_runner.py")]
        return [*run, *paths, *keep_all, *SIDES[side][0]]
    if side == "Daft":
        script = str(ROOT / "benchmarks" / "daft_fetch.py")
        return [sys.executable, script, str(listed), str(out), str(CONNECTIONS)]
    flags = {
        "url_list": listed,
        "input_format": "parquet",
        "url_col": "url",
        "caption_col": "caption",
        "output_format": "webdataset",
        "output_folder": out,
        "thread_count": CONNECTIONS,
        "processes_count": 1,
    }
    own_flags = [f"--{name}={value}" for name, value in flags.items()]
    module = "from img2dataset.main import main; main()"
    return [sys.executable, "-c", module, *own_flags, *SIDES[side][0]]


def arrived(out: Path) -> int:
    """How many images are in the shards of either side, by their stats."""
    files = [*out.glob("*_stats.json"), *out.glob("shards/*_stats.json")]
    return sum(json.loads(file.read_text())["successes"] for file in files)


def fetch(side: str, count: int, server: str, web: Pictures, folder: Path) -> tuple[Usage, int]:
    """Runs one side over a list of `count` URLs; its cost, and how many images it kept.

    Raises:
      RuntimeError: a photograph is missing.
    """
    listed, out = folder / "list.parquet", folder / "out"
    write_list(listed, server, web.names, count)
    usage = run_measured(command_of(side, listed, out), folder / "log.txt")
    kept = arrived(out)
    if web.whole and kept != count:
        raise RuntimeError(f"{side}: of {count} images {kept} arrived")
    shutil.rmtree(out)
    print(
        f"{side}: {count:,} in {usage.wall_s:.1f} s, {usage.cpu_s:.1f} CPU-s, kept {kept:,}",
        file=sys.stderr,
    )
    return usage, kept


def marginal(few: Usage, many: Usage, images: int) -> dict[str, float]:
    """The cost of `images` further images, including dropped ones."""
    cpu_s = many.cpu_s - few.cpu_s
    return {
        "images per CPU-s": images / cpu_s,
        "CPU ms an image": 1000 * cpu_s / images,
        "images per s": images / (many.wall_s - few.wall_s),
        "peak MiB": many.peak_mib,
    }


def whole(usage: Usage) -> dict[str, float]:
    """The cost of a whole command."""
    return {"wall s": usage.wall_s, "CPU s": usage.cpu_s, "peak MiB": usage.peak_mib}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def compare(
    flags: argparse.Namespace, server: str, web: Pictures, folder: Path
) -> list[dict[str, float | str]]:
    """Runs the sides by turns; the rows of the table, ours first."""
    sides = [side for side, (_, flag) in SIDES.items() if not flag or getattr(flags, flag)]
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for side in sides:  # compiles what has not been compiled yet
        fetch(side, 10, server, web, folder)
    for _ in range(flags.repeats):
        for side in sides:
            few, _ = fetch(side, flags.few, server, web, folder)
            if flags.mode == "small":
                runs[side].append(whole(few))
                continue
            many, kept = fetch(side, flags.many, server, web, folder)
            costs = marginal(few, many, flags.many - flags.few)
            runs[side].append({**costs, "kept": kept})
    ratio_of = "wall s" if flags.mode == "small" else "images per CPU-s"
    rows = []
    for side in sides:
        pairs = zip(runs["ours"], runs[side], strict=True)
        ratio = median(ours[ratio_of] / theirs[ratio_of] for ours, theirs in pairs)
        rows.append({"side": side, **medians(runs[side]), f"ours / it, {ratio_of}": ratio})
    return rows


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("marginal", "small"), default="marginal")
    parser.add_argument("--few", type=int, help="photographs; 4000, or 400 in the small mode")
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--photos", type=int, default=400, help="how many different ones there are")
    parser.add_argument("--scored", action="store_true", help="also ours with unsafe scores")
    parser.add_argument("--cheapest", action="store_true", help="also img2dataset's cheapest mode")
    parser.add_argument("--resized", action="store_true", help="also ours with its resize on")
    parser.add_argument("--eval_images", help="also ours with a search for copies of these")
    parser.add_argument("--daft", action="store_true", help="also Daft, where it is installed")
    parser.add_argument("--pictures", default="photographs", help="mixed, or a folder of images")
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="a folder for the photographs")
    flags = parser.parse_args()
    if flags.eval_images:
        SIDES["ours, decontaminated"][0].append(f"--eval_images=benchmark={flags.eval_images}")
    flags.few = flags.few or (400 if flags.mode == "small" else 4000)
    if flags.mode == "marginal" and flags.many <= flags.few:
        parser.error(f"--many must be larger than --few; got {flags.many} and {flags.few}")
    return flags


def pictures_of(flags: argparse.Namespace) -> Pictures:
    """The images that --pictures names, in a folder of their own."""
    if flags.pictures == "photographs":
        make_photos(flags.cache / "photos", flags.photos)
        names = [f"{number}.jpg" for number in range(flags.photos)]
        return Pictures(flags.cache / "photos", names, whole=True)
    if flags.pictures == "mixed":
        mixed = make_pictures(flags.cache / "mixed", uniform=False)
        return Pictures(mixed.folder, mixed.names, whole=False)
    folder = Path(tempfile.mkdtemp(prefix="alignset-bench-pictures-"))
    paths = sorted(p for p in Path(flags.pictures).rglob("*") if p.suffix[1:].lower() in ENDINGS)
    if not paths:
        raise SystemExit(f"{flags.pictures} has no image files: name another folder")
    for number, path in enumerate(paths):
        shutil.copy(path, folder / f"{number}{path.suffix.lower()}")
    return Pictures(folder, sorted(path.name for path in folder.iterdir()), whole=False)


def main() -> None:
    flags = parse()
    find_nginx()
    check_descendants_count()
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # img2dataset's import else asks the network
    web = pictures_of(flags)
    with tempfile.TemporaryDirectory(prefix="alignset-bench-") as folder:
        (Path(folder) / "nginx").mkdir()
        with serve(web.folder, Path(folder) / "nginx") as server:
            rows = compare(flags, server, web, Path(folder))
    names = ("pictures", "mode", "few", "many", "repeats", "photos")
    figures = {"benchmark": "fetch", **{name: getattr(flags, name) for name in names}}
    print_results(rows, {**figures, "rows": rows}, PACKAGES)


if __name__ == "__main__":
    main()
