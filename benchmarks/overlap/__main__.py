"""How many altered copies of evaluation images are found, and how many other images with them.

  python -m benchmarks.overlap --packages=FOLDER [--cache=FOLDER] [--write]

Alters held-out images as full images, writes each as a file and reads it as a run does. They
are looked for beside 100,000 indexed images, and so are held-out images that are different from
all of these; images of packages that are held out whole are also looked for where nothing of these
packages is indexed. Prints recall by change and strength, false positives of each threshold, and
the cost; --write puts these into results.md beside this file and draws docs/overlap.svg. Names of
pairs that a person found to show one image stand in repeats.txt beside this file: they are not
false positives.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_index import CopyIndex, Nearest
from alignset.transforms.rules.thresholds import COPY_DISTANCE
from benchmarks.overlap import measured_pictures as measured
from benchmarks.overlap.alterations import ALTERATIONS
from benchmarks.overlap.measured_pictures import Pictures
from benchmarks.overlap.plot import draw
from benchmarks.overlap.search import built, hash_distances, hashes_of, matches_of
from benchmarks.overlap.tables import Copies, recall_table, table, threshold_table, write_blocks

ROOT = Path(__file__).parents[2]
PAGE, PLOT = Path(__file__).with_name("results.md"), ROOT / "docs/overlap.svg"
REPEATS = Path(__file__).with_name("repeats.txt")
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
HASH_BITS = (2, 4, 6)


class Different(NamedTuple):
    """Held-out images that are not indexed, and what they are nearest to."""

    pictures: Pictures
    matches: list[Nearest]
    bits: npt.NDArray[np.int32]
    is_repeat: npt.NDArray[np.bool_]  # of a pair that a person found to show one image

    @property
    def distances(self) -> npt.NDArray[np.float64]:
        """float64[n]; the distance of a repeat is 2."""
        distances = np.array([match.distance for match in self.matches])
        return np.where(self.is_repeat, 2.0, distances)


def main() -> None:
    flags = read_flags()
    held_out = measured.held_out(flags.packages, flags.cache)
    evaluation = held_out.chosen(measured.is_evaluation(held_out))
    others = measured.distractors(flags.packages, max(0, flags.indexed - len(evaluation)))
    planes = np.concatenate([evaluation.planes, others])
    del others  # 0.8 GB
    index = built(planes, flags.cache / "index")
    phashes = np.concatenate([evaluation.phashes, hashes_of(planes[len(evaluation) :])])
    different = held_out.chosen(~measured.is_evaluation(held_out))
    found, different_us = measure_different(index.index, different, evaluation, phashes)
    parts = built(planes[len(evaluation) :], flags.cache / "index-parts")
    unrelated = measure_unrelated(parts.index, held_out, phashes[len(evaluation) :])
    copies, altered_us = measure_copies(flags, held_out, evaluation, index.index)
    false = {
        f"accepted, {name}": found.distances[rows]
        for name, rows in (
            ("JPEGs", different.is_jpeg & halves(different.names)),
            ("others", ~different.is_jpeg & halves(different.names)),
        )
    }
    blocks = {
        "recall": recall_table(copies, COPY_DISTANCE, HASH_BITS),
        "thresholds": threshold_table(copies, false, THRESHOLDS),
        "different": different_table(found),
        "unrelated": unrelated_table(unrelated),
        "cost": cost_table(
            found, index.ms, index.megabytes, len(planes), (different_us, altered_us)
        ),
    }
    for name, block in blocks.items():
        print(f"\n{name}\n{block}")
    if flags.write:
        write_blocks(PAGE, blocks)
        draw(copies, found.distances, COPY_DISTANCE, PLOT)


def read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="where packages are kept")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/alignset-overlap"))
    parser.add_argument("--indexed", type=int, default=100_000, help="images in the index")
    parser.add_argument("--altered", type=int, default=200, help="images that are altered")
    parser.add_argument("--write", action="store_true", help="write results.md and the plot")
    return parser.parse_args()


def halves(names: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """bool[n]: whether thresholds are chosen on an image; about half are."""
    return np.array([measured.number_of(f"half {name}") % 2 == 0 for name in names])


def named(evaluation: Pictures, row: int) -> str:
    if row < 0:
        return ""
    return str(evaluation.names[row]) if row < len(evaluation) else f"part {row - len(evaluation)}"


def are_repeats(names: list[str], near: list[str]) -> npt.NDArray[np.bool_]:
    known = set(REPEATS.read_text().splitlines()) if REPEATS.exists() else set()
    return np.array([f"{name}\t{other}" in known for name, other in zip(names, near, strict=True)])


def measure_different(
    index: CopyIndex,
    different: Pictures,
    evaluation: Pictures,
    phashes: npt.NDArray[np.uint64],
) -> tuple[Different, float]:
    """The nearest image of each, and the CPU time of one in us."""
    matches, cpu_us = matches_of(index, different)
    near = [named(evaluation, match.row) for match in matches]
    repeats = are_repeats(different.names.tolist(), near)
    bits = hash_distances(different, phashes)
    return Different(different, matches, bits, repeats), cpu_us


def measure_unrelated(
    parts: CopyIndex, held_out: Pictures, phashes: npt.NDArray[np.uint64]
) -> dict[str, tuple[Different, float]]:
    """The same of the packages that are held out whole, by kind, by an index without
    held-out images."""
    unrelated = held_out.chosen(measured.is_of_held_out_package(held_out))
    kinds = {"JPEGs": unrelated.is_jpeg, "others": ~unrelated.is_jpeg}
    nobody = held_out.chosen(np.zeros(len(held_out), np.bool_))
    return {
        name: measure_different(parts, unrelated.chosen(rows), nobody, phashes)
        for name, rows in kinds.items()
    }


def measure_copies(
    flags: argparse.Namespace, held_out: Pictures, evaluation: Pictures, index: CopyIndex
) -> tuple[Copies, float]:
    """The altered images' distances, and the CPU time of one in us."""
    chosen = measured.to_alter(held_out, flags.altered)
    altered = measured.altered(flags.packages, flags.cache, chosen.names.tolist())
    matches, cpu_us = matches_of(index, altered)
    of_name = {name: row for row, name in enumerate(evaluation.names.tolist())}
    shape = (-1, len(ALTERATIONS))
    originals = [name.rpartition(": ")[0] for name in altered.names.tolist()]
    rows = np.array([of_name[name] for name in originals])
    distances = np.array([match.distance for match in matches])
    bits = np.bitwise_count(altered.phashes ^ evaluation.phashes[rows]).astype(np.int32)
    names = np.array(originals).reshape(shape)[:, 0]
    is_jpeg = altered.is_jpeg.reshape(shape)[:, 0]
    return Copies(distances.reshape(shape), bits.reshape(shape), is_jpeg, halves(names)), cpu_us


