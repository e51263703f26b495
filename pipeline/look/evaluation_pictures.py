"""Copies of evaluation images, each beside the evaluation image that it is a copy of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from PIL import Image as PillowImage

from pipeline.look.sample import Overlap, Pair
from pipeline.look.sheet import EMPTY, PICTURE_BOX, Picture
from pipeline.look.stored_images import shown_picture
from transforms.decontamination.evaluation_files import EvaluationFile, find_images
from transforms.decontamination.evaluation_index import set_folders

_GAP_PX = 4
_HALF = (PICTURE_BOX[0] - _GAP_PX) // 2, PICTURE_BOX[1]


def overlap_pictures(pairs: Sequence[Pair], files: Sequence[EvaluationFile]) -> list[Picture]:
    """The dropped image at the left and the evaluation image at the right, of each pair.

    Args:
      pairs: with their overlap. files: of the evaluation images, as the manifest has them.
    """
    bodies = _evaluation_bodies(pairs, files)
    return [_picture(pair.overlap, bodies) for pair in pairs]


def _picture(overlap: Overlap | None, bodies: dict[tuple[str, str], bytes]) -> Picture:
    if overlap is None or not overlap.thumbnail:
        return "no image is stored"
    dropped = shown_picture(overlap.thumbnail, _HALF)
    body = bodies.get((overlap.of_set, overlap.name))
    evaluation = shown_picture(body, _HALF) if body else "its file is not there"
    both = PillowImage.new("RGB", PICTURE_BOX, EMPTY)
    for at, picture in enumerate((dropped, evaluation)):
        if isinstance(picture, PillowImage.Image):
            x = at * (_HALF[0] + _GAP_PX) + (_HALF[0] - picture.width) // 2
            both.paste(picture, (x, (_HALF[1] - picture.height) // 2))
    return both


def _evaluation_bodies(
    pairs: Sequence[Pair], files: Sequence[EvaluationFile]
) -> dict[tuple[str, str], bytes]:
    """The files of the evaluation images that are there, by set and name."""
    folders = set_folders([(file.name, file.path) for file in files])
    paths = {(file.name, file.path.removeprefix(folders[file.name])): file.path for file in files}
    wanted: dict[tuple[str, str], list[str]] = {}  # names within a file, by the file
    for overlap in {pair.overlap for pair in pairs if pair.overlap}:
        for of_file, name in _ways_to_read(overlap.name):
            if (overlap.of_set, of_file) in paths:
                wanted.setdefault((overlap.of_set, of_file), []).append(name)
                break
    bodies: dict[tuple[str, str], bytes] = {}
    for (of_set, of_file), names in wanted.items():
        try:
            found = find_images(paths[of_set, of_file], names)
        except Exception:  # gone, or broken since: the other half of the picture is shown
            continue
        for name, body in found.items():
            bodies[of_set, f"{of_file}/{name}" if name else of_file] = body
    return bodies


def _ways_to_read(name: str) -> list[tuple[str, str]]:
    """A file and a name within it, for each way to divide an evaluation image's name."""
    parents = [str(parent) for parent in PurePosixPath(name).parents][:-1]
    return [(name, ""), *((parent, name[len(parent) + 1 :]) for parent in parents)]