def different_table(found: Different) -> str:
    """How many different images each measure takes for copies, by kind and half."""
    is_accepted = np.array([match.distance < COPY_DISTANCE for match in found.matches])
    rows = []
    for name, kind in (("JPEGs", found.pictures.is_jpeg), ("others", ~found.pictures.is_jpeg)):
        for half, of_half in (("chosen on", True), ("reported", False)):
            chosen = kind & (halves(found.pictures.names) == of_half)
            counts = [
                chosen.sum(),
                (is_accepted & found.is_repeat & chosen).sum(),
                (is_accepted & ~found.is_repeat & chosen).sum(),
                *(((found.bits <= most) & chosen).sum() for most in HASH_BITS),
            ]
            rows.append([f"{name}, {half}", *(f"{count:,}" for count in counts)])
    heads = ["images", "number", "repeats accepted", "others accepted"]
    return table([*heads, *(f"pHash <= {most}" for most in HASH_BITS)], rows)


def unrelated_table(unrelated: dict[str, tuple[Different, float]]) -> str:
    """How many images of packages that are not indexed are taken for copies, and their cost."""
    rows = []
    for name, (found, cpu_us) in unrelated.items():
        distances = np.array([match.distance for match in found.matches])
        is_accepted = distances < COPY_DISTANCE
        counts = [
            len(distances),
            (is_accepted & found.is_repeat).sum(),
            (is_accepted & ~found.is_repeat).sum(),
            *((found.bits <= most).sum() for most in HASH_BITS),
        ]
        checked = f"{(distances < 1).mean():.1%}"
        rows.append([name, *(f"{count:,}" for count in counts), checked, f"{cpu_us:.0f}"])
    heads = ["images", "number", "repeats accepted", "others accepted"]
    bits = [f"pHash <= {most}" for most in HASH_BITS]
    return table([*heads, *bits, "checked", "CPU us an image"], rows)


def cost_table(
    found: Different,
    ms: float,
    megabytes: dict[str, float],
    indexed: int,
    search_us: tuple[float, float],
) -> str:
    """Costs of the search; thumbnails are made for 10 to 60 us more."""
    checked = np.array([match.distance < 1 for match in found.matches])
    rows = [
        ["images in the index", f"{indexed:,}"],
        *([["CPU to index an image, ms", f"{ms:.2f}"]] if ms else []),  # 0: an earlier run did
        ["files of the index, MB", f"{sum(megabytes.values()):.0f}"],
        ["CPU a different image, us", f"{search_us[0]:.0f}"],
        ["CPU an altered copy, us", f"{search_us[1]:.0f}"],
        ["JPEGs that are checked", f"{checked[found.pictures.is_jpeg].mean():.1%}"],
        ["others that are checked", f"{checked[~found.pictures.is_jpeg].mean():.1%}"],
    ]
    return table(["what", "figure"], rows)


if __name__ == "__main__":
    main()
